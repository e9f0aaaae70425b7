"""A project of toy stages with four cells, for tests of `thaw repro` and `thaw status`."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT

STAGE = """
import json, os, signal, sys, time
from pathlib import Path

name, out, *deps = sys.argv[1:]
notes = Path(".thaw/notes")
notes.mkdir(parents=True, exist_ok=True)
(notes / f"{name}.began").write_text(str(os.getpid()))
began = time.time()

def save(number, _):
    (notes / f"{name}.saved").touch()
    time.sleep(0.2)  # a second signal would be one too many
    sys.exit("stopped by " + signal.Signals(number).name)

signal.signal(signal.SIGTERM, save)
if os.environ.get("TOY_FAILS") == name:
    sys.exit("error: this is how it failed")
together = os.environ.get("TOY_TOGETHER", "")
if together and name.startswith("train"):
    deadline = time.time() + 60
    while len(list(notes.glob("train*.began"))) < int(together):
        assert time.time() < deadline, "the others did not begin"
        time.sleep(0.02)
if name.startswith(os.environ.get("TOY_BLOCKS", "nothing")):
    time.sleep(120)
Path(out).parent.mkdir(parents=True, exist_ok=True)
Path(out).write_text(name + "".join(Path(dep).read_text() for dep in deps))
(notes / f"{name}.json").write_text(json.dumps([began, time.time()]))
"""

CELL = "${item.variant}-${item.seed}"
MATRIX = {"variant": "${variants}", "seed": "${seeds}"}
PIPELINE: dict[str, Any] = {
    "stages": {
        "prepare": {"cmd": "python stage.py prepare data/prepared", "params": ["sample"], "outs": ["data/prepared"]},
        "train": {
            "matrix": MATRIX,
            "cmd": f"python stage.py train@{CELL} data/models/{CELL} data/prepared",
            "deps": ["data/prepared"],
            "params": ["variants.${item.variant}"],
            "outs": [f"data/models/{CELL}"],
        },
        "evaluate": {
            "matrix": MATRIX,
            "cmd": f"python stage.py evaluate@{CELL} data/predictions/{CELL} data/models/{CELL}",
            "deps": [f"data/models/{CELL}"],
            "outs": [f"data/predictions/{CELL}"],
        },
        "report": {
            "cmd": "python stage.py report reports/comparison.md",
            "deps": ["data/predictions"],
            "params": ["seeds"],
            "outs": ["reports/comparison.md"],
        },
    }
}
CELLS = ["frozen-0", "frozen-1", "tuned-0", "tuned-1"]


def make_toy(folder: Path) -> Path:
    """A project with four cells."""
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    shutil.copy(ROOT / ".dvcignore", folder)
    (folder / "stage.py").write_text(STAGE)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    set_params(
        folder, params | {"variants": {name: [{"train": "head"}] for name in ("frozen", "tuned")}, "seeds": [0, 1]}
    )
    return folder


@cache
def _finish_once(root: Path) -> Path:
    folder = make_toy(root / "finished_toy")
    subprocess.run(["dvc", "repro", "--quiet"], cwd=folder, env=environment(), check=True)
    return folder


@pytest.fixture
def finished(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    """A copy of the project as `dvc repro` leaves it; all modules share the original."""
    return shutil.copytree(_finish_once(tmp_path_factory.getbasetemp()), tmp_path / "finished")


def set_params(folder: Path, params: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def read_params(folder: Path) -> dict[str, Any]:
    params: dict[str, Any] = yaml.safe_load((folder / "params.yaml").read_text())
    return params


def environment(**own: str) -> dict[str, str]:
    inherited = {
        key: value for key, value in os.environ.items() if key not in ("CUDA_VISIBLE_DEVICES", "THAW_LAUNCHER")
    }
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}", **own}
