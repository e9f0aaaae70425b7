"""params.yaml is read as DVC reads it, also with the last release's names, and what cannot be read is one sentence.

Run with `pytest tests/test_params_file.py`. What its values may be: tests/test_params.py.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.serialize import modify_yaml, parse_yaml

from conftest import ROOT
from test_params import complaint_about, write, write_changed
from thaw.errors import ConfigError
from thaw.params import SGDParams
from thaw.params_file import load_params


def with_old_names(optimizer: str) -> dict[str, Any]:
    """params.yaml as the last release wrote it."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["sample"]["pictures_per_class"] = values["sample"].pop("images_per_class")
    values["clean"]["near_duplicate_bits"] = values["clean"].pop("max_hamming_distance")
    values["training"] = {
        "batch_size": 32,
        "accumulate_batches": 1,
        "optimizer": optimizer,
        "momentum": 0.9,
        "nesterov": True,
        "weight_decay": 0.01,
        "warm_up_share": 0.1,
        "block_lr_decay": 1.0,
        "label_smoothing": 0.0,
        "mixup_alpha": 0.0,
        "patience_epochs": 5,
        "batch_norm": "frozen_stats",
    }
    return values


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_old_names_are_read_and_a_line_for_each_gives_the_new_one(
    tmp_path: Path, optimizer: str, caplog: pytest.LogCaptureFixture
) -> None:
    today = load_params(write_changed(tmp_path, ("training.optimizer.name", optimizer)))
    assert caplog.messages == []
    path = write(tmp_path, with_old_names(optimizer))
    assert load_params(path) == today
    renamed = {
        "sample.pictures_per_class": "sample.images_per_class",
        "clean.near_duplicate_bits": "clean.max_hamming_distance",
        "training.accumulate_batches": "training.grad_accum_steps",
        "training.optimizer": "training.optimizer.name",
        "training.weight_decay": "training.optimizer.weight_decay",
        "training.momentum": "training.optimizer.momentum",
        "training.nesterov": "training.optimizer.nesterov",
        "training.warm_up_share": "training.warmup_ratio",
        "training.block_lr_decay": "training.layer_decay",
    }
    assert caplog.messages == [
        f"{path}: {old} applies to sgd alone, where it is now called {new}: remove it"
        if optimizer == "adamw" and old in ("training.momentum", "training.nesterov")
        else f"{path}: {old} is now called {new}: rename it; the old name goes with the next release"
        for old, new in renamed.items()
    ]


def test_a_wrong_value_under_an_old_name_is_refused_under_the_new_one(tmp_path: Path) -> None:
    values = with_old_names("sgd")
    values["training"]["warm_up_share"] = "1e-1"
    assert "training.warmup_ratio: expected a number, got '1e-1'" in complaint_about(write(tmp_path, values))


def test_an_old_name_beside_the_new_one_is_refused(tmp_path: Path) -> None:
    assert complaint_about(write_changed(tmp_path, ("training.warm_up_share", 0.2))).endswith(
        "training.warm_up_share is now called training.warmup_ratio, and both are set: remove training.warm_up_share"
    )


def test_the_old_command_line_for_an_optimizer_is_understood(tmp_path: Path) -> None:
    # `dvc exp run -S training.optimizer=sgd` puts the word where the keys were.
    params = load_params(write_changed(tmp_path, ("training.optimizer", "sgd")))
    assert params.training.optimizer == SGDParams()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("a: [1", "is not valid YAML"), ("", "expected keys with values"), ("- 1", "expected keys with values")],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=complaint):
        load_params(path)


def test_a_missing_file_says_where_to_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run this from the project's root"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.00001", 1e-5),
        ("1e-5", 1e-5),
        ("1e-05", 1e-5),
        ("1.0e-05", 1e-5),
        ("5E-5", 5e-5),
        (".5", 0.5),
        ("+1e2", 100.0),
    ],
)
def test_a_number_is_one_however_it_is_written_and_dvc_reads_the_same(tmp_path: Path, text: str, number: float) -> None:
    changed = (ROOT / "params.yaml").read_text(encoding="utf-8").replace("head_lr: 0.003", f"head_lr: {text}")
    path = tmp_path / "params.yaml"
    path.write_text(changed, encoding="utf-8")
    assert load_params(path).variants["fine_tuned"][0].head_lr == number
    assert parse_yaml(changed, path)["variants"]["fine_tuned"][0]["head_lr"] == number


def test_a_small_rate_that_dvc_writes_is_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    with modify_yaml(str(path)) as values:  # as `dvc exp run -S` does
        values["variants"]["fine_tuned"][0]["lr"] = 0.00001
    assert "lr: 1e-05" in path.read_text(encoding="utf-8")
    assert load_params(path).variants["fine_tuned"][0].lr == 1e-5


def test_words_of_older_yaml_are_text(tmp_path: Path) -> None:
    path = write(tmp_path, yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8")))
    path.write_text(path.read_text(encoding="utf-8").replace("compile: false", "compile: no"), encoding="utf-8")
    assert "compute.compile: expected true or false, got 'no'" in complaint_about(path)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((ROOT / "params.yaml").read_text(encoding="utf-8") + "seeds: [1]\n", encoding="utf-8")
    assert "is not valid YAML" in complaint_about(path)


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    del values["training"]["batch_size"]
    assert "training.batch_size: this key is missing" in complaint_about(write(tmp_path, values))
