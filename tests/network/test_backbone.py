"""backbone.safetensors comes back with the same tensors and blocks, without the code that could run it.

Run with `pytest tests/network/test_backbone.py`.
"""

from pathlib import Path

import pytest
import torch

from conftest import TINY_BACKBONE
from thaw.errors import DataError
from thaw.network.backbone import read_backbone, write_backbone
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier, backbone_tensors_moved, module_sha256, set_trainable


def test_all_but_the_code_comes_back(tmp_path: Path) -> None:
    built = build_backbone(TINY_BACKBONE)
    write_backbone(tmp_path / "backbone.safetensors", built, params=TINY_BACKBONE)
    read = read_backbone(tmp_path / "backbone.safetensors", params=TINY_BACKBONE)
    assert (read.name, read.blocks, read.width, read.preprocessing) == (
        built.name,
        built.blocks,
        built.width,
        built.preprocessing,
    )
    assert module_sha256(read.module) == module_sha256(built.module)
    assert {name for name, _ in read.module.named_parameters()} == {name for name, _ in built.module.named_parameters()}
    models = [Classifier(backbone, classes=("Cat", "Dog"), seed=0) for backbone in (read, built)]
    for last_blocks in (0, 1, None):
        names = [{name for name, _ in set_trainable(model, last_blocks=last_blocks)} for model in models]
        assert names[0] == names[1]
    assert backbone_tensors_moved(models[0], built) == 0
    with pytest.raises(NotImplementedError):
        read.module(torch.zeros(1, 3, 32, 32))
    write_backbone(tmp_path / "again.safetensors", read, params=TINY_BACKBONE)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "backbone.safetensors").read_bytes()


def test_one_that_is_missing_or_damaged_or_of_other_parameters_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backbone.safetensors"
    with pytest.raises(DataError, match=r"does not exist: run `dvc repro`, which runs the stage embed"):
        read_backbone(path, params=TINY_BACKBONE)
    write_backbone(path, build_backbone(TINY_BACKBONE), params=TINY_BACKBONE)
    other = TINY_BACKBONE.model_copy(update={"image_size_px": 64})
    with pytest.raises(DataError, match=r"is not what `backbone` in params.yaml says; run `dvc repro`"):
        read_backbone(path, params=other)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"backbone.safetensors is damaged \("):
        read_backbone(path, params=TINY_BACKBONE)
