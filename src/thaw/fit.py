"""Phases -> a trained model and its history: the one training loop.

A `head` phase sees features that `embed` computed once; the backbone takes no part in it, so that neither its weights
nor its BatchNorm statistics can move. Any other phase sees augmented pictures. Everything else is the same.

What is random comes from generators named by seed, phase and epoch (and, for augmentation, picture): the variants of
one seed share the first head and the order of pictures, and phases that are equal in two variants end in equal bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from thaw.batches import random_stream
from thaw.checkpoint import (
    Checkpoint,
    Checkpoints,
    noted_signals,
    optimizer_tensors,
    restore_optimizer,
)
from thaw.collectives import average_statistics, from_first, sum_gradients, sum_numbers
from thaw.dataset import LabelledPictures
from thaw.errors import DivergedError, TrainingError
from thaw.feed import LAYERS, Feed, make_feed
from thaw.images import PicturesFile
from thaw.model import Classifier, require_blocks
from thaw.params import FLOAT32, ComputeParams, Phase, TrainingParams
from thaw.processes import is_first, own_pictures, process_count, process_rank
from thaw.progress import Progress, progress
from thaw.recipe import (
    build_optimizer,
    count_hits,
    count_steps,
    pictures_in_step,
    set_mode,
    training_loss,
    warm_up_and_cosine,
)
from thaw.standing import Epoch, PhaseCost, Standing, Sums


@dataclass(frozen=True, kw_only=True)
class Fit:
    """What `fit` did, besides changing the model."""

    epochs: tuple[Epoch, ...]
    best: Epoch
    costs: tuple[PhaseCost, ...]

    earlier_seconds: float
    """What tries took that were killed, up to their last checkpoint; `costs` counts it too."""


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
    checkpoints: Checkpoints | None = None,
) -> Fit:
    """Train `model` phase by phase; it ends with the weights of the epoch with the lowest validation loss.

    Each phase starts from the best epoch so far, so that a second phase that makes nothing better changes nothing.

    Args:
        model: changed in place, on the device where it is.
        phases: what is trained, in order.
        name: of the run, for progress and errors.
        train: what is learnt from.
        val: what decides when to stop and which epoch is kept.
        pictures: the archive that holds the pictures of both; `head` phases do not read it.
        params: what the phases share.
        seed: names all that is random.
        compute: how the device computes phases that see pictures; a head is too small to gain.
        checkpoints: where a run that was killed goes on from, with the same bytes as without the kill; removing the
            last one is the caller's, once the model is safe. None keeps nothing.

    Raises:
        ConfigError: a phase thaws more blocks than the backbone has; nothing has been trained then.
        DivergedError: the loss is not finite; names the run, the phase, the epoch and the rate.
        TrainingError: SIGTERM or Ctrl-C came; names the run, the phase and the epoch.
    """
    for number, phase in enumerate(phases):
        require_blocks(model, phase, place=f"variants.{name.rpartition('-')[0]}.{number}.train")
    run = _Run(name=name, model=model, best_state=_copy_state(model), checkpoints=checkpoints)
    saved = run.resume()
    earlier_seconds = run.standing.seconds
    with noted_signals() as run.stopped_by:
        for number in range(run.standing.phase, len(phases)):
            phase = phases[number]
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
            optimizer = build_optimizer(model, phase, params)
            steps = count_steps(phase, pictures=feed.pictures, params=params)
            schedule = LambdaLR(optimizer, warm_up_and_cosine(steps, warm_up_share=params.warm_up_share))
            run.begin_phase(optimizer, schedule, saved)
            saved = None
            label = f"{name}, phase {number + 1} of {len(phases)} ({phase.train})"
            done = (run.standing.epoch - 1) * len(train.paths) + run.standing.sums.pictures
            label += ", going on" if done else ""
            with progress(label, total=phase.epochs * len(train.paths), unit="pictures", done=done) as bar:
                while not run.standing.is_over(phase, patience_epochs=params.patience_epochs):
                    _train_epoch(run, phase, feed, params=params, seed=seed, bar=bar)
            model.load_state_dict(run.best_state)
            run.standing.end_phase(phase, pictures=len(train.paths))
    history, best = run.standing.history, run.standing.best
    assert best is not None
    return Fit(
        epochs=tuple(history),
        best=history[best],
        costs=tuple(run.standing.costs),
        earlier_seconds=earlier_seconds,
    )


@dataclass(kw_only=True)
class _Run:
    """All that changes while a model is trained."""

    name: str
    model: Classifier
    best_state: dict[str, Tensor]
    checkpoints: Checkpoints | None

    standing: Standing = field(default_factory=Standing)
    optimizer: torch.optim.Optimizer = field(init=False)
    schedule: LambdaLR = field(init=False)

    stopped_by: Callable[[], str | None] = field(init=False)
    """The name of the signal that came to this process, if one did."""

    stopping: bool = False
    """Whether one came to any process, when they last agreed."""

    def resume(self) -> Checkpoint | None:
        """Go to where the last checkpoint was, if there is one; `begin_phase` does the rest."""
        saved = from_first(self.checkpoints.load() if self.checkpoints is not None and is_first() else None)
        if saved is not None:
            self.standing = Standing.from_json(saved.position["standing"])
            self.best_state = _named("best", saved.tensors)
            self.model.load_state_dict(_named("model", saved.tensors))
        return saved

    def begin_phase(self, optimizer: torch.optim.Optimizer, schedule: LambdaLR, saved: Checkpoint | None) -> None:
        """Learn with a new optimiser; give it the memory of the one in `saved`."""
        self.optimizer, self.schedule = optimizer, schedule
        if saved is not None:
            facts = saved.position["schedule"]
            restore_optimizer(optimizer, _named("optimizer", saved.tensors), learning_rates=facts["_last_lr"])
            schedule.load_state_dict(facts)

    def step(self) -> None:
        """Move the weights against the gradients of all processes, and forget these."""
        sum_gradients(self.model.parameters())
        # At each step, so that every checkpoint is what all processes have.
        average_statistics(self.model)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def total(self, sums: Sums) -> Sums:
        """The sums of all processes, which also agree on whether to stop."""
        stopping = self.stopped_by() is not None
        losses, hits, pictures, stop_votes = sum_numbers([sums.losses, sums.hits, sums.pictures, stopping])
        self.stopping = stop_votes > 0
        return Sums(losses=losses, hits=int(hits), pictures=int(pictures))

    def keep(self, *, epoch_ended: bool = False) -> None:
        """Save a checkpoint if one is due, or if a signal has come; in the latter case raise TrainingError then."""
        standing, checkpoints = self.standing, self.checkpoints
        is_due = checkpoints is not None and (self.stopping or checkpoints.are_due(epoch_ended=epoch_ended))
        if checkpoints is not None and is_due and is_first():
            checkpoints.save(self._checkpoint())
        if self.stopping:
            # torchrun ends all processes as soon as one has failed: not before the first has saved.
            sum_numbers([0])
            signal = self.stopped_by() or "a signal to another process"
            place = f"in phase {standing.phase + 1}, after batch {standing.batch} of epoch {standing.epoch}"
            then = "go on from there" if self.checkpoints is not None else "start again"
            raise TrainingError(f"{self.name}: stopped by {signal} {place}; run the same command to {then}")

    def _checkpoint(self) -> Checkpoint:
        parts = {
            "model": self.model.state_dict(),
            "best": self.best_state,
            "optimizer": optimizer_tensors(self.optimizer),
        }
        return Checkpoint(
            position={"standing": self.standing.to_json(), "schedule": self.schedule.state_dict()},
            tensors={f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()},
        )


def _named(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of one part of a checkpoint, by their own names."""
    return {name.removeprefix(f"{part}/"): value for name, value in tensors.items() if name.startswith(f"{part}/")}


