"""What DVC says of the stages, and one of them reproduced: the only importer of dvc.

DVC takes half a second to import. So this process imports it once and opens no repository; each look and each stage is
a fork, which opens one and ends. Several may: DVC holds its lock but while a command runs, and reads dvc.lock anew
before it adds a stage's entry.
"""

import dataclasses
import difflib
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import partial
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

from dvc.cli import main as dvc_main
from dvc.cli.parser import get_main_parser
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc.repo.reproduce import plan_repro

from thaw import paths
from thaw.errors import ConfigError, one_line
from thaw.pipeline.reasons import Reasons, describe_libraries, explain_stage
from thaw.pipeline.schedule import Outcome, Stage
from thaw.utils.code_closure import changed_libraries, code_lists

FORK = multiprocessing.get_context("fork")
"""How processes are started: with all that is imported here."""

CHECK = "check"
"""The stage that lists the code, and the versions of libraries, that each stage runs."""

Answer = TypeVar("Answer")

_RWLOCK = Path(".dvc/tmp/rwlock")


def load_dvc() -> None:
    """Import what DVC leaves until it parses a command, so that no fork has to."""
    get_main_parser()


def drop_torn_rwlock() -> None:
    """Delete DVC's list of the files that running stages use, where a kill left it half-written: DVC stops at it.

    Another DVC may be writing it just now, which takes a moment.
    """
    for _ in range(10):
        try:
            json.loads(_RWLOCK.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return
        except ValueError:
            time.sleep(0.1)
        else:
            return
    _RWLOCK.unlink(missing_ok=True)


def plan(targets: Sequence[str] = ()) -> tuple[Stage, ...]:
    """The stages, in the order of dvc.yaml: all, or the targets and what lies before them.

    Raises:
        ConfigError: DVC cannot read them, or a target names no stage.
    """
    return _ask(partial(_plan, targets))


def find_changed(names: Sequence[str]) -> set[str]:
    """Those of the stages that DVC would run now."""
    return _ask(partial(_find_changed, names))


def explain() -> dict[str, Reasons]:
    """For each stage, in the order of dvc.yaml, why it is stale."""
    return _ask(_explain)


def reproduce(name: str) -> int:
    """Let DVC run one stage if it is stale, as `dvc repro --single-item` does; returns its exit code."""
    command = ["--wait-for-lock", "repro", "--single-item"]
    code: int = dvc_main([*command, name])
    if code == 0 and name == CHECK and changed_libraries(paths.CODE_LISTS):
        # DVC does not know what is installed: these lists are of another environment, from its lock or its run cache.
        code = dvc_main([*command, "--force", name])
    return code


def outcome_of(name: str, output: str) -> Outcome:
    """What DVC did with a stage that it reports as reproduced.

    Args:
        name: of the stage.
        output: all that it printed.
    """
    if f"Running stage '{name}'" in output:
        return "ran"
    return "unchanged" if f"Stage '{name}' didn't change" in output else "cached"


def _plan(targets: Sequence[str]) -> tuple[Stage, ...]:
    with _locked_repo() as repo:
        graph = repo.index.graph
        stages = [stage for stage in repo.index.stages if stage.cmd]
        if targets:
            named = [stage for target in targets for stage in _match(target, stages)]
            wanted = set(plan_repro(graph, named))
            stages = [stage for stage in stages if stage in wanted]
        return tuple(
            Stage(
                name=stage.addressing,
                upstream=tuple(before.addressing for before in graph.successors(stage) if before.cmd),
                changed=bool(stage.changed())
                or (stage.addressing == CHECK and bool(changed_libraries(paths.CODE_LISTS))),
            )
            for stage in stages
        )


def _match(target: str, stages: Sequence[Any]) -> list[Any]:
    """Of DVC's stages those that a target means; of a matrix also all, by the name before the @."""
    found = [stage for stage in stages if fnmatchcase(stage.name, target) or stage.name.split("@")[0] == target]
    if not found:
        names = dict.fromkeys(name for stage in stages for name in (stage.name.split("@")[0], stage.name))
        near = difflib.get_close_matches(target, names, n=1)
        raise ConfigError(
            f"there is no stage {target!r}; {f'did you mean {near[0]}? ' if near else ''}"
            "`dvc stage list --name-only` lists those of params.yaml"
        )
    return found


def _explain() -> dict[str, Reasons]:
    made = code_lists(Path("stages"), package=Path("src/thaw"))
    lists = {(paths.CODE_LISTS / f"{name}.txt").as_posix(): text for name, text in made.items()}
    with _locked_repo() as repo:
        graph = repo.index.graph
        stages = {stage.addressing: stage for stage in repo.index.stages if stage.cmd}
        upstream = {
            name: [before.addressing for before in graph.successors(stage) if before.cmd]
            for name, stage in stages.items()
        }
        found: dict[str, Reasons] = {}
        for name in TopologicalSorter(upstream).static_order():
            # What `check` will write is known: not it, but the lists tell which stages are stale behind it.
            stale = [stages[before] for before in upstream[name] if before != CHECK and found[before].stale]
            found[name] = explain_stage(stages[name], stale_upstream=stale, lists=lists)
        if CHECK in stages:
            libraries = describe_libraries(changed_libraries(paths.CODE_LISTS))
            found[CHECK] = dataclasses.replace(found[CHECK], others=(*found[CHECK].others, *libraries))
        return {name: found[name] for name in stages}


def _find_changed(names: Sequence[str]) -> set[str]:
    with _locked_repo() as repo:
        return {name for name in names for stage in repo.stage.collect(name) if stage.changed()}


@contextmanager
def _locked_repo() -> Iterator[Any]:
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        yield repo


def _ask(question: Callable[[], Answer]) -> Answer:
    """What a function returns in a fork; whatever it raises is a ConfigError here."""

    def answer(pipe: Connection) -> None:
        try:
            pipe.send(question())
        except ConfigError as error:
            pipe.send(error)
        except DvcException as error:
            pipe.send(ConfigError(f"DVC cannot read the pipeline: {one_line(error, most=400)}"))
        except SyntaxError as error:
            pipe.send(ConfigError(f"{error.filename}, line {error.lineno}, is not Python ({error.msg}): correct it"))
        except Exception as error:  # the parent would know only that nothing came
            pipe.send(ConfigError(f"DVC ended without an answer: {type(error).__name__}: {one_line(error, most=400)}"))

    receiver, sender = FORK.Pipe(duplex=False)
    process = FORK.Process(target=answer, args=(sender,))
    process.start()
    sender.close()
    try:
        answered: Answer | ConfigError = receiver.recv()
    except EOFError:
        raise ConfigError("DVC ended without an answer; `dvc status` may say why") from None
    finally:
        process.join()
    if isinstance(answered, ConfigError):
        raise answered
    return answered
