"""The walls: packages import only what stands above them, and dvc.yaml names all that a stage depends on.

Run with `pytest tests/test_architecture.py`.
"""

import ast
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from thaw import paths
from thaw.params import StorageParams
from thaw.utils import code_closure
from thaw.utils.atomic import partial_path
from thaw.utils.code_closure import LIBRARIES, PACKAGE, closure_of, closure_sha256, imported_modules, list_code

LAYERS = (
    "errors", "params", "paths", "utils", "params_file", "compute", "sample", "ingest", "data",
    "network", "training", "evaluation", "diagnosis", "tracking", "report", "pipeline", "cli",
)  # fmt: skip
"""Modules and packages of src/thaw in the order of the data: each imports only what stands before it."""

UTILS = {
    "atomic", "code_closure", "dvc_lock", "hashing", "progress", "random_streams", "ranks", "records",
    "signals", "words", "zips",
}  # fmt: skip
"""All that may stand in utils/: a new module belongs into a package with a subject."""

MODULES = sorted(path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py"))


@pytest.fixture(autouse=True)
def in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lists of code name files relative to the project's root."""
    monkeypatch.chdir(ROOT)


def stages() -> dict[str, Any]:
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)["stages"]
    return {name: stage.get("do", stage) for name, stage in loaded.items()}


def imported_libraries(path: Path) -> set[str]:
    """The top-level names of all that a file imports."""
    tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        name.split(".")[0]
        for node in tree
        for name in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }


def test_the_layers_name_every_package() -> None:
    assert set(LAYERS) == {module.split("/")[0] for module in MODULES} - {"__init__"}


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_layers_before_its_own(module: str) -> None:
    if module.endswith("__init__"):
        return
    own = LAYERS.index(module.split("/")[0])
    for imported in imported_modules(PACKAGE / f"{module}.py"):
        assert LAYERS.index(imported.split(".")[0]) <= own, imported


def test_no_cycle_of_imports_inside_a_package() -> None:
    graph = {
        module.replace("/", "."): set(imported_modules(PACKAGE / f"{module}.py"))
        for module in MODULES
        if not module.endswith("__init__")
    }
    assert all(name not in imported for name, imported in graph.items())
    TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("module", [module for module in MODULES if module.endswith("__init__")])
def test_an_init_is_a_docstring(module: str) -> None:
    (only,) = ast.parse((PACKAGE / f"{module}.py").read_text(encoding="utf-8")).body
    assert isinstance(only, ast.Expr)


def test_utils_is_a_closed_list() -> None:
    assert {path.stem for path in (PACKAGE / "utils").glob("*.py")} - {"__init__"} == UTILS


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("mlflow", {"tracking"}),
        ("timm", {"network"}),
        ("torchvision", {"network"}),
        ("kaggle", {"ingest"}),
        ("dvc", {"pipeline"}),
    ],
)
def test_a_library_is_imported_in_one_package_alone(library: str, homes: set[str]) -> None:
    importers = {module.split("/")[0] for module in MODULES if library in imported_libraries(PACKAGE / f"{module}.py")}
    assert importers == homes


@pytest.mark.parametrize(
    "package",
    ["errors", "params", "paths", "utils", "params_file", "sample", "ingest", "tracking", "report", "pipeline"],
)
def test_no_torch_where_none_is_needed(package: str) -> None:
    files = [PACKAGE / f"{package}.py"] if (PACKAGE / f"{package}.py").exists() else (PACKAGE / package).glob("*.py")
    assert not [path for path in files if "torch" in imported_libraries(path)]


@pytest.mark.parametrize("stage", ["check", "download", "unzip", "clean", "split", "clean_external", "report"])
def test_a_stage_that_does_not_compute_starts_without_torch(stage: str) -> None:
    reached = [path for path in closure_of(Path(f"stages/{stage}.py")) if path.suffix == ".py"]
    assert not [path for path in reached if "torch" in imported_libraries(path)]


@pytest.mark.parametrize("stage", sorted(stages()))
def test_a_stage_has_a_script_and_depends_on_its_list_of_code(stage: str) -> None:
    assert stages()[stage]["cmd"].split()[:2] == ["python", f"stages/{stage}.py"]
    lists = [dep for dep in stages()[stage]["deps"] if dep.startswith("data/code/")]
    assert lists == ([] if stage == "check" else [f"data/code/{stage}.txt"])
    assert {script.stem for script in Path("stages").glob("*.py")} == set(stages())


