"""The model that params.yaml describes, without training it: blocks, shapes, and what each phase trains."""

from dataclasses import dataclass
from typing import Literal

from thaw import paths
from thaw.data.splits_csv import read_splits
from thaw.data.transforms import Preprocessing
from thaw.network.backbones import block_shapes, build_backbone, library_of
from thaw.network.classifier import Classifier, count_parameters, require_blocks, set_trainable
from thaw.network.cut import require_cut
from thaw.network.registry import WeightsLocation, find_weights
from thaw.params import Params


@dataclass(frozen=True, kw_only=True)
class BlockSummary:
    """One block of the backbone."""

    name: str

    parameters: int

    shape: tuple[int, ...]
    """What it makes of one image: a map `(channels, height, width)`, or features `(width,)`."""


@dataclass(frozen=True, kw_only=True)
class PhaseSummary:
    """What one phase of a variant trains, in numbers of parameters."""

    variant: str

    number: int
    """From 1."""

    train: str

    backbone: int

    head: int | None
    """None while the number of classes is unknown."""


@dataclass(frozen=True, kw_only=True)
class ModelSummary:
    """All that `thaw show` says."""

    name: str
    origin: Literal["torchvision", "timm"]
    weights: str
    weights_location: WeightsLocation | None
    """Of ImageNet's weights; None if others are asked for."""

    blocks: tuple[BlockSummary, ...]
    width: int
    preprocessing: Preprocessing
    phases: tuple[PhaseSummary, ...]
    classes: tuple[str, ...]
    """Empty until the images are split."""


def summarise_model(params: Params) -> ModelSummary:
    """Describe the model of params.yaml; no weights are downloaded, since shapes do not depend on them.

    Raises:
        ConfigError: there is no such backbone, its weights file does not fit, it has fewer blocks, or
            it cannot see images of that size.
    """
    # A file is read, and must fit.
    weights = "none" if params.backbone.weights == "imagenet" else params.backbone.weights
    backbone = build_backbone(params.backbone.model_copy(update={"weights": weights}), blank=True)
    sizes = {name: parameter.numel() for name, parameter in backbone.module.named_parameters()}
    classes = read_splits(paths.SPLITS).classes if paths.SPLITS.exists() else ()
    classifier = Classifier(backbone, classes=classes or ("unknown",), seed=0)
    head = count_parameters(classifier.head.parameters())
    for variant, phases in params.variants.items():
        for number, phase in enumerate(phases):
            require_blocks(classifier, phase, place=f"variants.{variant}.{number}.train")
            if phase.views is not None:
                require_cut(classifier, phase, place=f"variants.{variant}.{number}.views")
    return ModelSummary(
        name=backbone.name,
        origin=library_of(backbone.name),
        weights=params.backbone.weights if params.backbone.file is None else str(params.backbone.file),
        weights_location=find_weights(backbone.name) if params.backbone.weights == "imagenet" else None,
        blocks=tuple(
            BlockSummary(name=block.name, parameters=sum(sizes[name] for name in block.parameters), shape=shape)
            for block, shape in zip(backbone.blocks, block_shapes(backbone), strict=True)
        ),
        width=backbone.width,
        preprocessing=backbone.preprocessing,
        phases=tuple(
            PhaseSummary(
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


def format_summary(summary: ModelSummary) -> str:
    """The summary as text: the network, its input, a table of its blocks, and a table of what each phase trains."""
    seen = summary.preprocessing
    where = f" ({summary.weights_location})" if summary.weights_location else ""
    blocks, phases = "{:24} {:>12}  {}", "{:24} {:>5}  {:10} {:>12}  {:>10}"
    total = sum(block.parameters for block in summary.blocks)
    lines = [
        f"{summary.name} of {summary.origin}, weights: {summary.weights}{where}",
        f"images: short side to {seen.resize_px} px ({seen.interpolation}), the middle {seen.image_size_px} x "
        f"{seen.image_size_px} px, less {seen.mean}, over {seen.std}",
        f"classes: {', '.join(summary.classes) or 'known once `dvc repro split` has run'}",
        "",
        blocks.format("block", "parameters", "output"),
        *(blocks.format(b.name, f"{b.parameters:,}", " x ".join(map(str, b.shape))) for b in summary.blocks),
        blocks.format("backbone", f"{total:,}", f"{summary.width} features"),
        "",
        phases.format("trained in", "phase", "train", "of backbone", "of head"),
    ]
    for phase in summary.phases:
        head = "all" if phase.head is None else f"{phase.head:,}"
        lines.append(phases.format(phase.variant, phase.number, phase.train, f"{phase.backbone:,}", head))
    return "\n".join(lines)
