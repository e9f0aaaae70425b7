"""A trained model -> predictions on the test split and their metrics: it and `evaluate_corrupted` alone open `test`."""

import copy

import torch

from thaw import paths
from thaw.compute.collectives import process_group, require_same_inputs
from thaw.compute.determinism import make_deterministic
from thaw.compute.device import choose_device
from thaw.compute.memory import keep_freed_memory
from thaw.data.features import LabelledImages, read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits, redraw_val
from thaw.evaluation.metrics_json import Metrics, ScoresOnTest, UncalibratedScores, ValScores, write_metrics
from thaw.evaluation.predict import predict_images, softmax
from thaw.evaluation.predictions_csv import Probabilities, write_predictions
from thaw.evaluation.scores import (
    accuracy,
    expected_calibration_error,
    log_loss,
    recall_by_class,
    score_predictions,
    undo_temperature,
)
from thaw.network.backbone import read_backbone
from thaw.network.classifier import Classifier, backbone_tensors_moved, load_model, module_sha256
from thaw.network.model_card import read_model_card
from thaw.params import FLOAT32, ComputeParams
from thaw.paths import Cell
from thaw.training.checkpoint import run_key
from thaw.utils.ranks import is_main_process


@process_group()
def evaluate_cell(cell: Cell, *, batch_size: int, compute: ComputeParams = FLOAT32) -> None:
    """Predict the test split with a saved model; write its predictions and metrics.

    A backbone that did not move by a bit makes the features that `embed` made, so those are used; a backbone that
    moved sees the images. Whether it moved is found by comparing the saved tensors with the pretrained ones.

    Raises:
        DataError: a file that a stage wrote is missing, or does not fit the others.
        TrainingError: a batch does not fit into the memory.
    """
    make_deterministic(compute)
    keep_freed_memory()
    card = read_model_card(cell.model)
    pretrained = read_backbone(paths.BACKBONE, params=card.backbone)
    saved = load_model(cell.model, backbone=copy.deepcopy(pretrained))
    moved = backbone_tensors_moved(saved.classifier, pretrained)
    if moved > 0:
        saved = load_model(cell.model)  # one that can see images
    classifier, classes, temperature = saved.classifier, card.classes, card.temperature
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    if card.val == "per_seed":
        splits = redraw_val(splits, seed=cell.seed)
    table.require_made_by(name=pretrained.name, backbone_sha256=module_sha256(pretrained.module))
    test = select_split("test", splits=splits, features=table, classes=classes)
    val = select_split("val", splits=splits, features=table, classes=classes)
    with ImageZip(paths.IMAGES) as images:
        fingerprints = [test.fingerprint(), val.fingerprint(), images.fingerprint()]
        facts = {"model": module_sha256(classifier), "data": fingerprints}
        require_same_inputs(run_key(facts, module="evaluation.evaluate"))

        def predict(split: LabelledImages) -> Probabilities:
            if moved == 0:
                return _predict_features(classifier.to(choose_device()), split, temperature=temperature)
            return predict_images(
                classifier,
                lambda index: images.read_image(split.paths[index]),
                count=len(split.paths),
                batch_size=batch_size,
                label="evaluate",
                temperature=temperature,
                compute=compute,
            )

        test_probabilities, val_probabilities = predict(test), predict(val)
    if not is_main_process():
        return
    write_predictions(
        cell.predictions, paths=test.paths, labels=test.labels, probabilities=test_probabilities, classes=classes
    )
    uncalibrated_test, uncalibrated_val = (
        undo_temperature(probabilities, temperature) for probabilities in (test_probabilities, val_probabilities)
    )
    metrics = Metrics(
        test=ScoresOnTest(**score_predictions(test_probabilities, test.labels)),
        recall=dict(zip(classes, recall_by_class(test_probabilities, test.labels).tolist(), strict=True)),
        uncalibrated=UncalibratedScores(
            log_loss=log_loss(uncalibrated_test, test.labels),
            ece=expected_calibration_error(uncalibrated_test, test.labels),
        ),
        val=ValScores(accuracy=accuracy(uncalibrated_val, val.labels), log_loss=log_loss(uncalibrated_val, val.labels)),
        trainable_parameters=card.trainable_parameters,
        backbone_tensors=len(pretrained.module.state_dict()),
        backbone_parameter_tensors=sum(len(block.parameters) for block in pretrained.blocks),
        backbone_tensors_moved=moved,
        best=card.best,
    )
    write_metrics(cell.metrics, metrics)


def _predict_features(model: Classifier, split: LabelledImages, *, temperature: float) -> Probabilities:
    """The class probabilities of a split from its features, shape `(N, C)`."""
    with torch.inference_mode():
        logits = model.head(torch.from_numpy(split.features).to(model.head.weight.device))
        return softmax(logits, temperature=temperature)
