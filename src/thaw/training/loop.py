"""Phases -> a trained model and its history: the one training loop.

A `head` phase sees features that `embed` computed once; the backbone takes no part in it, so that neither its weights
nor its BatchNorm statistics can move. A phase with `views` sees maps below its blocks that were computed once, and what
made them takes no part in it either. Any other phase sees augmented images. Everything else is the same.

What is random comes from generators named by seed, phase and epoch (and, for augmentation, image): the variants of
one seed share the first head and the order of images, and phases that are equal in two variants end in equal bytes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from thaw.compute.collectives import all_reduce_gradients, all_reduce_sum, average_batch_norm_statistics, broadcast
from thaw.errors import DivergedError, TrainingError
from thaw.network.classifier import Classifier, require_blocks
from thaw.params import FLOAT32, AnyPhase, ComputeParams, Phase, SolvedPhase, TrainingParams
from thaw.paths import Cell
from thaw.training.checkpoint import Checkpointer
from thaw.training.cost_json import PhaseCost
from thaw.training.cut_maps import CutMaps
from thaw.training.flops import StepFlops, count_phase_flops
from thaw.training.head_solver import PenaltyFit, SolvedHead, count_solver_flops, solve_head
from thaw.training.history_csv import Epoch, History
from thaw.training.inputs import LAYERS, PhaseInputs, TrainingData, build_inputs
from thaw.training.live_jsonl import LiveWriter
from thaw.training.optim import (
    build_optimizer,
    count_correct,
    count_steps,
    cross_entropy,
    images_in_step,
    set_mode,
    warmup_cosine,
    weigh_classes,
)
from thaw.training.state import Sums, TrainingState
from thaw.utils.progress import Progress, progress
from thaw.utils.random_streams import random_stream
from thaw.utils.ranks import is_main_process, local_batch_size, rank, world_size
from thaw.utils.signals import capture_signals


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """What `fit` did, besides changing the model."""

    outcome: History | DivergedError
    """An error where the loss was not finite: then there is no model."""

    costs: tuple[PhaseCost, ...]

    flops: int
    """Floating-point operations of gradient steps and their validation."""

    solver_flops: int
    """Of solved heads."""

    once_flops: Mapping[str, int]
    """Of maps at a cut, under the name of what computed them; `cut_maps.count_maps_flops` adds them up."""

    images_seen: int
    """Forward and backward passes of whole images."""

    solved_head: SolvedHead | None
    """None if no phase was solved, or none since the run was resumed."""

    earlier_seconds: float
    """What tries took that were killed, up to their last checkpoint; `costs` counts it too."""

    @property
    def history(self) -> History:
        """What was done; raises DivergedError if there is no model."""
        if isinstance(self.outcome, DivergedError):
            raise self.outcome
        return self.outcome

    @property
    def best(self) -> Epoch:
        """The epoch whose weights are the model's; raises DivergedError if there is no model."""
        return self.history.epochs[self.history.best]


