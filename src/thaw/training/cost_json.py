"""data/cost/*.json: what differs from run to run, seconds and memory; the writer beside the reader."""

from pathlib import Path

from thaw.params import TrainedPart
from thaw.utils.records import Record, read_record, write_record


class EmbedCost(Record):
    """data/cost/embed.json: features are computed once, for all runs."""

    images: int
    seconds: float
    images_per_second: float
    views: int
    flops: int
    """Floating-point operations of the backbone over all views of all images."""

    peak_memory_mib: float
    device: str
    threads: int
    processes: int


class PhaseCost(Record):
    """What one phase took."""

    train: TrainedPart
    epochs: int
    seconds: float
    images_per_second: float
    """Training images, or rows of features, over all of the phase's seconds, its validation included."""


class TrainCost(Record):
    """data/cost/VARIANT-SEED.json."""

    started_at_unix_s: float
    provenance: dict[str, str]
    """Commit and data, under the names of MLflow's tags."""

    train_seconds: float
    """Resumed runs count the work of earlier tries, up to their last checkpoint."""

    images_per_second: float
    """Forward and backward passes of whole images over `train_seconds`; 0 where features alone were trained on."""

    peak_memory_mib: float
    device: str
    threads: int
    processes: int
    phases: tuple[PhaseCost, ...]


def write_cost(path: Path, cost: EmbedCost | TrainCost) -> None:
    """Write what a stage cost."""
    write_record(path, cost)


def read_embed_cost(path: Path) -> EmbedCost:
    """Read what `embed` cost; DataError if the file is missing or is something else."""
    return read_record(path, EmbedCost, stage="embed")


def read_train_cost(path: Path) -> TrainCost:
    """Read what a training cost; DataError if the file is missing or is something else."""
    return read_record(path, TrainCost, stage="train")
