"""A saved model, ready to score views: by onnxruntime, which needs no torch, or by the folded network in torch."""

import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from thaw.compute.cores import count_own_cores, map_ahead
from thaw.compute.gpus import list_gpus
from thaw.data.decode import Pixels
from thaw.data.transforms import Crop
from thaw.evaluation.predictions_csv import Probabilities, require_finite
from thaw.network.model_card import ModelCard, read_model_card
from thaw.network.onnx_graph import find_onnx
from thaw.params import ComputeParams

BATCH_SIZE = 16
"""Images in one forward pass: larger batches are hardly faster, and results would come later."""
_MANY_IMAGES = 1000
"""So many make up for the seconds that torch and a GPU take to start (reckoned, not measured)."""

ScoreBatches = Callable[[Iterable[Pixels]], Iterator[Probabilities]]
"""Batches of views, each of shape `(B, S, S, 3)` -> class probabilities of each, shape `(B, C)`, in their order.

Several are computed ahead; batches are taken from the calling thread.
"""


@dataclass(frozen=True, kw_only=True)
class Scorer:
    """A model, and all that is needed to ask it."""

    card: ModelCard
    crop: Crop
    batch_size: int
    """No batch may be larger."""

    score_batches: ScoreBatches


def load_scorer(folder: Path, *, images: int, batch_size: int = BATCH_SIZE) -> Scorer:
    """A saved model, ready for so many images, of which `batch_size` are computed at once.

    Where `thaw sync` has left the graph of its network, onnxruntime computes, and torch is not even loaded; unless
    there are many images, and a GPU for them. Both ways give the same probabilities, to some 1e-6, and
    raise DataError where one is not finite.

    Raises:
        DataError: there is no such model, or its tensors do not fit its description.
    """
    scorer = _load_scorer(folder, images=images, batch_size=batch_size)

    def score_batches(batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        for probabilities in scorer.score_batches(batches):
            require_finite(probabilities, model=folder)
            yield probabilities

    return replace(scorer, score_batches=score_batches)


def _load_scorer(folder: Path, *, images: int, batch_size: int) -> Scorer:
    size, cores = min(batch_size, images), count_own_cores()
    # All cores share the one batch that there is, or else each computes batches of its own.
    threads = cores if images <= batch_size else 1
    graph = None if images >= _MANY_IMAGES and list_gpus() else find_onnx(folder)
    if graph is None:
        return _load_torch_scorer(folder, batch_size=size, threads=threads)
    view = json.loads(next(prop.value for prop in graph.metadata_props if prop.key == "preprocessing"))["view"]
    return Scorer(
        card=read_model_card(folder),
        crop=Crop(**view),
        batch_size=size,
        score_batches=_score_with_onnx(graph, threads=threads, workers=cores // threads),
    )


def _score_with_onnx(graph: onnx.ModelProto, *, threads: int, workers: int) -> ScoreBatches:
    """Each batch is computed by so many threads, and so many batches at once."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what goes wrong is raised
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def score(views: Pixels) -> Probabilities:
        (probabilities,) = session.run(["probabilities"], {"views": views})
        return np.asarray(probabilities, np.float64)

    def score_batches(batches: Iterable[Pixels]) -> Iterator[Probabilities]:
        with ThreadPoolExecutor(workers) as pool:
            yield from map_ahead(pool, score, batches, ahead=workers)

    return score_batches


def _load_torch_scorer(folder: Path, *, batch_size: int, threads: int) -> Scorer:
    """Each batch is computed by so many threads, or by the GPU."""
    # Here: these take seconds to import.
    from thaw.compute.determinism import make_deterministic
    from thaw.compute.device import choose_device
    from thaw.compute.inference import infer_in_order
    from thaw.evaluation.predict import score_views
    from thaw.network.classifier import load_model

    compute, device = ComputeParams(threads=threads), choose_device()
    make_deterministic(compute)
    saved = load_model(folder)
    score = score_views(saved.classifier, batch_size=batch_size, temperature=saved.card.temperature, compute=compute)
    return Scorer(
        card=saved.card,
        crop=saved.classifier.preprocessing,
        batch_size=batch_size,
        score_batches=lambda batches: infer_in_order(score, batches, compute=compute, device=device),
    )
