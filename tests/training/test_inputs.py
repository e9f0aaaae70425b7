"""What a phase feeds: the same order for all variants of a seed, and mixup as its authors have it.

Run with: pytest tests/training/test_inputs.py
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from conftest import TINY_BACKBONE, TINY_TRAINING, embed_tiny
from thaw import paths
from thaw.data.features import read_features, select_split
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, Phase, TrainingParams
from thaw.training.inputs import PhaseInputs, TrainingData, build_inputs, mix_up
from thaw.utils.random_streams import random_stream


@pytest.fixture
def archive(tiny_project: Path) -> Iterator[ImageZip]:
    embed_tiny()
    with ImageZip(paths.IMAGES) as opened:
        yield opened


def phase_inputs(
    archive: ImageZip, train: str, *, params: TrainingParams = TINY_TRAINING, number: int = 0, seed: int = 0
) -> PhaseInputs:
    splits, table = read_splits(paths.SPLITS), read_features(paths.FEATURES)
    classes = splits.classes
    return build_inputs(
        Classifier(build_backbone(TINY_BACKBONE), classes=classes, seed=0),
        Phase(train=train, epochs=2, lr=0.1),
        number=number,
        data=TrainingData(
            train=select_split("train", splits=splits, features=table, classes=classes),
            val=select_split("val", splits=splits, features=table, classes=classes),
            images=archive,
        ),
        params=params,
        compute=FLOAT32,
        seed=seed,
    )


def labels(fed: PhaseInputs, epoch: int) -> list[int]:
    return [int(label) for _, targets in fed.train(epoch, 0) for label in targets]


def test_the_order_is_the_seeds_the_phases_and_the_epochs_and_not_what_is_trained(archive: ImageZip) -> None:
    head, everything, last = (phase_inputs(archive, train) for train in ("head", "all", "last:1"))
    assert labels(head, 1) == labels(everything, 1) == labels(last, 1)
    others = [
        labels(head, 2),
        labels(phase_inputs(archive, "head", number=1), 1),
        labels(phase_inputs(archive, "head", seed=1), 1),
    ]
    assert labels(head, 1) not in others


def test_each_image_is_fed_once_an_epoch(archive: ImageZip) -> None:
    fed = phase_inputs(archive, "head")
    rows = torch.cat([inputs for inputs, _ in fed.train(1, 0)])
    assert len(rows) == fed.images == 12
    assert sum(len(targets) for _, targets in fed.val()) == fed.val_images == 6
    assert len(rows.unique(dim=0)) == 12


def test_head_phases_are_fed_features_and_others_images(archive: ImageZip) -> None:
    shapes = {
        train: next(iter(phase_inputs(archive, train).train(1, 0)))[0].shape for train in ("head", "last:1", "all")
    }
    assert shapes == {"head": (4, 16), "last:1": (4, 3, 32, 32), "all": (4, 3, 32, 32)}


def test_mixup_by_hand() -> None:
    inputs = torch.tensor([[1.0, 0.0], [0.0, 2.0], [4.0, 4.0]])
    mixed, targets = mix_up(
        inputs, torch.tensor([0, 1, 1]), classes=2, alpha=0.4, random=np.random.Generator(np.random.Philox(7))
    )
    random = np.random.Generator(np.random.Philox(7))
    share, partners = random.beta(0.4, 0.4), random.permutation(3)
    assert 0 < share < 1
    assert partners.tolist() != [0, 1, 2]
    expected = share * inputs + (1 - share) * inputs[partners]
    assert torch.allclose(mixed, expected.float())
    truth = np.eye(2)[[0, 1, 1]]
    assert np.allclose(targets.numpy(), share * truth + (1 - share) * truth[partners])


def test_the_loss_of_a_blend_is_the_blend_of_the_losses() -> None:
    # What Zhang et al. write as lambda * loss(y) + (1 - lambda) * loss(y of the partner).
    logits, labels = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1, 0])
    _, targets = mix_up(logits, labels, classes=3, alpha=1.0, random=np.random.Generator(np.random.Philox(1)))
    random = np.random.Generator(np.random.Philox(1))
    share, partners = random.beta(1.0, 1.0), torch.from_numpy(random.permutation(5))
    loss = torch.nn.functional.cross_entropy
    expected = share * loss(logits, labels) + (1 - share) * loss(logits, labels[partners])
    assert loss(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("train", ["head", "all"])
def test_mixup_is_drawn_from_its_own_stream_and_leaves_validation_alone(archive: ImageZip, train: str) -> None:
    plain = phase_inputs(archive, train)
    mixed = phase_inputs(archive, train, params=TINY_TRAINING.model_copy(update={"mixup_alpha": 0.4}))
    for batch, ((inputs, truth), (blends, targets)) in enumerate(
        zip(plain.train(1, 0), mixed.train(1, 0), strict=True)
    ):
        expected = mix_up(inputs, truth, classes=2, alpha=0.4, random=random_stream(0, 4, 0, 1, batch))
        assert torch.equal(blends, expected[0])
        assert torch.equal(targets, expected[1])
        assert targets.shape == (4, 2)
    for (inputs, truth), (same, same_truth) in zip(plain.val(), mixed.val(), strict=True):
        assert torch.equal(inputs, same)
        assert torch.equal(truth, same_truth)
