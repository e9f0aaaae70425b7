"""How fast clean and unzip are, and whether clean's memory grows with the number of images.

    python bench/bench_clean.py [ARCHIVE]

Every figure is a ratio of things measured one after the other in this run, or a peak memory. ARCHIVE is a ZIP file of
labelled images; without one, the photos that lie beside the project. Where there are none, it says so and ends.
"""

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from PIL import Image

from thaw.compute.cores import count_cores
from thaw.compute.memory import process_peak_mib
from thaw.data.clean import _hash_pixels, _inspect, clean_images
from thaw.data.decode import UndecodableError, decode_image
from thaw.data.duplicates import fingerprint
from thaw.data.image_zip import encode_for_storage
from thaw.ingest.folder_files import list_files
from thaw.ingest.unpack import Unpacked, unpack_archive
from thaw.params_file import load_params
from vary_photos import PHOTOS, vary_photos

Result = TypeVar("Result")
ROOT = Path(__file__).resolve().parent.parent
FEW, MANY = 2_000, 20_000
PARAMS = load_params(ROOT / "params.yaml")


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description="Measure clean and unzip.")
    parser.add_argument("archive", nargs="?", type=Path, default=PHOTOS)
    parser.add_argument("--clean-and-print-peak", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.clean_and_print_peak:
        print_peak_of_clean(arguments.clean_and_print_peak)
        return
    if not arguments.archive.is_file():
        print(f"bench_clean: skipped, since there is no archive {arguments.archive}")
        return
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        folder = scratch / "images"
        report_unzip(arguments.archive, folder, scratch)
        report_speed(folder, scratch)
        report_parts(folder)
        if not PHOTOS.is_file():
            print(f"bench_clean: memory skipped, since there is no archive {PHOTOS} to vary")
            return
        report_memory(scratch)


def report_unzip(archive: Path, folder: Path, scratch: Path) -> None:
    """Unpack the archive with our checks, and with the system's unzip."""
    ours_s = seconds(lambda: unpack_archive(archive, folder, limits=PARAMS.unzip))
    if shutil.which("unzip") is None:
        print(f"unzip: {ours_s:.2f} s; there is no system unzip to compare with")
        return
    system_s = seconds(lambda: subprocess.run(["unzip", "-q", archive, "-d", scratch / "system"], check=True))
    print(f"unzip: {ours_s:.2f} s, {ours_s / system_s:.2f} x the time of the system's unzip")


def report_speed(folder: Path, scratch: Path) -> None:
    """Clean all files with all cores; decode the same files with Pillow on one core, and do nothing else."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    start_cpu_s = time.process_time()
    decode_s = seconds(lambda: decode_with_pillow(files))
    decoded_cpu_s = time.process_time()
    clean_s = seconds(lambda: clean(folder, scratch))
    cpu_ratio = (decoded_cpu_s - start_cpu_s) / (time.process_time() - decoded_cpu_s)
    cores = count_cores()
    print(
        f"clean: {len(files) / clean_s:,.0f} images/s, {decode_s / cores / clean_s:.2f} x "
        f"({len(files) / decode_s:,.0f} images/s decoded by Pillow alone on one core x {cores} cores)"
    )
    print(
        f"clean: Pillow's decoding takes {cpu_ratio:.2f} x the processor time of clean (also right on a busy machine)"
    )


def report_parts(folder: Path) -> None:
    """Say what each part of looking at an image takes, on one core, beside what Pillow's decoding of it takes."""
    files = Unpacked(folder=folder, name=str(folder))
    took: defaultdict[str, float] = defaultdict(float)

    def timed(part: str, function: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = function()
        took[part] += time.process_time() - start
        return result

    for path in list_files(folder):
        data = timed("reading the file", (folder / path).read_bytes)
        # In turns, so that a busy machine slows all parts.
        timed("Pillow", partial(decode_with_pillow, [folder / path]))
        timed("SHA-256 of the file", partial(hashlib.sha256, data))
        try:
            image = timed("decoding", partial(decode_image, data, max_pixels=PARAMS.clean.max_pixels))
        except UndecodableError:
            continue
        timed("SHA-256 of the pixels", partial(_hash_pixels, image.pixels))
        timed("perceptual hash", partial(fingerprint, image.pixels))
        timed("encoding", partial(encode_for_storage, image, data, side_px=PARAMS.clean.side_px))
        timed("all", partial(_inspect, files, path, PARAMS.clean, store=True))
    pillow, whole = took.pop("Pillow"), took.pop("all")
    took["the rest"] = whole - sum(took.values())
    print(f"clean: one look takes {whole / pillow:.2f} x Pillow's decoding on one core:")
    for part, cpu_s in sorted(took.items(), key=lambda item: -item[1]):
        print(f"  {cpu_s / pillow:5.2f} x  {part}")


def report_memory(scratch: Path) -> None:
    """Clean few images and many, each in a process of its own."""
    peaks_mib = []
    for count in (FEW, MANY):
        many = scratch / f"{count}"
        for name, data in vary_photos(count):
            (many / name).parent.mkdir(parents=True, exist_ok=True)
            (many / name).write_bytes(data)
        command = [sys.executable, __file__, "--clean-and-print-peak", str(many)]
        peaks_mib.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
        shutil.rmtree(many)
    few, many_mib = peaks_mib
    print(
        f"clean: peak memory {few:.0f} MiB at {FEW:,} images, {many_mib:.0f} MiB at {MANY:,} ({many_mib / few:.2f} x)"
    )


def print_peak_of_clean(folder: Path) -> None:
    """Clean a folder, and print the most memory that this process ever held, in MiB."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        clean(folder, Path(scratch))
    print(process_peak_mib())


def clean(folder: Path, scratch: Path) -> None:
    """Clean a folder as the stage does."""
    clean_images(
        Unpacked(folder=folder, name=str(folder)),
        params=PARAMS.clean,
        manifest=scratch / "manifest.csv",
        images=scratch / "images.zip",
        dropped=scratch / "dropped.zip",
    )


def decode_with_pillow(paths: list[Path]) -> None:
    """Decode each file to RGB on one core: the least that looking at images takes."""
    for path in paths:
        # The planted files do not decode.
        with suppress(OSError), Image.open(io.BytesIO(path.read_bytes())) as image:
            image.convert("RGB")


def seconds(function: Callable[[], object]) -> float:
    """How long a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
