"""What tests share: real pictures, where they are to be had, and a project small enough to train in a second."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from thaw import layout
from thaw.params import BackboneParams, Params, TrainingParams, load_params

ROOT = Path(__file__).resolve().parent.parent

TINY_BACKBONE = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=2, image_size_px=32)
TINY_TRAINING = TrainingParams(
    batch_size=4,
    accumulate_batches=1,
    optimizer="adamw",
    momentum=0.9,
    nesterov=True,
    weight_decay=0.01,
    warm_up_share=0.1,
    block_lr_decay=1.0,
    label_smoothing=0.0,
    mixup_alpha=0.0,
    patience_epochs=5,
    batch_norm="frozen_stats",
)


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


@pytest.fixture
def tiny_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with 24 cleaned and split pictures: bluish ones called Cat, reddish ones called Dog."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    layout.PICTURES.parent.mkdir(parents=True)
    rows = []
    with zipfile.ZipFile(layout.PICTURES, "w") as archive:
        for index in range(24):
            label = ("Cat", "Dog")[index % 2]
            pixels = random.integers(0, 160, (40, 48, 3), np.uint8)
            pixels[..., 2 if label == "Cat" else 0] += 60
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            path = f"{label}/{index:02}.png"
            archive.writestr(path, buffer.getvalue())
            rows.append({"path": path, "label": label, "split": ("train", "train", "val", "test")[index // 2 % 4]})
    with layout.SPLITS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["path", "label", "split"])
        writer.writeheader()
        writer.writerows(sorted(rows, key=lambda row: row["path"]))
    return tmp_path
