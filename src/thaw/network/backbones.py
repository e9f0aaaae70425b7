"""A name -> a pretrained backbone: images in, one feature vector each out, and how it wants its images."""

import copy
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import chain
from typing import Any, Literal

import timm
import torch
import torchvision
from torch import Tensor, nn

from thaw.compute.memory import ran_out_of_memory
from thaw.data.transforms import Preprocessing
from thaw.errors import ConfigError, one_line
from thaw.network.backbone import Backbone, Block
from thaw.network.backbone_list import unknown_backbone
from thaw.network.weights import (
    BUNDLED,
    bundled_state,
    classifiers_of,
    download_timm,
    download_weights,
)
from thaw.network.weights_file import load_weights_file
from thaw.params import BackboneParams

_TIMM_FIRST = ("convnext", "densenet", "inception_v3")
"""A name that both libraries have means torchvision's network, but in these families, which only timm's can cut."""
NOISE_IMAGES, NOISE_SIDE_PX = 8, 16
"""What random weights are shown first: noise as coarse as that has large shapes, as photos do."""
_UNCUT, _TAIL = "network", "tail"
"""The one block of a network that cannot be cut, and what comes after the last of timm's features."""


class _Pooled(nn.Module):
    """Blocks one after the other, then the mean over the map: `(B, 3, S, S)` -> `(B, width)`."""

    def __init__(self, blocks: "OrderedDict[str, nn.Module]") -> None:
        super().__init__()
        self.blocks = nn.Sequential(blocks)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.blocks(images)  # (B, width, H, W)
        return maps.mean(dim=(2, 3))


class _CutTimm(nn.Module):
    """A network of timm up to one of its features, then the mean over the map: `(B, 3, S, S)` -> `(B, width)`."""

    def __init__(self, network: Any, *, feature: int) -> None:
        super().__init__()
        network.prune_intermediate_layers([feature], prune_norm=True)
        self.network = network
        self.feature = feature

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor  # (B, width, H, W)
        (maps,) = self.network.forward_intermediates(
            images, indices=[self.feature], stop_early=True, intermediates_only=True
        )
        return maps.mean(dim=(2, 3))


def backbone_names() -> list[str]:
    """All that `backbone.name` can be, sorted; timm's also with a tag for other weights (`resnet50d.ra2_in1k`)."""
    return sorted({*_torchvision_names(), *_timm_names()})


def library_of(name: str) -> Literal["torchvision", "timm"]:
    """Which library a backbone's name means.

    Raises:
        ConfigError: neither library has a classification model of that name; the message suggests the nearest.
    """
    in_timm = name in _timm_names()
    if name in _torchvision_names() and not (in_timm and name.startswith(_TIMM_FIRST)):
        return "torchvision"
    if in_timm:
        return "timm"
    raise unknown_backbone(name, backbone_names())


def _torchvision_names() -> list[str]:
    names: list[str] = torchvision.models.list_models(module=torchvision.models)
    return names


@cache
def _timm_names() -> frozenset[str]:
    """Without the encoders of language models, which have no classifier that could be replaced."""
    names = {*timm.list_models(), *timm.list_pretrained()}
    return frozenset(name for name in names if not name.partition(".")[0].endswith("_enc"))


def build_backbone(params: BackboneParams, *, blank: bool = False) -> Backbone:
    """Build the backbone that `params` names, with its weights, in eval mode.

    Random weights get BatchNorm statistics that fit them, unless `blank` says that all tensors are overwritten or
    never looked at.

    Raises:
        ConfigError: there is no such backbone, its weights cannot be had or do not fit, or it has fewer blocks.
    """
    build = {"torchvision": _build_from_torchvision, "timm": _build_from_timm}[library_of(params.name)]
    # Weights that are not loaded are random; all stages must build the same ones.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = build(params)
        if params.weights == "none" and not blank:
            _settle_batch_norm(backbone.module, size_px=params.image_size_px)
    return backbone


def count_blocks(name: str) -> int:
    """How many blocks a backbone has; one that cannot be cut has one."""
    if library_of(name) == "torchvision":
        entry = torchvision.models.get_model_weights(name)["DEFAULT"]
        network = torchvision.models.get_model(name, weights=None, **_torchvision_options(name, entry))
        return len(_named_blocks(network)) or 1
    # Tensors on the meta device have shapes and no numbers.
    with torch.device("meta"):
        network = timm.create_model(name)
        network.reset_classifier(0)
        return len(_timm_blocks(network))


