"""The model that params.yaml describes, without training it: blocks, shapes, and what each phase trains."""

from dataclasses import dataclass
from typing import Literal

from thaw import layout
from thaw.backbones import Preprocessing, block_shapes, build_backbone, library_of
from thaw.catalogue import Whereabouts, find_weights
from thaw.dataset import read_assignment
from thaw.model import Classifier, count_parameters, require_blocks, set_trainable
from thaw.params import Params


@dataclass(frozen=True, kw_only=True)
class BlockOutline:
    """One block of the backbone."""

    name: str

    parameters: int

    shape: tuple[int, ...]
    """What it makes of one picture: a map `(channels, height, width)`, or features `(width,)`."""


@dataclass(frozen=True, kw_only=True)
class PhaseOutline:
    """What one phase of a variant trains, in numbers of parameters."""

    variant: str

    number: int
    """From 1."""

    train: str

    backbone: int

    head: int | None
    """None while the number of classes is unknown."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """All that `thaw show` says."""

    name: str
    origin: Literal["torchvision", "timm"]
    weights: str
    whereabouts: Whereabouts | None
    """Of ImageNet's weights; None if others are asked for."""

    blocks: tuple[BlockOutline, ...]
    width: int
    preprocessing: Preprocessing
    phases: tuple[PhaseOutline, ...]
    classes: tuple[str, ...]
    """Empty until the pictures are split."""


def outline_model(params: Params) -> Outline:
    """Describe the model of params.yaml; no weights are downloaded, since shapes do not depend on them.

    Raises:
        ConfigError: there is no such backbone, its weights file does not fit, it has fewer blocks, or
            it cannot see pictures of that size.
    """
    # A file is read, and must fit.
    weights = "none" if params.backbone.weights == "imagenet" else params.backbone.weights
    backbone = build_backbone(params.backbone.model_copy(update={"weights": weights}), blank=True)
    sizes = {name: parameter.numel() for name, parameter in backbone.module.named_parameters()}
    classes = read_assignment(layout.SPLITS).classes if layout.SPLITS.exists() else ()
    classifier = Classifier(backbone, classes=classes or ("unknown",), seed=0)
    head = count_parameters(classifier.head.parameters())
    for variant, phases in params.variants.items():
        for number, phase in enumerate(phases):
            require_blocks(classifier, phase, place=f"variants.{variant}.{number}.train")
    return Outline(
        name=backbone.name,
        origin=library_of(backbone.name),
        weights=params.backbone.weights,
        whereabouts=find_weights(backbone.name) if params.backbone.weights == "imagenet" else None,
        blocks=tuple(
            BlockOutline(name=block.name, parameters=sum(sizes[name] for name in block.parameters), shape=shape)
            for block, shape in zip(backbone.blocks, block_shapes(backbone), strict=True)
        ),
        width=backbone.width,
        preprocessing=backbone.preprocessing,
        phases=tuple(
            PhaseOutline(
                variant=variant,
                number=number,
                train=phase.train,
                backbone=count_parameters(p for _, p in set_trainable(classifier, last_blocks=phase.last_blocks))
                - head,
                head=head if classes else None,
            )
            for variant, phases in params.variants.items()
            for number, phase in enumerate(phases, start=1)
        ),
        classes=classes,
    )
