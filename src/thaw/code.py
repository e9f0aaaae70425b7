"""Which code a stage runs: the modules that its script imports, directly or not, each with its hash.

DVC reads and writes the whole of dvc.lock at every stage, so twenty modules named in each of twenty stages would cost
two seconds a stage. One list a stage, written first, says the same, and cannot be out of date.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from thaw.atomic import write_text

PACKAGE = Path("src/thaw")


def list_code(stages: Path, destination: Path) -> None:
    """Write, for each script `stages/NAME.py`, the file `destination/NAME.txt`: a line `SHA-256  path` a module.

    A list changes when, and only when, code that the stage can reach changes. Imports inside functions count.
    """
    for script in sorted(stages.glob("*.py")):
        files = [script, *sorted(path for room in rooms_under(script) for path in files_of(room))]
        lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.as_posix()}\n" for path in files]
        write_text(destination / f"{script.stem}.txt", "".join(lines))


def rooms_under(path: Path) -> set[str]:
    """The rooms of the package that a file needs, directly or not; a package is one room, as a module is."""
    found: set[str] = set()
    new = set(imported_rooms(path))
    while new:
        found |= new
        new = {name for room in new for file in files_of(room) for name in imported_rooms(file)} - found
    return found


def files_of(room: str) -> list[Path]:
    """The files of a room: one module, or all of a package, its templates too."""
    module = PACKAGE / f"{room}.py"
    if module.exists():
        return [module]
    return sorted(path for path in (PACKAGE / room).glob("*") if path.suffix in {".py", ".jinja", ".css"})


def imported_rooms(path: Path) -> Iterator[str]:
    """The rooms that a file imports, wherever in the file it does so."""
    if path.suffix != ".py":
        return
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "thaw":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thaw."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("thaw."))
