"""The walls: modules import only what stands above them, and dvc.yaml names all that a stage depends on."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from thaw.code import files_of, imported_rooms, list_code, rooms_under

PACKAGE = ROOT / "src" / "thaw"

READING_ORDER = """
errors processes memory params atomic progress layout code
sample containers addresses download kaggle_source sources cifar archive listing
images manifest duplicates known clean split
device collectives checkpoint weights backbones catalogue
model batches inference embed dataset outline feed recipe standing fit train
metrics evaluate mirror tracking report predict cli
""".split()  # noqa: SIM905


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The paths of `thaw.code` are relative to the project's root."""
    monkeypatch.chdir(ROOT)


def rooms() -> list[str]:
    """The names of the rooms of the package: modules, and packages as one room each."""
    paths = [path for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return sorted(path.stem for path in paths if path.stem != "__init__")


def stages() -> dict[str, Any]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)["stages"]
    return loaded


def test_the_reading_order_names_every_room() -> None:
    assert sorted(READING_ORDER) == rooms()


@pytest.mark.parametrize("room", rooms())
def test_a_room_imports_only_rooms_above_it(room: str) -> None:
    above = READING_ORDER[: READING_ORDER.index(room)]
    for path in files_of(room):
        assert set(imported_rooms(path)) - {room} <= set(above), path


def test_mlflow_has_one_importer() -> None:
    importers = {
        path.name
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mlflow")
        or (isinstance(node, ast.Import) and any(alias.name.split(".")[0] == "mlflow" for alias in node.names))
    }
    assert importers == {"tracking.py"}


@pytest.mark.parametrize("stage", sorted(stages()))
def test_a_stage_has_a_script_and_depends_on_its_list_of_code(stage: str) -> None:
    assert stages()[stage]["cmd"].split()[:2] == ["python", f"stages/{stage}.py"]
    lists = [dep for dep in stages()[stage]["deps"] if dep.startswith("data/code/")]
    assert lists == ([] if stage == "check" else [f"data/code/{stage}.txt"])
    assert {script.stem for script in Path("stages").glob("*.py")} == set(stages())


@pytest.mark.parametrize("stage", sorted(stages()))
def test_the_list_of_code_holds_all_modules_that_python_loads(stage: str) -> None:
    # Some scripts import within main(), which does not run here: load what they name.
    named = [f"thaw.{room}" for room in imported_rooms(Path(f"stages/{stage}.py"))]
    program = (
        f"import sys, importlib; [importlib.import_module(name) for name in {named}]; "
        "print(*{name.split('.')[1] for name in sys.modules if name.startswith('thaw.')})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= rooms_under(Path(f"stages/{stage}.py"))


def test_changed_code_changes_the_lists_of_the_stages_that_use_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("src", "stages"):
        shutil.copytree(folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    list_code(Path("stages"), Path("before"))
    with Path("src/thaw/feed.py").open("a") as file:
        file.write("# a change\n")
    with Path("src/thaw/report/comparison.css").open("a") as file:
        file.write("/* a change */\n")
    list_code(Path("stages"), Path("after"))
    changed = {
        path.stem for path in Path("before").iterdir() if path.read_text() != Path("after", path.name).read_text()
    }
    assert changed == {"train", "evaluate", "report"}


@pytest.mark.parametrize("stage", sorted(set(stages()) - {"check"}))
def test_a_stage_declares_every_parameter_it_reads(stage: str) -> None:
    # `report` alone hands all parameters on.
    sources = [Path("stages") / f"{stage}.py", *(files_of("report") if stage == "report" else [])]
    read = {
        node.attr
        for path in sources
        if path.suffix == ".py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    declared = {param.split(".")[0] for param in stages()[stage].get("params", [])}
    assert declared == read


def test_stage_scripts_have_no_logic() -> None:
    for path in sorted(Path("stages").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert main.name == "main"
        assert (main.end_lineno or 0) - main.lineno < 25
        assert not [node for node in ast.walk(main) if isinstance(node, (ast.If, ast.While, ast.Try))], path
