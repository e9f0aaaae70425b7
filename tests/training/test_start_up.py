"""Who learns on features imports no network library, no compiler (which takes sympy along) and no MLflow.

Run with `pytest tests/training/test_start_up.py`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING, embed_tiny
from thaw.evaluation.evaluate import evaluate_cell
from thaw.network.backbones import build_backbone
from thaw.params import Phase, SolvedPhase
from thaw.paths import Cell
from thaw.training import train

CELL = Cell("frozen", 0)
HEADS = ((SolvedPhase(),),)
PROGRAM = f"""
import sys

import thaw.tracking.background
from thaw.evaluation.evaluate import evaluate_cell
from thaw.params import BackboneParams, SolvedPhase, StorageParams, TrainingParams
from thaw.paths import Cell
from thaw.training.train import train_cell

cell = Cell("frozen", 0)
train_cell(
    cell,
    candidates=((SolvedPhase(),),),
    backbone=BackboneParams.model_validate_json({TINY_BACKBONE.model_dump_json()!r}),
    storage=StorageParams.model_validate_json({TINY_STORAGE.model_dump_json()!r}),
    training=TrainingParams.model_validate_json({TINY_TRAINING.model_dump_json()!r}),
    val="fixed",
)
evaluate_cell(cell, batch_size=8)
loaded = {{name.partition(".")[0] for name in sys.modules}}
print(*sorted(loaded & {{"timm", "torchvision", "mlflow", "dvc", "sklearn", "sympy"}}))
"""


def written(cell: Cell) -> list[bytes]:
    files = (cell.model / "model.safetensors", cell.model / "model.json", cell.history, cell.predictions, cell.metrics)
    return [path.read_bytes() for path in files]


def test_a_head_is_trained_and_tested_without_network_libraries_and_its_bytes_are_the_same(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_tiny()
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
    without = written(CELL)
    monkeypatch.setattr(train, "read_backbone", lambda _path, *, params: build_backbone(params))
    train.train_cell(
        CELL,
        candidates=HEADS,
        backbone=TINY_BACKBONE,
        storage=TINY_STORAGE,
        training=TINY_TRAINING,
        val="fixed",
    )
    evaluate_cell(CELL, batch_size=8)
    assert written(CELL) == without


def test_where_more_than_a_head_is_trained_the_backbone_is_built(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "read_backbone", lambda *_, **__: pytest.fail("a network is needed"))
    two_stage = (SolvedPhase(), Phase(train="last:1", epochs=1, lr=0.01))
    backbone = train._read_or_build(TINY_BACKBONE, [HEADS[0], two_stage])
    assert backbone.width == build_backbone(TINY_BACKBONE).width


def test_what_is_deterministic_is_told_to_the_compiler_only_where_something_is_compiled() -> None:
    program = (
        "import sys, torch; from thaw.compute.determinism import make_deterministic; from thaw.params import FLOAT32\n"
        "for compiles in (False, True):\n"
        "    make_deterministic(FLOAT32.model_copy(update={'compile': compiles}))\n"
        "    assert torch.get_deterministic_debug_mode() == 2; inductor = sys.modules.get('torch._inductor.config')\n"
        "    print(inductor is not None and inductor.deterministic)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\nTrue\n"
