"""What is known of backbones without their libraries is what the libraries say.

Run with `pytest tests/network/test_backbone_list.py`.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from thaw.errors import ConfigError
from thaw.network.backbone_list import check_backbone, read_backbone_list, write_backbone_list
from thaw.network.backbone_names import match_names
from thaw.network.backbones import backbone_names, count_blocks
from thaw.params import Params, PhaseChoices


def test_the_list_names_what_the_libraries_have() -> None:
    listed, names = read_backbone_list(), backbone_names()
    assert sorted(listed) == names, "run thaw.network.registry.update_backbone_list()"


@pytest.mark.parametrize(
    "name",
    [
        "resnet18", "resnet50.a1_in1k", "mobilenet_v2", "squeezenet1_1", "mnasnet0_5", "regnet_y_400mf", "googlenet",
        "shufflenet_v2_x0_5", "vit_b_16", "vgg11", "tf_efficientnet_lite0", "test_resnet", "test_vit", "densenet121",
        "vit_tiny_patch16_224.augreg_in21k", "crossvit_9_240", "hrnet_w18_small", "edgenext_xx_small", "semnasnet_050",
    ],
)  # fmt: skip
def test_the_block_counts_are_those_of_the_networks(name: str) -> None:
    assert read_backbone_list()[name] == count_blocks(name)


def test_what_is_written_comes_back(tmp_path: Path) -> None:
    write_backbone_list([("a", 3, ["x", "y"]), ("b", 1, [])], path=tmp_path / "list.csv")
    assert read_backbone_list(path=tmp_path / "list.csv") == {"a": 3, "a.x": 3, "a.y": 3, "b": 1}


def test_a_pattern_matches_by_wildcards_or_anywhere() -> None:
    assert match_names("resnet1[08]") == ["resnet18"]
    assert {"resnet18", "seresnet18", "tf_efficientnet_lite0"} & set(match_names("resnet18")) == {
        "resnet18",
        "seresnet18",
    }
    assert match_names("no such network") == []


def test_names_are_sorted_once_and_without_tags_unless_asked_for() -> None:
    names = match_names("*")
    assert names == sorted(set(names))
    assert {"googlenet", "resnet18", "vit_tiny_patch16_224"} <= set(names)
    assert not [name for name in names if "." in name]
    assert "resnet50d.ra2_in1k" in match_names("resnet50d.*")


def changed(params: Params, train: str = "all", **backbone: object) -> Params:
    """The project's parameters with another backbone, and the second phase of `two_stage` training something else."""
    phases = [params.variants["two_stage"][0], PhaseChoices(train=train, epochs=1, lr=0.1)]
    variants = params.variants | {"two_stage": phases}
    return params.model_copy(update={"backbone": params.backbone.model_copy(update=backbone), "variants": variants})


@pytest.mark.parametrize(
    ("train", "backbone", "complaint"),
    [
        ("all", {"name": "resent18"}, r"classification model 'resent18'; did you mean resnet18 or "),
        ("all", {"name": "mobilenetv5_300m_enc"}, r"has a classification model 'mobilenetv5_300m_enc'; did you mean "),
        ("all", {"name": "no such"}, r"did you mean tf_efficientnet_lite0 or resnet18 or mobilenet_v3_small\?"),
        (
            "last:99",
            {"name": "resnet18"},
            r"variants\.two_stage\.1\.train: last:99 asks for more blocks than resnet18 has; write last:5 or less",
        ),
        (
            "last:4",
            {"name": "resnet18", "blocks": 3},
            r"last:4 asks for more blocks than resnet18, as backbone\.blocks cuts it, has; write last:3 or less",
        ),
        ("all", {"name": "resnet18", "blocks": 6}, r"backbone\.blocks: resnet18 has 5 blocks, got 6"),
        ("all", {"name": "googlenet", "blocks": 2}, r"googlenet is one block and cannot be cut: write null, got 2"),
        (
            "all",
            {"weights": "file", "weights_file": "nowhere.pth"},
            r"backbone\.weights_file: nowhere\.pth is not a file",
        ),
        (
            "all",
            {"weights": "file", "weights_file": "x" * 300},
            r"weights_file: x+ cannot be read \(File name too long\)",
        ),
    ],
)
def test_what_cannot_be_built_is_one_sentence(
    default_params: Params, train: str, backbone: dict[str, object], complaint: str
) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check_backbone(changed(default_params, train, **backbone))


def test_what_can_be_built_passes(default_params: Params) -> None:
    check_backbone(default_params)
    check_backbone(changed(default_params, "last:5", name="resnet18"))
    check_backbone(changed(default_params, "last:3", name="resnet18", blocks=3))
    check_backbone(changed(default_params, "last:2", name="resnet50d.ra2_in1k"))


def test_no_library_of_networks_is_loaded() -> None:
    program = (
        "import sys; from thaw.params_file import load_params; from thaw.network.backbone_list import check_backbone; "
        "check_backbone(load_params()); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not {"torch", "timm", "torchvision"} & set(done.stdout.split())
