"""Duplicates: altered copies are found, other images are not.

Run with `pytest tests/data/test_duplicates.py`. Of copies of 400 photos of cats_vs_dogs_2002.zip were found, at 6 bits
and a correlation of 0.95 (more at 0.92):

    JPEG quality 95, 60, 30: 400 each      10 % brighter, 15 % darker, grey: 400 each
    scaled to 75 %: 400                    30 % brighter, so that much of it is white: 389
    scaled to 50 %: 399                    2 % cropped: 394; 5 % cropped: 274
"""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import imagehash
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from thaw.data.duplicates import Fingerprints, _shrink_to_grey, find_groups, fingerprint

Alteration = Callable[[Image.Image], Image.Image]


def groups_of(
    images: list[Image.Image], *, contents: list[str] | None = None, max_hamming_distance: int = 6
) -> list[int]:
    hashes, thumbnails = zip(*(fingerprint(np.asarray(image)) for image in images), strict=True)
    names = contents or [f"{i:02}" for i in range(len(images))]
    found = find_groups(
        names,
        Fingerprints(hashes=np.array(hashes, np.uint64), thumbnails=np.array(thumbnails, np.uint8)),
        max_hamming_distance=max_hamming_distance,
    )
    return [int(group) for group in found]


def reencode(image: Image.Image, *, quality: int = 85) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scale(image: Image.Image, factor: float) -> Image.Image:
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


ALTERATIONS: dict[str, Alteration] = {
    "quality 95": lambda image: reencode(image, quality=95),
    "quality 30": lambda image: reencode(image, quality=30),
    "three quarters": lambda image: reencode(scale(image, 0.75)),
    "half": lambda image: reencode(scale(image, 0.5)),
    "brighter": lambda image: reencode(ImageEnhance.Brightness(image).enhance(1.1)),
    "darker": lambda image: reencode(ImageEnhance.Brightness(image).enhance(0.85)),
    "grey": lambda image: reencode(image.convert("L").convert("RGB")),
}


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> list[Image.Image]:
    """30 cats and 30 dogs that are all different."""
    with zipfile.ZipFile(shared_data / "cats_vs_dogs_2002.zip") as archive:
        names = [f"PetImages/{label}/{number}.jpg" for label in ("Cat", "Dog") for number in range(300, 330)]
        return [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in names]


@pytest.mark.parametrize("name", ALTERATIONS)
def test_altered_copies_of_photos_are_found_and_nothing_else(name: str, photos: list[Image.Image]) -> None:
    copies = [ALTERATIONS[name](photo) for photo in photos]
    assert groups_of([*photos, *copies]) == [*range(len(photos)), *range(len(photos))]


def test_plain_surfaces_are_duplicates_only_if_their_pixels_are_equal() -> None:
    surfaces = [Image.new("RGB", (40, 30), colour) for colour in ("white", "white", "snow", "black", "red")]
    assert groups_of(surfaces, contents=["a", "a", "b", "c", "d"]) == [0, 0, 2, 3, 4]


def noise(seed: int) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6), dtype=np.uint8)
    return Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).convert("RGB")


def test_a_mirrored_image_is_another_image() -> None:
    assert groups_of([noise(0), noise(0).transpose(Image.Transpose.FLIP_LEFT_RIGHT)]) == [0, 1]


def test_a_chain_of_duplicates_is_one_group() -> None:
    # 0 looks like 1; 1 has the pixels of 3; 3 looks like nothing else here.
    assert groups_of([noise(1), reencode(noise(1)), noise(2), noise(3)], contents=["a", "b", "c", "b"]) == [0, 0, 2, 0]


def test_equal_hashes_alone_do_not_make_duplicates() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    thumbnails[2] = thumbnails[0]
    found = find_groups(
        ["a", "b", "c"],
        Fingerprints(hashes=np.zeros(3, np.uint64), thumbnails=thumbnails),
        max_hamming_distance=6,
    )
    assert found.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("max_hamming_distance", "expected"), [(4, [0, 0]), (3, [0, 1])])
def test_hashes_may_differ_in_so_many_bits(max_hamming_distance: int, expected: list[int]) -> None:
    _, thumbnail = fingerprint(np.asarray(noise(3)))
    hashes = np.array([0b1111 << 60, 0], np.uint64)
    found = find_groups(
        ["a", "b"],
        Fingerprints(hashes=hashes, thumbnails=np.stack([thumbnail] * 2)),
        max_hamming_distance=max_hamming_distance,
    )
    assert found.tolist() == expected


@given(st.lists(st.integers(0, 12), min_size=1, max_size=300))
@settings(max_examples=30, deadline=None)
def test_groups_across_blocks_are_those_of_the_images(kinds: list[int]) -> None:
    """Each kind looks different; whoever has the same kind is in the same group, however far away."""
    prints = [fingerprint(np.asarray(noise(kind))) for kind in range(13)]
    found = find_groups(
        [str(i) for i in range(len(kinds))],
        Fingerprints(
            hashes=np.array([prints[kind][0] for kind in kinds], np.uint64),
            thumbnails=np.array([prints[kind][1] for kind in kinds], np.uint8),
        ),
        max_hamming_distance=0,
    )
    assert found.tolist() == [kinds.index(kind) for kind in kinds]


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (100, 64), (500, 374), (9000, 40), (31, 90), (3, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_boxes_and_hashes_are_those_of_pillow_and_imagehash(size: tuple[int, int], turned: bool) -> None:
    width, height = reversed(size) if turned else size
    pixels = np.asarray(noise(5).resize((width, height)))
    grey = _shrink_to_grey(pixels)
    pillows = np.asarray(Image.fromarray(pixels).convert("L").resize((32, 32), Image.Resampling.BOX), np.int16)
    assert np.abs(grey - pillows).max() <= 1
    assert fingerprint(pixels)[0] == int(str(imagehash.phash(Image.fromarray(grey))), 16)
