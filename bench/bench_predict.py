"""How fast a saved model says what images show: ONNX against the folded network in torch.

    python bench/bench_predict.py [data/models/frozen-0]

Views that lie in memory, 1, 32 and 1,000 of them, in batches of 32; both on one thread, by turns, and the best of three
rounds. Then the exported graph with the resize inside, for one image of 500 x 375. Seconds are the processor's, which a
busy machine changes least.
"""

import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from photos import require_model
from thaw.data.tensors import normalise
from thaw.network.classifier import load_model
from thaw.network.fusion import fuse_for_inference
from thaw.network.onnx_export import onnx_model, with_preprocessing
from thaw.params import FLOAT32

CPU, BATCH_SIZE, ROUNDS = torch.device("cpu"), 32, 3


def open_session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """A session of one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def seconds(function: Callable[[NDArray[np.uint8]], object], views: NDArray[np.uint8]) -> float:
    """Processor seconds for all views, a batch at a time."""
    started_s = time.process_time()
    for start in range(0, len(views), BATCH_SIZE):
        function(views[start : start + BATCH_SIZE])
    return time.process_time() - started_s


def main() -> None:
    """Print a row for each number of images."""
    folder = require_model()
    torch.set_num_threads(1)
    saved, model = load_model(folder), onnx_model(folder)
    session = open_session(model)
    preprocessing = saved.classifier.preprocessing
    folded = fuse_for_inference(saved.classifier, FLOAT32, CPU)

    def by_torch(views: NDArray[np.uint8]) -> object:
        with torch.inference_mode():
            return folded(normalise(views, preprocessing, CPU))

    def by_onnx(views: NDArray[np.uint8]) -> object:
        return session.run(["probabilities"], {"views": views})

    size_px = preprocessing.image_size_px
    print("images  folded torch, s  onnxruntime, s  torch / onnxruntime")
    for count in (1, 32, 1000):
        views = np.random.default_rng(0).integers(0, 256, (count, size_px, size_px, 3), np.uint8)
        times = [(seconds(by_torch, views), seconds(by_onnx, views)) for _ in range(1 + ROUNDS)][1:]
        torch_s, onnx_s = (min(column) for column in zip(*times, strict=True))
        print(f"{count:6}  {torch_s:15.4f}  {onnx_s:14.4f}  {torch_s / onnx_s:19.2f}", flush=True)
    whole = open_session(with_preprocessing(model, preprocessing))
    image = np.random.default_rng(0).integers(0, 256, (1, 375, 500, 3), np.uint8)
    rounds = [seconds(lambda images: whole.run(None, {"images": images}), image) for _ in range(1 + ROUNDS)][1:]
    print(f"one image of 500 x 375, resized in the graph: {min(rounds):.4f} s")


if __name__ == "__main__":
    main()
