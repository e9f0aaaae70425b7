"""Why a stage is stale, in words: what DVC knows by hashes, told by parameters, modules, versions and files."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from thaw.utils.code_closure import parse_list
from thaw.utils.words import dotted

MOST_NAMED = 3
"""So many parameters, modules or stages are named in one reason; the others are counted."""

_WORDS = {"deleted": "is missing", "new": "is new", "not in cache": "is not in DVC's cache"}
"""What DVC says of a file, where it is not that it changed."""


def explain_stage(stage: Any, *, stale_upstream: Sequence[Any], lists: Mapping[str, str]) -> list[str]:
    """Why DVC would run a stage.

    Args:
        stage: DVC's.
        stale_upstream: those of DVC's stages that run before it.
        lists: what each list of code would say if it were written now, by its path.

    Returns:
        A reason each; none if the stage is up to date.
    """
    if not any(out.hash_info for out in stage.outs):
        return ["not run yet"]
    reasons = ["its command changed"] if stage.changed_stage() else []
    for dependency in stage.deps:
        path = dependency.def_path
        if dependency in stage.params:
            reasons += describe_values(dependency.hash_info.value or {}, dependency.read_params())
        elif path in lists:
            reasons += _describe_list(dependency, lists[path])
        elif not _is_written_by(dependency, stale_upstream):
            reasons += [_describe_file(path, said) for said in dependency.status().values()]
    # What a stage that runs before it makes anew need not be looked at.
    if stale_upstream:
        more = len(stale_upstream) - MOST_NAMED
        named = ", ".join(before.addressing for before in stale_upstream[:MOST_NAMED])
        names = named + (f" and {more} more" if more > 0 else "")
        reasons.append(f"because {names} {'is' if len(stale_upstream) == 1 else 'are'} stale")
    return reasons + [_describe_file(out.def_path, said) for out in stage.outs for said in out.status().values()]


def describe_values(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Which parameters changed, and how: `variants.frozen.0.lr: 0.001 -> 0.003`."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    changed = [name for name in {**before, **after} if before.get(name, "unset") != after.get(name, "unset")]
    said = [f"{name}: {before.get(name, 'unset')} -> {after.get(name, 'unset')}" for name in changed[:MOST_NAMED]]
    more = len(changed) - MOST_NAMED
    return said + ([f"{more} more parameters changed"] if more > 0 else [])


def describe_code(old: str, new: str) -> list[str]:
    """How one list of code differs from another: by modules, and by the versions of libraries."""
    (old_files, old_libraries), (new_files, new_libraries) = parse_list(old), parse_list(new)
    paths = sorted({**old_files, **new_files})
    changed = [path.removeprefix("src/thaw/") for path in paths if old_files.get(path) != new_files.get(path)]
    more = len(changed) - MOST_NAMED
    named = ", ".join(changed[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
    names = sorted({**old_libraries, **new_libraries})
    pairs = {name: (old_libraries.get(name, "unused"), new_libraries.get(name, "unused")) for name in names}
    libraries = describe_libraries({name: pair for name, pair in pairs.items() if pair[0] != pair[1]})
    return ([f"code changed: {named}"] if changed else []) + libraries


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
