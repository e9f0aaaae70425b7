"""dvc.lock: what DVC knows of the stages that have run."""

from pathlib import Path
from typing import Any

import yaml


def locked_stage(name: str) -> dict[str, Any]:
    """What dvc.lock says of a stage, its `deps` and `outs` with their hashes; nothing if it has not run."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    return dict(stages.get(name, {}))
