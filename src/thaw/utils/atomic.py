"""Files and folders that are either whole or absent: written beside their final name, then renamed onto it."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from thaw.errors import DataError

PERMISSIONS = 0o644
"""Of files: for their owner to write, for all to read."""


def partial_path(path: Path) -> Path:
    """Where `path` is built: in the same folder, because a rename is atomic only within one file system."""
    return path.with_name(f".{path.name}.partial")


def require_disk_space(folder: Path, size: int) -> None:
    """Raise DataError unless the disk of `folder`, which exists, has room for `size` bytes."""
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DataError(
            f"the disk of {folder} has {free:,} bytes free, but {size:,} are needed; make room and try again"
        )


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it becomes `path` if the block ends well, and is deleted if not."""
    temporary = partial_path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    try:
        yield temporary
        # Some writers (safetensors) keep others from reading what they write.
        temporary.chmod(PERMISSIONS)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; it replaces `path` if the block ends well, and is deleted if not."""
    temporary, old = partial_path(path), path.with_name(f".{path.name}.old")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        shutil.rmtree(old, ignore_errors=True)
        if path.exists():
            # Deleting takes time, in which a kill would leave half a folder.
            os.replace(path, old)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, with Unix line ends on every platform."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON; NaN and infinities raise ValueError, since JSON has none."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a file that `write_json` wrote."""
    return json.loads(path.read_text(encoding="utf-8"))
