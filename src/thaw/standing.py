"""Where a training run stands: its history, what it cost, and its place in the phase and the epoch that it is in."""

import time
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from thaw.params import Phase, TrainedPart


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of the history."""

    phase: int
    train: TrainedPart
    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """What one phase took; pictures per second counts training pictures, validation time included."""

    train: TrainedPart
    epochs: int
    seconds: float
    pictures_per_second: float


@dataclass(kw_only=True)
class Sums:
    """Sums over the pictures of an epoch that have been seen."""

    losses: float = 0.0
    hits: int = 0
    pictures: int = 0

    def add(self, *, loss: float, hits: int, pictures: int) -> None:
        """Add a batch, given its mean loss."""
        self.losses += loss * pictures
        self.hits += hits
        self.pictures += pictures

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            losses=self.losses + other.losses, hits=self.hits + other.hits, pictures=self.pictures + other.pictures
        )

    @property
    def mean_loss(self) -> float:
        return self.losses / self.pictures

    @property
    def accuracy(self) -> float:
        return self.hits / self.pictures


@dataclass(kw_only=True)
class Standing:
    """All numbers that a run needs to go on, and that its result is made of; the tensors lie elsewhere."""

    phase: int = 0

    epoch: int = 1
    """Counted from 1 in each phase: the epoch that is being trained, or comes next."""

    batch: int = 0
    """How many batches of this epoch have been learnt from."""

    lr: float = 0.0
    """The learning rate with which this epoch began."""

    sums: Sums = field(default_factory=Sums)
    """Of this epoch."""

    stale_epochs: int = 0
    """How many epochs of this phase in a row have not brought a better validation loss."""

    best: int | None = None
    """The index in `history` of the epoch whose weights are kept."""

    history: list[Epoch] = field(default_factory=list)
    costs: list[PhaseCost] = field(default_factory=list)

    phase_seconds: float = 0.0
    """Of work in this phase, up to the last `tick`."""

    def __post_init__(self) -> None:
        self._ticked_s = time.perf_counter()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What `to_json` was called on."""
        parts = {
            "sums": Sums(**values["sums"]),
            "history": [Epoch(**row) for row in values["history"]],
            "costs": [PhaseCost(**row) for row in values["costs"]],
        }
        return cls(**{**values, **parts})

    def to_json(self) -> dict[str, Any]:
        """All fields, as what JSON can hold."""
        self.tick()
        return asdict(self)

    @property
    def seconds(self) -> float:
        """Of work in all phases, up to the last `tick`."""
        return sum(cost.seconds for cost in self.costs) + self.phase_seconds

    def tick(self) -> None:
        """Count the time since the last tick as work."""
        now_s = time.perf_counter()
        self.phase_seconds += now_s - self._ticked_s
        self._ticked_s = now_s

    def is_over(self, phase: Phase, *, patience_epochs: int) -> bool:
        """Whether the phase that this run is in has had all its epochs, or has got no better for too long."""
        return self.epoch > phase.epochs or self.stale_epochs == patience_epochs

    def end_epoch(self, epoch: Epoch) -> bool:
        """Add a row to the history; true if its validation loss is the lowest so far."""
        self.history.append(epoch)
        is_best = self.best is None or epoch.val_loss < self.history[self.best].val_loss
        if is_best:
            self.best = len(self.history) - 1
        self.stale_epochs = 0 if is_best else self.stale_epochs + 1
        self.epoch, self.batch, self.sums = self.epoch + 1, 0, Sums()
        return is_best

    def end_phase(self, phase: Phase, *, pictures: int) -> None:
        """Note what a phase over so many training pictures took, and go on to the next."""
        self.tick()
        epochs, seconds = self.epoch - 1, self.phase_seconds
        rate = epochs * pictures / seconds
        self.costs.append(PhaseCost(train=phase.train, epochs=epochs, seconds=seconds, pictures_per_second=rate))
        self.phase, self.epoch, self.stale_epochs, self.phase_seconds = self.phase + 1, 1, 0, 0.0