def plain_network(params: BackboneParams, *, classes: int) -> tuple[nn.Module, dict[str, str]]:
    """A backbone's network as its library builds it, with a classifier for so many classes; and how names go together.

    Returns:
        With random weights and in eval mode; and for each tensor of a `Classifier` its name in that network.

    Raises:
        ConfigError: the backbone is cut, or its library puts more than one layer behind what we call features.
    """
    if library_of(params.name) == "timm":
        network = timm.create_model(params.name, pretrained=False, num_classes=classes)
        layers = classifiers_of(network)
        whole = copy.deepcopy(network)
        whole.reset_classifier(0)
        names = {f"backbone.{name}": name for name in whole.state_dict()}
    else:
        entry = torchvision.models.get_model_weights(params.name)["DEFAULT"]
        options = _torchvision_options(params.name, entry)
        network = torchvision.models.get_model(params.name, weights=None, num_classes=classes, **options)
        layers = (f"{_last_layer(network)}.",)
        own = {id(tensor): name for name, tensor in network.state_dict(keep_vars=True).items()}
        pieces = _named_blocks(network)
        whole = _Pooled(pieces) if pieces else _strip_classifier(copy.copy(network))
        names = {f"backbone.{name}": own[id(tensor)] for name, tensor in whole.state_dict(keep_vars=True).items()}
    names |= {f"head.{name}": f"{layers[0]}{name}" for name in ("weight", "bias")}
    if params.blocks is not None or set(names.values()) != set(network.state_dict()):
        raise ConfigError(f"{params.name} is cut, or has more layers behind its features than the one that was trained")
    return network.eval(), names


def _build_from_torchvision(params: BackboneParams) -> Backbone:
    entry = torchvision.models.get_model_weights(params.name)["DEFAULT"]
    network = torchvision.models.get_model(params.name, weights=None, **_torchvision_options(params.name, entry))
    pieces = _named_blocks(network)
    if params.weights == "imagenet":
        state = download_weights(params.name, lambda: entry.get_state_dict(check_hash=True))
        network.load_state_dict(state, strict=False)  # files from before torch 0.4.1 do not count batches
    classifiers = ("fc.", "classifier.") if pieces else (f"{_last_layer(network)}.", "aux")
    tensors = _name_tensors(network)
    kept = _count_kept(params, list(pieces) or [_UNCUT])
    module = _Pooled(OrderedDict(list(pieces.items())[:kept])) if pieces else _strip_classifier(network)
    if params.weights == "file":
        # A model of thaw's has the names of its blocks, also of those that are cut off here.
        in_blocks = _name_tensors(_Pooled(OrderedDict(pieces)))
        _load_file(params, module, tensors, in_blocks, classifiers=classifiers)
    parameters = [name for name, _ in module.named_parameters()]
    blocks = [
        Block(name=piece, parameters=tuple(name for name in parameters if name.startswith(f"blocks.{piece}.")))
        for piece in list(pieces)[:kept]
    ] or [Block(name=_UNCUT, parameters=tuple(parameters))]
    preset = entry.transforms()
    return _describe(
        params,
        module,
        blocks,
        crop_share=preset.crop_size[0] / preset.resize_size[0],
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )


def _name_tensors(network: nn.Module) -> dict[str, Tensor]:
    """The very tensors of a network by their names, before it is taken to pieces."""
    tensors: dict[str, Tensor] = network.state_dict(keep_vars=True)
    return tensors


def _load_file(
    params: BackboneParams,
    module: nn.Module,
    network: Mapping[str, Tensor],
    *others: Mapping[str, Tensor],
    classifiers: tuple[str, ...],
) -> None:
    """Load a weights file into what is kept of a network; `network`, and `others`, are what its tensors were called."""
    assert params.file is not None
    in_network = {id(tensor): name for name, tensor in network.items()}
    names = {
        name: in_network[id(tensor)]
        for tensors in (network, *others, _name_tensors(module))
        for name, tensor in tensors.items()
    }
    load_weights_file(params.file, module, names, network=params.name, classifiers=classifiers)


def _torchvision_options(name: str, entry: Any) -> dict[str, Any]:
    """What a network has to be built with so that its ImageNet weights fit and see what they were trained on."""
    if name.startswith("vit_"):
        return {"image_size": entry.transforms().crop_size[0]}
    return {"init_weights": False, "transform_input": True} if name == "googlenet" else {}


