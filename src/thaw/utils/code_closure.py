"""Which code a program runs: the modules that it imports, directly or not, each with its hash, and what they build on.

The lists that DVC watches and the key of a checkpoint are made here, so that both change with the same edits. DVC reads
and writes the whole of dvc.lock at every stage: twenty modules named in each of twenty stages would cost two seconds a
stage. One list a stage, written first, says the same.
"""

import ast
import hashlib
import platform
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from thaw.utils.atomic import write_text
from thaw.utils.hashing import sha256_of

PACKAGE = Path(__file__).resolve().parents[1]
"""The package that is running; a clone's own may be another one."""

_TEMPLATES = {".jinja", ".css", ".js"}
"""Files that a module of the same folder reads when it runs."""


LIBRARIES = {
    "PIL": "pillow",
    "cleanlab": "cleanlab",
    "jinja2": "Jinja2",
    "matplotlib": "matplotlib",
    "numpy": "numpy",
    "pandas": "pandas",
    "scipy": "scipy",
    "simplejpeg": "simplejpeg",
    "timm": "timm",
    "torch": "torch",
    "torchvision": "torchvision",
}
"""Those that compute, decode or draw, by the name under which they are imported: another version of one can give other
bytes. What only reads parameters, downloads or logs is not among them."""


def installed_version(name: str) -> str:
    """The version of an installed distribution, `missing` if it is none; of `python`, the minor version: 3.11."""
    if name == "python":
        return platform.python_version().rpartition(".")[0]
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def list_code(
    stages: Path, destination: Path, *, package: Path, version_of: Callable[[str], str] = installed_version
) -> None:
    """Write the lists of `code_lists` to files `destination/NAME.txt`."""
    for name, text in code_lists(stages, package=package, version_of=version_of).items():
        write_text(destination / f"{name}.txt", text)


def code_lists(stages: Path, *, package: Path, version_of: Callable[[str], str] = installed_version) -> dict[str, str]:
    """For each script `stages/NAME.py`, the text of its list by NAME: a line `SHA-256  path` a file.

    A list changes when, and only when, code that the stage can reach changes, or the version of a library that such
    code imports and that bears on the result: its last lines name them. Imports inside functions count. `version_of`
    gives the version of a distribution, or of `python`.
    """
    lists = {}
    for script in sorted(stages.glob("*.py")):
        files = [script, *closure_of(script, package=package)]
        lines = [f"{sha256_of(file)}  {file.as_posix()}\n" for file in files]
        lines += [f"{library}\n" for library in libraries_of(files, version_of)]
        lists[script.stem] = "".join(lines)
    return lists


def parse_list(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """What a list of code says: the hash of each file by its path, and the version of each library by its name."""
    files, libraries = {}, {}
    for line in text.splitlines():
        digest, separator, path = line.partition("  ")
        if separator:
            files[path] = digest
        else:
            name, _, number = line.partition(" ")
            libraries[name] = number
    return files, libraries


def changed_libraries(folder: Path, version_of: Callable[[str], str] = installed_version) -> dict[str, tuple[str, str]]:
    """The libraries of which another version is installed than the lists in `folder` say: name -> (listed, installed).

    Empty where there are no lists.
    """
    listed: dict[str, str] = {}
    for path in sorted(folder.glob("*.txt")):
        listed |= parse_list(path.read_text(encoding="utf-8"))[1]
    pairs = {name: (number, version_of(name)) for name, number in listed.items()}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def closure_sha256(module: str) -> str:
    """One hash over a module of the running package, such as `training.train`, and over all that it imports.

    Libraries that bear on the result count with their versions.
    """
    own = _file_of(module, PACKAGE)
    files = sorted({own, *closure_of(own)})
    lines = [f"{sha256_of(file)}  {file.relative_to(PACKAGE).as_posix()}\n" for file in files]
    lines += [f"{library}\n" for library in libraries_of(files)]
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


def libraries_of(files: Iterable[Path], version_of: Callable[[str], str] = installed_version) -> list[str]:
    """Python and those of LIBRARIES that some of the files import, with their versions: `torch 2.14.1`, sorted."""
    imported = {name for file in files if file.suffix == ".py" for name in _imported_libraries(file)}
    names = [*(LIBRARIES[name] for name in imported & LIBRARIES.keys()), "python"]
    return sorted((f"{name} {version_of(name)}" for name in names), key=str.lower)


def _imported_libraries(path: Path) -> set[str]:
    nodes = _find_imports(path)
    direct = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    parts = {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    return {name.partition(".")[0] for name in direct | parts}


def _find_imports(path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """All imports of a module, wherever they stand."""
    return _parse_imports(path.read_text(encoding="utf-8"), path)


@cache
def _parse_imports(text: str, path: Path) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Kept, since each module is in the closure of most stages; `path` is what a SyntaxError names."""
    nodes = ast.walk(ast.parse(text, path))
    return tuple(node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom))


def imported_modules(path: Path, *, package: Path = PACKAGE) -> Iterator[str]:
    """The modules of the package that a file imports, wherever in the file it does so: `training.loop`, `errors`."""
    for node in _find_imports(path):
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