def _train_epoch(run: _Run, phase: Phase, feed: Feed, *, params: TrainingParams, seed: int, bar: Progress) -> None:
    """Train one epoch, or what is left of it, and validate."""
    standing = run.standing
    if standing.batch == 0:
        standing.lr = run.optimizer.param_groups[0]["lr"]
    set_mode(run.model, phase, params)
    step_sums = Sums()
    for inputs, targets in feed.train(standing.epoch, standing.batch):
        if phase.train != "head":
            # Dropout and its kin draw from torch's global generator; the head has none of them.
            stream = random_stream(seed, LAYERS, standing.phase, standing.epoch, standing.batch, process_rank())
            torch.manual_seed(int(stream.integers(2**63)))
        # One picture alone has no variance to normalise with; one that does not count must leave no trace.
        alone = len(inputs) == 1
        if alone:
            set_mode(run.model, phase, params.model_copy(update={"batch_norm": "frozen_stats"}))
        logits = feed.forward(inputs)  # (B, classes)
        if alone:
            set_mode(run.model, phase, params)
        loss = training_loss(logits, targets, params)
        # Without any picture of its own in a batch, a process computes one that does not count.
        own = own_pictures(min(params.batch_size, feed.pictures - standing.batch * params.batch_size))
        share = own / pictures_in_step(standing.batch, pictures=feed.pictures, params=params)
        (loss * share).backward()
        step_sums.add(loss=loss.item(), hits=count_hits(logits, targets) if own else 0, pictures=own)
        standing.batch += 1
        if standing.batch % params.accumulate_batches == 0 or standing.batch * params.batch_size >= feed.pictures:
            run.step()
            step_sums = run.total(step_sums)
            _require_finite(run, phase, step_sums)
            standing.sums += step_sums
            bar.update(step_sums.pictures)
            step_sums = Sums()
            # Here alone, since a checkpoint holds no gradients.
            run.keep()
    val = _validate(run, feed)
    epoch = Epoch(
        phase=standing.phase,
        train=phase.train,
        epoch=standing.epoch,
        lr=standing.lr,
        train_loss=standing.sums.mean_loss,
        train_accuracy=standing.sums.accuracy,
        val_loss=val.mean_loss,
        val_accuracy=val.accuracy,
    )
    bar.set_postfix_str(f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:.1%}")
    _require_finite(run, phase, val)
    if standing.end_epoch(epoch):
        run.best_state = _copy_state(run.model)
    run.keep(epoch_ended=True)


