"""An image classifier in MLflow: the code that a logged model brings along. It must not import thaw.

A row of the input is an image: the bytes of an image file (in JSON: base64), or pixels of shape `(H, W, 3)`, uint8. It
is prepared as thaw prepares the images of a data set: turned upright, stored with at most so short a side, decoded no
larger than needed, and cut. A row of the output has the most probable class and the probabilities of all classes.
"""

import io
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
import numpy as np
import onnxruntime
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel
from numpy.typing import NDArray
from PIL import Image, ImageOps

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
LOSSLESS_FORMATS = ("BMP", "GIF", "PNG", "PPM", "TIFF")
BATCH_SIZE = 32
SHRINKS = (8, 4, 2)
"""By these a JPEG's sides can be divided while it is decoded."""


class ImageClassifier(PythonModel):
    """A network in ONNX and what comes before it; the ONNX file's metadata say how images are prepared."""

    def load_context(self, context: Any) -> None:
        """Load the network."""
        self.session = onnxruntime.InferenceSession(context.artifacts["network"], providers=["CPUExecutionProvider"])
        facts = self.session.get_modelmeta().custom_metadata_map
        self.classes: list[str] = json.loads(facts["classes"])
        self.preprocessing: dict[str, Any] = json.loads(facts["preprocessing"])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:  # noqa: ARG002
        """The class and the probabilities of each image; MlflowException names the first one that cannot be read."""
        probabilities = self.predict_probabilities(list(model_input["image"]))
        return pd.DataFrame(
            {
                "class": [self.classes[row.argmax()] for row in probabilities],
                "probability": [float(row.max()) for row in probabilities],
                "probabilities": [dict(zip(self.classes, row.tolist(), strict=True)) for row in probabilities],
            }
        )

    def predict_probabilities(self, images: Sequence[bytes | NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Shape `(images, classes)`."""
        made = [np.zeros((0, len(self.classes)), np.float32)]
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(images), BATCH_SIZE):
                batch = images[start : start + BATCH_SIZE]
                views = np.stack(list(pool.map(self._view, range(start, start + len(batch)), batch)))
                made += self.session.run(["probabilities"], {"views": views})
        return np.concatenate(made).astype(np.float64)

    def _view(self, number: int, image: bytes | NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            stored = _store(image, **self.preprocessing["storage"])
            return _cut(stored, **self.preprocessing["view"])
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise MlflowException.invalid_parameter_value(f"image {number} cannot be read ({error})") from error


def _store(image: bytes | NDArray[np.uint8], *, side_px: int, max_pixels: int) -> Image.Image:
    """The image as thaw's data set would store it, not yet decoded if it is a JPEG."""
    if not isinstance(image, bytes):
        pixels = np.asarray(image)
        if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise ValueError(f"expected uint8 of shape (H, W, 3), got {pixels.dtype} of shape {pixels.shape}")
        return _shrink(Image.fromarray(pixels), side_px=side_px, lossless=True)
    opened = Image.open(io.BytesIO(image), formats=FORMATS)
    if opened.width * opened.height > max_pixels:
        raise ValueError(f"{opened.width} x {opened.height} pixels are above {max_pixels:,}")
    if opened.mode.startswith("I") or opened.mode == "F":
        raise ValueError(f"{opened.mode} has more than 8 bits a sample; convert it to RGB")
    upright = opened.getexif().get(0x0112, 1) not in range(2, 9)
    plain = opened.format in ("JPEG", "PNG") and opened.mode == "RGB" and not opened.has_transparency_data
    if plain and upright and min(opened.size) <= side_px:
        return opened
    turned = ImageOps.exif_transpose(opened)
    if turned.has_transparency_data:
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned.convert("RGBA"))
    return _shrink(turned.convert("RGB"), side_px=side_px, lossless=opened.format in LOSSLESS_FORMATS)


def _shrink(image: Image.Image, *, side_px: int, lossless: bool) -> Image.Image:
    """An image with a short side of at most `side_px`; what was shrunk, or was not lossless, is stored as JPEG."""
    short = min(image.size)
    if short > side_px:
        width, height = (max(1, round(length * side_px / short)) for length in image.size)
        image = image.resize((width, height), Image.Resampling.HAMMING)
    elif lossless:
        return image
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=95, subsampling="4:4:4")
    return Image.open(buffer)


def _cut(image: Image.Image, *, image_size_px: int, resize_px: int, interpolation: str) -> NDArray[np.uint8]:
    """The middle square, shape `(S, S, 3)`."""
    width, height = image.size
    side = min(width, height) * image_size_px / resize_px
    shrink = 1
    if image.format == "JPEG":
        shrink = next((shrink for shrink in SHRINKS if shrink <= side / image_size_px), 1)
        image.draft("RGB", (width // shrink, height // shrink))
    left, top = (width - side) / 2, (height - side) / 2
    box = (left / shrink, top / shrink, (left + side) / shrink, (top + side) / shrink)
    size = (image_size_px, image_size_px)
    return np.asarray(image.resize(size, Image.Resampling[interpolation.upper()], box=box))


mlflow.models.set_model(ImageClassifier())
