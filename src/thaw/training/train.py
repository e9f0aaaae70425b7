"""One cell of the matrix variant x seed: read what the stages before wrote, fit, write the model and its history."""

import copy
import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch

from thaw import paths
from thaw.compute.collectives import process_group, require_same_inputs
from thaw.compute.determinism import make_deterministic
from thaw.compute.device import choose_device, describe_device, peak_memory_mib
from thaw.compute.memory import explain_out_of_memory, keep_freed_memory
from thaw.data.features import read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits, redraw_val, thin_train
from thaw.errors import DivergedError
from thaw.network.backbone import Backbone, read_backbone
from thaw.network.classifier import Classifier, count_parameters, module_sha256, save_model, set_trainable
from thaw.network.model_card import BestEpoch, Candidate, Compute, ModelCard
from thaw.params import FLOAT32, AnyPhase, BackboneParams, ComputeParams, StorageParams, TrainingParams, ValDraw
from thaw.paths import CHECKPOINTS, Cell
from thaw.training.checkpoint import Checkpointer, run_key
from thaw.training.cost_json import PhaseCost, TrainCost, write_cost
from thaw.training.cut_maps import CutMaps, count_maps_flops
from thaw.training.head_solver import SolvedHead
from thaw.training.history_csv import write_history
from thaw.training.inputs import TrainingData
from thaw.training.live_jsonl import LiveWriter
from thaw.training.loop import FitResult, fit
from thaw.training.notes import Training, describe_training, note_training
from thaw.training.provenance import describe_provenance
from thaw.training.temperature import fit_temperature, predict_val_logits
from thaw.utils.atomic import new_folder
from thaw.utils.ranks import is_main_process, world_size

log = logging.getLogger(__name__)


@process_group()
def train_cell(
    cell: Cell,
    *,
    candidates: Sequence[tuple[AnyPhase, ...]],
    backbone: BackboneParams,
    storage: StorageParams,
    val: ValDraw,
    training: TrainingParams,
    train_fraction: float = 1.0,
    compute: ComputeParams = FLOAT32,
) -> tuple[str, ...]:
    """Train one variant with one seed; write its model, its history, and its cost: all that differs between runs.

    Of several candidates the one with the lowest validation loss becomes the model; what all of them cost is counted.
    One whose loss is not finite is lost, and the others go on.

    Returns:
        What to say of it, line by line; nothing in processes other than the first.

    Raises:
        ConfigError, TrainingError: see `loop.fit`.
        DivergedError: the loss of no candidate stays finite.
        DataError: a file that a stage wrote is missing, or does not fit the others.
        TrainingError: the memory is too small.
    """
    make_deterministic(compute)
    keep_freed_memory()
    started_at_unix_s, started_s = time.time(), time.perf_counter()
    table = read_features(paths.FEATURES)
    splits = read_splits(paths.SPLITS)
    if val == "per_seed":
        splits = redraw_val(splits, seed=cell.seed)
    splits = thin_train(splits, fraction=train_fraction, seed=cell.seed)
    pretrained = _read_or_build(backbone, candidates)
    table.require_made_by(name=pretrained.name, backbone_sha256=module_sha256(pretrained.module))
    model = Classifier(pretrained, classes=splits.classes, seed=cell.seed)
    with ImageZip(paths.IMAGES) as images, _explain_out_of_memory(training, backbone):
        data = TrainingData(
            train=select_split("train", splits=splits, features=table, classes=splits.classes),
            val=select_split("val", splits=splits, features=table, classes=splits.classes),
            images=images,
        )
        facts = {
            "cell": cell,
            "training": training.model_dump(),
            "compute": compute.model_dump(),
            "backbone": [backbone.model_dump(), table.backbone_sha256],
            "data": [data.train.fingerprint(), data.val.fingerprint(), images.fingerprint()],
        }
        cut_maps = CutMaps(name=str(cell), images=images, batch_size=training.batch_size, compute=compute)
        chosen, best_model, results = _fit_candidates(
            model,
            candidates,
            cell=cell,
            data=data,
            training=training,
            compute=compute,
            facts=facts,
            cut_maps=cut_maps,
        )
        kept = results[chosen].best.phase
        logits = predict_val_logits(
            best_model,
            candidates[chosen][kept],
            number=kept,
            data=data,
            params=training,
            compute=compute,
            seed=cell.seed,
            cut_maps=cut_maps,
        )
    if not is_main_process():
        return ()
    tried = tuple(_describe_candidate(*candidate) for candidate in zip(candidates, results, strict=True))
    card = ModelCard(
        classes=splits.classes,
        variant=cell.variant,
        seed=cell.seed,
        backbone=backbone,
        storage=storage,
        val=val,
        train_fraction=train_fraction,
        training=training,
        phases=candidates[chosen],
        best=BestEpoch(phase=results[chosen].best.phase, epoch=results[chosen].best.epoch),
        candidates=tried,
        compute=Compute(
            flops=_count_flops(results),
            images_seen=sum(result.images_seen for result in results),
        ),
        trainable_parameters=max(_count_trained(model, phase) for phase in candidates[chosen]),
        threads=compute.threads,
        temperature=fit_temperature(logits, data.val.labels),
    )
    trained = Training(card=card, history=results[chosen].history)
    with new_folder(cell.model) as folder:
        save_model(folder, best_model, card=card)
    write_history(cell.history, results[chosen].history)
    seconds = time.perf_counter() - started_s + sum(result.earlier_seconds for result in results)
    costs = tuple(cost for result in results for cost in result.costs)
    cost = _describe_cost(
        costs, started_at_unix_s=started_at_unix_s, seconds=seconds, images_seen=card.compute.images_seen
    )
    write_cost(cell.cost, cost)
    # Also those of candidates that params.yaml no longer has.
    for checkpoint in CHECKPOINTS.glob(f"{cell}-*.pt"):
        checkpoint.unlink()
    return describe_training(trained), *note_training(str(cell), [trained])


