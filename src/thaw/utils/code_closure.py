"""Which code a program runs: the modules that it imports, directly or not, each with its hash.

The lists that DVC watches and the key of a checkpoint are made here, so that both change with the same edits. DVC reads
and writes the whole of dvc.lock at every stage: twenty modules named in each of twenty stages would cost two seconds a
stage. One list a stage, written first, says the same, and cannot be out of date.
"""

import ast
import hashlib
from collections.abc import Iterator
from pathlib import Path

from thaw.utils.atomic import write_text
from thaw.utils.hashing import sha256_of

PACKAGE = Path(__file__).resolve().parents[1]
"""The package that is running; a clone's own may be another one."""

_TEMPLATES = {".jinja", ".css", ".js"}
"""Files that a module of the same folder reads when it runs."""


def list_code(stages: Path, destination: Path, *, package: Path) -> None:
    """Write, for each script `stages/NAME.py`, the file `destination/NAME.txt`: a line `SHA-256  path` a file.

    A list changes when, and only when, code that the stage can reach changes. Imports inside functions count.
    """
    for script in sorted(stages.glob("*.py")):
        files = [script, *closure_of(script, package=package)]
        lines = [f"{sha256_of(file)}  {file.as_posix()}\n" for file in files]
        write_text(destination / f"{script.stem}.txt", "".join(lines))


def closure_sha256(module: str) -> str:
    """One hash over a module of the running package, such as `training.train`, and over all that it imports."""
    own = _file_of(module, PACKAGE)
    files = sorted({own, *closure_of(own)})
    lines = [f"{sha256_of(file)}  {file.relative_to(PACKAGE).as_posix()}\n" for file in files]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def closure_of(path: Path, *, package: Path = PACKAGE) -> list[Path]:
    """The files of the package that a Python file needs, directly or not, sorted.

    Modules, not packages, are what counts: every `__init__` of the package is a docstring. Templates count for all
    modules of their folder.
    """
    found: set[str] = set()
    new = set(imported_modules(path, package=package))
    while new:
        found |= new
        new = {name for module in new for name in imported_modules(_file_of(module, package), package=package)} - found
    modules = {_file_of(module, package) for module in found}
    templates = {file for module in modules for file in module.parent.iterdir() if file.suffix in _TEMPLATES}
    return sorted(modules | templates)


def imported_modules(path: Path, *, package: Path = PACKAGE) -> Iterator[str]:
    """The modules of the package that a file imports, wherever in the file it does so: `training.loop`, `errors`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "thaw":
            parent = ".".join((node.module or "").split(".")[1:])
            for alias in node.names:
                # `from thaw.data import split` names a module, `from thaw.data.split import draw_split` what is in one.
                inner = f"{parent}.{alias.name}".lstrip(".")
                yield inner if _file_of(inner, package).is_file() else parent
        elif isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[2] for alias in node.names if alias.name.startswith("thaw."))


def _file_of(module: str, package: Path) -> Path:
    return package / f"{module.replace('.', '/')}.py"
