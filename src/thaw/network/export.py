"""A saved model -> one file that works without this package: ONNX, torch.export's pt2, or plain weights."""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from thaw.data.decode import Pixels, encode
from thaw.data.image_zip import ImageZip
from thaw.data.stored_image import StoredImage
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.errors import ConfigError, DataError
from thaw.network.backbones import plain_network
from thaw.network.classifier import SavedModel, load_model
from thaw.network.deployable import Deployable, describe_view
from thaw.network.onnx_export import MOST_DIFFERENCE, largest_difference, onnx_model, run_onnx, with_preprocessing
from thaw.network.onnx_graph import describe
from thaw.paths import IMAGES
from thaw.sample.archive import LABELS, draw_image
from thaw.utils.atomic import new_file, partial_path

Format = Literal["onnx", "pt2", "safetensors"]
CHECKED = 8
"""So many images are compared."""
Scores = tuple[Tensor, Tensor]
"""Probabilities and logits of one image, both `(1, classes)`."""


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how far it is from the model."""

    output: Path
    images: str
    """Which images it was checked on."""

    difference: float
    """From the model, on the same pixels: of probabilities, or of logits in units of the largest."""

    difference_of_evaluation: float
    """The same from what evaluation says, which decodes a large JPEG at a fraction of its size."""


def export_model(folder: Path, *, kind: Format, output: Path) -> Exported:
    """Write a saved model in another format, once the file was found to compute what the model does.

    Raises:
        DataError: there is no such model, its network cannot be written so, or the file computes something else.
        ConfigError: `output` cannot be written.
    """
    _require_writable(output)
    saved = load_model(folder)
    where, images = _find_images()
    pixels = [image.pixels() for image in images]
    with new_file(output) as temporary:
        if kind == "onnx":
            model = with_preprocessing(onnx_model(folder), saved.classifier.preprocessing)
            temporary.write_bytes(model.SerializeToString())
            scores = run_onnx(temporary.read_bytes(), [image[None] for image in pixels])
        elif kind == "pt2":
            _write_pt2(temporary, saved, folder)
            scores = _run_pt2(temporary, pixels)
        else:
            _write_weights(temporary, saved, folder)
            scores = _run_weights(temporary, saved, pixels)
        difference = _compare(scores, [_expect(saved, _lossless(image)) for image in pixels])
        if not difference <= MOST_DIFFERENCE:
            raise DataError(
                f"{output} is not written: as {kind}, {folder} differs from the model by {difference:.2g} on {where}, "
                f"where {MOST_DIFFERENCE:g} is let through; write another --format"
            )
    evaluated = _compare(scores, [_expect(saved, image) for image in images])
    return Exported(output=output, images=where, difference=difference, difference_of_evaluation=evaluated)


def _require_writable(output: Path) -> None:
    """Find out by writing, before the work, which takes half a minute."""
    try:
        if not output.parent.is_dir():
            raise ConfigError(f"--output: {output.parent} is no folder; make it, or name another one")
        if output.is_dir():
            raise ConfigError(f"--output: {output} is a folder; name a file in it")
        partial_path(output).touch()
        partial_path(output).unlink()
    except OSError as error:
        raise ConfigError(f"--output: {output} cannot be written ({error.strerror}); name another file") from None


def _find_images() -> tuple[str, list[StoredImage]]:
    """Some of the project's images, or else of the sample, and what they are called."""
    if not IMAGES.is_file():
        drawn = [draw_image(LABELS[index % 2], index, seed=0) for index in range(CHECKED)]
        return f"{CHECKED} drawn images", [_lossless(np.asarray(image)) for image in drawn]
    with ImageZip(IMAGES) as archive:
        paths = archive.paths[:: max(1, len(archive.paths) // CHECKED)][:CHECKED]
        return f"{len(paths)} images of {IMAGES}", [archive.read_image(path) for path in paths]


def _lossless(pixels: Pixels) -> StoredImage:
    """An image that is decoded whole: what comes out of a file's decoder is what goes into the network."""
    return StoredImage(encode(Image.fromarray(pixels), lossless=True), place="an image in memory")


def _expect(saved: SavedModel, image: StoredImage) -> Scores:
    """What the model says of an image, as evaluation asks it."""
    preprocessing = saved.classifier.preprocessing
    views = normalise(centre_view(image, preprocessing)[None].copy(), preprocessing, torch.device("cpu"))
    with torch.inference_mode():
        logits = saved.classifier(views)
        return (logits / saved.card.temperature).softmax(dim=1), logits


def _compare(scores: Sequence[Sequence[NDArray[np.float32]]], expected: Sequence[Scores]) -> float:
    return float(np.max([largest_difference(a, b) for a, b in zip(scores, expected, strict=True)]))


def _facts(saved: SavedModel) -> dict[str, str]:
    return describe(saved.card, view=describe_view(saved.classifier.preprocessing))


def _write_pt2(file: Path, saved: SavedModel, folder: Path) -> None:
    module = Deployable(saved.classifier, temperature=saved.card.temperature).eval()
    dynamic = dict.fromkeys((0, 1, 2), torch.export.Dim.DYNAMIC)
    try:
        program = torch.export.export(
            module, (torch.zeros(2, 50, 60, 3, dtype=torch.uint8),), dynamic_shapes=(dynamic,)
        )
    except Exception as error:  # whatever a network's code leads torch to
        name = saved.card.backbone.name
        raise DataError(f"{folder}: torch.export cannot follow its network, {name}; write --format onnx") from error
    # torch.export wants the suffix.
    named = file.with_suffix(".pt2")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about tensors that are no copies of each other
            torch.export.save(program, named, extra_files=_facts(saved))
        named.replace(file)
    finally:
        named.unlink(missing_ok=True)


def _run_pt2(file: Path, images: Sequence[Pixels]) -> list[list[NDArray[np.float32]]]:
    with file.open("rb") as opened:
        network = torch.export.load(opened).module()
    with torch.inference_mode():
        return [[scores.numpy() for scores in network(torch.from_numpy(image[None].copy()))] for image in images]


def _write_weights(file: Path, saved: SavedModel, folder: Path) -> None:
    try:
        _, names = plain_network(saved.card.backbone, classes=len(saved.card.classes))
    except ConfigError as error:
        raise DataError(f"{folder}: {error}; write --format onnx") from None
    state = {names[name]: tensor.contiguous() for name, tensor in saved.classifier.state_dict().items()}
    card = {"model_card": saved.card.model_dump_json()}
    normalisation = {
        "mean": json.dumps(saved.classifier.preprocessing.mean),
        "std": json.dumps(saved.classifier.preprocessing.std),
    }
    save_file(state, file, metadata=_facts(saved) | normalisation | card)


def _run_weights(file: Path, saved: SavedModel, images: Sequence[Pixels]) -> list[list[NDArray[np.float32]]]:
    """By the library's own network, prepared as the metadata say."""
    network, _ = plain_network(saved.card.backbone, classes=len(saved.card.classes))
    network.load_state_dict(load_file(file))
    preprocessing = saved.classifier.preprocessing
    scores = []
    for image in images:
        views = normalise(centre_view(_lossless(image), preprocessing)[None].copy(), preprocessing, torch.device("cpu"))
        with torch.inference_mode():
            logits = network(views)
            scores.append([(logits / saved.card.temperature).softmax(dim=1).numpy(), logits.numpy()])
    return scores
