"""dvc.lock: what DVC knows of the stages that have run."""

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from thaw.errors import DataError

LOCK = Path("dvc.lock")
_WRITERS_LOCK = Path(".dvc/tmp/lock")
"""DVC holds it, as `flock`, while it writes dvc.lock, line by line and in place."""

PATIENCE_S = 30.0
"""How long to wait for a DVC that writes, before dvc.lock is read as it is: that DVC may be stopped."""

Stages = dict[str, dict[str, Any]]
"""Name -> its `params`, and its `deps` and `outs` with their hashes."""


def read_dvc_lock() -> Stages:
    """All stages in dvc.lock; none if there is no such file. DataError if it cannot be read.

    While another stage's DVC writes it, this waits: what is half written may well be valid YAML.
    """
    # libyaml, where PyYAML was built with it, is ten times faster: a lock has thousands of lines.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        with _no_writer():
            text = LOCK.read_text(encoding="utf-8")
        stages = yaml.load(text, Loader=loader)["stages"]  # noqa: S506, a safe loader
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise DataError(
            f"{LOCK} cannot be read{where}, as after a merge with conflicts; resolve them, or take back the committed "
            f"one with `git checkout HEAD -- {LOCK}`, then run `dvc repro`"
        ) from None
    return {name: dict(stage) for name, stage in (stages or {}).items()}


@contextmanager
def _no_writer() -> Iterator[None]:
    """Keep DVC from writing dvc.lock in the block, which has to be short: `dvc repro` itself waits 3 s at most."""
    try:
        file = _WRITERS_LOCK.open("rb")
    except OSError:  # no DVC has run here
        yield
        return
    with file:
        until_s = time.monotonic() + PATIENCE_S
        while not _share(file.fileno()) and time.monotonic() < until_s:
            time.sleep(0.02)
        yield


def _share(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:  # DVC holds it
        return False
    return True


def locked_stage(name: str) -> dict[str, Any]:
    """What dvc.lock says of a stage, its `deps` and `outs` with their hashes; nothing if it has not run."""
    return read_dvc_lock().get(name, {})


def hashes(entries: list[dict[str, Any]] | None) -> dict[str, str]:
    """The `deps` or the `outs` of a stage -> the hash of each path."""
    return {entry["path"]: entry.get("md5", "") for entry in entries or []}
