"""What is known of a backbone: its library, its size, and where its weights are.

Run with `pytest tests/network/test_registry.py`.
"""

from pathlib import Path

import huggingface_hub
import pytest
import torch

from thaw.network.registry import find_weights, look_up


@pytest.fixture
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches of both libraries."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "library", "parameters", "input_size_px", "weights"),
    [
        # The published sizes, with the classifier of 1,000 classes.
        ("tf_efficientnet_lite0", "timm", 4_652_008, 224, "bundled"),
        ("resnet18", "torchvision", 11_689_512, 224, "download"),
        ("googlenet", "torchvision", 6_624_904, 224, "download"),
        ("vit_base_patch16_224", "timm", 86_567_656, 224, "download"),
        ("resnet50d.ra2_in1k", "timm", 25_576_264, 224, "download"),
        ("legacy_xception", "timm", 22_855_952, 299, "download"),
        ("resnet101s", "timm", 44_672_936, 224, "download"),
        ("resnet50_mlp", "timm", 26_654_536, 256, "none"),
    ],
)
def test_an_entry_says_what_the_libraries_publish(
    no_cache: Path, name: str, library: str, parameters: int, input_size_px: int, weights: str
) -> None:
    entry = look_up(name)
    assert (entry.origin, entry.parameters) == (library, parameters)
    assert (entry.input_size_px, entry.weights) == (input_size_px, weights)


def test_weights_in_a_cache_are_found(no_cache: Path) -> None:
    assert (find_weights("resnet18"), find_weights("resnet50d")) == ("download", "download")
    checkpoint = Path(torch.hub.get_dir()) / "checkpoints" / "resnet18-f37072fd.pth"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    put_in_hub_cache(no_cache / "hub", repository="timm/resnet50d.ra2_in1k", content=b"")
    assert (find_weights("resnet18"), find_weights("resnet50d")) == ("cached", "cached")


def put_in_hub_cache(cache: Path, *, repository: str, content: bytes) -> None:
    """A file of weights as the Hub's client keeps it, but for its true hash."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    for name in ("blobs", "refs", "snapshots/0123"):
        (folder / name).mkdir(parents=True)
    (folder / "refs/main").write_text("0123")
    (folder / "blobs" / ("0" * 64)).write_bytes(content)
    (folder / "snapshots/0123/model.safetensors").symlink_to(folder / "blobs" / ("0" * 64))
