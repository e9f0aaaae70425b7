"""Which images are the same one: exactly, or after re-encoding, scaling and the like.

The thresholds were chosen on the 2,012 images of cats_vs_dogs_2002.zip, 500 photos from the web and 5,000 images
of CIFAR-10. With hashes that differ in at most 6 bits they find 11, 3 and 5 pairs, all the same image to the eye (9
had not been planted); no other pair correlates by more than 0.80. At 8 bits comes the first doubtful pair (two white
cars of one model, 0.93), at 10 bits the first wrong one (two cars before white, 0.916). Of copies of photos, 99.7 % or
more are found at JPEG quality 30 to 95, at 50 to 100 % of the size, a little brighter or darker, or in grey (figures in
tests/data/test_duplicates.py). Mirrored copies are not found.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from thaw.data.decode import Pixels

HASH_INPUT_SIDE_PX = 32
"""What an image is shrunk to before its frequencies are computed."""
_COSINES = np.cos(np.pi * np.outer(np.arange(8), np.arange(1, 64, 2)) / 64)
"""Shape (8, 32): the lowest frequencies of the discrete cosine transform (type 2)."""
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""How much red, green and blue count in grey (ITU-R BT.601), as in Pillow."""
THUMBNAIL_SIDE_PX = 16
MIN_CORRELATION = 0.92
"""Of the grey thumbnails of two near duplicates."""
MIN_CONTRAST = 4.0
"""Standard deviation of the thumbnail, in grey levels of 256. Below it an image has nothing that could be compared."""
BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class Fingerprints:
    """What `fingerprint` makes of N images."""

    hashes: NDArray[np.uint64]
    """Shape (N,)."""
    thumbnails: NDArray[np.uint8]
    """Shape (N, 16, 16)."""

    def select(self, indices: Sequence[int] | NDArray[np.intp]) -> Self:
        """Those of some of the images."""
        return replace(self, hashes=self.hashes[indices], thumbnails=self.thumbnails[indices])

    def __add__(self, other: Self) -> Self:
        """Those of these images, and then of others."""
        return replace(
            self,
            hashes=np.concatenate([self.hashes, other.hashes]),
            thumbnails=np.concatenate([self.thumbnails, other.thumbnails]),
        )


def fingerprint(pixels: Pixels) -> tuple[int, NDArray[np.uint8]]:
    """The 64-bit perceptual hash of an image of shape (H, W, 3), and its grey thumbnail, shape (16, 16)."""
    grey = _shrink_to_grey(pixels)
    return _hash_perceptually(grey), _halve(_halve(grey).T).T


