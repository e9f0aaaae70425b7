"""How long `thaw predict` takes from its start to its end, on each runtime, and how long the network alone needs.

    python bench/bench_predict_command.py [data/models/frozen-0]

1, 32 and 1,000 real photos; the best of two rounds, by turns. The network alone, in torch, is loaded and has all views
in memory. Processor seconds, which a busy machine changes least, stand beside those of the clock.
"""

import resource
import shutil
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
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.evaluation.scorer import BATCH_SIZE
from thaw.network.classifier import load_model
from thaw.network.fusion import fuse_for_inference
from thaw.network.onnx_export import onnx_model
from thaw.params import FLOAT32
from thaw.paths import ONNX_GRAPHS

COUNTS, ROUNDS = (1, 32, 1000), 2


def main() -> None:
    """Print the table."""
    require_photos()
    model = require_model()
    onnx_model(model)
    with tempfile.TemporaryDirectory() as scratch:
        without_graph, with_graph = Path(scratch) / "torch", Path(scratch) / "onnxruntime"
        without_graph.mkdir()
        shutil.copytree(ONNX_GRAPHS, with_graph / ONNX_GRAPHS)
        write_small_images(Path(scratch) / "images.zip", count=max(COUNTS), side_px=512)
        files = unpack(Path(scratch) / "images.zip", Path(scratch) / "images")
        print(f"{count_cores()} cores; seconds by the clock, of processor")
        print("images     by torch     by onnxruntime     torch / onnxruntime     network alone")
        for count in COUNTS:
            rounds = [
                (*run_command(model, files[:count], without_graph), *run_command(model, files[:count], with_graph))
                for _ in range(ROUNDS)
            ]
            torch_s, torch_cpu_s, onnx_s, onnx_cpu_s = (min(column) for column in zip(*rounds, strict=True))
            print(
                f"{count:6}  {torch_s:5.1f}  {torch_cpu_s:5.1f}      {onnx_s:5.1f}  {onnx_cpu_s:5.1f}          "
                f"{torch_s / onnx_s:5.2f}  {torch_cpu_s / onnx_cpu_s:5.2f}            "
                f"{run_network(model, files[:count]):6.2f}",
                flush=True,
            )


def unpack(archive: Path, folder: Path) -> list[Path]:
    """The images of an archive as files."""
    folder.mkdir()
    files = []
    with ImageZip(archive) as images:
        for number, path in enumerate(images.paths):
            files.append(folder / f"{number:04}.jpg")
            files[-1].write_bytes(images.read(path))
    return files


def run_command(model: Path, files: list[Path], folder: Path) -> tuple[float, float]:
    """Seconds of the clock and of the processor of a command in a folder that has the model's graph, or has not."""
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [str(Path(sys.executable).with_name("thaw")), "predict", str(model.resolve()), "-"]
    subprocess.run(command, cwd=folder, input="\n".join(map(str, files)), text=True, check=True, capture_output=True)
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
