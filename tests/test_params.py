"""params.yaml is checked once, strictly, and complaints name the culprit by its dotted path.

Run with `pytest tests/test_params.py`.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from ruamel.yaml import YAML

from conftest import ROOT, load_source
from thaw.errors import ConfigError
from thaw.params import (
    NO_FILE,
    AdamWParams,
    AnyPhase,
    BackboneParams,
    Cifar10Source,
    DataParams,
    FileSource,
    KaggleSource,
    MicrosoftSource,
    Params,
    Phase,
    SampleSource,
    SGDParams,
    SolvedPhase,
    TrainingParams,
    UrlSource,
    list_candidates,
)
from thaw.params_file import load_params


def write_changed(tmp_path: Path, *changes: tuple[str, Any]) -> Path:
    """The project's params.yaml with some values changed: `("variants.frozen.0.lr", 0.1)`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for dotted_key, value in changes:
        *parents, last = dotted_key.split(".")
        place = values
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[int(last) if isinstance(place, list) else last] = value
    return write(tmp_path, values)


def write(tmp_path: Path, values: dict[str, Any]) -> Path:
    path = tmp_path / "params.yaml"
    # PyYAML would write the text '1e-3' without quotes, since it takes it for no number.
    YAML(typ="safe").dump(values, path)
    return path


