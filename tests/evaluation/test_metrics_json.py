"""reports/metrics/VARIANT-SEED.json: what is written comes back, and a file that is something else is one sentence.

Run with: pytest tests/evaluation/test_metrics_json.py
"""

from pathlib import Path
from typing import Any

import pytest

from thaw.errors import DataError
from thaw.evaluation.metrics_json import (
    Metrics,
    ScoresOnTest,
    UncalibratedScores,
    ValScores,
    read_metrics,
    write_metrics,
)
from thaw.network.model_card import BestEpoch
from thaw.utils.atomic import read_json, write_json

METRICS = Metrics(
    test=ScoresOnTest(accuracy=0.1 + 0.2, balanced_accuracy=0.25, log_loss=1e-12, roc_auc=1.0, ece=0.05),
    recall={"Cat": 0.5, "Köter": 0.0},
    uncalibrated=UncalibratedScores(log_loss=0.3, ece=0.1),
    val=ValScores(accuracy=0.5, log_loss=0.7),
    trainable_parameters=34,
    backbone_tensors=12,
    backbone_parameter_tensors=8,
    backbone_tensors_moved=0,
    best=BestEpoch(phase=1, epoch=3),
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "frozen-0.json"
    write_metrics(path, METRICS)
    return path


def test_what_is_written_comes_back(path: Path) -> None:
    assert read_metrics(path) == METRICS
    assert read_json(path)["test"]["accuracy"] == 0.1 + 0.2
    assert read_json(path)["best"] == {"phase": 1, "epoch": 3}


def test_what_a_later_release_adds_is_let_through(path: Path) -> None:
    write_json(path, {**read_json(path), "of_a_later_release": 1})
    assert read_metrics(path) == METRICS


def without(values: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


def test_a_wrong_file_is_one_sentence(path: Path) -> None:
    values = read_json(path)
    broken: dict[str, object] = {
        "val: Field required": without(values, "val"),
        "test.ece: Field required": values | {"test": without(values["test"], "ece")},
        "test.accuracy: Input should be a valid number": values | {"test": values["test"] | {"accuracy": "high"}},
        "backbone_tensors: Input should be a valid integer": values | {"backbone_tensors": 1.5},
        "Input should be an object": [],
    }
    for complaint, content in broken.items():
        write_json(path, content)
        with pytest.raises(DataError) as caught:
            read_metrics(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert complaint in str(caught.value)
        assert str(caught.value).endswith("delete it and run `dvc repro`")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"test": NaN}'])
def test_a_file_that_is_no_json_is_one_sentence(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"frozen-0\.json: .*; delete it and run `dvc repro`$") as caught:
        read_metrics(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json does not exist: run `dvc repro`, which runs the stage evaluate$"):
        read_metrics(tmp_path / "none.json")
