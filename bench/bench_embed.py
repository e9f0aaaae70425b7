"""How fast the frozen backbone is: each step of `embed` by itself, and OpenVINO on as many threads.

    python bench/bench_embed.py [--network-alone]

EfficientNet-Lite0 at 224 px on real photos that lie decoded in memory; then the whole of `embed`, which reads and
decodes them too, and the same with OpenVINO in the backbone's place. Each row is a process of its own, since memory
that was kept cannot be given back. OpenVINO: pip install -r bench/requirements.txt; without it, its rows are missing.

Then, and with --network-alone nothing else, whether `embed` waits for images: real photos as they were cleaned, at 96
and 224 px, one thread for the network and one to decode, against the network alone on tensors in memory. The last
column compares processor seconds: what is left where no core is to spare.
"""

import argparse
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from photos import (
    LITE0_AT_224_PX,
    clean_and_split,
    compare_with_network_alone,
    require_photos,
    seconds,
    share_cores,
    write_small_images,
)
from thaw.compute.cores import count_cores
from thaw.compute.determinism import make_deterministic
from thaw.compute.inference import infer_in_order
from thaw.compute.memory import keep_freed_memory
from thaw.data.decode import Pixels
from thaw.data.image_zip import ImageZip
from thaw.data.loader import batches
from thaw.data.tensors import normalise
from thaw.data.transforms import centre_view
from thaw.network.backbones import build_backbone
from thaw.network.fusion import fold_batch_norm, fuse_for_inference
from thaw.params import FLOAT32, ComputeParams
from thaw.training.infer_views import infer_views

CPU = torch.device("cpu")
IMAGES, BATCH_SIZE, ROUNDS, TURNS = 64, 32, 6, 2
BACKBONE = build_backbone(LITE0_AT_224_PX)


def settle() -> None:
    """Compute as the stages do."""
    make_deterministic(ComputeParams(threads=count_cores()))
    keep_freed_memory()


def as_it_comes() -> Callable[[Tensor], Tensor]:
    """Eager torch with the layout that networks are built with."""
    module = BACKBONE.module.to(memory_format=torch.contiguous_format)
    return lambda images: module(images.contiguous())


def channels_last() -> Callable[[Tensor], Tensor]:
    """Eager torch, colours of a pixel beside each other."""
    return BACKBONE.module


def kept_memory() -> Callable[[Tensor], Tensor]:
    """And freed memory stays with the process."""
    settle()
    return BACKBONE.module


def folded() -> Callable[[Tensor], Tensor]:
    """And BatchNorm is folded."""
    settle()
    return fold_batch_norm(BACKBONE.module).to(memory_format=torch.channels_last)


def fused() -> Callable[[Tensor], Tensor]:
    """And activations are fused: what `embed` does."""
    settle()
    return fuse_for_inference(BACKBONE.module, FLOAT32, CPU)


def compiled() -> Callable[[Tensor], Tensor]:
    """What `embed` does with compute.compile; compiling is not counted."""
    settle()
    return fuse_for_inference(BACKBONE.module, ComputeParams(compile=True), CPU)


def openvino() -> Callable[[Tensor], Tensor]:
    """OpenVINO at its fastest with float32."""
    import openvino

    converted = openvino.convert_model(BACKBONE.module, example_input=torch.zeros(2, 3, 224, 224))
    # It takes the images as they lie in memory, channels last.
    prepared = openvino.preprocess.PrePostProcessor(converted)
    prepared.input().tensor().set_layout(openvino.Layout("NHWC"))
    prepared.input().model().set_layout(openvino.Layout("NCHW"))
    options = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    model = openvino.compile_model(prepared.build(), "CPU", options)
    return lambda images: torch.from_numpy(model(images.permute(0, 2, 3, 1).numpy())[0])


