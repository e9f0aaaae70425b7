"""history CSV: one row an epoch; the writer beside the reader."""

from dataclasses import dataclass, fields
from pathlib import Path

from thaw.errors import DataError
from thaw.params import TrainedPart
from thaw.utils.records import parse_number, read_rows, write_rows


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What one epoch did."""

    phase: int
    """Counted from 0."""

    train: TrainedPart
    """What its phase trains."""

    epoch: int
    """Counted from 1 in each phase; of a solved phase, the number of the penalty on its path."""

    lr: float | None
    """The learning rate of the head with which it began; None in a solved phase."""

    penalty: float | None = None
    """Of a solved phase; None in others."""

    converged: bool | None = None
    """Whether the solver met its tolerance with this penalty; None in phases that are not solved."""

    train_loss: float
    """Cross-entropy as it was learnt from, in nats, mean over the images of the epoch."""

    train_accuracy: float
    val_loss: float
    """Cross-entropy without smoothing, in nats."""

    val_accuracy: float


@dataclass(frozen=True, kw_only=True)
class History:
    """All epochs of a run, and which one was kept."""

    epochs: tuple[Epoch, ...]

    best: int
    """The index of the epoch whose weights are the model's."""

    @property
    def penalties(self) -> tuple[Epoch, ...]:
        """The path of the solved head, from strong to weak; empty if no phase was solved."""
        return tuple(epoch for epoch in self.epochs if epoch.penalty is not None)

    @property
    def penalty(self) -> float | None:
        """The one chosen on val; of equal ones the strongest. None if no phase was solved."""
        path = self.penalties
        return min(path, key=lambda epoch: epoch.val_loss).penalty if path else None

    @property
    def penalty_at_edge(self) -> bool:
        """Whether it is the weakest or the strongest of those tried."""
        return bool(self.penalties) and self.penalty in (self.penalties[0].penalty, self.penalties[-1].penalty)


_COLUMNS = ("step", *(field.name for field in fields(Epoch)), "best")


def write_history(path: Path, history: History) -> None:
    """Write a row an epoch.

    The column `step` counts the rows from 1, over all phases, for whoever plots them; `best` is true in the row of the
    epoch that was kept.
    """
    rows = (
        (number, *(_format(getattr(epoch, field.name)) for field in fields(Epoch)), _format(number == history.best + 1))
        for number, epoch in enumerate(history.epochs, start=1)
    )
    write_rows(path, _COLUMNS, rows)


def read_history(path: Path) -> History:
    """Read what `write_history` wrote; DataError if it is missing or is something else."""
    rows = read_rows(path, _COLUMNS, stage="train")
    best = [number for number, row in enumerate(rows) if row["best"] == "true"]
    if len(best) != 1:
        raise DataError(f"{path}: expected one row with best = true, found {len(best)}; run `dvc repro`")
    return History(epochs=tuple(_parse_epoch(path, row) for row in rows), best=best[0])


def _parse_epoch(path: Path, row: dict[str, str]) -> Epoch:
    def number(column: str) -> float:
        return parse_number(path, row, column)

    def optional(column: str) -> float | None:
        return number(column) if row[column] else None

    return Epoch(
        phase=int(number("phase")),
        train=row["train"],
        epoch=int(number("epoch")),
        lr=optional("lr"),
        penalty=optional("penalty"),
        converged=row["converged"] == "true" if row["converged"] else None,
        train_loss=number("train_loss"),
        train_accuracy=number("train_accuracy"),
        val_loss=number("val_loss"),
        val_accuracy=number("val_accuracy"),
    )


def _format(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else value