def _read_or_build(params: BackboneParams, candidates: Sequence[tuple[AnyPhase, ...]]) -> Backbone:
    """The pretrained backbone; where heads alone are trained, on its features, one that cannot be called."""
    if all(phase.train == "head" for phases in candidates for phase in phases):
        return read_backbone(paths.BACKBONE, params=params)
    # Here: torchvision and timm take as long to import as torch.
    from thaw.network.backbones import build_backbone

    return build_backbone(params)


def _fit_candidates(
    model: Classifier,
    candidates: Sequence[tuple[AnyPhase, ...]],
    *,
    cell: Cell,
    data: TrainingData,
    training: TrainingParams,
    compute: ComputeParams,
    facts: dict[str, Any],
    cut_maps: CutMaps,
) -> tuple[int, Classifier, list[FitResult]]:
    """Train each candidate from the same start; the last checkpoints of those that are done stay until all are.

    Args:
        model: pretrained, with a fresh head; stays as it is.
        candidates: the phases of each.
        cell: whose candidates they are.
        data: what they are trained on.
        training: what their phases share.
        compute: how the device computes.
        facts: all else that the result depends on.
        cut_maps: of all of them.

    Returns:
        The number of the one with the lowest validation loss, its model, and the results of all.

    Raises:
        DataError: another process has other inputs.
        DivergedError: the loss of none stays finite.
    """
    results: list[FitResult] = []
    chosen, best_model = None, model
    solved_head: SolvedHead | None = None
    diverged: list[DivergedError] = []
    for number, phases in enumerate(candidates):
        inputs_sha256 = run_key({**facts, "phases": [phase.model_dump() for phase in phases]}, module="training.train")
        require_same_inputs(inputs_sha256)
        device = {**describe_device(), "processes": world_size()}
        key = run_key({"inputs": inputs_sha256, "device": device}, module="training.train")
        trained = copy.deepcopy(model).to(choose_device())
        result = fit(
            trained,
            phases,
            cell=cell,
            data=data,
            params=training,
            compute=compute,
            checkpointer=Checkpointer(path=cell.checkpoint(number), key=key),
            name=str(cell) if len(candidates) == 1 else f"{cell}, candidate {number + 1} of {len(candidates)}",
            solved_head=solved_head,
            cut_maps=cut_maps,
            live=LiveWriter(path=cell.live, candidate=number) if is_main_process() else None,
        )
        results.append(result)
        solved_head = result.solved_head
        if isinstance(result.outcome, DivergedError):
            diverged.append(result.outcome)
            if len(candidates) > 1:
                log.warning("%s; the other candidates go on", result.outcome)
        elif chosen is None or result.best.val_loss < results[chosen].best.val_loss:
            chosen, best_model = number, trained
    if chosen is None:
        raise diverged[0]
    return chosen, best_model, results


def _explain_out_of_memory(training: TrainingParams, backbone: BackboneParams) -> AbstractContextManager[None]:
    return explain_out_of_memory(
        f"training on {training.batch_size} images of {backbone.image_size_px} px at once",
        remedy="set training.batch_size to less and training.grad_accum_steps to more, or lower backbone.image_size_px",
    )


def _count_flops(results: Sequence[FitResult]) -> int:
    """What all candidates took; those that begin with a solved head have the same one, and maps at a cut are shared."""
    maps_flops = count_maps_flops([result.once_flops for result in results])
    return sum(result.flops for result in results) + max(result.solver_flops for result in results) + maps_flops


def _describe_candidate(phases: tuple[AnyPhase, ...], result: FitResult) -> Candidate:
    if isinstance(result.outcome, DivergedError):
        return Candidate(phases=phases, val_loss=None, val_accuracy=None, best=None)
    best = result.best
    return Candidate(
        phases=phases,
        val_loss=best.val_loss,
        val_accuracy=best.val_accuracy,
        best=BestEpoch(phase=best.phase, epoch=best.epoch),
    )


def _count_trained(model: Classifier, phase: AnyPhase) -> int:
    return count_parameters(parameter for _, parameter in set_trainable(model, last_blocks=phase.last_blocks))


def _describe_cost(
    costs: tuple[PhaseCost, ...], *, started_at_unix_s: float, seconds: float, images_seen: int
) -> TrainCost:
    return TrainCost(
        started_at_unix_s=started_at_unix_s,
        provenance=describe_provenance(),
        train_seconds=seconds,
        images_per_second=images_seen / seconds,
        peak_memory_mib=peak_memory_mib(choose_device()),
        device=choose_device().type,
        threads=torch.get_num_threads(),
        processes=world_size(),
        phases=costs,
    )
