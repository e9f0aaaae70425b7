"""The hash of a file is that of its bytes, however many they are.

Run with `pytest tests/utils/test_hashing.py`.
"""

import hashlib
from pathlib import Path

import pytest

from thaw.utils.hashing import sha256_of


@pytest.mark.parametrize("size", [0, 1, 2**18, 2**18 + 1, 3_000_000])
def test_it_is_the_hash_of_all_bytes(tmp_path: Path, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(content).hexdigest()