def complaint_about(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_params(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_projects_own_parameters_are_valid() -> None:
    params = load_params(ROOT / "params.yaml")
    assert set(params.variants) == {"frozen", "fine_tuned", "two_stage"}
    assert params.data == SampleSource()
    assert params.training.optimizer == AdamWParams(weight_decay=0.01)


def test_every_key_is_commented_or_speaks_for_itself() -> None:
    lines = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()
    trailing = [line for line in lines if "#" in line and not line.lstrip().startswith("#")]
    assert trailing == []  # `dvc exp run -S` drops comments that stand behind a value


def test_an_external_set_has_a_name_a_path_and_perhaps_classes(tmp_path: Path) -> None:
    external = {"web": {"path": "../web.zip"}, "zoo": {"path": "zoo.zip", "classes": {"dogs": "Dog"}}}
    found = load_params(write_changed(tmp_path, ("evaluate.external", external))).evaluate.external
    assert [(name, one.archive, one.classes) for name, one in found.items()] == [
        ("web", Path("../web.zip"), {}),
        ("zoo", Path("zoo.zip"), {"dogs": "Dog"}),
    ]
    assert load_params(ROOT / "params.yaml").evaluate.external == {}


def test_the_placeholder_for_no_archive_exists() -> None:
    assert (ROOT / NO_FILE).is_file()


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        (
            "variants.frozen.0.lr",
            "1e-3",
            "variants.frozen.0.lr: expected a number, got '1e-3'; write it without quotes",
        ),
        ("variants.frozen.0.lr", True, "variants.frozen.0.lr: expected a number, got True"),
        ("variants.frozen.0.lr", 0, "variants.frozen.0.lr: expected a number above 0, got 0"),
        ("variants.frozen.0.lr", float("inf"), "variants.frozen.0.lr: expected a finite number, got inf"),
        ("variants.frozen.0.train", "heads", "variants.frozen.0.train: expected one of"),
        ("variants.frozen.0.epoch", 3, "variants.frozen.0.epoch: there is no such parameter; did you mean epochs?"),
        ("variants.frozen.0.train", "last:0", "variants.frozen.0.train: expected one of 'head', 'all' and 'last:N'"),
        ("variants.frozen.0.lr", [], "variants.frozen.0.lr: expected at least one entry, got []"),
        (
            "variants.frozen.0.lr",
            [0.1, "1e-3"],
            "variants.frozen.0.lr.1: expected a number, got '1e-3'; write it without quotes",
        ),
        ("variants.frozen.0.lr", [0.1, 0.1], "variants.frozen.0.lr: expected each value once, got [0.1, 0.1]"),
        ("variants.frozen.0.lr", [0.1, -1], "variants.frozen.0.lr.1: expected a number above 0, got -1"),
        ("variants.frozen.0.epochs", [], "variants.frozen.0.epochs: expected at least one entry, got []"),
        ("variants.frozen.0.epochs", [3, 2.5], "variants.frozen.0.epochs.1: expected a whole number, got 2.5"),
        (
            "variants.frozen.0.epochs",
            "30",
            "variants.frozen.0.epochs: expected a whole number, got '30'; write it without quotes",
        ),
        ("variants.frozen.0.lr", {"low": 1}, "variants.frozen.0.lr: expected a number, got {'low': 1}"),
        ("variants.fine_tuned.0.head_lr", [0], "variants.fine_tuned.0.head_lr.0: expected a number above 0, got 0"),
        (
            "variants.fine_tuned.0",
            {"train": "all", "epochs": 4},
            "variants.fine_tuned.0: train: all needs epochs and lr, and lr is missing",
        ),
        (
            "variants.two_stage.1",
            {"train": "last:2", "lr": 0.1},
            "variants.two_stage.1: train: last:2 needs epochs and lr, and epochs is missing",
        ),
        (
            "variants.fine_tuned.0",
            {"train": "all"},
            "variants.fine_tuned.0: train: all needs epochs and lr, and epochs",
        ),
        (
            "variants.frozen.0",
            {"train": "head", "epochs": 4},
            "variants.frozen.0: train: head needs epochs and lr, and lr is missing; "
            "a head phase with none of them is solved",
        ),
        (
            "variants.two_stage.0",
            {"train": "head", "epochs": 3, "lr": 0.1, "head_lr": 0.1},
            "variants.two_stage.0: head_lr is for phases that train more than the head; remove it",
        ),
        (
            "variants.frozen.0",
            {"train": "head", "views": 4},
            "variants.frozen.0: views is for last:N phases (embed.views is for heads); remove it, or write train: last",
        ),
        (
            "variants.fine_tuned.0",
            {"train": "all", "epochs": 4, "lr": 0.1, "views": 4},
            "variants.fine_tuned.0: views is for last:N phases (nothing stays as it is under all); remove it, or write",
        ),
        (
            "variants.two_stage.1",
            {"train": "last:2", "epochs": 4, "lr": 0.1, "views": 0},
            "variants.two_stage.1.views: expected a number above 0, got 0",
        ),
        ("variants.frozen", [], "variants.frozen: expected at least one entry"),
        ("variants.a-b", [{"train": "head", "epochs": 1, "lr": 0.1}], "variants.a-b: expected text that matches"),
        ("variants", {}, "variants: expected at least one entry"),
        ("variants", {"recommended": [{"train": "head"}]}, "variants: none can be called recommended, which in "),
        ("seeds", [], "seeds: expected at least one entry"),
        ("seeds", [1, 1], "seeds: expected each value once, got [1, 1]"),
        ("seeds", ["0"], "seeds.0: expected a whole number, got '0'"),
        ("evaluate.external", None, "evaluate.external: expected keys with values, got None; write {} for none"),
        ("evaluate.external", {"my set": {"path": "a.zip"}}, "evaluate.external.my set: expected text that matches"),
        ("evaluate.external", {"web": {}}, "evaluate.external.web.path: this key is missing"),
        ("evaluate.external", {"web": "a.zip"}, "evaluate.external.web: expected keys with values, got 'a.zip'"),
        ("evaluate.external", {"web": {"path": 1}}, "evaluate.external.web.path: expected text, got 1"),
        ("evaluate.external", {"web": {"path": "a", "class": {}}}, "evaluate.external.web.class: there is no such"),
        (
            "evaluate.external",
            {"web": {"path": "a", "classes": {"dogs": 1}}},
            "evaluate.external.web.classes.dogs: expected text, got 1",
        ),
        ("evaluate.corruptions", ["fog"], "evaluate.corruptions.0: expected one of 'gaussian_noise', 'shot_noise', "),
        (
            "evaluate.corruptions",
            ["contrast", "contrast"],
            "evaluate.corruptions: expected each value once, got ['contrast', ",
        ),
        ("evaluate.corruptions", None, "evaluate.corruptions: expected a list, got None; write [] for none"),
        ("seeds", 0, "seeds: expected a list, got 0; write whole numbers in brackets: seeds: [0, 1, 2]"),
        ("seeds", "many", "seeds: expected a list, got 'many'; write whole numbers in brackets: seeds: [0, 1, 2]"),
        ("seeds", None, "seeds: expected a list, got None; write whole numbers in brackets"),
        ("seeds", {"0": 1}, "seeds: expected a list, got {'0': 1}; write whole numbers in brackets"),
        ("variants", 3, "variants: expected keys with values, got 3; write a name for each, and its phases below it"),
        ("variants", ["frozen"], "variants: expected keys with values, got ['frozen']; write a name for each"),
        ("variants", None, "variants: expected keys with values, got None; write a name for each"),
        (
            "variants.frozen",
            {"train": "head"},
            "variants.frozen: expected a list, got {'train': 'head'}; "
            "write its phases as a list: frozen: [{train: head}]",
        ),
        ("variants.frozen", "head", "variants.frozen: expected a list, got 'head'; write its phases as a list"),
        (
            "backbone.weights",
            "my.pth",
            "backbone.weights: expected 'imagenet', 'none' or 'file', got 'my.pth'; "
            "write weights: file and weights_file: my.pth, which DVC watches",
        ),
        (
            "backbone.weights",
            "imagent",
            "backbone.weights: expected one of 'imagenet', 'none' or 'file', got 'imagent'",
        ),
        (
            "backbone.weights",
            "file",
            "backbone.weights 'file' needs the path of a weights file in backbone.weights_file",
        ),
        ("backbone.weights_file", "my.pth", "backbone.weights_file is 'my.pth', but backbone.weights is 'imagenet'"),
        ("backbone.weights_file", None, "backbone.weights_file: expected text, got None; write data/none for none"),
        ("data", "file", "data: expected keys with values, got 'file'"),
        (
            "data.source",
            "http",
            "data.source: expected one of 'sample', 'file', 'url', 'microsoft', 'kaggle', 'cifar10'",
        ),
        ("data.source", None, "data.source: expected one of"),
        ("sample.images_per_class", 12_001, "sample.images_per_class: expected a number of at most 12000, got 12001"),
        ("data.source", "file", "data.source 'file' needs the path of an archive in data.path"),
        ("data.source", "url", "data.source 'url' needs an address in data.url"),
        (
            "data.path",
            "a.zip",
            "data.path is 'a.zip', which data.source 'sample' does not read; set data.source to file",
        ),
        (
            "data.url",
            "http://a",
            "data.url is 'http://a', which data.source 'sample' does not read; set data.source to url",
        ),
        ("data.pth", "a.zip", "data.pth: there is no such parameter; did you mean path?"),
        ("split.val_fraction", 0, "must both be above 0, got 0 and 0.3"),
        ("split.val_fraction", 0.9, "must leave something to train on: expected a sum below 1, got 0.9 + 0.3"),
        ("split.val", "each", "split.val: expected one of 'per_seed' or 'fixed', got 'each'"),
        ("split.val", None, "split.val: expected one of 'per_seed' or 'fixed', got None"),
        ("split.test_fraction", 1.5, "split.test_fraction: expected a number below 1, got 1.5"),
        ("training.batch_size", 2.5, "training.batch_size: expected a whole number, got 2.5"),
        ("embed.views", 33, "embed.views: 33 views do not fit into one batch of 32; raise embed.batch_size to 33"),
        ("training.optimizer", [], "training.optimizer.name: expected one of 'adamw', 'sgd', got []"),
        ("training.optimizer", {}, "training.optimizer.name: this key is missing"),
        ("training.optimizer.name", "adam", "training.optimizer.name: expected one of 'adamw', 'sgd', got 'adam'"),
        ("training.optimizer.weight_decay", -1, "training.optimizer.weight_decay: expected a number of at least 0"),
        ("training.optimizer.momentun", 0.9, "there is no such parameter; did you mean momentum?"),
        (
            "training.optimizer.momentum",
            0.9,
            "training.optimizer.momentum: adamw has no such knob; remove it, or choose another training.optimizer.name",
        ),
        ("backbone.momentum", 0.9, "there is no such parameter; did you mean training.optimizer.momentum?"),
        ("training.grad_accum_steps", 0, "training.grad_accum_steps: expected a number above 0, got 0"),
        ("training.layer_decay", 1.5, "training.layer_decay: expected a number of at most 1, got 1.5"),
        ("training.label_smoothing", 1, "training.label_smoothing: expected a number below 1, got 1"),
        ("training.mixup_alpha", -0.1, "training.mixup_alpha: expected a number of at least 0, got -0.1"),
        (
            "training.class_weights",
            "equal",
            "training.class_weights: expected one of 'none' or 'balanced', got 'equal'",
        ),
        ("report.margin_points", 0, "report.margin_points: expected a number above 0, got 0"),
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
    assert complaint in complaint_about(write_changed(tmp_path, (key, value)))


@pytest.mark.parametrize(
    ("source", "key", "value", "complaint"),
    [
        ("file", "path", None, "data.path: expected text, got None; write data/none for none"),
        ("cifar10", "path", None, "data.path: expected text, got None; write data/none for none"),
        ("url", "url", 3, "data.url: expected text, got 3"),
        ("url", "sha256", "abc", "data.sha256: expected text that matches"),
        ("microsoft", "microsoft", {"url": "a"}, "data.microsoft.bytes: this key is missing; data.microsoft.sha256"),
        ("cifar10", "timeout_s", "3e1", "data.timeout_s: expected a number, got '3e1'; write it without quotes"),
        ("kaggle", "kaggle_dataset", "cats", "data.kaggle_dataset: expected text that matches"),
        ("kaggle", "attempts", 0, "data.attempts: expected a number above 0, got 0"),
    ],
)
def test_the_chosen_source_checks_what_it_uses(
    tmp_path: Path, source: str, key: str, value: Any, complaint: str
) -> None:
    assert complaint in complaint_about(
        write_changed(tmp_path, ("data.source", source), ("data.url", "http://a.b"), (f"data.{key}", value))
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"source": "sample"}, SampleSource()),
        ({"source": "file", "path": "a.zip"}, FileSource(path="a.zip")),
        ({"source": "url", "url": "http://a.b"}, UrlSource(url="http://a.b", sha256=None, timeout_s=30, attempts=5)),
        ({"source": "microsoft"}, load_source(MicrosoftSource)),
        ({"source": "kaggle"}, load_source(KaggleSource)),
        ({"source": "cifar10"}, load_source(Cifar10Source)),
    ],
    ids=lambda value: value.get("source") if isinstance(value, dict) else "",
)
def test_one_word_chooses_a_source_and_the_keys_that_it_uses(
    tmp_path: Path, changes: dict[str, str], expected: DataParams
) -> None:
    path = write_changed(tmp_path, *((f"data.{key}", value) for key, value in changes.items()))
    assert load_params(path).data == expected


