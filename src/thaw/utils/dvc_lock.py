"""dvc.lock: what DVC knows of the stages that have run."""

from pathlib import Path
from typing import Any

import yaml

from thaw.errors import DataError

LOCK = Path("dvc.lock")
Stages = dict[str, dict[str, Any]]
"""Name -> its `params`, and its `deps` and `outs` with their hashes."""


def read_dvc_lock() -> Stages:
    """All stages in dvc.lock; none if there is no such file. DataError if it cannot be read."""
    # libyaml, where PyYAML was built with it, is ten times faster: a lock has thousands of lines.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        stages = yaml.load(LOCK.read_text(encoding="utf-8"), Loader=loader)["stages"]  # noqa: S506, a safe loader
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


def locked_stage(name: str) -> dict[str, Any]:
    """What dvc.lock says of a stage, its `deps` and `outs` with their hashes; nothing if it has not run."""
    return read_dvc_lock().get(name, {})


def hashes(entries: list[dict[str, Any]] | None) -> dict[str, str]:
    """The `deps` or the `outs` of a stage -> the hash of each path."""
    return {entry["path"]: entry.get("md5", "") for entry in entries or []}
