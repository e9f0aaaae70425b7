"""Weights: from the package, from a file, from the Hub's cache; the right ones, or one sentence.

Run with `pytest tests/network/test_weights.py`.
"""

import argparse
import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save, save_file

from thaw.errors import ConfigError
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.network.weights import BUNDLED
from thaw.params import BackboneParams


def params(name: str, *, weights: str) -> BackboneParams:
    """`weights`: imagenet, none, or the path of a file."""
    kind = {"weights": weights} if weights in ("imagenet", "none") else {"weights": "file", "weights_file": weights}
    return BackboneParams.model_validate({"name": name, **kind, "blocks": None, "image_size_px": 64})


def test_the_embedded_weights_are_imagenets() -> None:
    # The pretrained network knows a drawing of nothing from a drawing of something: features differ, and are not those
    # of random weights, which at this depth hardly depend on the image.
    backbone = build_backbone(params(BUNDLED, weights="imagenet"))
    assert len(backbone.module.state_dict()) == 294  # 296 less the classifier's two
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 64, generator=generator) * 2 - 1
    with torch.inference_mode():
        features = backbone.module(images)
    assert features.shape == (2, 1280)
    assert torch.nn.functional.cosine_similarity(features[0], features[1], dim=0) < 0.99


def test_a_weights_file_is_loaded_and_its_classifier_may_be_missing(tmp_path: Path) -> None:
    network = torchvision.models.get_model("mobilenet_v2", weights=None)
    state = {key: value for key, value in network.state_dict().items() if not key.startswith("classifier")}
    for path in (tmp_path / "w.pth", tmp_path / "w.safetensors"):
        if path.suffix == ".pth":
            torch.save(state, path)
        else:
            save_file(state, path)
        backbone = build_backbone(params("mobilenet_v2", weights=str(path)))
        assert torch.equal(backbone.module.state_dict()["blocks.features_0.0.weight"], state["features.0.0.weight"])


def test_a_weights_file_of_another_network_names_the_keys(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save(torchvision.models.get_model("mobilenet_v2", weights=None).state_dict(), path)
    with pytest.raises(
        ConfigError,
        match=r"tensors of another network than resnet18: 0 of 100 names match \(resnet18 has conv1.weight, ",
    ):
        build_backbone(params("resnet18", weights=str(path)))


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04"])
def test_a_file_that_is_no_weights_file_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a weights file") as caught:
        build_backbone(params("resnet18", weights=str(path)))
    assert "\n" not in str(caught.value)


def test_a_missing_weights_file_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"backbone\.weights_file: nowhere\.pth is not a file"):
        build_backbone(params("resnet18", weights="nowhere.pth"))


def test_a_weights_file_with_another_head_is_welcome(tmp_path: Path) -> None:
    path = tmp_path / "two_classes.pth"
    torch.save(torchvision.models.get_model("resnet18", weights=None, num_classes=2).state_dict(), path)
    assert build_backbone(params("resnet18", weights=str(path))).width == 512


def test_weights_that_no_library_has_are_one_sentence() -> None:
    with pytest.raises(ConfigError, match="timm has no weights for resnet50_mlp; write none"):
        build_backbone(params("resnet50_mlp", weights="imagenet"))


def test_the_real_weights_file_fits_its_network(shared_data: Path) -> None:
    path = shared_data.parent / "weights" / "mobilenet_v2-imagenet-features.pth"
    if not path.exists():
        pytest.skip(f"no weights in {path}")
    build_backbone(params("mobilenet_v2", weights=str(path)))
    with pytest.raises(ConfigError, match=r"another network than mobilenet_v3_small: 5 of 206 names match"):
        build_backbone(params("mobilenet_v3_small", weights=str(path)))


