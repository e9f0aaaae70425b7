"""Why a stage is stale, in words: what DVC knows by hashes, told by parameters, modules, versions and files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from thaw.utils.code_closure import parse_list
from thaw.utils.words import dotted, name_some

MOST_NAMED = 3
"""So many stages are named; of more, their number."""

_WORDS = {"deleted": "is missing", "new": "is new", "not in cache": "is not in DVC's cache"}
"""What DVC says of a file, where it is not that it changed."""


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """Why DVC would run a stage."""

    parameters: tuple[str, ...] = ()
    """Those that changed, with their values."""
    others: tuple[str, ...] = ()
    """What happened to its code, its libraries and its files."""
    behind_stale: bool = False
    """Whether a stage that runs before it is stale."""

    @property
    def stale(self) -> bool:
        """Whether there is any reason."""
        return bool(self.parameters or self.others or self.behind_stale)


def explain_stage(stage: Any, *, stale_upstream: Sequence[Any], lists: Mapping[str, str]) -> Reasons:
    """Why DVC would run a stage.

    Args:
        stage: DVC's.
        stale_upstream: those of DVC's stages that run before it.
        lists: what each list of code would say if it were written now, by its path.
    """
    if not any(out.hash_info for out in stage.outs):
        return Reasons(others=("not run yet",))
    parameters: list[str] = []
    others = ["its command changed"] if stage.changed_stage() else []
    for dependency in stage.deps:
        path = dependency.def_path
        if dependency in stage.params:
            parameters += describe_values(dependency.hash_info.value or {}, dependency.read_params())
        elif path in lists:
            others += _describe_list(dependency, lists[path])
        # What a stage that runs before it makes anew need not be looked at.
        elif not _is_written_by(dependency, stale_upstream):
            others += [_describe_file(path, said) for said in dependency.status().values()]
    others += [_describe_file(out.def_path, said) for out in stage.outs for said in out.status().values()]
    return Reasons(parameters=tuple(parameters), others=tuple(others), behind_stale=bool(stale_upstream))


def format_reasons(found: Mapping[str, Reasons]) -> Iterator[str]:
    """Line by line what changed, each time with the stages that are stale for it, and at last those behind them."""
    yield from _group({name: why.parameters for name, why in found.items()}, start="You changed ")
    yield from _group({name: why.others for name, why in found.items()})
    behind = [name for name, why in found.items() if why.behind_stale and not why.parameters and not why.others]
    if behind:
        yield f"behind these: {_name_stages(behind)}"


def _group(reasons: Mapping[str, Sequence[str]], *, start: str = "") -> Iterator[str]:
    """Each reason once; those of the same stages on one line."""
    stages_of: dict[str, list[str]] = {}
    for stage, of_stage in reasons.items():
        for reason in of_stage:
            stages_of.setdefault(reason, []).append(stage)
    together: dict[tuple[str, ...], list[str]] = {}
    for reason, stages in stages_of.items():
        together.setdefault(tuple(stages), []).append(reason)
    for stale, of_all in together.items():
        yield f"{start}{name_some(of_all, separator='; ')}"
        yield f"  stale: {_name_stages(stale)}"


def _name_stages(names: Sequence[str]) -> str:
    """`split, train@frozen-0, evaluate (9 stages)`."""
    by_stage: dict[str, list[str]] = {}
    for name in names:
        by_stage.setdefault(name.partition("@")[0], []).append(name)
    return ", ".join(
        ", ".join(cells) if len(cells) <= MOST_NAMED else f"{stage} ({len(cells)} stages)"
        for stage, cells in by_stage.items()
    )


def describe_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Which parameters changed, and how: `variants.frozen.0.lr: 0.001 -> 0.003`."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changed = [name for name in {**before, **after} if before.get(name, "unset") != after.get(name, "unset")]
    return [f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}" for name in changed]


def describe_code(old: str, new: str) -> list[str]:
    """How one list of code differs from another: by modules, and by the versions of libraries."""
    (old_files, old_libraries), (new_files, new_libraries) = parse_list(old), parse_list(new)
    paths = sorted({**old_files, **new_files})
    changed = [path.removeprefix("src/thaw/") for path in paths if old_files.get(path) != new_files.get(path)]
    names = sorted({**old_libraries, **new_libraries})
    pairs = {name: (old_libraries.get(name, "unused"), new_libraries.get(name, "unused")) for name in names}
    libraries = describe_libraries({name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
    return ([f"code changed: {name_some(changed)}"] if changed else []) + libraries


def describe_libraries(changed: Mapping[str, tuple[str, str]]) -> list[str]:
    """Libraries by their versions before and now: `another torch: 2.14.1 -> 2.15.0`."""
    return [f"another {name}: {before} -> {now}" for name, (before, now) in changed.items()]


def _describe_list(dependency: Any, text: str) -> list[str]:
    """How the code of a stage differs from the code that it last ran, of which DVC's cache has the list."""
    locked = dependency.hash_info.value
    if locked == hashlib.md5(text.encode(), usedforsecurity=False).hexdigest():
        return []
    cached = None if locked is None else Path(dependency.repo.cache.local.oid_to_path(locked))
    if cached is None or not cached.is_file():
        return ["code changed"]
    return describe_code(cached.read_text(encoding="utf-8"), text)


def _is_written_by(dependency: Any, stages: Sequence[Any]) -> bool:
    """Whether one of these stages makes a file anew, or what is in a folder."""
    return any(Path(out.fs_path).is_relative_to(dependency.fs_path) for stage in stages for out in stage.outs)


def _describe_file(path: str, said: str) -> str:
    return f"{path} {_WORDS.get(said, 'changed')}"


def _leaves(value: Any, *path: str | int) -> Iterator[tuple[str, Any]]:
    """`{"a": [{"b": 1}]}` -> `("a.0.b", 1)`; a list of plain values stays one."""
    children: list[tuple[str | int, Any]] = []
    if isinstance(value, Mapping):
        children = list(value.items())
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        children = list(enumerate(value))
    if path and not children:
        yield dotted(path), value
    for key, child in children:
        yield from _leaves(child, *path, key)
