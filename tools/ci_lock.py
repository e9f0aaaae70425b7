"""What a committed dvc.lock is worth: does it fit the code and the parameters, and which of its entries can be used?

DVC takes the outputs of a stage from dvc.lock where its command, dependencies and parameters are as there, and never
looks into its run cache then (dvc/stage/cache.py, `StageCache.restore`). A lock that another machine committed names
outputs that this machine's cache lacks: each such entry makes a stage run that the cache could give.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml, parse_yaml

from thaw.paths import CODE_LISTS
from thaw.utils.code_closure import code_lists, installed_version

Entry = Mapping[str, Any]
"""What a lock says of a stage: cmd, deps, params and outs."""

LOCK = Path("dvc.lock")
MD5_CACHE = Path(".dvc/cache/files/md5")
RUN_CACHE = Path(".dvc/cache/runs")

_PYTHON_MINORS = range(11, 20)
"""A lock can have been written under any of these: lists of code name the version."""


def read_lock(text: str) -> dict[str, Entry]:
    """The entries of a lock by the names of their stages; none of an empty text."""
    # By DVC's parser: PyYAML reads 1e-05 as text.
    parsed = parse_yaml(text, LOCK) if text.strip() else {}
    return dict((parsed or {}).get("stages", {}))


def stale_stages(committed: Mapping[str, Entry]) -> dict[str, list[str]]:
    """What in a lock does not fit the current folder, by the name of the stage, without running anything.

    Compared are commands, parameters, lists of code with the versions that requirements.txt names, files that were
    given, and the hashes of what one stage hands to another. The outputs themselves need not be there.
    """
    with Repo(".") as repo:
        stages = {stage.name: stage for stage in repo.index.stages}
        stale = {name: ["it has no entry"] for name in stages if name not in committed}
        locked = {name: stage for name, stage in stages.items() if name in committed}
        made = {out["path"]: out.get("md5") for name in locked for out in committed[name].get("outs", [])}
        lists = _fitting_lists({name: committed[name] for name in locked})
        for name, stage in locked.items():
            if reasons := _reasons(stage, committed[name], made=made, lists=lists):
                stale[name] = reasons
    return {name: stale[name] for name in stages if name in stale}


def _reasons(stage: Any, entry: Entry, *, made: Mapping[str, str | None], lists: Mapping[str, str]) -> list[str]:
    """Why an entry does not fit its stage: nothing if it does."""
    reasons = [] if entry["cmd"] == stage.cmd else ["its command"]
    locked_params = {key: value for values in entry.get("params", {}).values() for key, value in values.items()}
    for dependency in stage.params:
        current = dependency.read_params()
        names = sorted(current.keys() | locked_params.keys())
        missing = object()
        reasons += [name for name in names if current.get(name, missing) != locked_params.get(name, missing)]
    locked_deps = {dep["path"]: dep.get("md5") for dep in entry.get("deps", [])}
    # What `check` reads bears on the results by its lists of code alone, and these are compared with each stage.
    deps = [dep for dep in stage.deps if dep not in stage.params and stage.name != "check"]
    for dep in deps:
        path = dep.def_path
        if path in lists:
            fits = locked_deps.get(path) == lists[path]
            path = "its code, or a library's version" if not fits else path
        elif path in made:
            fits = locked_deps.get(path) == made[path]
        elif any(Path(out).is_relative_to(path) for out in made):
            fits = True  # a folder of other stages' outputs, such as data/models
        else:
            fits = dep.exists and locked_deps.get(path) == dep.get_hash().value
        reasons += [] if fits else [path]
    if {out.def_path for out in stage.outs} != {out["path"] for out in entry.get("outs", [])}:
        reasons.append("its outputs")
    return reasons


def _fitting_lists(committed: Mapping[str, Entry]) -> dict[str, str]:
    """The hash of each list of code, for the version of Python under which most of a lock's lists fit."""
    locked = {dep["path"]: dep.get("md5") for entry in committed.values() for dep in entry.get("deps", [])}
    texts = _list_code(_required_versions())
    candidates = [
        {path: _md5(text.replace("python MINOR\n", f"python 3.{minor}\n")) for path, text in texts.items()}
        for minor in _PYTHON_MINORS
    ]
    return max(candidates, key=lambda lists: sum(locked.get(path) == md5 for path, md5 in lists.items()))


def _list_code(version_of: Callable[[str], str]) -> dict[str, str]:
    """The text of each list of code by its path."""
    lists = code_lists(Path("stages"), package=Path("src/thaw"), version_of=version_of)
    return {(CODE_LISTS / f"{name}.txt").as_posix(): text for name, text in lists.items()}


def _required_versions() -> Callable[[str], str]:
    """A function that gives the version of a library in requirements.txt, and for Python a word to be replaced."""
    text = Path("requirements.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==([\w.+-]+)", text, re.MULTILINE))
    lower = {name.lower(): pin for name, pin in pins.items()}
    return lambda name: "MINOR" if name == "python" else lower[name.lower()]


def _md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def find_runs() -> dict[str, Entry]:
    """The entries of DVC's run cache that fit the current folder and the installed libraries, by name of the stage.

    A remote's run cache comes without the outputs that it names: these may not be in the cache. Where no run of a stage
    fits, those of the stages behind it do not fit either.
    """
    runs: dict[str, list[Entry]] = {}
    for path in list_run_cache():
        with suppress(YAMLFileCorruptedError):  # a run was killed while it wrote it
            entry = load_yaml(path)
            runs.setdefault(entry["cmd"], []).append(entry)
    lists = {path: _md5(text) for path, text in _list_code(installed_version).items()}
    found: dict[str, Entry] = {}
    made: dict[str, str | None] = {}
    with Repo(".") as repo:
        for stage in repo.index.stages:
            entries = runs.get(stage.cmd, [])
            entry = next((entry for entry in entries if not _reasons(stage, entry, made=made, lists=lists)), None)
            if entry is not None:
                found[stage.name] = entry
                made |= {out["path"]: out.get("md5") for out in entry.get("outs", [])}
    return found


def list_run_cache() -> list[Path]:
    """What DVC keeps of each run of a stage."""
    return sorted(path for path in RUN_CACHE.glob("*/*/*") if path.is_file())


def merge_locks(*locks: Mapping[str, Entry]) -> dict[str, Entry]:
    """The entries that the cache can serve: for each stage that of the first lock where it can.

    A stage of which no entry can be served has none: then DVC looks into its run cache.
    """
    names = dict.fromkeys(name for lock in locks for name in lock)
    found = {name: _first_cached(name, *locks) for name in names}
    return {name: entry for name, entry in found.items() if entry is not None}


def _first_cached(name: str, *locks: Mapping[str, Entry]) -> Entry | None:
    entries = (lock[name] for lock in locks if name in lock)
    return next((entry for entry in entries if all(_is_cached(out.get("md5")) for out in entry.get("outs", []))), None)


def _is_cached(md5: str | None) -> bool:
    """Whether the cache has an output: of a folder, also all that is in it."""
    if md5 is None:
        return False
    path = MD5_CACHE / md5[:2] / md5[2:]
    if not path.is_file():
        return False
    if not md5.endswith(".dir"):
        return True
    return all(_is_cached(file["md5"]) for file in json.loads(path.read_text(encoding="utf-8")))
