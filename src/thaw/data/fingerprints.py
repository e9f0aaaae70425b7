"""fingerprints.safetensors: what tells whether an image is a copy of a kept one; the writer beside the reader."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from thaw.data.duplicates import THUMBNAIL_SIDE_PX, Fingerprints
from thaw.utils.atomic import new_file
from thaw.utils.records import open_tensors


def write_fingerprints(path: Path, images: Sequence[str], fingerprints: Fingerprints) -> None:
    """Write one row of bytes an image: its hash and its thumbnail.

    One tensor, since safetensors writes several in an order that differs from run to run.
    """
    hashes = fingerprints.hashes.astype(">u8").view(np.uint8).reshape(-1, 8)
    thumbnails = fingerprints.thumbnails.reshape(-1, THUMBNAIL_SIDE_PX**2)
    with new_file(path) as temporary:
        save_file(
            {"fingerprints": np.hstack([hashes, thumbnails])}, temporary, metadata={"paths": json.dumps(list(images))}
        )


def read_fingerprints(path: Path) -> tuple[list[str], Fingerprints]:
    """The paths of the images, and the fingerprints of these; DataError if the file is missing or damaged."""
    with open_tensors(path, framework="numpy", stage="clean") as file:
        images = json.loads(file.metadata()["paths"])
        rows = file.get_tensor("fingerprints")
    hashes = np.ascontiguousarray(rows[:, :8]).view(">u8")[:, 0].astype(np.uint64)
    thumbnails = rows[:, 8:].reshape(-1, THUMBNAIL_SIDE_PX, THUMBNAIL_SIDE_PX)
    return images, Fingerprints(hashes=hashes, thumbnails=thumbnails)
