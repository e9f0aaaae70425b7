"""data/cost/*.json: what is written comes back, and a file that is something else is one sentence.

Run with: pytest tests/training/test_cost_json.py
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from thaw.errors import DataError
from thaw.training.cost_json import EmbedCost, PhaseCost, TrainCost, read_embed_cost, read_train_cost, write_cost
from thaw.utils.atomic import read_json, write_json

EMBED = EmbedCost(
    images=24,
    seconds=0.1 + 0.2,
    images_per_second=80.0,
    views=2,
    flops=10**18,
    peak_memory_mib=300.5,
    device="cpu",
    threads=2,
    processes=1,
)
TRAIN = TrainCost(
    started_at_unix_s=1_700_000_000.5,
    provenance={"mlflow.source.git.commit": "abc"},
    train_seconds=3.25,
    images_per_second=120.0,
    peak_memory_mib=400.0,
    device="cuda",
    threads=1,
    processes=2,
    phases=(
        PhaseCost(train="head", epochs=6, seconds=0.25, images_per_second=1000.0),
        PhaseCost(train="all", epochs=2, seconds=3.0, images_per_second=50.0),
    ),
)
KINDS = [(EMBED, read_embed_cost, "embed"), (TRAIN, read_train_cost, "train")]


@pytest.mark.parametrize(("cost", "read", "_stage"), KINDS)
def test_what_is_written_comes_back(
    tmp_path: Path, cost: EmbedCost | TrainCost, read: Callable[[Path], object], _stage: str
) -> None:
    path = tmp_path / "cost.json"
    write_cost(path, cost)
    assert read(path) == cost
    write_json(path, {**read_json(path), "of_a_later_release": 1})
    assert read(path) == cost


@pytest.mark.parametrize(("cost", "read", "stage"), KINDS)
def test_a_wrong_file_is_one_sentence(
    tmp_path: Path, cost: EmbedCost | TrainCost, read: Callable[[Path], object], stage: str
) -> None:
    path = tmp_path / "cost.json"
    write_cost(path, cost)
    values = read_json(path)
    broken = {
        "threads: Field required": {key: value for key, value in values.items() if key != "threads"},
        "threads: Input should be a valid integer": values | {"threads": "two"},
        "images_per_second: Input should be a valid number": values | {"images_per_second": None},
        "Input should be an object": [],
    }
    for complaint, content in broken.items():
        write_json(path, content)
        with pytest.raises(DataError) as caught:
            read(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert complaint in str(caught.value)
        assert str(caught.value).endswith("delete it and run `dvc repro`")
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"cost\.json: .*; delete it and run `dvc repro`$"):
        read(path)
    path.unlink()
    with pytest.raises(DataError, match=rf"cost\.json does not exist: run `dvc repro`, which runs the stage {stage}$"):
        read(path)


def test_a_number_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="finite number"):
        EmbedCost.model_validate(EMBED.model_dump() | {"seconds": float("nan")})
