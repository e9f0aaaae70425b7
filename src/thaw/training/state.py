"""Where a training run stands: its history, what it cost, and its place in the phase and the epoch that it is in."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from thaw.params import Phase, TrainedPart
from thaw.training.cost_json import PhaseCost
from thaw.training.history_csv import Epoch, History


@dataclass(kw_only=True)
class Sums:
    """Sums over the images of an epoch so far."""

    losses: float = 0.0
    correct: int = 0
    images: int = 0

    def add(self, *, loss: float, correct: int, images: int) -> None:
        """Add a batch, given its mean loss."""
        self.losses += loss * images
        self.correct += correct
        self.images += images

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            losses=self.losses + other.losses, correct=self.correct + other.correct, images=self.images + other.images
        )

    @property
    def mean_loss(self) -> float:
        return self.losses / self.images

    @property
    def accuracy(self) -> float:
        return self.correct / self.images


@dataclass(kw_only=True)
class TrainingState:
    """All numbers that a run needs to resume, and that its result is made of; the tensors lie elsewhere."""

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

    flops: int = 0
    """Floating-point operations of gradient steps and their validation so far."""

    solver_flops: int = 0
    """Of solved heads so far."""

    once_flops: dict[str, int] = field(default_factory=dict)
    """Of maps at a cut so far, each under the name of what computed them."""

    images_seen: int = 0
    """Forward and backward passes of whole images so far."""

    phase_seconds: float = 0.0
    """Of work in this phase, up to the last `tick`."""

    def __post_init__(self) -> None:
        self._ticked_s = time.perf_counter()

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """What `to_dict` was called on."""
        parts = {
            "sums": Sums(**values["sums"]),
            "history": [Epoch(**row) for row in values["history"]],
            "costs": [PhaseCost(**row) for row in values["costs"]],
        }
        return cls(**{**values, **parts})

    def to_dict(self) -> dict[str, Any]:
        """All fields, as plain values."""
        self.tick()
        return {**asdict(self), "costs": [cost.model_dump() for cost in self.costs]}

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

    def end_solved_phase(self, epochs: Sequence[Epoch], *, images: int) -> bool:
        """Add the path of a solved phase to the history and go on; true if its best penalty is the best so far."""
        best = min(range(len(epochs)), key=lambda number: epochs[number].val_loss)
        is_best = self.best is None or epochs[best].val_loss < self.history[self.best].val_loss
        if is_best:
            self.best = len(self.history) + best
        self.history.extend(epochs)
        self.epoch = len(epochs) + 1
        self.end_phase("head", images=images)
        return is_best

    def to_history(self) -> History:
        """What was done, and which epoch is kept."""
        assert self.best is not None
        return History(epochs=tuple(self.history), best=self.best)

    def end_phase(self, train: TrainedPart, *, images: int) -> None:
        """Note what a phase over so many training images took, and move on to the next."""
        self.tick()
        epochs, seconds = self.epoch - 1, self.phase_seconds
        rate = epochs * images / seconds
        self.costs.append(PhaseCost(train=train, epochs=epochs, seconds=seconds, images_per_second=rate))
        self.phase, self.epoch, self.stale_epochs, self.phase_seconds = self.phase + 1, 1, 0, 0.0
