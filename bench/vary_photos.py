"""Make an archive of as many images as you like from the photos that lie beside the project.

    python bench/vary_photos.py COUNT ARCHIVE.zip

Each photo is taken again and again, cut at random, mirrored every other time, and encoded anew: a set as large as the
real one, with files like the real ones, that never has to be stored. The same COUNT gives the same images.
"""

import argparse
import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from thaw.compute.cores import count_cores
from thaw.data.decode import FORMATS
from thaw.utils.progress import progress

# Here, and not beside the other benchmarks' helpers: those import torch, which would blur what clean needs of memory.
PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "cats_vs_dogs_2002.zip"
CHUNK = 256
"""So many are made ahead: memory stays flat."""


def main() -> None:
    """Write the archive."""
    parser = argparse.ArgumentParser(description="Make a large archive by varying the real photos.")
    parser.add_argument("count", type=int)
    parser.add_argument("archive", type=Path)
    arguments = parser.parse_args()
    with (
        zipfile.ZipFile(arguments.archive, "w") as archive,
        progress("vary", total=arguments.count, unit="files") as bar,
    ):
        for name, data in vary_photos(arguments.count):
            archive.writestr(name, data)
            bar.update()


def vary_photos(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield `count` paths, `PetImages/<class>/<number>.jpg`, and JPEG files."""
    with zipfile.ZipFile(PHOTOS) as archive, ThreadPoolExecutor(count_cores()) as pool:
        photos = {name: archive.read(name) for name in sorted(archive.namelist()) if _is_photo(archive, name)}
        names = list(photos)
        for start in range(0, count, CHUNK):
            numbers = range(start, min(start + CHUNK, count))
            chosen = [names[number % len(names)] for number in numbers]
            files = pool.map(_vary, [photos[name] for name in chosen], numbers)
            for name, number, data in zip(chosen, numbers, files, strict=True):
                yield f"{Path(name).parent.as_posix()}/{number}.jpg", data


def _is_photo(archive: zipfile.ZipFile, name: str) -> bool:
    """Whether this is one of the photos, not one of the planted files, which are numbered from 12,001."""
    stem = Path(name).stem
    return stem.isdecimal() and int(stem) < 12_000 and archive.getinfo(name).file_size > 0


def _vary(photo: bytes, number: int) -> bytes:
    random = np.random.Generator(np.random.Philox(number))
    with Image.open(io.BytesIO(photo), formats=FORMATS) as image:
        share = random.uniform(0.7, 0.95)
        width, height = (round(side * share) for side in image.size)
        left, top = (
            int(random.integers(0, side - part + 1)) for side, part in zip(image.size, (width, height), strict=True)
        )
        varied = image.convert("RGB").crop((left, top, left + width, top + height))
    if number % 2:
        varied = ImageOps.mirror(varied)
    buffer = io.BytesIO()
    varied.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


if __name__ == "__main__":
    main()