def _halve(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Shape (H, W) -> (H, W / 2): the means of pairs of columns, rounded up, as Pillow's BOX filter has them."""
    sums = grey[:, ::2].astype(np.uint16) + grey[:, 1::2]
    return ((sums + 1) >> 1).astype(np.uint8)


def _hash_perceptually(grey: NDArray[np.uint8]) -> int:
    """Shape (32, 32) -> which of its 8 x 8 lowest frequencies are stronger than their median, row by row.

    As imagehash.phash, a tenth of a millisecond faster: only the frequencies that count are computed.
    """
    frequencies = _COSINES @ grey @ _COSINES.T  # (8, 8)
    middle = np.sort(frequencies, axis=None)[31:33].mean()
    return int.from_bytes(np.packbits(frequencies > middle).tobytes())


def _shrink_to_grey(pixels: Pixels) -> NDArray[np.uint8]:
    """Shape (H, W, 3) -> (32, 32): the mean grey of each of 32 x 32 boxes.

    As Pillow's convert("L").resize((32, 32), BOX), but for one rounding at the end instead of three. It takes half the
    time, since it copies nothing as large as the image: first the rows of each box are added up, which numpy does
    faster if it need not convert them at the same time.
    """
    height, width, _ = pixels.shape
    if min(height, width) < HASH_INPUT_SIDE_PX:
        image = Image.fromarray(pixels).convert("L")
        return np.asarray(image.resize((HASH_INPUT_SIDE_PX, HASH_INPUT_SIDE_PX), Image.Resampling.BOX))
    down, across = _divide_into_boxes(height), _divide_into_boxes(width)
    flat = pixels.reshape(height, width * 3)
    # 257 rows of 255 are the most that 16 bits hold; adding up so is twice as fast.
    dtype = np.uint16 if height <= 256 * HASH_INPUT_SIDE_PX else np.uint32
    converted = np.empty((-(-height // HASH_INPUT_SIDE_PX), width * 3), dtype=dtype)
    rows = np.empty((HASH_INPUT_SIDE_PX, width * 3), dtype=dtype)
    for row, (top, bottom) in zip(rows, down.ends, strict=True):
        of_box = converted[: bottom - top]
        of_box[...] = flat[top:bottom]
        np.add.reduce(of_box, axis=0, out=row)
    grey = rows.astype(np.float32).reshape(-1, 3) @ LUMA
    sums = np.add.reduceat(grey.reshape(HASH_INPUT_SIDE_PX, width), across.starts, axis=1)  # (32, 32)
    return np.rint(sums / np.outer(down.sizes, across.sizes)).astype(np.uint8)


class _Boxes(NamedTuple):
    """32 boxes that a side of an image is divided into."""

    ends: tuple[tuple[int, int], ...]
    """Where each begins and ends."""
    starts: NDArray[np.intp]
    """Shape (32,)."""
    sizes: NDArray[np.int64]
    """Shape (32,): how many pixels each has."""


@lru_cache(maxsize=1024)
def _divide_into_boxes(length: int) -> _Boxes:
    """Divide a side of an image; a pixel belongs where its centre lies.

    By side, not by image: photos of a thousand sizes have a few hundred sides.
    """
    edges = [(2 * i * length + HASH_INPUT_SIDE_PX) // (2 * HASH_INPUT_SIDE_PX) for i in range(HASH_INPUT_SIDE_PX + 1)]
    return _Boxes(
        ends=tuple(pairwise(edges)), starts=np.array(edges[:-1], dtype=np.intp), sizes=np.diff(edges).astype(np.int64)
    )


def find_groups(
    pixels_sha256: Sequence[str], fingerprints: Fingerprints, *, max_hamming_distance: int
) -> NDArray[np.intp]:
    """Find the groups of images that are duplicates of one another.

    Exact duplicates have equal `pixels_sha256`. Near duplicates have perceptual hashes that differ in at most
    `max_hamming_distance` bits, and thumbnails that correlate by MIN_CORRELATION or more; an image without contrast has
    no near duplicates, since all plain surfaces would be. Colour is not compared: a grey copy is a duplicate.
    A group holds all that a chain of duplicates links.

    Args:
        pixels_sha256: N hashes of the pixels.
        fingerprints: of the same N images.
        max_hamming_distance: at most so many bits differ.

    Returns:
        Shape (N,): for each image the index of the first image of its group; its own index if it is alone.
    """
    first_of: dict[str, int] = {}
    groups = np.array([first_of.setdefault(sha256, i) for i, sha256 in enumerate(pixels_sha256)], dtype=np.intp)
    # One of each is enough to compare.
    distinct = np.unique(groups)
    for left, right in _near_pairs(fingerprints.select(distinct), max_hamming_distance=max_hamming_distance):
        groups = _join(groups, distinct[left], distinct[right])
    return groups


def _near_pairs(
    fingerprints: Fingerprints, *, max_hamming_distance: int
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield the near duplicates as pairs of arrays of indices, a block of rows at a time so that memory stays flat."""
    thumbnails = fingerprints.thumbnails
    flat = thumbnails.reshape(len(thumbnails), THUMBNAIL_SIDE_PX**2)
    squares = np.einsum("ij,ij->i", flat, flat, dtype=np.float64) / THUMBNAIL_SIDE_PX**2
    comparable = np.flatnonzero(squares - flat.mean(axis=1) ** 2 >= MIN_CONTRAST**2)  # (C,)
    hashes = fingerprints.hashes[comparable]
    for start in range(0, len(comparable), BLOCK):
        block = comparable[start : start + BLOCK]  # (B,)
        close = (
            np.bitwise_count(hashes[start : start + BLOCK, None] ^ hashes[None, start:]) <= max_hamming_distance
        )  # (B, C - start)
        candidates = np.flatnonzero(close.any(axis=0))  # (K,), the block itself and the few others that are close
        others = comparable[start + candidates]
        correlation = _standardise(thumbnails[block]) @ _standardise(thumbnails[others]).T  # (B, K)
        left, right = np.nonzero(close[:, candidates] & (correlation >= MIN_CORRELATION))
        right = candidates[right]
        new = left < right
        if new.any():
            yield comparable[start + left[new]], comparable[start + right[new]]


def _standardise(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Shape (K, 16, 16) -> (K, 256), each row of mean 0 and length 1, so that products of rows are correlations."""
    flat = thumbnails.reshape(len(thumbnails), THUMBNAIL_SIDE_PX**2).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    return flat


def _join(groups: NDArray[np.intp], left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.intp]:
    """The same groups (see `find_groups`) after each of `left` is linked to its partner in `right`."""
    count = len(groups)
    rows, columns = np.concatenate([np.arange(count), left]), np.concatenate([groups, right])
    graph = coo_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    _, first, inverse = np.unique(component, return_index=True, return_inverse=True)
    return first[inverse]
