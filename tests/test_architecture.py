"""The walls: modules import only what stands above them, and dvc.yaml names all that a stage depends on."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

PACKAGE = ROOT / "src" / "thaw"

READING_ORDER = """
errors params atomic progress layout
sample containers addresses download kaggle_source sources cifar archive
images manifest duplicates clean split
device backbones model batches embed dataset fit train
metrics evaluate tracking report predict cli
""".split()  # noqa: SIM905


def modules() -> list[str]:
    """The names of the rooms of the package: modules, and packages as one room each."""
    paths = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(path.stem for path in paths if path.stem != "__init__")


def files_of(module: str) -> list[Path]:
    """The Python files of a room."""
    single = PACKAGE / f"{module}.py"
    return [single] if single.exists() else sorted((PACKAGE / module).glob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The rooms that a file imports, wherever in the file it does so."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == "thaw":
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thaw."):
            yield (node.module or "").split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[1] for alias in node.names if alias.name.startswith("thaw."))


def everything_under(path: Path) -> set[str]:
    """All rooms that a file needs, directly or not."""
    found: set[str] = set()
    new = set(imported(path))
    while new:
        found |= new
        new = {name for module in new for file in files_of(module) for name in imported(file)} - found
    return found


def stages() -> dict[str, Any]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)["stages"]
    return loaded


def test_the_reading_order_names_every_module() -> None:
    assert sorted(READING_ORDER) == modules()


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_modules_above_it(module: str) -> None:
    above = READING_ORDER[: READING_ORDER.index(module)]
    for path in files_of(module):
        assert set(imported(path)) - {module} <= set(above), path


def test_mlflow_has_one_importer() -> None:
    importers = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlflow")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "mlflow" for alias in node.names))
    }
    assert importers == {"tracking.py"}


@pytest.mark.parametrize("stage", stages())
def test_a_stage_depends_on_its_script_and_on_every_module_it_uses(stage: str) -> None:
    script = f"stages/{stage}.py"
    needed = {script}
    for module in everything_under(ROOT / script):
        single = f"src/thaw/{module}.py"
        needed.add(single if (ROOT / single).exists() else f"src/thaw/{module}")
    declared = {dep for dep in stages()[stage]["deps"] if dep.startswith(("src/", "stages/"))}
    assert declared == needed


@pytest.mark.parametrize("stage", sorted(set(stages()) - {"check"}))
def test_a_stage_declares_every_parameter_it_reads(stage: str) -> None:
    tree = ast.parse((ROOT / "stages" / f"{stage}.py").read_text(encoding="utf-8"))
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    if any(isinstance(node, ast.keyword) and node.arg == "params" for node in ast.walk(tree)) and stage == "report":
        read |= {"data", "backbone", "variants", "seeds"}
    declared = {param.split(".")[0] for param in stages()[stage].get("params", [])}
    assert declared == read


def test_stage_scripts_have_no_logic() -> None:
    for path in sorted((ROOT / "stages").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert main.name == "main"
        assert (main.end_lineno or 0) - main.lineno < 25
        assert not [node for node in ast.walk(main) if isinstance(node, (ast.If, ast.While, ast.Try))], path