def fit(
    model: Classifier,
    phases: Sequence[AnyPhase],
    *,
    cell: Cell,
    data: TrainingData,
    params: TrainingParams,
    compute: ComputeParams = FLOAT32,
    checkpointer: Checkpointer | None = None,
    name: str = "",
    solved_head: SolvedHead | None = None,
    cut_maps: CutMaps | None = None,
    live: LiveWriter | None = None,
) -> FitResult:
    """Train `model` phase by phase; it ends with the weights of the epoch with the lowest validation loss.

    Each phase starts from the best epoch so far, so that a second phase that makes nothing better changes nothing.

    Args:
        model: changed in place, on the device where it is.
        phases: what is trained, in order.
        cell: the run, for progress and errors; its seed names all that is random.
        data: what is learnt from, and what decides which epoch is kept.
        params: what the phases share.
        compute: how the device computes phases that see images; a head is too small to gain.
        checkpointer: where a run that was killed resumes from, with the same bytes as without the kill; removing the
            last checkpoint is the caller's, once the model is safe. None keeps nothing.
        name: what progress calls the run; empty: `cell`.
        solved_head: of an earlier candidate, whose solved phase is the same; None: it is solved here.
        cut_maps: of earlier candidates; None: all maps at a cut are computed here.
        live: is told how far the run is; None tells nobody.

    Raises:
        ConfigError: a phase trains more blocks than the backbone has, or its maps cannot be computed or do not fit into
            memory; nothing has been trained then.
        TrainingError: SIGTERM or Ctrl-C came; names the run, the phase and the epoch.
    """
    name = name or str(cell)
    if cut_maps is None:
        cut_maps = CutMaps(name=name, images=data.images, batch_size=params.batch_size, compute=compute)
    for number, phase in enumerate(phases):
        place = f"variants.{cell.variant}.{number}"
        require_blocks(model, phase, place=f"{place}.train")
        if isinstance(phase, Phase) and phase.views is not None:
            cut_maps.require_memory(
                model, phase, train=len(data.train.paths), val=len(data.val.paths), place=f"{place}.views"
            )
    run = _Run(
        cell=cell,
        model=model,
        best_weights=_copy_weights(model),
        checkpointer=checkpointer,
        solved_head=solved_head,
        live=live,
    )
    saved = run.resume()
    run.show_progress()
    earlier_seconds = run.state.seconds
    diverged: DivergedError | None = None
    with capture_signals() as run.stopped_by:
        for number in range(run.state.phase, len(phases)):
            phase, label = phases[number], f"{name}, phase {number + 1} of {len(phases)} ({phases[number].train})"
            if isinstance(phase, SolvedPhase):
                _solve_phase(run, data, params=params, label=label)
                continue
            inputs = build_inputs(
                model,
                phase,
                number=number,
                data=data,
                params=params,
                compute=compute,
                seed=cell.seed,
                cut_maps=cut_maps,
            )
            run.begin_phase(phase, inputs, params=params, saved=saved)
            saved = None
            done = (run.state.epoch - 1) * inputs.images + run.state.sums.images
            label += ", resumed" if done else ""
            with progress(label, total=phase.epochs * inputs.images, unit="images", done=done) as bar:
                try:
                    while not run.state.is_over(phase, patience_epochs=params.patience_epochs):
                        _train_epoch(run, phase, inputs, params=params, bar=bar)
                except DivergedError as error:
                    diverged = error
                    run.state.flops += run.state.sums.images * run.step_flops.training
            run.state.end_phase(phase.train, images=inputs.images)
            if diverged is not None:
                break
            model.load_state_dict(run.best_weights)
    return FitResult(
        outcome=diverged or run.state.to_history(),
        costs=tuple(run.state.costs),
        flops=run.state.flops,
        solver_flops=run.state.solver_flops,
        once_flops=run.state.once_flops,
        images_seen=run.state.images_seen,
        solved_head=run.solved_head,
        earlier_seconds=earlier_seconds,
    )


