"""Features: of each picture alone, of the centre first, and in the files as they always were."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from conftest import TINY_BACKBONE, TINY_TRAINING
from thaw import layout
from thaw.backbones import build_backbone
from thaw.dataset import read_assignment
from thaw.embed import FeatureTable, embed_pictures, read_features
from thaw.feed import make_feed
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import FLOAT32, ComputeParams, Phase


def embed(*, batch_size: int = 5, views: int = 1, compute: ComputeParams = FLOAT32) -> FeatureTable:
    embed_pictures(
        backbone=TINY_BACKBONE,
        batch_size=batch_size,
        views=views,
        compute=compute,
        pictures=layout.PICTURES,
        features=layout.FEATURES,
        cost=layout.EMBED_COST,
    )
    return read_features(layout.FEATURES)


@pytest.mark.usefixtures("tiny_project")
def test_a_centre_view_alone_is_a_table_and_several_views_add_a_dimension() -> None:
    centre = embed()
    assert load_file(layout.FEATURES)["features"].shape == (24, 16)
    several = embed(batch_size=6, views=3)
    assert load_file(layout.FEATURES)["features"].shape == (24, 3, 16)
    assert np.array_equal(several.views[:, :1], centre.views)
    assert not (several.views[:, 1] == several.views[:, 2]).all(axis=1).any()


@pytest.mark.usefixtures("tiny_project")
def test_the_same_bytes_every_time_and_the_same_features_in_every_batch() -> None:
    first = embed(batch_size=10, views=2).views
    data = layout.FEATURES.read_bytes()
    embed(batch_size=10, views=2)
    assert layout.FEATURES.read_bytes() == data
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


@pytest.mark.usefixtures("tiny_project")
def test_a_head_phase_sees_another_view_in_each_epoch_and_validates_on_the_centre() -> None:
    table, assignment = embed(views=4), read_assignment(layout.SPLITS)
    train, val = (assignment.select(split, features=table, classes=assignment.classes) for split in ("train", "val"))
    model = Classifier(build_backbone(TINY_BACKBONE), classes=assignment.classes, seed=0)
    with PicturesFile(Path(layout.PICTURES)) as archive:
        feed = make_feed(
            model, Phase(train="head", epochs=2, lr=0.1), number=0, train=train, val=val, pictures=archive,
            params=TINY_TRAINING, compute=FLOAT32, seed=0,
        )  # fmt: skip
        epochs = [
            {row.tobytes() for inputs, _ in feed.train(epoch, 0) for row in inputs.numpy()} for epoch in (1, 1, 2)
        ]
        seen_val = np.concatenate([inputs.numpy() for inputs, _ in feed.val()])
    assert epochs[0] == epochs[1] != epochs[2]
    assert len(epochs[0]) == len(train.paths)
    assert np.array_equal(seen_val, val.features)
