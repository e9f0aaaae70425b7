"""How long `thaw predict` takes, from its start to its end, and how long the network alone needs of that.

    python bench/bench_predict_command.py [data/models/frozen-0]

1, 32 and 1,000 real photos. The network alone is loaded and has all views in memory; processor seconds of the command,
which a busy machine changes least, stand beside those of the clock.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from photos import require_model, require_photos, write_small_images
from thaw.compute.cores import count_cores
from thaw.data.image_zip import ImageZip
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import centre_view, normalise
from thaw.evaluation.predict_files import BATCH_SIZE
from thaw.network.classifier import load_model
from thaw.network.fusion import fuse_for_inference
from thaw.params import FLOAT32

COUNTS = (1, 32, 1000)


def main() -> None:
    """Print the table."""
    require_photos()
    model = require_model()
    with tempfile.TemporaryDirectory() as scratch:
        write_small_images(Path(scratch) / "images.zip", count=max(COUNTS), side_px=512)
        files = unpack(Path(scratch) / "images.zip", Path(scratch) / "images")
        print(f"{count_cores()} cores")
        print("images  command, s  of processor  network alone, s of processor")
        for count in COUNTS:
            wall_s, cpu_s = run_command(model, files[:count])
            print(f"{count:6}  {wall_s:10.1f}  {cpu_s:12.1f}  {run_network(model, files[:count]):29.2f}", flush=True)


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The images of an archive as files."""
    folder.mkdir()
    files = []
    with ImageZip(archive) as images:
        for number, path in enumerate(images.paths):
            files.append(folder / f"{number:04}.jpg")
            files[-1].write_bytes(images.read(path))
    return files


def run_command(model: Path, files: list[Path]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [str(Path(sys.executable).with_name("thaw")), "predict", str(model), "-"]
    subprocess.run(command, input="\n".join(map(str, files)), text=True, check=True, capture_output=True)
    wall_s, after = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def run_network(model: Path, files: list[Path]) -> float:
    """Seconds of the processor for forward passes alone, the first one not counted."""
    saved = load_model(model)
    preprocessing, device = saved.classifier.preprocessing, torch.device("cpu")
    torch.set_num_threads(1)
    forward = fuse_for_inference(saved.classifier, FLOAT32, device)
    views = [centre_view(StoredImage(file.read_bytes(), place=str(file)), preprocessing) for file in files]
    groups = [np.stack(views[start : start + BATCH_SIZE]) for start in range(0, len(views), BATCH_SIZE)]
    with torch.inference_mode():
        forward(normalise(groups[0], preprocessing, device))
        started_s = time.process_time()
        for group in groups:
            forward(normalise(group, preprocessing, device))
    return time.process_time() - started_s


if __name__ == "__main__":
    main()