def _named_blocks(network: nn.Module) -> "OrderedDict[str, nn.Module]":
    """The feature extractor of a torchvision network as a chain of blocks that ends in a map; empty if it is none."""
    models = torchvision.models
    match network:
        case models.ResNet():
            stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
            stages = {stage: getattr(network, stage) for stage in ("layer1", "layer2", "layer3", "layer4")}
            return OrderedDict({"stem": stem, **stages})
        case models.ShuffleNetV2():
            stem = nn.Sequential(network.conv1, network.maxpool)
            stages = {stage: getattr(network, stage) for stage in ("stage2", "stage3", "stage4", "conv5")}
            return OrderedDict({"stem": stem, **stages})
        case models.RegNet():
            return OrderedDict({"stem": network.stem, **dict(network.trunk_output.named_children())})
        case models.MNASNet():
            return OrderedDict((f"layers_{key}", block) for key, block in network.layers.named_children())
        case (
            models.AlexNet()
            | models.EfficientNet()
            | models.MobileNetV2()
            | models.MobileNetV3()
            | models.SqueezeNet()
            | models.VGG()
        ):
            return OrderedDict((f"features_{key}", block) for key, block in network.features.named_children())
    return OrderedDict()


def _strip_classifier(network: nn.Module) -> nn.Module:
    """Let a torchvision network end in what its last layer saw, shape `(B, width)`."""
    parent, _, last = _last_layer(network).rpartition(".")
    setattr(network.get_submodule(parent), last, nn.Identity())
    if isinstance(network, torchvision.models.GoogLeNet):
        network.aux1, network.aux2, network.aux_logits = None, None, False
    return network


def _last_layer(network: nn.Module) -> str:
    """The dotted name of the layer that tells ImageNet's classes apart."""
    name = next(name for name in ("fc", "classifier", "head", "heads") if hasattr(network, name))
    layer = network.get_submodule(name)
    return f"{name}.{[key for key, _ in layer.named_children()][-1]}" if isinstance(layer, nn.Sequential) else name


def _count_kept(params: BackboneParams, names: Sequence[str]) -> int:
    """How many of the named blocks are kept."""
    if params.blocks is not None and params.blocks > len(names):
        if len(names) == 1:
            raise ConfigError(f"backbone.blocks: {params.name} is one block and cannot be cut; write null")
        raise ConfigError(
            f"backbone.blocks: {params.name} has {len(names)} blocks ({', '.join(names)}), got {params.blocks}"
        )
    return params.blocks or len(names)


def _build_from_timm(params: BackboneParams) -> Backbone:
    network = timm.create_model(params.name, pretrained=False)
    if params.weights == "imagenet" and params.name == BUNDLED:
        network.load_state_dict(bundled_state(network))
    elif params.weights == "imagenet":
        network = download_timm(params.name)
    config = timm.data.resolve_data_config(model=network)
    tensors, classifiers = _name_tensors(network), classifiers_of(network)
    network.reset_classifier(0)
    blocks = _timm_blocks(network)
    kept = _count_kept(params, [block.name for block in blocks])
    if kept < len(blocks):
        network = _CutTimm(network, feature=kept - 1)
        blocks = [
            Block(name=block.name, parameters=tuple(f"network.{name}" for name in block.parameters))
            for block in blocks[:kept]
        ]
    if params.weights == "file":
        _load_file(params, network, tensors, classifiers=classifiers)
    return _describe(
        params,
        network,
        blocks,
        crop_share=config["crop_pct"],
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=config["mean"],
        std=config["std"],
    )


def _timm_blocks(network: Any) -> list[Block]:
    """Blocks that end where timm's feature info says that a network has features, and what comes after the last.

    A block holds what `prune_intermediate_layers` keeps for its feature but not for the one before. A network that
    timm cannot prune so (CrossViT has two branches, HRNet's stages are not separable) is one block.
    """
    names = [feature["module"] or "stem" for feature in network.feature_info]
    rest = [name for name, _ in network.named_parameters()]
    # The copy shares all tensors.
    pruned = copy.deepcopy(network, {id(tensor): tensor for tensor in chain(network.parameters(), network.buffers())})
    blocks: list[Block] = []
    for feature, following in reversed(list(enumerate([*names[1:], _TAIL]))):
        pruned.prune_intermediate_layers([feature], prune_norm=True)
        kept = {name for name, _ in pruned.named_parameters()}
        blocks.insert(0, Block(name=following, parameters=tuple(name for name in rest if name not in kept)))
        rest = [name for name in rest if name in kept]
    blocks.insert(0, Block(name=names[0], parameters=tuple(rest)))
    if not blocks[-1].parameters:
        blocks.pop()
    if all(_holds_what_it_names(block, blocks) for block in blocks):
        return blocks
    return [Block(name=_UNCUT, parameters=tuple(name for name, _ in network.named_parameters()))]


