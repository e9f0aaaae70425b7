"""The bundled sample: cats and dogs that thaw draws itself, packed like Microsoft's real archive.

Ordinary images are `PetImages/Cat/0.jpg`, `PetImages/Dog/0.jpg` and so on. Files with ids from 12000 are planted:
they have the faults and oddities of images from the web, `PLANTED` lists them one by one, and cleaning has to find
them.

An image depends on its class, its index and the seed alone: adding images leaves the others as they are. Drawing is
plain arithmetic (see brush.py) on draws from PCG64, so one version of Pillow draws the same pixels everywhere, and the
archive has the same bytes wherever Pillow carries the same JPEG encoder and zlib, as its wheels do.
"""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

import numpy as np
from numpy.random import Generator
from PIL import Image

from thaw.params import SampleParams
from thaw.sample.animals import CAT, DOG, draw_animal
from thaw.sample.brush import between
from thaw.sample.scenes import draw_background, draw_foreground, photograph
from thaw.utils.atomic import new_file
from thaw.utils.progress import progress
from thaw.utils.zips import add_stored

Label = Literal["Cat", "Dog"]
LABELS: tuple[Label, ...] = get_args(Label)
Fault = Literal[
    "empty", "html", "truncated", "png", "greyscale", "exif_rotated",
    "exact_duplicate", "wrong_label", "other_quality", "other_size",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Planted:
    """One planted file, and what is the matter with it."""

    name: str
    """Relative to PetImages."""
    fault: Fault
    original: str | None = None
    """The ordinary image that it repeats, relative to PetImages."""


PLANTED = (
    Planted(name="Cat/12001.jpg", fault="empty"),
    Planted(name="Dog/12001.jpg", fault="empty"),
    Planted(name="Cat/12002.jpg", fault="html"),
    Planted(name="Cat/12003.jpg", fault="truncated"),
    Planted(name="Dog/12003.jpg", fault="truncated"),
    Planted(name="Cat/12101.jpg", fault="png"),
    Planted(name="Dog/12101.jpg", fault="greyscale"),
    Planted(name="Dog/12102.jpg", fault="exif_rotated"),
    Planted(name="Cat/12201.jpg", fault="exact_duplicate", original="Cat/5.jpg"),
    Planted(name="Dog/12201.jpg", fault="exact_duplicate", original="Dog/1.jpg"),
    Planted(name="Dog/12202.jpg", fault="wrong_label", original="Cat/1.jpg"),
    Planted(name="Cat/12203.jpg", fault="other_quality", original="Cat/2.jpg"),
    Planted(name="Dog/12203.jpg", fault="other_quality", original="Dog/2.jpg"),
    Planted(name="Cat/12204.jpg", fault="other_size", original="Cat/3.jpg"),
    Planted(name="Dog/12204.jpg", fault="other_size", original="Dog/3.jpg"),
)
"""Undecodable: `empty`, `html` (a page named .jpg), `truncated` (a JPEG cut at half). Sound but odd: `png` (inside a
.jpg), `greyscale`, `exif_rotated` (stored lying, orientation 6). Same bytes: `exact_duplicate`, and `wrong_label` under
the other class. Near duplicates: `other_quality` (encoded again at JPEG quality 40) and `other_size` (three quarters of
the size)."""
NOTE = (
    "These pictures of cats and dogs are drawings that the project thaw made with its own code.\n"
    "They stand in for Microsoft's Cats vs Dogs data set, whose archive has the same layout; none is a photograph.\n"
    "Files with ids from 12000 are planted faults and oddities, listed in thaw.sample.PLANTED.\n"
)
PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>No picture here.</body></html>\n"
ORIENTATION_TAG = 0x0112


def draw_archive(path: Path, *, params: SampleParams) -> None:
    """Draw the sample and pack it, uncompressed, as a zip file at `path`: whole or not at all."""
    files = dict(_draw_files(params))
    docx = io.BytesIO()
    _write_zip(docx, _docx_parts(NOTE))
    files["MSR-LA - 3467.docx"] = docx.getvalue()
    files["readme[1].txt"] = NOTE.encode()
    for label in LABELS:
        files[f"PetImages/{label}/Thumbs.db"] = (
            b"thaw drew this sample; Windows leaves its thumbnails under this name\n"
        )
    with new_file(path) as temporary, temporary.open("wb") as file:
        _write_zip(file, files)


def draw_image(label: Label, index: int, *, seed: int) -> Image.Image:
    """Draw one image: RGB, each side from 160 to 299 pixels, as it is before JPEG."""
    rng = np.random.Generator(np.random.PCG64([seed, LABELS.index(label), index]))
    size = 2 * int(between(rng, 160, 300)), 2 * int(between(rng, 160, 300))
    light = between(rng, -1, 1), between(rng, -1, 0.3)
    canvas = draw_background(size, rng, light)
    draw_animal(canvas, {"Cat": CAT, "Dog": DOG}[label], rng, light)
    draw_foreground(canvas, rng, light)
    return photograph(canvas, rng)


def _draw_files(params: SampleParams) -> Iterator[tuple[str, bytes]]:
    """Every image and every planted file: its path in the archive and its bytes."""
    total = len(LABELS) * params.images_per_class + len(PLANTED)
    with progress("draw sample", total=total, unit="images") as bar:
        for label in LABELS:
            for index in range(params.images_per_class):
                yield f"PetImages/{label}/{index}.jpg", _draw_jpeg(label, index, params.seed)
                bar.update()
        for planted in PLANTED:
            yield f"PetImages/{planted.name}", _draw_planted(planted, params.seed)
            bar.update()


def _draw_jpeg(label: Label, index: int, seed: int) -> bytes:
    quality: Generator = np.random.Generator(np.random.PCG64([seed, LABELS.index(label), index, 1]))
    return _encode(draw_image(label, index, seed=seed), quality=int(between(quality, 55, 92)))


def _draw_planted(planted: Planted, seed: int) -> bytes:
    label, index = _parse_name(planted.original or planted.name)
    match planted.fault:
        case "empty":
            return b""
        case "html":
            return PAGE
        case "truncated":
            whole = _draw_jpeg(label, index, seed)
            return whole[: len(whole) // 2]
        case "png":
            return _encode(draw_image(label, index, seed=seed), kind="PNG")
        case "greyscale":
            return _encode(draw_image(label, index, seed=seed).convert("L"))
        case "exif_rotated":
            exif = Image.Exif()
            exif[ORIENTATION_TAG] = 6  # to be shown turned by a quarter, clockwise
            lying = draw_image(label, index, seed=seed).transpose(Image.Transpose.ROTATE_90)
            return _encode(lying, exif=exif)
        case "exact_duplicate" | "wrong_label":
            return _draw_jpeg(label, index, seed)
        case "other_quality":
            return _encode(_decode(_draw_jpeg(label, index, seed)), quality=40)
        case "other_size":
            image = _decode(_draw_jpeg(label, index, seed))
            return _encode(image.resize((image.width * 3 // 4, image.height * 3 // 4)))


def _parse_name(name: str) -> tuple[Label, int]:
    """`Cat/5.jpg` -> `("Cat", 5)`."""
    folder, file = name.split("/")
    return next(label for label in LABELS if label == folder), int(file.removesuffix(".jpg"))


def _encode(image: Image.Image, *, kind: str = "JPEG", quality: int = 85, exif: Image.Exif | None = None) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, quality=quality, exif=exif or Image.Exif())
    return stream.getvalue()


def _decode(jpeg: bytes) -> Image.Image:
    return Image.open(io.BytesIO(jpeg))


def _docx_parts(text: str) -> dict[str, bytes]:
    """The least that a word processor opens."""
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    package, word = (
        "http://schemas.openxmlformats.org/package/2006",
        "http://schemas.openxmlformats.org/officeDocument/2006",
    )
    main = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    relations = "application/vnd.openxmlformats-package.relationships+xml"
    space = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    paragraphs = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in text.splitlines())
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types">'
        f'<Default Extension="rels" ContentType="{relations}"/>'
        f'<Override PartName="/word/document.xml" ContentType="{main}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
        f'Type="{word}/relationships/officeDocument" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{space}"><w:body>{paragraphs}</w:body></w:document>',
    }
    return {name: (head + xml).encode() for name, xml in parts.items()}


def _write_zip(stream: IO[bytes], files: dict[str, bytes]) -> None:
    """Pack files in order of their names, stored, with one fixed time and one set of permissions."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(files.items()):
            add_stored(archive, name, content, mode=0o100644)