@dataclass(kw_only=True)
class _Run:
    """All that changes while a model is trained."""

    cell: Cell
    model: Classifier
    best_weights: dict[str, Tensor]
    checkpointer: Checkpointer | None
    solved_head: SolvedHead | None
    live: LiveWriter | None

    state: TrainingState = field(default_factory=TrainingState)
    step_flops: StepFlops = field(init=False)
    """Of one image in the present phase."""

    optimizer: torch.optim.Optimizer = field(init=False)
    schedule: LambdaLR = field(init=False)

    stopped_by: Callable[[], str | None] = field(init=False)
    """The name of the signal that came to this process, if one did."""

    stopping: bool = False
    """Whether one came to any process, when they last agreed."""

    def resume(self) -> dict[str, Any] | None:
        """Go to where the last checkpoint was, if there is one; `begin_phase` does the rest."""
        saved = broadcast(self.checkpointer.load() if self.checkpointer is not None and is_main_process() else None)
        if saved is not None:
            self.state = TrainingState.from_dict(saved["state"])
            self.best_weights = saved["best_weights"]
            self.model.load_state_dict(saved["model"])
        return saved

    def begin_phase(
        self, phase: Phase, inputs: PhaseInputs, *, params: TrainingParams, saved: Mapping[str, Any] | None
    ) -> None:
        """Learn with a new optimiser; give it the memory of the one in the checkpoint `saved`."""
        self.step_flops = count_phase_flops(self.model, phase)
        self.state.once_flops |= inputs.once_flops
        self.optimizer = build_optimizer(self.model, phase, params)
        steps = count_steps(phase, images=inputs.images, params=params)
        self.schedule = LambdaLR(self.optimizer, warmup_cosine(steps, warmup_ratio=params.warmup_ratio))
        if saved is not None:
            self.optimizer.load_state_dict(saved["optimizer"])
            self.schedule.load_state_dict(saved["schedule"])

    def step(self) -> None:
        """Move the weights against the gradients of all processes, and forget these."""
        all_reduce_gradients(self.model.parameters())
        # At each step, so that every checkpoint is what all processes have.
        average_batch_norm_statistics(self.model)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)

    def all_reduce_and_vote(self, sums: Sums) -> Sums:
        """The sums of all processes, which also agree on whether to stop."""
        stopping = self.stopped_by() is not None
        losses, correct, images, stop_votes = all_reduce_sum([sums.losses, sums.correct, sums.images, stopping])
        self.stopping = stop_votes > 0
        return Sums(losses=losses, correct=int(correct), images=int(images))

    def show_progress(self) -> None:
        """Tell whoever watches how far this run is."""
        if self.live is not None:
            state = self.state
            self.live.update(state.history, phase=state.phase, epoch=state.epoch, images=state.sums.images)

    def save_or_stop(self, *, epoch_ended: bool = False) -> None:
        """Save a checkpoint if one is due, or if a signal has come; in the latter case raise TrainingError then."""
        self.show_progress()
        state, checkpointer = self.state, self.checkpointer
        is_due = checkpointer is not None and (self.stopping or checkpointer.is_due(epoch_ended=epoch_ended))
        if checkpointer is not None and is_due and is_main_process():
            checkpointer.save(
                {
                    "state": state.to_dict(),
                    "best_weights": self.best_weights,
                    "model": self.model.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "schedule": self.schedule.state_dict(),
                }
            )
        if self.stopping:
            # torchrun ends all processes as soon as one has failed: not before the first has saved.
            all_reduce_sum([0])
            signal = self.stopped_by() or "a signal to another process"
            place = f"in phase {state.phase + 1}, after batch {state.batch} of epoch {state.epoch}"
            then = "resume" if self.checkpointer is not None else "start again"
            raise TrainingError(f"{self.cell}: stopped by {signal} {place}; run the same command to {then}")


def _solve_phase(run: _Run, data: TrainingData, *, params: TrainingParams, label: str) -> None:
    """Solve the head on the features of all views, and keep it if it is the best so far.

    It is not checkpointed: solved again, it has the same bytes. One process solves it for all.
    """
    state, views = run.state, data.train.views.shape[1]
    if run.solved_head is None:
        solved = _solve_head(run, data, params=params, label=label) if is_main_process() else None
        run.solved_head = broadcast(solved)
    solved = run.solved_head
    assert solved is not None
    epochs = [
        Epoch(
            phase=state.phase,
            train="head",
            epoch=number,
            lr=None,
            penalty=fit.penalty,
            converged=fit.converged,
            train_loss=fit.train_loss,
            train_accuracy=fit.train_accuracy,
            val_loss=fit.val_log_loss,
            val_accuracy=fit.val_accuracy,
        )
        for number, fit in enumerate(solved.path, start=1)
    ]
    state.solver_flops += count_solver_flops(solved, rows=len(data.train.labels) * views, val_rows=len(data.val.labels))
    if state.end_solved_phase(epochs, images=len(data.train.paths)):
        with torch.no_grad():
            run.model.head.weight.copy_(torch.from_numpy(solved.weight))
            run.model.head.bias.copy_(torch.from_numpy(solved.bias))
        run.best_weights = _copy_weights(run.model)
    run.show_progress()


def _solve_head(run: _Run, data: TrainingData, *, params: TrainingParams, label: str) -> SolvedHead:
    views = data.train.views  # (N, K, D)
    labels = data.train.labels.repeat(views.shape[1])
    classes = len(run.model.classes)
    weights = weigh_classes(data.train.labels, classes=classes, params=params)
    val_weights = weigh_classes(data.val.labels, classes=classes, params=params)

    def report_fit(_: PenaltyFit) -> None:
        bar.update()
        if (signal := run.stopped_by()) is not None:
            raise TrainingError(f"{label}: stopped by {signal}; run the same command to start again")

    with progress(label, total=None, unit="penalties") as bar:
        return solve_head(
            views.reshape(-1, views.shape[2]),
            labels,
            val_features=data.val.features,
            val_labels=data.val.labels,
            classes=classes,
            row_weights=None if weights is None else weights[labels],
            val_row_weights=None if val_weights is None else val_weights[data.val.labels],
            label_smoothing=params.label_smoothing,
            on_progress=report_fit,
        )


