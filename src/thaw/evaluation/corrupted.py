"""A trained model -> predictions on the test split under a corruption, at each severity, and their accuracies."""

import dataclasses

import numpy as np

from thaw import paths
from thaw.compute.collectives import process_group, require_same_inputs
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.corruptions import SEVERITIES, SIDE_PX, corrupt
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import centre_view
from thaw.errors import DataError
from thaw.evaluation.corrupted_csv import write_corrupted_predictions
from thaw.evaluation.metrics_json import CorruptedMetrics, write_corrupted_metrics
from thaw.evaluation.predict import predict_images
from thaw.network.classifier import load_model, module_sha256
from thaw.params import FLOAT32, ComputeParams
from thaw.paths import Cell, CorruptedTest
from thaw.training.checkpoint import run_key
from thaw.utils.ranks import is_main_process


@process_group()
def evaluate_cell_corrupted(
    test: CorruptedTest, cell: Cell, *, batch_size: int, compute: ComputeParams = FLOAT32
) -> None:
    """Predict the corrupted test split with a saved model; write its predictions and accuracies.

    The middle square of the stored image is resized to `SIDE_PX`, corrupted, and then looked at as any image is.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
        TrainingError: a batch does not fit into the memory.
    """
    make_deterministic(compute)
    keep_freed_memory()
    saved, splits = load_model(cell.model), read_splits(paths.SPLITS)
    classes = saved.card.classes
    unknown = sorted(set(splits.labels) - set(classes))
    if unknown:
        raise DataError(f"{paths.SPLITS} has the class {unknown[0]!r}, which {cell.model} does not know")
    names, labels = zip(
        *(row[:2] for row in zip(splits.paths, splits.labels, splits.splits, strict=True) if row[2] == "test"),
        strict=True,
    )
    whole = dataclasses.replace(saved.classifier.preprocessing, image_size_px=SIDE_PX, resize_px=SIDE_PX)
    with ImageZip(paths.IMAGES) as images:
        facts = {"model": module_sha256(saved.classifier), "data": [images.fingerprint(), names], "test": test}
        require_same_inputs(run_key(facts, module="evaluation.corrupted"))

        def read_corrupted(index: int) -> StoredImage:
            image, place = divmod(index, len(SEVERITIES))
            square = centre_view(images.read_image(names[image]), whole)
            return StoredImage.from_pixels(corrupt(square, test.corruption, severity=SEVERITIES[place]))

        probabilities = predict_images(
            saved.classifier,
            read_corrupted,
            count=len(names) * len(SEVERITIES),
            batch_size=batch_size,
            label=f"evaluate under {test}",
            temperature=saved.card.temperature,
            compute=compute,
        )
    if not is_main_process():
        return
    predicted = probabilities.argmax(axis=1).reshape(len(names), len(SEVERITIES))
    write_corrupted_predictions(
        test.predictions(cell), paths=names, labels=labels, predicted=predicted, classes=classes
    )
    correct = predicted == np.array([classes.index(label) for label in labels])[:, None]  # (N, 5)
    by_severity = dict(zip(map(str, SEVERITIES), correct.mean(axis=0).tolist(), strict=True))
    write_corrupted_metrics(
        test.metrics(cell), CorruptedMetrics(accuracy=float(correct.mean()), accuracy_by_severity=by_severity)
    )
