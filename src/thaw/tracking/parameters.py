"""All parameters that bear on a cell's result: its recipe, and what the stages before it ran with."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from thaw.params import AnyPhase, BackboneParams, StorageParams, TrainingParams, ValDraw
from thaw.paths import FEATURES, IMAGES, SPLITS, Cell
from thaw.utils.dvc_lock import Stages, hashes
from thaw.utils.words import dotted

_UPSTREAM = ("data.", "sample.", "clean.", "split.", "embed.")
"""Sections of params.yaml that the stages before training read, and that its files do not name."""

_OF_ONE_SOURCE = {
    "sample.": "sample",
    "data.microsoft.": "microsoft",
    "data.cifar10.": "cifar10",
    "data.kaggle_": "kaggle",
}
"""Parameters -> the data.source that reads them."""


def recipe_parameters(
    *,
    cell: Cell,
    backbone: BackboneParams,
    storage: StorageParams,
    val: ValDraw,
    train_fraction: float,
    training: TrainingParams,
    phases: Sequence[AnyPhase],
    compute: Mapping[str, Any],
) -> dict[str, str]:
    """What `train` ran with, under the names of params.yaml: `training.optimizer.name`, `phases.0.lr`."""
    sections = {
        "variant": cell.variant,
        "seed": cell.seed,
        "backbone": backbone.model_dump(mode="json"),
        "clean": storage.model_dump(mode="json"),
        "split": {"val": val, "train_fraction": train_fraction},
        "training": training.model_dump(mode="json"),
        "phases": [phase.model_dump(mode="json") for phase in phases],
        "compute": dict(compute),
    }
    return {key: str(value) for key, value in flatten(sections)}


def upstream_parameters(stages: Stages, *, cell: Cell, just_trained: bool) -> dict[str, str]:
    """What the stages ran with that made what `train` read.

    Args:
        stages: of dvc.lock.
        cell: what was trained.
        just_trained: by what lies there now: DVC has not noted yet what it read.
    """
    read = hashes(stages.get(f"train@{cell}", {}).get("deps"))
    wanted = {path.as_posix(): read.get(path.as_posix(), "") for path in (IMAGES, SPLITS, FEATURES)}
    found: dict[str, str] = {}
    _collect(stages, dict.fromkeys(wanted, "") if just_trained else wanted, anything=just_trained, into=found)
    source = found.get("data.source")
    of_others = tuple(prefix for prefix, name in _OF_ONE_SOURCE.items() if name != source)
    return {key: value for key, value in sorted(found.items()) if not key.startswith(of_others)}


def _collect(stages: Stages, wanted: Mapping[str, str], *, anything: bool, into: dict[str, str]) -> None:
    """Add the parameters of the stages that made the `wanted` files, and of those that made what they read."""
    for stage in stages.values():
        outs = hashes(stage.get("outs"))
        # A stage that has run again since made something else, or the same.
        if any(path in outs and (anything or outs[path] == md5) for path, md5 in wanted.items()):
            values = stage.get("params", {}).get("params.yaml", {})
            into |= {
                key: str(value)
                for key, value in flatten(values)
                if key.startswith(_UPSTREAM) and not key.startswith("data.url")
            }
            made_from = {path: md5 for path, md5 in hashes(stage.get("deps")).items() if path not in wanted}
            _collect(stages, made_from, anything=False, into=into)


def flatten(value: Any, *path: str | int) -> Iterable[tuple[str, Any]]:
    """`{"a": [{"b": 1}]}` -> `("a.0.b", 1)`."""
    children: Iterable[tuple[str | int, Any]]
    if isinstance(value, Mapping):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    else:
        yield dotted(path), value
        return
    for key, child in children:
        yield from flatten(child, *path, key)
