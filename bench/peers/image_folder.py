"""Loaders as PyTorch's tutorial on transfer learning makes them, for the usual loop and for Lightning."""

from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from peers.contest import BATCH_SIZE, IMAGE_SIZE_PX, NETWORK, Task

Loaders = dict[str, "DataLoader[tuple[Tensor, Tensor]]"]


def make_loaders(task: Task) -> Loaders:
    """Of train, val and test; training images are cropped at random and mirrored, the others cut in the centre."""
    config = timm.get_pretrained_cfg(NETWORK)
    assert config is not None
    finish: list[Any] = [transforms.ToTensor(), transforms.Normalize(config.mean, config.std)]
    augmented = [transforms.RandomResizedCrop(IMAGE_SIZE_PX), transforms.RandomHorizontalFlip()]
    # The tutorial's 256 and 224 px.
    centred = [transforms.Resize(IMAGE_SIZE_PX * 256 // 224), transforms.CenterCrop(IMAGE_SIZE_PX)]
    return {
        split: DataLoader(
            ImageFolder(
                task.folder / "images" / split,
                transforms.Compose([*(augmented if split == "train" else centred), *finish]),
            ),
            batch_size=BATCH_SIZE,
            shuffle=split == "train",
            num_workers=task.threads,
        )
        for split in ("train", "val", "test")
    }


@torch.inference_mode()
def measure_accuracy(network: nn.Module, loader: "DataLoader[tuple[Tensor, Tensor]]") -> float:
    """The share of a loader's images whose class is the most probable one."""
    network.eval()
    hits, count = 0, 0
    for images, labels in loader:
        hits += int((network(images).argmax(dim=1) == labels).sum())
        count += len(labels)
    return hits / count