def test_one_word_chooses_an_optimizer(tmp_path: Path) -> None:
    params = load_params(write_changed(tmp_path, ("training.optimizer.name", "sgd")))
    assert params.training.optimizer == SGDParams(weight_decay=0.01, momentum=0.9, nesterov=True)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("momentum", 0, "training.optimizer.nesterov true needs training.optimizer.momentum above 0"),
        ("momentum", 1, "training.optimizer.momentum: expected a number below 1, got 1"),
        ("nesterov", 1, "training.optimizer.nesterov: expected true or false, got 1"),
    ],
)
def test_the_knobs_of_sgd_are_checked(tmp_path: Path, key: str, value: Any, complaint: str) -> None:
    path = write_changed(tmp_path, ("training.optimizer.name", "sgd"), (f"training.optimizer.{key}", value))
    assert complaint in complaint_about(path)


@pytest.mark.parametrize("optimizer", [AdamWParams(weight_decay=0.1), SGDParams(momentum=0.5, nesterov=False)])
def test_training_parameters_come_back_from_json(default_params: Params, optimizer: AdamWParams | SGDParams) -> None:
    training = default_params.training.model_copy(update={"optimizer": optimizer})
    assert TrainingParams.model_validate_json(training.model_dump_json()) == training
    assert TrainingParams.model_validate(training.model_dump()) == training