STEPS = {
    "OpenVINO": openvino,
    "eager, as it comes": as_it_comes,
    "eager, channels last": channels_last,
    "+ freed memory kept": kept_memory,
    "+ BatchNorm folded": folded,
    "+ activations fused (= embed)": fused,
    "embed with compute.compile": compiled,
}
"""In the order of the table; after OpenVINO, each adds to the one before, up to `embed`."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure embed.")
    parser.add_argument("--measure", nargs=2, metavar=("STEP", "ARCHIVE"), help=argparse.SUPPRESS)
    parser.add_argument("--network-alone", action="store_true", help="compare embed with the network alone, no more")
    arguments = parser.parse_args()
    if arguments.measure:
        step, archive = arguments.measure
        print(*measure(STEPS[step](), Path(archive)))
        return
    require_photos()
    if not arguments.network_alone:
        report_steps()
    report_network_alone()


def report_steps() -> None:
    """Print the table of what each step brings."""
    steps = list(STEPS)
    if importlib.util.find_spec("openvino") is None:
        print("bench_embed: OpenVINO is missing; pip install -r bench/requirements.txt")
        steps.remove("OpenVINO")
    with tempfile.TemporaryDirectory() as scratch:
        images = Path(scratch) / "images.zip"
        write_small_images(images, count=IMAGES, side_px=256)
        # In turns, so that a busy machine slows all.
        turns = [{step: measure_apart(step, images) for step in steps} for _ in range(TURNS)]
    best = {step: [max(speeds) for speeds in zip(*(turn[step] for turn in turns), strict=True)] for step in steps}
    reference = best.get("OpenVINO", [float("nan"), float("nan")])
    print(f"{'EfficientNet-Lite0, 224 px':30} {'images/s':>10} {'x OpenVINO':>11}", end="")
    print(f" {'with decoding':>14} {'x OpenVINO':>11}")
    for step, speeds in best.items():
        cells = (f"{speed:10.1f} {speed / other:11.2f}" for speed, other in zip(speeds, reference, strict=True))
        print(f"{step:30}", "    ".join(cells))


def report_network_alone() -> None:
    """Print how much of the network's speed is left where images are fetched and cut."""
    share_cores()
    make_deterministic()
    keep_freed_memory()
    print(f"{'embed, EfficientNet-Lite0':30} {'views/s':>10} {'in memory':>10} {'ratio':>6} {'no spare core':>14}")
    with tempfile.TemporaryDirectory() as scratch, ImageZip(clean_and_split(Path(scratch))[0]) as archive:
        for size_px, views, count in ((96, 1, 320), (96, 4, 160), (224, 1, 64), (224, 4, 32)):
            paths = archive.paths[:: len(archive.paths) // count][:count]
            whole_s, alone_s, ratio, no_spare = compare_embed(archive, paths, size_px=size_px, views=views)
            speeds = f"{count * views / whole_s:10.1f} {count * views / alone_s:10.1f}"
            print(f"{f'{size_px} px, views: {views}':30} {speeds} {ratio:6.2f} {no_spare:14.2f}", flush=True)


def compare_embed(archive: ImageZip, paths: Sequence[str], *, size_px: int, views: int) -> list[float]:
    """`embed` of images that lie in an archive, and of the same views in memory: see `compare_with_network_alone`."""
    backbone = build_backbone(LITE0_AT_224_PX.model_copy(update={"image_size_px": size_px}))
    forward = fuse_for_inference(backbone.module, FLOAT32, CPU)

    def embed(function: Callable[[Tensor], Tensor]) -> list[NDArray[np.float32]]:
        made = infer_views(
            function,
            archive,
            paths,
            preprocessing=backbone.preprocessing,
            views=views,
            batch_size=BATCH_SIZE,
            compute=FLOAT32,
            device=CPU,
        )
        return list(made)

    ready = [torch.from_numpy(made.reshape(-1, *made.shape[2:])) for made in embed(lambda images: images)]
    ready = [batch.contiguous(memory_format=torch.channels_last) for batch in ready]
    return compare_with_network_alone(
        lambda: embed(forward),
        lambda: list(infer_in_order(forward, ready, compute=FLOAT32, device=CPU)),
        rounds=ROUNDS // 2,
    )


def measure_apart(step: str, images: Path) -> tuple[float, float]:
    """Measure a step in a process of its own."""
    command = [sys.executable, __file__, "--measure", step, str(images)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    in_memory, decoding = printed.split()
    return float(in_memory), float(decoding)


def measure(forward: Callable[[Tensor], Tensor], images: Path) -> tuple[float, float]:
    """Images per second: of the fastest batch in memory, and of the fastest round of reading and decoding too."""
    with ImageZip(images) as archive, torch.inference_mode():
        paths = archive.paths[:IMAGES]

        def view(index: int) -> Pixels:
            return centre_view(archive.read_image(paths[index]), BACKBONE.preprocessing)

        def read() -> Iterator[Tensor]:
            for _, views in batches(range(len(paths)), view, batch_size=BATCH_SIZE):
                yield normalise(views, BACKBONE.preprocessing, CPU)

        ready = list(read())
        forward(ready[0])
        batch_s = min(seconds(partial(forward, batch)) for _ in range(ROUNDS) for batch in ready)
        decoding_s = min(seconds(lambda: [forward(batch) for batch in read()]) for _ in range(ROUNDS // 2))
    return BATCH_SIZE / batch_s, len(paths) / decoding_s


if __name__ == "__main__":
    main()
