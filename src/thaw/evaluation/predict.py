"""Pixels -> class probabilities: the one way from images to what a model says of them."""

from collections.abc import Callable

import numpy as np
import torch

from thaw.compute.collectives import all_reduce_rows
from thaw.compute.device import choose_device
from thaw.compute.inference import infer_in_order
from thaw.compute.memory import explain_out_of_memory
from thaw.data.decode import Pixels
from thaw.data.loader import batches
from thaw.data.stored_image import StoredImage
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.evaluation.predictions_csv import Probabilities
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, ComputeParams
from thaw.utils.progress import progress
from thaw.utils.ranks import shard_by_batch


def predict_images(
    model: Classifier,
    read_image: Callable[[int], StoredImage],
    *,
    count: int,
    batch_size: int,
    label: str,
    temperature: float,
    compute: ComputeParams = FLOAT32,
) -> Probabilities:
    """The class probabilities of `count` images, shape `(count, C)`, by the centre view of each.

    The network is folded and runs on the GPU where there is one; `model` is moved there. Of several processes each
    computes some of the batches, and all get all rows.

    Args:
        model: in eval mode.
        read_image: the index of an image -> the image; called from several threads.
        count: how many images there are.
        batch_size: images in one forward pass.
        label: what the progress bar says.
        temperature: of the model's card.
        compute: how the device computes.

    Raises:
        TrainingError: a batch does not fit into the memory.
    """
    score = score_views(model, batch_size=batch_size, temperature=temperature, compute=compute)
    probabilities = np.zeros((count, len(model.classes)))
    order = shard_by_batch(range(count), batch_size=batch_size)

    def view(index: int) -> Pixels:
        return centre_view(read_image(index), model.preprocessing)

    def predict_batch(batch: tuple[list[int], Pixels]) -> tuple[list[int], Probabilities]:
        rows, views = batch
        return rows, score(views)

    guard = explain_out_of_memory(
        f"predicting {batch_size} images at once", remedy="set embed.batch_size, or backbone.image_size_px, to less"
    )
    with guard, progress(label, total=len(order), unit="images") as bar:
        cut = batches(order, view, batch_size=batch_size)
        for rows, predicted in infer_in_order(predict_batch, cut, compute=compute, device=choose_device()):
            probabilities[rows] = predicted
            bar.update(len(rows))
    return all_reduce_rows(probabilities)


def score_views(
    model: Classifier, *, batch_size: int, temperature: float, compute: ComputeParams
) -> Callable[[Pixels], Probabilities]:
    """A function from at most `batch_size` views, shape `(B, S, S, 3)`, to class probabilities, shape `(B, C)`.

    The network is folded and runs on the GPU where there is one; `model` is moved there. Several threads may call it.
    """
    # Here: a head on features needs softmax alone, and neither torchvision nor timm.
    from thaw.network.fusion import fuse_for_inference

    device = choose_device()
    forward = fuse_for_inference(model.to(device), compute, device)

    def score(views: Pixels) -> Probabilities:
        # The network sees batches of one size alone, as in `embed`: one that is smaller is filled up.
        full = np.resize(views, (batch_size, *views.shape[1:]))
        logits = forward(normalise(full, model.preprocessing, device))  # (batch_size, C)
        return softmax(logits, temperature=temperature)[: len(views)]

    return score


def softmax(logits: torch.Tensor, *, temperature: float) -> Probabilities:
    """Logits, shape `(B, C)`, divided by the temperature -> probabilities of the same shape, computed in float64."""
    probabilities: Probabilities = (logits.double() / temperature).softmax(dim=1).cpu().numpy()
    return probabilities
