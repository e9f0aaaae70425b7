"""params.yaml is checked once, strictly, and complaints name the culprit by its dotted path."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from conftest import ROOT
from thaw.errors import ConfigError
from thaw.params import NO_FILE, Phase, load_params


def write_changed(tmp_path: Path, dotted_key: str, value: Any) -> Path:
    """The project's params.yaml with one value changed."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    *parents, last = dotted_key.split(".")
    place = values
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    place[int(last) if isinstance(place, list) else last] = value
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def test_the_projects_own_parameters_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert set(params.variants) == {"frozen", "fine_tuned", "two_stage"}
    assert params.data.archive is None


def test_every_key_is_commented_or_speaks_for_itself() -> None:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    trailing = [line for line in lines if "#" in line and not line.lstrip().startswith("#")]
    assert trailing == []  # `dvc exp run -S` drops comments that stand behind a value


def test_the_placeholder_for_no_archive_exists() -> None:
    assert (ROOT / NO_FILE).is_file()


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("variants.frozen.0.lr", "1e-3", "variants.frozen.0.lr: expected a number, got '1e-3'; write 0.001"),
        ("variants.frozen.0.lr", True, "variants.frozen.0.lr: expected a number, got True"),
        ("variants.frozen.0.lr", 0, "variants.frozen.0.lr: expected a number above 0, got 0"),
        ("variants.frozen.0.lr", float("inf"), "variants.frozen.0.lr: expected a finite number, got inf"),
        ("variants.frozen.0.train", "heads", "variants.frozen.0.train: expected one of"),
        ("variants.frozen.0.epoch", 3, "variants.frozen.0.epoch: there is no such parameter; did you mean epochs?"),
        ("variants.frozen.0.train", "last:0", "variants.frozen.0.train: expected one of 'head', 'all' and 'last:N'"),
        ("variants.frozen", [], "variants.frozen: expected at least one entry"),
        ("variants.a-b", [{"train": "head", "epochs": 1, "lr": 0.1}], "variants.a-b: expected text that matches"),
        ("variants", {}, "variants: expected at least one entry"),
        ("seeds", [], "seeds: expected at least one entry"),
        ("seeds", [1, 1], "seeds: expected each seed once, got [1, 1]"),
        ("seeds", ["0"], "seeds.0: expected a whole number, got '0'"),
        ("data.source", "http", "data.source: expected one of 'sample', 'file'"),
        ("data.source", "file", "data.source 'file' needs the path of an archive in data.path"),
        ("data.source", "url", "data.source 'url' needs an address in data.url"),
        ("data.sha256", "abc", "data.sha256: expected text that matches"),
        ("split.val_fraction", 0.9, "must leave something to train on"),
        ("split.test_fraction", 1.5, "split.test_fraction: expected a number below 1, got 1.5"),
        ("training.batch_size", 2.5, "training.batch_size: expected a whole number, got 2.5"),
        ("training.optimizer", "adam", "training.optimizer: expected one of 'adamw' or 'sgd', got 'adam'"),
        ("training.momentum", 0, "training.nesterov true needs training.momentum above 0"),
        ("training.nesterov", 1, "training.nesterov: expected true or false, got 1"),
        ("training.accumulate_batches", 0, "training.accumulate_batches: expected a number above 0, got 0"),
        ("training.block_lr_decay", 1.5, "training.block_lr_decay: expected a number of at most 1, got 1.5"),
        ("training.label_smoothing", 1, "training.label_smoothing: expected a number below 1, got 1"),
        ("training.mixup_alpha", -0.1, "training.mixup_alpha: expected a number of at least 0, got -0.1"),
        ("backbone.image_size_px", 8, "backbone.image_size_px: expected a number of at least 32, got 8"),
        ("colour", "red", "colour: there is no such parameter; remove it or correct its spelling"),
        ("spilt", 1, "spilt: there is no such parameter; did you mean split?"),
        ("training.batchsize", 1, "training.batchsize: there is no such parameter; did you mean batch_size?"),
        ("training.test_list", "a", "training.test_list: there is no such parameter; did you mean split.test_list?"),
        ("split.test_list", None, "split.test_list: expected text, got None; write data/none for none"),
        ("variants.frozen.0.lr", "nan", "variants.frozen.0.lr: expected a number, got 'nan'"),
    ],
)
def test_a_wrong_value_is_named_by_its_path(tmp_path: Path, key: str, value: Any, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_params(write_changed(tmp_path, key, value))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


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


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    del values["training"]["batch_size"]
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"training\.batch_size: this key is missing"):
        load_params(path)


def test_whole_numbers_do_for_real_ones(tmp_path: Path) -> None:
    assert load_params(write_changed(tmp_path, "variants.frozen.0.lr", 1)).variants["frozen"][0].lr == 1.0


def test_a_list_and_a_folder_of_test_pictures_contradict_each_other(tmp_path: Path) -> None:
    path = write_changed(tmp_path, "split.test_list", "list.txt")
    assert load_params(path).split.listed == Path("list.txt")  # `auto` gives way
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    values["split"]["test_folder"] = "holdout"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"split\.test_list and split\.test_folder cannot both be set"):
        load_params(path)


@pytest.mark.parametrize(("train", "blocks"), [("head", 0), ("last:1", 1), ("last:12", 12), ("all", None)])
def test_what_a_phase_trains_says_how_many_blocks(train: str, blocks: int | None) -> None:
    assert Phase(train=train, epochs=1, lr=0.1).last_blocks == blocks