def test_a_model_card_of_an_earlier_release_names_its_weights_file() -> None:
    old = {"name": "resnet18", "weights": "../my.pth", "blocks": None, "image_size_px": 64}
    params = BackboneParams.model_validate(old)
    assert (params.weights, params.file) == ("file", Path("../my.pth"))
    assert BackboneParams.model_validate_json(params.model_dump_json()) == params
    assert BackboneParams.model_validate(old | {"weights": "imagenet"}).file is None


def test_whole_numbers_do_for_real_ones(tmp_path: Path) -> None:
    assert load_params(write_changed(tmp_path, ("variants.fine_tuned.0.lr", 1))).variants["fine_tuned"][0].lr == 1.0


@pytest.mark.parametrize("val", ["per_seed", "fixed"])
def test_val_is_drawn_for_each_seed_or_once(tmp_path: Path, val: str) -> None:
    assert load_params(write_changed(tmp_path, ("split.val", val))).split.val == val


def candidates_of(tmp_path: Path, *phases: dict[str, Any]) -> list[tuple[AnyPhase, ...]]:
    return list_candidates(load_params(write_changed(tmp_path, ("variants.frozen", list(phases)))).variants["frozen"])


def test_a_recipe_without_lists_is_its_only_candidate(tmp_path: Path) -> None:
    phases = {"train": "head", "epochs": 2, "lr": 0.1}, {"train": "last:2", "epochs": 3, "lr": 1, "head_lr": 2}
    head, last = Phase(train="head", epochs=2, lr=0.1), Phase(train="last:2", epochs=3, lr=1.0, head_lr=2.0)
    assert candidates_of(tmp_path, *phases) == [(head, last)]
    cached = [last.model_copy(update={"views": views}) for views in (1, 4)]
    assert candidates_of(tmp_path, {**phases[1], "views": [1, 4]}) == [(phase,) for phase in cached]
    # What has no cached views is written as before there were any.
    assert last.model_dump() == phases[1]
    assert cached[0].model_dump() == {**phases[1], "views": 1}


