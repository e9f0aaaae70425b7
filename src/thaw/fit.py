"""Phases -> a trained model and its history: the one training loop.

A `head` phase sees features that `embed` computed once; the backbone takes no part in it, so that neither its weights
nor its BatchNorm statistics can move. An `all` phase sees augmented pictures. Everything else is the same.

What is random comes from generators named by seed, phase and epoch (and, for augmentation, picture): the variants of
one seed share the first head and the order of pictures, and phases that are equal in two variants end in equal bytes.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from thaw.batches import random_stream
from thaw.dataset import LabelledPictures
from thaw.errors import TrainingError
from thaw.feed import LAYERS, Batches, Feed, make_feed
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import FLOAT32, ComputeParams, Phase, TrainingParams
from thaw.progress import progress
from thaw.recipe import build_optimizer, set_mode, warm_up_and_cosine


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One row of the history."""

    phase: int
    train: Literal["head", "all"]
    epoch: int
    lr: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float


@dataclass(frozen=True, kw_only=True)
class PhaseCost:
    """What one phase took; pictures per second counts training pictures, validation time included."""

    train: Literal["head", "all"]
    epochs: int
    seconds: float
    pictures_per_second: float


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What `fit` did, besides changing the model."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    costs: tuple[PhaseCost, ...]


def fit(
    model: Classifier,
    phases: Sequence[Phase],
    *,
    name: str,
    train: LabelledPictures,
    val: LabelledPictures,
    pictures: PicturesFile,
    params: TrainingParams,
    seed: int,
    compute: ComputeParams = FLOAT32,
) -> Fit:
    """Train `model` phase by phase; it ends with the weights of the epoch with the lowest validation loss.

    Each phase starts from the best epoch so far, so that a second phase that makes nothing better changes nothing.

    Args:
        model: changed in place, on the device where it is.
        phases: what is trained, in order.
        name: of the run, for progress and errors.
        train: what is learnt from.
        val: what decides when to stop and which epoch is kept.
        pictures: the archive that holds the pictures of both; read by `all` phases alone.
        params: what the phases share.
        seed: names all that is random.
        compute: how the device computes `all` phases; a head is too small to gain.

    Raises:
        TrainingError: the loss is not finite; names the run, the phase and the epoch.
    """
    history: list[Epoch] = []
    costs: list[PhaseCost] = []
    best: Epoch | None = None
    best_state = _copy_state(model)
    for number, phase in enumerate(phases):
        started_s = time.perf_counter()
        feed = make_feed(
            model,
            phase,
            number=number,
            train=train,
            val=val,
            pictures=pictures,
            params=params,
            compute=compute,
            seed=seed,
        )
        label = f"{name}, phase {number + 1} of {len(phases)} ({phase.train})"
        stale_epochs = 0
        with progress(label, total=phase.epochs * len(train.paths), unit="pictures") as bar:
            for epoch in _train_epochs(model, phase, feed, number=number, params=params, seed=seed, advance=bar.update):
                history.append(epoch)
                bar.set_postfix_str(f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:.1%}")
                if not (math.isfinite(epoch.train_loss) and math.isfinite(epoch.val_loss)):
                    raise TrainingError(
                        f"{name}: the loss is not finite in phase {number} ({phase.train}), epoch {epoch.epoch}; "
                        f"lower variants.{name.rpartition('-')[0]}.{number}.lr, which is {phase.lr:g}"
                    )
                stale_epochs += 1
                if best is None or epoch.val_loss < best.val_loss:
                    best, best_state, stale_epochs = epoch, _copy_state(model), 0
                if stale_epochs == params.patience_epochs:
                    break
        model.load_state_dict(best_state)
        seconds = time.perf_counter() - started_s
        epochs = history[-1].epoch
        costs.append(
            PhaseCost(
                train=phase.train,
                epochs=epochs,
                seconds=seconds,
                pictures_per_second=epochs * len(train.paths) / seconds,
            )
        )
    assert best is not None
    return Fit(epochs=tuple(history), best=best, costs=tuple(costs))


def _train_epochs(
    model: Classifier,
    phase: Phase,
    feed: Feed,
    *,
    number: int,
    params: TrainingParams,
    seed: int,
    advance: Callable[[int], object],
) -> Iterator[Epoch]:
    """Train one phase, an epoch at each step of the iterator, and validate."""
    optimizer = build_optimizer(model, phase, params)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, warm_up_and_cosine(phase.epochs * feed.steps))
    for epoch in range(1, phase.epochs + 1):
        lr = optimizer.param_groups[0]["lr"]
        # Dropout and its kin draw from torch's global generator.
        torch.manual_seed(int(random_stream(seed, LAYERS, number, epoch).integers(2**63)))
        set_mode(model, phase, params)
        train_loss, train_accuracy = _run_epoch(
            feed.forward, feed.train(epoch), lambda loss: _step(optimizer, schedule, loss), advance=advance
        )
        model.eval()
        with torch.inference_mode():
            val_loss, val_accuracy = _run_epoch(feed.forward, feed.val())
        yield Epoch(
            phase=number,
            train=phase.train,
            epoch=epoch,
            lr=lr,
            train_loss=train_loss,
            train_accuracy=train_accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
        )


def _run_epoch(
    forward: Callable[[Tensor], Tensor],
    epoch_batches: Batches,
    learn: Callable[[Tensor], None] | None = None,
    *,
    advance: Callable[[int], object] = lambda _: None,
) -> tuple[float, float]:
    """Mean loss and accuracy over the pictures of an epoch, learning from each batch if there is something to learn."""
    losses, hits, seen = 0.0, 0, 0
    for inputs, labels in epoch_batches:
        logits = forward(inputs)  # (B, classes)
        loss = nn.functional.cross_entropy(logits, labels)
        if learn is not None:
            learn(loss)
        losses += loss.item() * len(labels)
        hits += int((logits.argmax(dim=1) == labels).sum())
        seen += len(labels)
        advance(len(labels))
    return losses / seen, hits / seen


def _step(optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.LRScheduler, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    schedule.step()


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def history_rows(result: Fit) -> list[dict[str, object]]:
    """The history as rows of a table, with `best` true in the row of the epoch that was kept."""
    return [{**asdict(epoch), "best": epoch is result.best} for epoch in result.epochs]
