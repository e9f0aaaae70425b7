"""What DVC says of the stages, and one of them reproduced: the only importer of dvc.

DVC takes half a second to import. So this process imports it once and opens no repository; each look and each stage is
a fork, which opens one and ends. Several may: DVC holds its lock but while a command runs, and reads dvc.lock anew
before it adds a stage's entry.
"""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from dvc.cli import main as dvc_main
from dvc.cli.parser import get_main_parser
from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo

from thaw.errors import ConfigError, one_line
from thaw.pipeline.schedule import Outcome, Stage

FORK = multiprocessing.get_context("fork")
"""How processes are started: with all that is imported here."""

Answer = TypeVar("Answer")


def load_dvc() -> None:
    """Import what DVC leaves until it parses a command, so that no fork has to."""
    get_main_parser()


def plan() -> tuple[Stage, ...]:
    """All stages, in the order of dvc.yaml.

    Raises:
        ConfigError: DVC cannot read them.
    """
    return _ask(_plan)


def find_changed(names: Sequence[str]) -> set[str]:
    """Those of the stages that DVC would run now."""
    return _ask(partial(_find_changed, names))


def reproduce(name: str) -> int:
    """Let DVC run one stage if it is stale, as `dvc repro --single-item` does; returns its exit code."""
    code: int = dvc_main(["--wait-for-lock", "repro", "--single-item", name])
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


def _plan() -> tuple[Stage, ...]:
    with _locked_repo() as repo:
        graph = repo.index.graph
        stages = [stage for stage in repo.index.stages if stage.cmd]
        return tuple(
            Stage(
                name=stage.addressing,
                upstream=tuple(before.addressing for before in graph.successors(stage)),
                changed=bool(stage.changed()),
            )
            for stage in stages
        )


def _find_changed(names: Sequence[str]) -> set[str]:
    with _locked_repo() as repo:
        return {name for name in names for stage in repo.stage.collect(name) if stage.changed()}


@contextmanager
def _locked_repo() -> Iterator[Any]:
    with Repo(_wait_for_lock=True) as repo, lock_repo(repo):
        yield repo


def _ask(question: Callable[[], Answer]) -> Answer:
    """What a function returns in a fork; a DvcException is a ConfigError here."""

    def answer(pipe: Connection) -> None:
        try:
            pipe.send(question())
        except DvcException as error:
            pipe.send(ConfigError(f"DVC cannot read the pipeline: {one_line(error, most=400)}"))

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