def _train_epoch(run: _Run, phase: Phase, inputs: PhaseInputs, *, params: TrainingParams, bar: Progress) -> None:
    """Train one epoch, or what is left of it, and validate."""
    state = run.state
    if state.batch == 0:
        state.lr = run.optimizer.param_groups[0]["lr"]
    set_mode(run.model, phase, params)
    step_sums = Sums()
    for batch, targets in inputs.train(state.epoch, state.batch):
        if phase.train != "head":
            # Dropout and its kin draw from torch's global generator; the head has none of them.
            stream = random_stream(run.cell.seed, LAYERS, state.phase, state.epoch, state.batch, rank())
            torch.manual_seed(int(stream.integers(2**63)))
        # One image alone has no variance to normalise with; one that does not count must leave no trace.
        alone = len(batch) == 1
        if alone:
            set_mode(run.model, phase, params.model_copy(update={"batch_norm": "frozen_stats"}))
        logits = inputs.forward(batch)  # (B, classes)
        if alone:
            set_mode(run.model, phase, params)
        loss = cross_entropy(
            logits, targets, class_weights=inputs.class_weights, label_smoothing=params.label_smoothing
        )
        # Without any image of its own in a batch, a process computes one that does not count.
        own = local_batch_size(min(params.batch_size, inputs.images - state.batch * params.batch_size))
        share = own / images_in_step(state.batch, images=inputs.images, params=params)
        (loss * share).backward()
        step_sums.add(loss=loss.item(), correct=count_correct(logits, targets) if own else 0, images=own)
        state.batch += 1
        if state.batch % params.grad_accum_steps == 0 or state.batch * params.batch_size >= inputs.images:
            run.step()
            step_sums = run.all_reduce_and_vote(step_sums)
            state.sums += step_sums
            _require_finite(run, phase, step_sums)
            bar.update(step_sums.images)
            step_sums = Sums()
            # Here alone, since a checkpoint holds no gradients.
            run.save_or_stop()
    val = _validate(run, inputs)
    epoch = Epoch(
        phase=state.phase,
        train=phase.train,
        epoch=state.epoch,
        lr=state.lr,
        train_loss=state.sums.mean_loss,
        train_accuracy=state.sums.accuracy,
        val_loss=val.mean_loss,
        val_accuracy=val.accuracy,
    )
    bar.set_postfix_str(f"val loss {epoch.val_loss:.4f}, accuracy {epoch.val_accuracy:.1%}")
    _require_finite(run, phase, val)
    if state.end_epoch(epoch):
        run.best_weights = _copy_weights(run.model)
    state.flops += inputs.images * run.step_flops.training + inputs.val_images * run.step_flops.forward
    state.images_seen += inputs.images if phase.sees_images else 0
    run.save_or_stop(epoch_ended=True)


def _require_finite(run: _Run, phase: Phase, sums: Sums) -> None:
    if not math.isfinite(sums.losses):
        number, epoch = run.state.phase, run.state.epoch
        raise DivergedError(
            f"{run.cell}: the loss is not finite in phase {number + 1} ({phase.train}), epoch {epoch}; "
            f"lower variants.{run.cell.variant}.{number}.lr, which is {phase.lr:g}"
        )


def _validate(run: _Run, inputs: PhaseInputs) -> Sums:
    """Sums over the validation split, of the cross-entropy without any smoothing.

    Where classes are weighted they are here, too: what is chosen by is what is minimised. By the plain loss, of models
    that give rare classes their due the one that does so least would be kept.
    """
    sums = Sums()
    run.model.eval()
    with torch.inference_mode():
        for batch, labels in inputs.val():
            logits = inputs.forward(batch)  # (B, classes)
            loss = cross_entropy(logits, labels, class_weights=inputs.val_class_weights)
            sums.add(loss=loss.item(), correct=count_correct(logits, labels), images=len(labels))
            if world_size() == 1:
                # Validation changes nothing: a run that is stopped here resumes from its beginning.
                run.all_reduce_and_vote(Sums())
                run.save_or_stop()
    return run.all_reduce_and_vote(sums)


def _copy_weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
