"""`thaw show` and `thaw backbones`: what they compute, and what the commands print.

Run with `pytest tests/network/test_summary.py`.
"""

from contextlib import nullcontext
from pathlib import Path

import pytest

from conftest import run_thaw
from thaw.errors import ConfigError
from thaw.network.summary import BlockSummary, PhaseSummary, summarise_model
from thaw.params import BackboneParams, Params, PhaseChoices


def with_backbone(params: Params, **changes: object) -> Params:
    backbone = BackboneParams.model_validate({**params.backbone.model_dump(), **changes})
    return params.model_copy(update={"backbone": backbone})


def test_the_exercise_of_cifar10_ends_in_a_map_of_two_by_two(
    default_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = summarise_model(with_backbone(default_params, name="mobilenet_v3_small", blocks=5, image_size_px=32))
    assert summary.blocks[-1] == BlockSummary(name="features_4", parameters=13_736, shape=(40, 2, 2))
    assert (summary.width, summary.origin, summary.classes) == (40, "torchvision", ())
    assert sum(block.parameters for block in summary.blocks) == 24_224
    assert [phase for phase in summary.phases if phase.variant == "two_stage"] == [
        PhaseSummary(variant="two_stage", number=1, train="head", backbone=0, head=None),
        PhaseSummary(variant="two_stage", number=2, train="all", backbone=24_224, head=None),
    ]


def test_once_the_images_are_split_the_head_is_counted(tiny_project: Path, default_params: Params) -> None:
    summary = summarise_model(with_backbone(default_params, name="resnet18", blocks=1, image_size_px=32))
    assert summary.classes == ("Cat", "Dog")
    assert {phase.head for phase in summary.phases} == {64 * 2 + 2}
    assert [block.shape for block in summary.blocks] == [(64, 8, 8)]


def test_views_of_a_phase_that_leaves_nothing_below_are_refused(
    default_params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = with_backbone(default_params, name="mobilenet_v3_small", blocks=3, image_size_px=32)
    for train, fits in (("last:2", True), ("last:3", False)):
        phases = [PhaseChoices(train=train, epochs=1, lr=0.1, views=4)]
        with nullcontext() if fits else pytest.raises(ConfigError, match=r"^variants\.cached\.0\.views: this backbone"):
            summarise_model(params.model_copy(update={"variants": {"cached": phases}}))


def test_show_prints_the_default_model_without_a_network() -> None:
    done = run_thaw("show")
    assert (done.code, done.stderr) == (0, "")
    assert "tf_efficientnet_lite0 of timm, weights: imagenet (bundled)" in done.stdout
    assert "the middle 96 x 96 px" in done.stdout
    assert [line.split() for line in done.stdout.splitlines() if line.startswith("blocks.0")] == [
        ["blocks.0", "1,824", "16", "x", "48", "x", "48"]
    ]


def test_backbones_prints_lines_and_says_on_stderr_how_many_more_there_are() -> None:
    done = run_thaw("backbones", "resnet1*", "--limit", "2")
    assert done.code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["name", "resnet101", "resnet101_clip"]
    assert "more match; give a narrower pattern or --limit" in done.stderr


def test_a_pattern_without_a_match_is_one_sentence() -> None:
    done = run_thaw("backbones", "no_such_network")
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: no backbone's name matches 'no_such_network'")