def _holds_what_it_names(block: Block, blocks: Sequence[Block]) -> bool:
    """Whether no other block has a parameter of the module that `block` is named after."""
    others = [name for other in blocks if other is not block for name in other.parameters]
    return not any(name.startswith(f"{block.name}.") for name in others)


def _describe(
    params: BackboneParams,
    module: nn.Module,
    blocks: Sequence[Block],
    *,
    crop_share: float,
    interpolation: Literal["bilinear", "bicubic"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Backbone:
    """Put the parts together; the width is read off one empty image."""
    module = module.eval()
    size_px = params.image_size_px
    try:
        with torch.inference_mode():
            width = module(torch.zeros(1, 3, size_px, size_px)).shape[1]
    except (RuntimeError, AssertionError, ValueError) as error:
        if ran_out_of_memory(error):
            raise
        raise ConfigError(
            f"backbone.image_size_px: {params.name} cannot see images of {size_px} px; try 224 ({one_line(error)})"
        ) from error
    return Backbone(
        name=params.name,
        module=module.to(memory_format=torch.channels_last),
        blocks=tuple(blocks),
        width=width,
        preprocessing=Preprocessing(
            image_size_px=size_px,
            resize_px=round(size_px / crop_share),
            interpolation=interpolation,
            mean=mean,
            std=std,
        ),
    )


def _settle_batch_norm(module: nn.Module, *, size_px: int) -> None:
    """Give BatchNorm layers between random weights the statistics of coarse noise.

    They start as if all maps had mean 0 and variance 1, which is not so: block by block everything would shrink, until
    all images have the same features, and a head has nothing to learn from. Each stage builds the same backbone
    anew, with as many threads as it has: sums in float64, rounded coarsely, come out the same.
    """
    if not _norms(module):
        return
    twin = copy.deepcopy(module).double()
    for norm in _norms(twin):
        norm.train()
        norm.momentum = 1.0
    noise = torch.randn(NOISE_IMAGES, 3, NOISE_SIDE_PX, NOISE_SIDE_PX).double()
    with torch.no_grad():
        twin(nn.functional.interpolate(noise, size=size_px, mode="bilinear"))
    for norm, source in zip(_norms(module), _norms(twin), strict=True):
        if norm.running_mean is not None and norm.running_var is not None:
            assert source.running_mean is not None
            assert source.running_var is not None
            variance = source.running_var.to(torch.bfloat16).double()
            deviation = variance.clamp(min=1e-6).sqrt()
            # Many means are 0 but for rounding, of either sign: a step is 1/64 of a deviation, and -0.0 becomes 0.0.
            norm.running_mean.copy_(torch.round(source.running_mean / deviation * 64) / 64 * deviation + 0.0)
            norm.running_var.copy_(variance)


def _norms(module: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def block_shapes(backbone: Backbone) -> list[tuple[int, ...]]:
    """What each block makes of one image: a map `(C, H, W)`; features `(width,)` where no map comes out."""
    module, blocks = backbone.module, backbone.blocks
    size_px = backbone.preprocessing.image_size_px
    image = torch.zeros(1, 3, size_px, size_px)
    outputs: list[Tensor] = []
    with torch.inference_mode():
        if isinstance(module, _Pooled):
            for block in module.blocks:
                outputs.append(block(outputs[-1] if outputs else image))
        elif len(blocks) > 1 or isinstance(module, _CutTimm):
            network: Any = module.network if isinstance(module, _CutTimm) else module
            maps = [index for index, block in enumerate(blocks) if block.name != _TAIL]
            outputs = network.forward_intermediates(image, indices=maps, stop_early=True, intermediates_only=True)
        if len(outputs) < len(blocks):
            outputs.append(module(image))
    return [tuple(output.shape[1:]) for output in outputs]
