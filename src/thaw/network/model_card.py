"""model.json: what a saved model is and how it was made; the writer beside the reader."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, FailFast, Field

from thaw.params import AnyPhase, BackboneParams, StorageParams, TrainingParams, ValDraw
from thaw.utils.records import Record, read_record, write_record

NAME = "model.json"
"""Its file, in the folder of the model."""


def _require_names(classes: tuple[str, ...]) -> tuple[str, ...]:
    if not classes or not all(classes) or len(set(classes)) < len(classes):
        raise ValueError("expected names of classes, each one once")
    return classes


class BestEpoch(Record):
    """The epoch whose weights were kept."""

    phase: int
    """Counted from 0."""

    epoch: int
    """Counted from 1 in its phase."""


class Candidate(Record):
    """A recipe that was tried, and how well its best epoch does on val."""

    phases: tuple[AnyPhase, ...]
    val_loss: float | None
    """Cross-entropy in nats. None, as the two below: the loss did not stay finite, and the candidate is lost."""

    val_accuracy: float | None
    best: BestEpoch | None


class Compute(Record):
    """What all candidates together cost, in numbers that no busy machine changes."""

    flops: int
    """Floating-point operations of training and validation, without those of `embed` and of the temperature."""

    images_seen: int
    """Forward and backward passes of whole images; a head on features sees none, nor do blocks on cached maps."""


class ModelCard(Record):
    """All that is needed to use a model, and what was chosen to train it.

    A key that is not known may change what a model's numbers mean (as the temperature does, which earlier releases did
    not know), so a card that has one is refused. A card may be anybody's: of a list, the first wrong entry is enough.
    """

    model_config = ConfigDict(extra="forbid")

    classes: Annotated[tuple[str, ...], FailFast(), AfterValidator(_require_names)]
    """In the order of the logits."""

    variant: str
    seed: int
    backbone: BackboneParams
    storage: StorageParams
    """How the images were stored that it was trained on."""

    val: ValDraw
    train_fraction: float = 1.0
    """Of the training images, how many it was trained on; in a model of an earlier release, all."""

    training: TrainingParams
    phases: Annotated[tuple[AnyPhase, ...], FailFast()]
    """Of the candidate that does best on val."""

    best: BestEpoch
    candidates: Annotated[tuple[Candidate, ...], FailFast()]
    """All that were tried, in the order of params.yaml."""

    compute: Compute
    trainable_parameters: int
    """Of the phase that trains most."""

    threads: int | None = None
    """`compute.threads`; None: a model of an earlier release, which used all cores."""

    temperature: Annotated[float, Field(ge=1e-3, le=1e3)] = 1.0
    """What the logits are divided by before the softmax; a model of an earlier release has none, which is 1.

    `training.temperature` stays well within the bounds, and what lies far outside is 0 or infinite in float32.
    """


def write_model_card(folder: Path, card: ModelCard) -> None:
    """Write the card of the model in `folder`."""
    write_record(folder / NAME, card)


def read_model_card(folder: Path) -> ModelCard:
    """Read what `write_model_card` wrote; DataError if it is missing or is something else."""
    return read_record(folder / NAME, ModelCard, stage="train")
