"""One cell of the matrix variant x seed: read what the stages before wrote, fit, write the model and its history."""

import csv
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from thaw import layout
from thaw.atomic import new_file, new_folder, write_json
from thaw.backbones import build_backbone
from thaw.checkpoint import Checkpoints, run_key
from thaw.collectives import joined, require_same_inputs
from thaw.dataset import read_assignment
from thaw.device import (
    choose_device,
    describe_device,
    keep_freed_memory,
    make_deterministic,
    memory_explained,
    peak_memory_mib,
)
from thaw.embed import read_features
from thaw.fit import Fit, fit, history_rows
from thaw.images import PicturesFile
from thaw.layout import Cell, locked_stage
from thaw.model import Classifier, count_parameters, save_model, set_trainable
from thaw.params import FLOAT32, BackboneParams, ComputeParams, Phase, TrainingParams
from thaw.processes import is_first, process_count


@joined()
def train_cell(
    cell: Cell,
    *,
    phases: Sequence[Phase],
    backbone: BackboneParams,
    training: TrainingParams,
    compute: ComputeParams = FLOAT32,
) -> None:
    """Train one variant with one seed; write its model, its history, and its cost: all that differs between runs."""
    make_deterministic()
    keep_freed_memory()
    started_at_unix_s, started_s = time.time(), time.perf_counter()
    device = choose_device()
    assignment, table = read_assignment(layout.SPLITS), read_features(layout.FEATURES)
    pretrained = build_backbone(backbone)
    table.require_made_by(pretrained)
    classifier = Classifier(pretrained, classes=assignment.classes, seed=cell.seed)
    train = assignment.select("train", features=table, classes=assignment.classes)
    val = assignment.select("val", features=table, classes=assignment.classes)
    with PicturesFile(layout.PICTURES) as archive:
        inputs = run_key(
            {
                "cell": cell,
                "phases": [phase.model_dump() for phase in phases],
                "training": training.model_dump(),
                "compute": compute.model_dump(),
                "backbone": [backbone.model_dump(), table.backbone_sha256],
                "data": [train.fingerprint(), val.fingerprint(), archive.fingerprint()],
            }
        )
        require_same_inputs(inputs)
        key = run_key({"inputs": inputs, "device": {**describe_device(), "processes": process_count()}})
        checkpoints = Checkpoints(path=cell.checkpoint, key=key)
        with memory_explained(
            f"training on {training.batch_size} pictures of {backbone.image_size_px} px at once",
            remedy="set training.batch_size to less and training.accumulate_batches to more, or lower "
            "backbone.image_size_px",
        ):
            result = fit(
                classifier.to(device),
                phases,
                name=str(cell),
                train=train,
                val=val,
                pictures=archive,
                params=training,
                seed=cell.seed,
                compute=compute,
                checkpoints=checkpoints,
            )
    if not is_first():
        return
    trained = max(_count_trained(classifier, phase) for phase in phases)
    facts = {
        "variant": cell.variant,
        "seed": cell.seed,
        "backbone": backbone.model_dump(),
        "training": training.model_dump(),
        "phases": [phase.model_dump() for phase in phases],
        "best": {"phase": result.best.phase, "epoch": result.best.epoch},
        "trainable_parameters": trained,
    }
    with new_folder(cell.model) as folder:
        save_model(folder, classifier, facts=facts)
    _write_history(cell.history, result)
    write_json(
        cell.cost,
        {
            "started_at_unix_s": started_at_unix_s,
            "provenance": _provenance(),
            "train_seconds": time.perf_counter() - started_s + result.earlier_seconds,
            "pictures_per_second": sum(c.pictures_per_second * c.seconds for c in result.costs)
            / sum(c.seconds for c in result.costs),
            "peak_memory_mib": peak_memory_mib(device),
            "device": device.type,
            "threads": torch.get_num_threads(),
            "processes": process_count(),
            "phases": [asdict(phase_cost) for phase_cost in result.costs],
        },
    )
    checkpoints.remove()


def _count_trained(model: Classifier, phase: Phase) -> int:
    return count_parameters(parameter for _, parameter in set_trainable(model, last_blocks=phase.last_blocks))


def _write_history(path: Path, result: Fit) -> None:
    rows = history_rows(result)
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({**row, "best": str(row["best"]).lower()} for row in rows)


def _provenance() -> dict[str, str]:
    """The commit of the code and DVC's hash of the pictures, under the names that MLflow's runs get as tags."""
    tags = {}
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    if commit.returncode == 0:
        changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=False)
        tags["mlflow.source.git.commit"] = commit.stdout.strip()
        tags["git.uncommitted_changes"] = str(bool(changed.stdout.strip())).lower()
    for out in locked_stage("clean").get("outs", []):
        if out["path"] == layout.PICTURES.as_posix():
            tags["dvc.pictures_md5"] = out["md5"]
    return tags
