"""A trained model -> predictions on the test split and their metrics; the only stage that opens `test`."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from thaw import layout
from thaw.atomic import new_file, write_json
from thaw.backbones import build_backbone
from thaw.checkpoint import run_key
from thaw.collectives import joined, merge_rows, require_same_inputs
from thaw.dataset import LabelledPictures, read_assignment
from thaw.device import choose_device, keep_freed_memory, make_deterministic, memory_explained
from thaw.embed import read_features
from thaw.feed import picture_batches
from thaw.images import PicturesFile
from thaw.inference import prepare_inference
from thaw.layout import Cell
from thaw.metrics import score_predictions
from thaw.model import Classifier, backbone_tensors_moved, load_model, module_sha256
from thaw.params import FLOAT32, BackboneParams, ComputeParams
from thaw.processes import deal_batches, is_first
from thaw.progress import progress

Probabilities = NDArray[np.float64]


@joined()
def evaluate_cell(cell: Cell, *, batch_size: int, compute: ComputeParams = FLOAT32) -> None:
    """Predict the test split with a saved model; write its predictions and metrics.

    A backbone that did not move by a bit makes the features that `embed` made, so those are used; a backbone that
    moved sees the pictures. Whether it moved is found by comparing the saved tensors with the pretrained ones.
    """
    make_deterministic()
    keep_freed_memory()
    saved = load_model(cell.model)
    pretrained = build_backbone(BackboneParams.model_validate(saved.facts["backbone"]))
    moved = backbone_tensors_moved(saved.classifier, pretrained)
    assignment, table = read_assignment(layout.SPLITS), read_features(layout.FEATURES)
    classes = saved.classifier.classes
    table.require_made_by(pretrained)
    test = assignment.select("test", features=table, classes=classes)
    val = assignment.select("val", features=table, classes=classes)
    guard = memory_explained(
        f"predicting {batch_size} pictures at once", remedy="set embed.batch_size, or backbone.image_size_px, to less"
    )
    with PicturesFile(layout.PICTURES) as archive, guard:
        fingerprints = [test.fingerprint(), val.fingerprint(), archive.fingerprint()]
        require_same_inputs(run_key({"model": module_sha256(saved.classifier), "data": fingerprints}))
        classifier = saved.classifier.to(choose_device())
        if moved == 0:
            probabilities, val_probabilities = (_predict_features(classifier, split) for split in (test, val))
        else:
            forward = prepare_inference(classifier, compute, choose_device())
            probabilities, val_probabilities = (
                _predict_pictures(classifier, forward, split, archive, batch_size=batch_size) for split in (test, val)
            )
    if not is_first():
        return
    _write_predictions(cell.predictions, test, probabilities, classes=classes)
    scores = score_predictions(val_probabilities, val.labels)
    write_json(
        cell.metrics,
        {
            "test": score_predictions(probabilities, test.labels),
            "val": {"accuracy": scores["accuracy"], "log_loss": scores["log_loss"]},
            "trainable_parameters": saved.facts["trainable_parameters"],
            "backbone_tensors": len(pretrained.module.state_dict()),
            "backbone_tensors_moved": moved,
            "best": saved.facts["best"],
        },
    )


def _predict_features(classifier: Classifier, split: LabelledPictures) -> Probabilities:
    """Class probabilities of a split from its features, shape `(N, classes)`."""
    device = classifier.head.weight.device
    with torch.inference_mode():
        logits = classifier.head(torch.from_numpy(split.features).to(device))
        return _softmax(logits)


def _predict_pictures(
    classifier: Classifier,
    forward: Callable[[torch.Tensor], torch.Tensor],
    split: LabelledPictures,
    archive: PicturesFile,
    *,
    batch_size: int,
) -> Probabilities:
    """Class probabilities of a split from its pictures, shape `(N, classes)`; `forward` is a faster `classifier`."""
    probabilities = np.zeros((len(split.paths), len(classifier.classes)))
    order = deal_batches(range(len(split.paths)), batch_size=batch_size)
    done = 0
    with torch.inference_mode(), progress("evaluate", total=len(order), unit="pictures") as bar:
        for inputs, labels in picture_batches(classifier, split, archive, order=order, batch_size=batch_size):
            # Batches of one size alone, the last one filled up, as in `embed`.
            full = inputs[torch.arange(batch_size, device=inputs.device) % len(inputs)]
            probabilities[order[done : done + len(labels)]] = _softmax(forward(full))[: len(labels)]
            done += len(labels)
            bar.update(len(labels))
    return merge_rows(probabilities)


def _softmax(logits: torch.Tensor) -> Probabilities:
    probabilities: Probabilities = logits.double().softmax(dim=1).cpu().numpy()
    return probabilities


def _write_predictions(
    path: Path, split: LabelledPictures, probabilities: Probabilities, *, classes: tuple[str, ...]
) -> None:
    header = ["path", "label", "predicted", *(f"p_{name}" for name in classes)]
    with new_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        for name, label, row in zip(split.paths, split.labels, probabilities, strict=True):
            writer.writerow([name, classes[label], classes[row.argmax()], *(f"{p:.9g}" for p in row)])