def test_the_outputs_of_dvc_yaml_are_those_of_paths() -> None:
    declared = set()
    for stage in stages().values():
        outs = [*stage.get("outs", []), *stage.get("metrics", []), *stage.get("plots", [])]
        declared |= {out if isinstance(out, str) else next(iter(out)) for out in outs}
    cell = paths.Cell("VARIANT", 0)
    of_a_cell = {cell.model, cell.history, cell.cost, cell.predictions, cell.metrics}
    named = {path.as_posix().replace("VARIANT-0", "${item.variant}-${item.seed}") for path in of_a_cell}
    external = paths.ExternalSet("SET")
    cleaned = {external.manifest, external.images}
    named |= {path.as_posix().replace("SET", "${key}") for path in cleaned}
    tested = {external.predictions(cell), external.metrics(cell)}
    named |= {
        path.as_posix().replace("SET", "${item.external}").replace("VARIANT-0", "${item.variant}-${item.seed}")
        for path in tested
    }
    corrupted = paths.CorruptedTest("contrast")
    named |= {
        path.as_posix().replace("contrast", "${item.corruption}").replace("VARIANT-0", "${item.variant}-${item.seed}")
        for path in (corrupted.predictions(cell), corrupted.metrics(cell))
    }
    assert declared == named | {path.as_posix() for path in paths.OUTPUTS}


def test_make_clean_deletes_what_stages_write_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = paths.Cell("VARIANT", 0)
    of_a_cell = (cell.model, cell.history, cell.cost, cell.predictions, cell.metrics)
    written = {*paths.OUTPUTS, *of_a_cell, paths.IMAGES_FOLDER}
    written |= {partial_path(path) for path in (paths.SPLITS, paths.IMAGES_FOLDER, paths.COMPARISON_HTML)}
    mine = {Path("data/my_archive.zip"), Path("data/mine/1.jpg"), Path("data/weights.pth"), Path("reports/notes.md")}
    for name in ("Makefile", "data/.gitignore", "data/none", "reports/.gitignore"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], check=True)
    for path in written | mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    cleaned = subprocess.run(["make", "-s", "clean"], capture_output=True, text=True, check=True)
    left = {path for folder in ("data", "reports") for path in Path(folder).rglob("*") if path.is_file()}
    assert left == mine | {Path("data/.gitignore"), Path("data/none"), Path("reports/.gitignore")}
    assert cleaned.stdout.splitlines() == [
        f"kept, since no stage writes it: {name}"
        for name in ("data/mine/", "data/my_archive.zip", "data/weights.pth", "reports/notes.md")
    ]
    outputs = re.findall(r"(?:data|reports)/\S+", subprocess.check_output(["make", "-s", "-n", "clean"], text=True))
    listed = {Path(name) for name in outputs if not Path(name).name.startswith(".")}
    assert all(any(path.is_relative_to(name) for path in written) for name in listed)


LOAD_IN_FORKS = """
import importlib, json, os, sys

libraries, modules = json.loads(sys.argv[1])
for library in libraries:
    importlib.import_module(library)
for stage, named in modules.items():
    if os.fork() == 0:
        for name in named:
            importlib.import_module(name)
        files = [module.__file__ for name, module in sys.modules.items() if name.startswith("thaw.")]
        print(json.dumps({stage: files}), flush=True)
        os._exit(0)
    assert os.wait()[1] == 0, stage
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, set[Path]]:
    """The modules that Python loads for each stage: in a fork for each, of a process that has what takes long."""
    # Some scripts import within main(), which does not run here: load what they name.
    named = {
        stage: [f"thaw.{module}" for module in imported_modules(ROOT / f"stages/{stage}.py")] for stage in stages()
    }
    command = [sys.executable, "-c", LOAD_IN_FORKS, json.dumps([sorted(LIBRARIES), named])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line)
    return {stage: {Path(file) for file in files if not file.endswith("__init__.py")} for stage, files in found.items()}


@pytest.mark.parametrize("stage", sorted(stages()))
def test_the_list_of_code_holds_all_modules_that_python_loads(loaded: dict[str, set[Path]], stage: str) -> None:
    assert loaded[stage]
    assert loaded[stage] <= set(closure_of(Path(f"stages/{stage}.py")))


@pytest.fixture
def copied_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of src/ and stages/ that a test may edit."""
    for folder in ("src", "stages"):
        shutil.copytree(folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("edited", "changed"),
    [
        ("data/duplicates.py", {"clean", "clean_external"}),
        ("training/inputs.py", {"train"}),
        ("diagnosis/out_of_fold.py", {"diagnose"}),
        ("diagnosis/extrapolation.py", {"report"}),
        ("training/loop.py", {"train"}),
        ("training/cut_maps.py", {"train"}),
        ("training/infer_views.py", {"embed", "train"}),
        ("report/comparison.css", {"report"}),
        ("report/verdict.py", {"report"}),
        ("utils/atomic.py", set(stages())),
        ("cli.py", set()),
    ],
)
def test_an_edit_changes_the_lists_of_the_stages_that_use_it(copied_code: Path, edited: str, changed: set[str]) -> None:
    package = Path("src/thaw")
    list_code(Path("stages"), Path("before"), package=package)
    with (package / edited).open("a") as file:
        file.write("/* a change */\n" if edited.endswith(".css") else "# a change\n")
    list_code(Path("stages"), Path("after"), package=package)
    found = {path.stem for path in Path("before").iterdir() if path.read_text() != Path("after", path.name).read_text()}
    assert found == changed