@pytest.mark.parametrize(
    "damage", [lambda content: content[: len(content) // 2], lambda content: content[:-1] + bytes([content[-1] ^ 1])]
)
def test_weights_from_the_hubs_cache_are_loaded_only_if_they_are_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    network = timm.create_model("test_resnet")
    content = save(network.state_dict())
    folder = tmp_path / "models--timm--test_resnet.r160_in1k"
    blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
    for name in ("blobs", "refs", "snapshots/0123"):
        (folder / name).mkdir(parents=True)
    (folder / "refs/main").write_text("0123")
    (folder / "snapshots/0123/model.safetensors").symlink_to(blob)
    blob.write_bytes(content)
    backbone = build_backbone(params("test_resnet", weights="imagenet"))
    first = next(iter(network.state_dict()))
    assert torch.equal(backbone.module.state_dict()[first], network.state_dict()[first])
    blob.write_bytes(damage(content))
    with pytest.raises(ConfigError, match="the downloaded weights of test_resnet are damaged; delete"):
        build_backbone(params("test_resnet", weights="imagenet"))


def test_a_file_that_does_not_count_batches_is_welcome(tmp_path: Path) -> None:
    state = torchvision.models.get_model("resnet18", weights=None).state_dict()
    old = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "old.pth")
    backbone = build_backbone(params("resnet18", weights=str(tmp_path / "old.pth")))
    assert torch.equal(backbone.module.state_dict()["blocks.stem.0.weight"], state["conv1.weight"])


STATE = torchvision.models.get_model("resnet18", weights=None).state_dict()
WRAPPED: dict[str, Any] = {
    "state_dict": {"state_dict": STATE, "epoch": 3, "optimizer": {"state": {0: {"exp_avg": torch.zeros(1)}}}},
    "model": {"model": STATE, "args": {"lr": 0.1}},
    "DataParallel": {f"module.{name}": value for name, value in STATE.items()},
    "compiled": {f"_orig_mod.{name}": value for name, value in STATE.items()},
    "all of them": {"model": {"state_dict": {f"module._orig_mod.{name}": value for name, value in STATE.items()}}},
    "Lightning": {"state_dict": {f"model.{name}": v for name, v in STATE.items()} | {"loss.weight": torch.ones(2)}},
    "a part": {f"backbone.{name}": v for name, v in STATE.items()} | {"projector.weight": torch.ones(2)},
    "beside its average": {"model": STATE, "model_ema": {name: value + 1 for name, value in STATE.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_a_weights_file_is_loaded_in_the_usual_wrappings(tmp_path: Path, wrapping: str) -> None:
    torch.save(WRAPPED[wrapping], tmp_path / "w.pth")
    backbone = build_backbone(params("resnet18", weights=str(tmp_path / "w.pth")))
    assert torch.equal(backbone.module.state_dict()["blocks.layer4.1.bn2.weight"], STATE["layer4.1.bn2.weight"])
    assert torch.equal(backbone.module.state_dict()["blocks.stem.0.weight"], STATE["conv1.weight"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            {"student": STATE, "teacher": STATE},
            "holds 2 sets of weights for resnet18, student and teacher; save the one",
        ),
        ({"state_dict_ema": STATE}, "holds no weights for resnet18 but a moving average, state_dict_ema; save"),
        (STATE | {"conv1.weight": torch.ones(64, 1, 7, 7)}, r"conv1.weight, \(64, 1, 7, 7\) where \(64, 3, 7, 7\) is"),
        ({n: v for n, v in STATE.items() if n != "bn1.bias"}, r"1 of 100 tensors missing \(bn1.bias\)"),
        (STATE | {"conv9.weight": torch.ones(1)}, r"1 tensor too many \(conv9.weight\)"),
        (STATE | {"bn1.bias": torch.full((64,), float("nan"))}, "holds NaN or infinite numbers, in bn1.bias"),
        ({"state_dict": {"a": 1}}, "holds no state dict"),
        ([1, 2], "does not hold a state dict .* but a list"),
        (
            {"state_dict": STATE, "args": argparse.Namespace(lr=1)},
            r"holds code, not only tensors \(argparse.Namespace\)",
        ),
    ],
)
def test_a_weights_file_that_does_not_fit_says_why(tmp_path: Path, content: Any, said: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(ConfigError, match=rf"^backbone\.weights_file: .*w\.pth .*{said}") as caught:
        build_backbone(params("resnet18", weights=str(tmp_path / "w.pth")))
    assert "\n" not in str(caught.value)


def test_a_pickle_of_another_kind_may_hold_code(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(pickle.dumps(argparse.Namespace(lr=1)))
    with pytest.raises(ConfigError, match=r"one that torch\.save did not write, which may hold code"):
        build_backbone(params("resnet18", weights=str(tmp_path / "w.pth")))


@pytest.mark.parametrize("name", ["resnet18", "test_resnet"])
@pytest.mark.parametrize(("saved", "wanted"), [(None, None), (None, 2), (2, 2)])
def test_a_model_of_thaws_own_is_a_weights_file(
    tmp_path: Path, name: str, saved: int | None, wanted: int | None
) -> None:
    source = BackboneParams(name=name, weights="none", blocks=saved, image_size_px=64)
    model = Classifier(build_backbone(source), classes=("a", "b"), seed=0)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    into = params(name, weights=str(tmp_path / "model.safetensors")).model_copy(update={"blocks": wanted})
    loaded, images = build_backbone(into), torch.rand(1, 3, 64, 64)
    again = build_backbone(source.model_copy(update={"blocks": wanted}))
    if saved == wanted:
        with torch.inference_mode():
            assert torch.equal(loaded.module(images), model.backbone(images))
    assert loaded.module.state_dict().keys() == again.module.state_dict().keys()
