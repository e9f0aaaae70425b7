"""`thaw status` says why each stage is stale, and runs none; `thaw repro` notices another installed version.

Run with `pytest tests/pipeline/test_status.py`.
"""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from pipeline.toy_project import PIPELINE, STAGE, environment, make_toy, read_params, set_params
from thaw.pipeline.reasons import Reasons, describe_code, describe_values, format_reasons

LIST_CODE = """
from pathlib import Path
from thaw.utils.code_closure import list_code
list_code(Path("stages"), Path("data/code"), package=Path("src/thaw"))
"""
CHECK = {
    "cmd": "python stages/check.py",
    "deps": ["params.yaml", "stages"],
    "outs": ["data/code"],
}


def make_checked_toy(folder: Path) -> Path:
    """The toy project, with a stage that lists the code of `prepare`, which imports numpy."""
    make_toy(folder)
    shutil.copytree(ROOT / "src/thaw", folder / "src/thaw", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "stages").mkdir()
    (folder / "stages/check.py").write_text(LIST_CODE)
    (folder / "stages/prepare.py").write_text(f"if False:\n    import numpy\n{STAGE}")
    prepare = PIPELINE["stages"]["prepare"] | {
        "cmd": "python stages/prepare.py prepare data/prepared",
        "deps": ["data/code/prepare.txt"],
    }
    stages = {"check": CHECK, **PIPELINE["stages"], "prepare": prepare}
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project of `make_checked_toy` once all its stages have run."""
    folder = make_checked_toy(tmp_path_factory.mktemp("finished") / "toy")
    thaw(folder, "repro")
    return folder


@pytest.fixture
def toy(finished: Path, tmp_path: Path) -> Path:
    """A copy of `finished`."""
    return shutil.copytree(finished, tmp_path / "toy")


def thaw(folder: Path, command: str, **own: str) -> list[str]:
    """The lines that a command prints."""
    done = subprocess.run(
        [sys.executable, "-c", "from thaw.cli import run; run()", command],
        cwd=folder,
        env=environment(**own),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).splitlines()


def with_another_numpy(folder: Path) -> dict[str, str]:
    """The environment in which numpy 0.0.1 is installed, as far as its metadata say."""
    metadata = folder / "site/numpy-0.0.1.dist-info/METADATA"
    metadata.parent.mkdir(parents=True, exist_ok=True)
    metadata.write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.0.1\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT / "src")])}


def test_what_has_never_run_is_said_and_not_run(tmp_path: Path) -> None:
    assert thaw(make_checked_toy(tmp_path / "toy"), "status") == [
        "not run yet",
        "  stale: check, prepare, train (4 stages), evaluate (4 stages), report",
        "11 of 11 stages are stale; `thaw repro` runs what is, or finds it in DVC's cache",
    ]
    assert not (tmp_path / "toy/.thaw/notes").exists()


def test_it_says_what_is_stale_and_why(toy: Path) -> None:
    assert thaw(toy, "status") == ["up to date: 11 stages"]

    params = read_params(toy)
    tuned = {"tuned": [{"train": "all", "epochs": 1, "lr": 0.1}]}
    set_params(toy, params | {"variants": params["variants"] | tuned, "seeds": [0]})
    changed = "variants.tuned.0.train: head -> all; variants.tuned.0.epochs: unset -> 1"
    assert thaw(toy, "status") == [
        f"You changed {changed}; variants.tuned.0.lr: unset -> 0.1",
        "  stale: train@tuned-0",
        "You changed seeds: [0, 1] -> [0]",
        "  stale: report",
        "params.yaml changed",
        "  stale: check",
        "behind these: evaluate@tuned-0",
        "4 of 7 stages are stale; `thaw repro` runs what is, or finds it in DVC's cache",
    ]
    set_params(toy, params)

    (toy / "data/models/frozen-0").unlink()
    (toy / "reports/comparison.md").write_text("edited")
    with (toy / "stages/prepare.py").open("a") as file:
        file.write("# a change\n")
    assert thaw(toy, "status")[:-1] == [
        "stages changed",
        "  stale: check",
        "code changed: stages/prepare.py",
        "  stale: prepare",
        "data/models/frozen-0 is missing",
        "  stale: train@frozen-0",
        "reports/comparison.md changed",
        "  stale: report",
        "behind these: train@frozen-1, train@tuned-0, train@tuned-1, evaluate (4 stages)",
    ]


def test_a_module_that_is_not_python_is_one_sentence(toy: Path) -> None:
    (toy / "stages/prepare.py").write_text("x = 1\ndef\n")
    done = subprocess.run(
        [sys.executable, "-c", "from thaw.cli import run; run()", "status"],
        cwd=toy, env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr == "error: stages/prepare.py, line 2, is not Python (invalid syntax): correct it\n"


def test_another_installed_version_is_noticed_though_no_file_changed(toy: Path) -> None:
    other = with_another_numpy(toy)
    changed = f"another numpy: {version('numpy')} -> 0.0.1"
    assert thaw(toy, "status", **other)[:2] == [changed, "  stale: check, prepare"]
    # What `prepare` writes is the same, so that nothing behind it runs.
    assert thaw(toy, "repro", **other)[-1] == "up to date: 2 stages ran, 0 from the cache"
    assert thaw(toy, "status", **other) == ["up to date: 11 stages"]
    assert thaw(toy, "repro", **other)[-1] == "up to date: 0 stages ran, 0 from the cache"
    # Back again: `check` runs, and what `prepare` made is in DVC's cache.
    assert thaw(toy, "repro")[-1] == "up to date: 1 stage ran, 1 from the cache"


def test_lists_from_the_run_cache_are_not_taken_for_another_environment(toy: Path) -> None:
    params = read_params(toy)
    set_params(toy, params | {"sample": params["sample"] | {"seed": 99}})
    thaw(toy, "repro")
    set_params(toy, params)
    # DVC finds the lists of these parameters in its run cache, made with the other numpy.
    assert thaw(toy, "repro", **with_another_numpy(toy))[-1].startswith("up to date: 2 stages ran, ")
    assert "numpy 0.0.1\n" in (toy / "data/code/prepare.txt").read_text()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ({"embed": {"views": 4}}, {"embed": {"views": 8}}, ["embed.views: 4 -> 8"]),
        ({"variants.a": [{"lr": 0.1}, {"lr": 0.2}]}, {"variants.a": [{"lr": 0.1}]}, ["variants.a.1.lr: 0.2 -> unset"]),
        ({}, {"a": 1, "b": 2}, ["a: unset -> 1", "b: unset -> 2"]),
        ({"seeds": [0]}, {"seeds": [0]}, []),
    ],
)
def test_parameters_are_named_with_their_values(old: dict[str, Any], new: dict[str, Any], said: list[str]) -> None:
    assert describe_values(old, new) == said


def test_a_change_is_said_once_and_names_what_it_makes_stale() -> None:
    rate = "variants.frozen.0.lr: 0.1 -> 0.2"
    cells = [f"{variant}-{seed}" for variant in ("frozen", "tuned") for seed in range(3)]
    found = {
        "check": Reasons(others=("params.yaml changed",)),
        "split": Reasons(),
        **{f"train@{cell}": Reasons(parameters=(rate,) if "frozen" in cell else ()) for cell in cells},
        **{f"evaluate@{cell}": Reasons(behind_stale="frozen" in cell) for cell in cells},
        "report": Reasons(parameters=(rate, *(f"report.{knob}: 1 -> 2" for knob in "abcd")), behind_stale=True),
    }
    assert list(format_reasons(found)) == [
        f"You changed {rate}",
        "  stale: train@frozen-0, train@frozen-1, train@frozen-2, report",
        "You changed report.a: 1 -> 2; report.b: 1 -> 2; report.c: 1 -> 2 and 1 more",
        "  stale: report",
        "params.yaml changed",
        "  stale: check",
        "behind these: evaluate@frozen-0, evaluate@frozen-1, evaluate@frozen-2",
    ]
    assert list(format_reasons({"check": Reasons()})) == []


def test_code_is_named_by_modules_and_versions() -> None:
    old = "1  stages/a.py\n1  src/thaw/data/b.py\n1  src/thaw/c.py\npython 3.11\ntorch 2.14.1\n"
    new = "1  stages/a.py\n2  src/thaw/data/b.py\n1  src/thaw/d.py\npython 3.12\nscipy 1.17.1\ntorch 2.14.1\n"
    assert describe_code(old, new) == [
        "code changed: c.py, d.py, data/b.py",
        "another python: 3.11 -> 3.12",
        "another scipy: unused -> 1.17.1",
    ]
    assert describe_code(old, old) == []
