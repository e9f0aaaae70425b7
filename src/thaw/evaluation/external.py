"""A trained model -> predictions on an external test set, which was cleaned before, and their metrics."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from thaw.compute.collectives import process_group, require_same_inputs
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.image_zip import ImageZip
from thaw.data.manifest import Row, read_manifest
from thaw.errors import DataError
from thaw.evaluation.metrics_json import ExternalMetrics, ScoresOnTest, write_external_metrics
from thaw.evaluation.predict import predict_images
from thaw.evaluation.predictions_csv import Probabilities, write_predictions
from thaw.evaluation.scores import score_predictions
from thaw.network.classifier import SavedModel, load_model, module_sha256
from thaw.params import FLOAT32, ComputeParams
from thaw.paths import Cell, ExternalSet
from thaw.training.checkpoint import run_key
from thaw.utils.ranks import is_main_process


@process_group()
def evaluate_cell_on(external: ExternalSet, cell: Cell, *, batch_size: int, compute: ComputeParams = FLOAT32) -> None:
    """Predict an external test set, cleaned before, with a saved model; write its predictions and metrics.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
        TrainingError: a batch does not fit into the memory.
    """
    make_deterministic(compute)
    keep_freed_memory()
    saved = load_model(cell.model)
    classes, rows = saved.card.classes, read_kept(external.manifest)
    unknown = sorted({row.label for row in rows} - set(classes))
    if unknown:
        raise DataError(
            f"{external.manifest} has the class {unknown[0]!r}, which {cell.model} does not know; run `dvc repro`"
        )
    labels = np.array([classes.index(row.label) for row in rows])
    with ImageZip(external.images) as images:
        facts = {"model": module_sha256(saved.classifier), "data": images.fingerprint()}
        require_same_inputs(run_key(facts, module="evaluation.external"))
        probabilities = predict_rows(
            saved, images, rows, batch_size=batch_size, compute=compute, label=f"evaluate on {external}"
        )
    if not is_main_process():
        return
    write_predictions(
        external.predictions(cell),
        paths=[row.path for row in rows],
        labels=labels,
        probabilities=probabilities,
        classes=classes,
    )
    scores = ScoresOnTest(**score_predictions(probabilities, labels))
    write_external_metrics(external.metrics(cell), ExternalMetrics(external=scores))


def read_kept(manifest: Path) -> list[Row]:
    """The rows of the images that a manifest keeps."""
    return [row for row in read_manifest(manifest) if row.kept]


def predict_rows(
    model: SavedModel,
    images: ImageZip,
    rows: Sequence[Row],
    *,
    batch_size: int,
    compute: ComputeParams,
    label: str,
) -> Probabilities:
    """The class probabilities of the images of some rows of a manifest, shape `(N, C)`."""
    return predict_images(
        model.classifier,
        lambda index: images.read_image(rows[index].path),
        count=len(rows),
        batch_size=batch_size,
        label=label,
        temperature=model.card.temperature,
        compute=compute,
    )
