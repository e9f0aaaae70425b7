"""model.json: what a saved model is and how it was made; the writer beside the reader."""

from pathlib import Path

from thaw.params import AnyPhase, BackboneParams, StorageParams, TrainingParams, ValDraw
from thaw.utils.records import Record, read_record, write_record

NAME = "model.json"
"""Its file, in the folder of the model."""


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
    """All that is needed to use a model, and what was chosen to train it."""

    classes: tuple[str, ...]
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
    phases: tuple[AnyPhase, ...]
    """Of the candidate that does best on val."""

    best: BestEpoch
    candidates: tuple[Candidate, ...]
    """All that were tried, in the order of params.yaml."""

    compute: Compute
    trainable_parameters: int
    """Of the phase that trains most."""

    threads: int | None = None
    """`compute.threads`; None: a model of an earlier release, which used all cores."""

    temperature: float = 1.0
    """What the logits are divided by before the softmax; a model of an earlier release has none, which is 1."""


def write_model_card(folder: Path, card: ModelCard) -> None:
    """Write the card of the model in `folder`."""
    write_record(folder / NAME, card)


def read_model_card(folder: Path) -> ModelCard:
    """Read what `write_model_card` wrote; DataError if it is missing or is something else."""
    return read_record(folder / NAME, ModelCard, stage="train")
