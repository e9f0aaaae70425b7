"""What tests share: real images, where they are to be had, and a project small enough to train in a second."""

import io
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import yaml
from hypothesis import settings
from PIL import Image
from pydantic import BaseModel

from thaw import cli, paths
from thaw.data.splits_csv import write_splits
from thaw.errors import exit_code
from thaw.params import (
    AdamWParams,
    BackboneParams,
    EmbedParams,
    Params,
    StorageParams,
    TrainingParams,
)
from thaw.params_file import load_params
from thaw.training.embed import embed_images

# As it comes, an example that takes 0.2 s fails: no test asserts a time, and machines are busy.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent

TINY_BACKBONE = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=2, image_size_px=32)
TINY_EMBED = EmbedParams(batch_size=8, views=1)
TINY_STORAGE = StorageParams(side_px=512, max_pixels=100_000_000)
TINY_TRAINING = TrainingParams(
    batch_size=4,
    grad_accum_steps=1,
    optimizer=AdamWParams(),
    warmup_ratio=0.1,
    layer_decay=1.0,
    label_smoothing=0.0,
    mixup_alpha=0.0,
    patience_epochs=5,
    batch_norm="frozen_stats",
)


LONGEST = ("test_pipeline.py", "test_servers.py", "test_collectives.py", "test_repro.py", "test_ci_pipeline.py")
"""Files that start many processes. They come first, so that no worker is left alone with one of them at the end."""


AnySource = TypeVar("AnySource", bound=BaseModel)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)


def load_source(kind: type[AnySource]) -> AnySource:
    """The section `data` of params.yaml with another `data.source`: `load_source(KaggleSource)`."""
    section = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))["data"]
    section["source"] = kind.model_fields["source"].default
    return kind.model_validate({key: section[key] for key in kind.model_fields})


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real photos; a test that asks for it is skipped where it is missing."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real photos in {folder}")
    return folder


@pytest.fixture(scope="session")
def default_params() -> Params:
    """The project's own params.yaml."""
    return load_params(ROOT / "params.yaml")


def make_tiny_project(folder: Path) -> Path:
    """Write 24 cleaned and split images into a folder: bluish ones called Cat, reddish ones called Dog."""
    random = np.random.default_rng(0)
    (folder / paths.IMAGES).parent.mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(folder / paths.IMAGES, "w") as archive:
        for index in range(24):
            label = ("Cat", "Dog")[index % 2]
            pixels = random.integers(0, 160, (40, 48, 3), np.uint8)
            pixels[..., 2 if label == "Cat" else 0] += 60
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            path = f"{label}/{index:02}.png"
            archive.writestr(path, buffer.getvalue())
            split = ("train", "train", "val", "test")[index // 2 % 4]
            rows.append((path, label, split, path))
    write_splits(folder / paths.SPLITS, sorted(rows))
    return folder


@pytest.fixture
def tiny_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the images of `make_tiny_project`."""
    monkeypatch.chdir(tmp_path)
    return make_tiny_project(tmp_path)


def embed_tiny() -> None:
    """Write the features of `tiny_project`'s images, as TINY_BACKBONE makes them, and what they cost."""
    embed_images(
        backbone=TINY_BACKBONE,
        embed=TINY_EMBED,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
    )


@dataclass(frozen=True)
class Done:
    """What a command has come to."""

    code: int
    stdout: str
    stderr: str


def wait_until(is_so: Callable[[], bool]) -> None:
    """Fail a test that would else wait for ever for what another process does."""
    deadline_s = time.monotonic() + 120
    while not is_so():
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.02)


def run_thaw(*arguments: str | Path, cwd: Path = ROOT) -> Done:
    """The command `thaw` in this process, which has imported long ago what takes seconds to import."""
    with (
        chdir(cwd),
        redirect_stdout(io.StringIO()) as stdout,
        redirect_stderr(io.StringIO()) as stderr,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(sys, "argv", ["thaw", *map(str, arguments)])
        code = exit_code(cli.main)
    return Done(code, stdout.getvalue(), stderr.getvalue())


@pytest.fixture
def as_process(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """A function that makes this process the one of a rank among so many, to all that asks for its rank."""

    def become(rank: int, count: int) -> None:
        monkeypatch.setenv("RANK", str(rank))
        monkeypatch.setenv("WORLD_SIZE", str(count))

    return become