def test_a_library_counts_for_the_stages_that_compute_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.metadata.version
    changed = {}
    list_code(Path("stages"), tmp_path / "before", package=Path("src/thaw"))
    for library in ("torch", "matplotlib", "pillow", "cleanlab"):
        monkeypatch.setattr(code_closure, "version", lambda name, of=library: "0" if name == of else installed(name))
        list_code(Path("stages"), tmp_path / "after", package=Path("src/thaw"))
        before, after = (
            {path.stem: path.read_text() for path in (tmp_path / name).iterdir()} for name in ("before", "after")
        )
        changed[library] = {stage for stage in before if before[stage] != after[stage]}
    assert {"embed", "train", "evaluate"} <= changed["torch"]
    assert not changed["torch"] & {"check", "download", "unzip", "clean", "split", "report"}
    assert changed["matplotlib"] == {"report"}
    assert {"download", "clean", "train", "report"} <= changed["pillow"]
    assert changed["cleanlab"] == {"diagnose"}


def test_the_key_of_a_checkpoint_follows_the_code_that_its_stage_runs(
    copied_code: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = copied_code / "src/thaw"
    monkeypatch.setattr(code_closure, "PACKAGE", package)
    for function in (code_closure.closure_of, code_closure.imported_modules):
        monkeypatch.setattr(function, "__kwdefaults__", {"package": package})
    before = closure_sha256("training.train")
    (copied_code / "src/thaw/cli.py").write_text("# another command line\n")
    assert closure_sha256("training.train") == before
    for edited in ("training/train.py", "network/backbones.py"):
        with (copied_code / "src/thaw" / edited).open("a") as file:
            file.write("# a change\n")
        after = closure_sha256("training.train")
        assert after != before
        before = after


@pytest.mark.parametrize("stage", sorted(set(stages()) - {"check"}))
def test_a_stage_declares_every_parameter_it_reads(stage: str) -> None:
    # `report` alone hands all parameters on.
    sources = [Path("stages") / f"{stage}.py", *((PACKAGE / "report").glob("*.py") if stage == "report" else [])]
    read = {
        node.attr
        for path in sources
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "params"
    }
    declared = {param.split(".")[0] for param in stages()[stage].get("params", [])}
    assert declared == read


TAKEN_WHOLE = {"data", "variants"}
"""Sections of which functions take the whole and read keys: which ones, is not seen in a stage's script."""


@pytest.mark.parametrize("stage", sorted(stages()))
def test_a_stage_that_declares_keys_of_a_section_declares_all_that_it_reads(stage: str) -> None:
    declared = [param.split(".") for param in stages()[stage].get("params", []) if "." in param]
    by_key = {section for section, *_ in declared} - TAKEN_WHOLE
    read = re.findall(r"\bparams\.(\w+)(?:\.(\w+))?", Path(f"stages/{stage}.py").read_text(encoding="utf-8"))
    keys = {(section, key) for section, key in read if section in by_key}
    if ("clean", "storage") in keys:
        keys = keys - {("clean", "storage")} | {("clean", key) for key in StorageParams.model_fields}
    assert keys == {(section, key) for section, key, *_ in declared if section in by_key}


def test_stage_scripts_have_no_logic() -> None:
    for path in sorted(Path("stages").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
        assert main.name == "main"
        assert (main.end_lineno or 0) - main.lineno < 25
        assert not [node for node in ast.walk(main) if isinstance(node, (ast.If, ast.While, ast.Try))], path
