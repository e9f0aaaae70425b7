"""fingerprints.safetensors: what is written comes back, and what is no such file is one sentence.

Run with `pytest tests/data/test_fingerprints.py`.
"""

from pathlib import Path

import numpy as np
import pytest

from data.image_fixtures import image
from thaw.data.duplicates import Fingerprints, fingerprint
from thaw.data.fingerprints import read_fingerprints, write_fingerprints
from thaw.errors import DataError


def test_what_is_written_comes_back_in_the_same_bytes(tmp_path: Path) -> None:
    hashes, thumbnails = zip(*(fingerprint(np.asarray(image(seed))) for seed in range(3)), strict=True)
    written = Fingerprints(hashes=np.array(hashes, np.uint64), thumbnails=np.array(thumbnails))
    names = ["a/1.jpg", "a/\u732b.jpg", "b/2.jpg"]
    for name in ("one", "two"):
        write_fingerprints(tmp_path / name, names, written)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    images, read = read_fingerprints(tmp_path / "one")
    assert images == names
    assert read.hashes.tolist() == list(hashes)
    assert np.array_equal(read.thumbnails, np.array(thumbnails))


def test_a_file_that_is_missing_or_damaged_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"prints does not exist: run `dvc repro`, which runs the stage clean$"):
        read_fingerprints(tmp_path / "prints")
    (tmp_path / "prints").write_bytes(b"no such thing")
    with pytest.raises(DataError, match=r"prints is damaged \(.*\); delete it and run `dvc repro`$"):
        read_fingerprints(tmp_path / "prints")
