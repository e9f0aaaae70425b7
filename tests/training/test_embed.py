"""Features: of each image alone, of the centre first, and in the files as they always were; killed, it resumes.

Run with: pytest tests/training/test_embed.py
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file
from torch import Tensor

from conftest import ROOT, TINY_BACKBONE, TINY_TRAINING
from thaw import paths
from thaw.data.features import FeatureTable, read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.data.tensors import normalise
from thaw.data.transforms import Preprocessing
from thaw.errors import ConfigError, TrainingError
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, ComputeParams, EmbedParams, Phase
from thaw.training.checkpoint import Checkpointer
from thaw.training.embed import embed_images
from thaw.training.inputs import TrainingData, build_inputs


def embed(
    *, batch_size: int = 5, views: int = 1, compute: ComputeParams = FLOAT32, checkpoints: Path | None = None
) -> FeatureTable:
    embed_images(
        backbone=TINY_BACKBONE,
        embed=EmbedParams(batch_size=batch_size, views=views),
        compute=compute,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
        checkpoints=checkpoints,
    )
    return read_features(paths.FEATURES)


@pytest.mark.usefixtures("tiny_project")
def test_a_centre_view_alone_is_a_table_and_several_views_add_a_dimension() -> None:
    centre = embed()
    assert load_file(paths.FEATURES)["features"].shape == (24, 16)
    several = embed(batch_size=6, views=3)
    assert load_file(paths.FEATURES)["features"].shape == (24, 3, 16)
    assert np.array_equal(several.views[:, :1], centre.views)
    assert not (several.views[:, 1] == several.views[:, 2]).all(axis=1).any()


@pytest.mark.usefixtures("tiny_project")
def test_the_same_bytes_every_time_and_the_same_features_in_every_batch() -> None:
    first = embed(batch_size=10, views=2).views
    data = paths.FEATURES.read_bytes()
    embed(batch_size=10, views=2)
    assert paths.FEATURES.read_bytes() == data
    # 48 views: 10 at a time leave a batch of 8, 47 a batch of one, and 64 is more than there are.
    for batch_size in (47, 64):
        assert np.abs(embed(batch_size=batch_size, views=2).views - first).max() < 1e-5 * np.abs(first).max()


@pytest.mark.usefixtures("tiny_project")
def test_bfloat16_is_near_float32_and_not_the_same() -> None:
    exact = embed().views
    rounded = embed(compute=ComputeParams(precision="bfloat16")).views
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    assert np.linalg.norm(rounded - exact) < 0.03 * np.linalg.norm(exact)


def test_compiled_code_gives_the_same_bytes_each_time_it_is_compiled(tiny_project: Path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("torch.compile has no C++ compiler here")
    exact = embed().views
    # In a process of its own, since pytest's log would keep all that the compiler says. Batches of one size are one
    # compilation, and a compiler without processes of its own has none that import torch.
    program = (
        "import torch; from test_embed import embed; from thaw.paths import FEATURES as path; "
        "from thaw.params import ComputeParams; compute = ComputeParams(precision='float32', compile=True); "
        "embed(batch_size=8, compute=compute); made = path.read_bytes(); "
        "torch.compiler.reset(); embed(batch_size=8, compute=compute); assert path.read_bytes() == made\n"
        # What an earlier phase has compiled does not count against the limit of a later one.
        "from thaw.compute.precision import compiled\n"
        "torch._dynamo.config.recompile_limit = 1; layer = torch.nn.Linear(2, 2)\n"
        "for batch_size in (2, 3): compiled(layer)(torch.ones(batch_size, 2))"
    )
    search_path, cache = (
        os.pathsep.join(map(str, (ROOT / "src", ROOT / "tests", Path(__file__).parent))),
        tiny_project / "inductor",
    )
    environment = {**os.environ, "PYTHONPATH": search_path, "TORCHINDUCTOR_CACHE_DIR": str(cache)}
    environment |= {"TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
    assert list(cache.rglob("*.so")), "nothing was compiled"
    assert np.linalg.norm(read_features(paths.FEATURES).views - exact) < 1e-5 * np.linalg.norm(exact)


@pytest.mark.usefixtures("tiny_project")
def test_without_a_compiler_compile_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        ConfigError, match=r"^compute\.compile: needs a C\+\+ compiler, and there is no no-such-compiler"
    ):
        embed(compute=ComputeParams(precision="float32", compile=True))


@pytest.mark.usefixtures("tiny_project")
def test_a_head_phase_sees_another_view_in_each_epoch_and_validates_on_the_centre() -> None:
    table, splits = embed(views=4), read_splits(paths.SPLITS)
    train, val = (
        select_split(split, splits=splits, features=table, classes=splits.classes) for split in ("train", "val")
    )
    model = Classifier(build_backbone(TINY_BACKBONE), classes=splits.classes, seed=0)
    with ImageZip(Path(paths.IMAGES)) as archive:
        phase_inputs = build_inputs(
            model,
            Phase(train="head", epochs=2, lr=0.1),
            number=0,
            data=TrainingData(train=train, val=val, images=archive),
            params=TINY_TRAINING,
            compute=FLOAT32,
            seed=0,
        )
        epochs = [
            {row.tobytes() for inputs, _ in phase_inputs.train(epoch, 0) for row in inputs.numpy()}
            for epoch in (1, 1, 2)
        ]
        seen_val = np.concatenate([inputs.numpy() for inputs, _ in phase_inputs.val()])
    assert epochs[0] == epochs[1] != epochs[2]
    assert len(epochs[0]) == len(train.paths)
    assert np.array_equal(seen_val, val.features)


@dataclass
class Shown:
    """The batches of images that the backbone was shown."""

    sizes: list[int] = field(default_factory=list)

    stop_at: int | None = None
    """This batch, counted from 1, is when SIGTERM comes."""


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    shown = Shown()

    def counted(views: NDArray[np.uint8], preprocessing: Preprocessing, device: torch.device) -> Tensor:
        shown.sizes.append(len(views))
        if len(shown.sizes) == shown.stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return normalise(views, preprocessing, device)

    monkeypatch.setattr("thaw.training.infer_views.normalise", counted)
    # One batch at a time, so that the second is the second.
    monkeypatch.setattr("thaw.compute.inference.count_own_cores", lambda: 1)
    return shown


@pytest.mark.usefixtures("tiny_project")
def test_a_killed_embedding_goes_on_and_ends_with_the_same_bytes(shown: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    embed(views=2)
    undisturbed, whole = paths.FEATURES.read_bytes(), len(shown.sizes)
    paths.FEATURES.unlink()
    shown.sizes.clear()
    save = Checkpointer.save

    def save_and_die(checkpointer: Checkpointer, state: Mapping[str, Any]) -> None:
        save(checkpointer, state)
        raise KeyboardInterrupt  # as good as a kill: nothing of the run comes after it

    # Due at once, so that the first batch is saved.
    monkeypatch.setattr("thaw.training.checkpoint.SAVE_INTERVAL_S", 0.0)
    for _ in range(3):
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(Checkpointer, "save", save_and_die)
            embed(views=2, checkpoints=paths.EMBED_CHECKPOINTS)
        assert not paths.FEATURES.exists()
    embed(views=2, checkpoints=paths.EMBED_CHECKPOINTS)
    assert paths.FEATURES.read_bytes() == undisturbed
    assert len(shown.sizes) == whole, "a batch was computed twice"
    assert not paths.EMBED_CHECKPOINTS.exists()


@pytest.mark.usefixtures("tiny_project")
def test_sigterm_saves_and_says_where_and_only_the_same_run_goes_on(shown: Shown) -> None:
    def stop_after_two() -> None:
        shown.sizes.clear()
        shown.stop_at = 2
        sentence = r"^embed: stopped by SIGTERM after 10 of 24 images; run the same command to resume$"
        with pytest.raises(TrainingError, match=sentence):
            embed(checkpoints=paths.EMBED_CHECKPOINTS)
        shown.stop_at = None
        # Some more may have been computed ahead.
        shown.sizes.clear()

    stop_after_two()
    embed(batch_size=6, checkpoints=paths.EMBED_CHECKPOINTS)
    assert shown.sizes == [6] * 4
    stop_after_two()
    embed(checkpoints=paths.EMBED_CHECKPOINTS)
    assert shown.sizes == [5] * 3