def test_a_head_phase_without_steps_is_solved(tmp_path: Path) -> None:
    tuned = Phase(train="all", epochs=3, lr=0.1)
    assert candidates_of(tmp_path, {"train": "head"}) == [(SolvedPhase(),)]
    assert candidates_of(tmp_path, {"train": "head"}, tuned.model_dump()) == [(SolvedPhase(), tuned)]


def test_candidates_come_in_the_order_of_the_lists_the_last_list_first(tmp_path: Path) -> None:
    made = candidates_of(
        tmp_path,
        {"train": "head", "epochs": 1, "lr": [0.2, 0.1]},
        {"train": "all", "epochs": [3, 2], "lr": [0.1], "head_lr": [1, 0.5]},
    )
    found = [
        (head.lr, tuned.epochs, tuned.head_lr)
        for head, tuned in made
        if isinstance(head, Phase) and isinstance(tuned, Phase)
    ]
    assert found == [
        (0.2, 3, 1.0), (0.2, 3, 0.5), (0.2, 2, 1.0), (0.2, 2, 0.5),
        (0.1, 3, 1.0), (0.1, 3, 0.5), (0.1, 2, 1.0), (0.1, 2, 0.5),
    ]  # fmt: skip


def test_a_list_and_a_folder_of_test_images_contradict_each_other(tmp_path: Path) -> None:
    listed = ("split.test_list", "list.txt")
    assert load_params(write_changed(tmp_path, listed)).split.listed == Path("list.txt")  # `auto` gives way
    path = write_changed(tmp_path, listed, ("split.test_folder", "holdout"))
    assert "split.test_list and split.test_folder cannot both be set" in complaint_about(path)


@pytest.mark.parametrize(("train", "blocks"), [("head", 0), ("last:1", 1), ("last:12", 12), ("all", None)])
def test_what_a_phase_trains_says_how_many_blocks(train: str, blocks: int | None) -> None:
    assert Phase(train=train, epochs=1, lr=0.1).last_blocks == blocks