def _require_finite(run: _Run, phase: Phase, sums: Sums) -> None:
    if not math.isfinite(sums.losses):
        number, epoch = run.standing.phase, run.standing.epoch
        raise DivergedError(
            f"{run.name}: the loss is not finite in phase {number + 1} ({phase.train}), epoch {epoch}; "
            f"lower variants.{run.name.rpartition('-')[0]}.{number}.lr, which is {phase.lr:g}"
        )


def _validate(run: _Run, feed: Feed) -> Sums:
    """Sums over the validation split, of the cross-entropy without any smoothing."""
    sums = Sums()
    run.model.eval()
    with torch.inference_mode():
        for inputs, labels in feed.val():
            logits = feed.forward(inputs)  # (B, classes)
            loss = nn.functional.cross_entropy(logits, labels)
            sums.add(loss=loss.item(), hits=count_hits(logits, labels), pictures=len(labels))
            if process_count() == 1:
                # Validation changes nothing: a run that is stopped here goes on from its beginning.
                run.total(Sums())
                run.keep()
    return run.total(sums)


def _copy_state(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def history_rows(result: Fit) -> list[dict[str, object]]:
    """The history as rows of a table, with `best` true in the row of the epoch that was kept."""
    return [{**asdict(epoch), "best": epoch is result.best} for epoch in result.epochs]
