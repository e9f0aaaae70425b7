"""Several processes that work as one, on one machine or on many: who this one is, and what is its share.

The number of processes comes from the environment, so that dvc.yaml and the stage scripts know nothing of it: a stage
starts itself again under the command in THAW_LAUNCHER, which ends in torchrun; torchrun tells each process who it is
(https://docs.pytorch.org/docs/stable/elastic/run.html). docs/scaling.md has the commands. `collectives` has what the
processes tell each other; this module imports no torch.
"""

import os
import shlex
import sys
from collections.abc import Sequence

from thaw.errors import ConfigError

LAUNCHER = "THAW_LAUNCHER"


def relaunch() -> None:
    """Run this script under the command in THAW_LAUNCHER instead, if there is one; then this does not return.

    Raises:
        ConfigError: there is no such command.
    """
    # The processes that it starts must not do so again.
    launcher = shlex.split(os.environ.pop(LAUNCHER, ""))
    if not launcher:
        return
    try:
        os.execvp(launcher[0], [*launcher, *sys.argv])  # noqa: S606, the user's own command
    except OSError as error:
        raise ConfigError(
            f"{LAUNCHER} names {launcher[0]!r}, which cannot be started ({error.strerror}); activate the environment "
            "that has torchrun, or unset it"
        ) from None


def world_size() -> int:
    """How many processes work together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Which of them this one is, counted from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main_process() -> bool:
    """Whether this process is the one that writes files and talks to people."""
    return rank() == 0


def shard_by_batch(order: Sequence[int], *, batch_size: int) -> list[int]:
    """This process's images where whole batches go round: in turn, each process gets the next `batch_size`.

    Cut into batches of the same size, they give some of the very batches that one process alone would see, so that
    what is computed from them has the same bits.
    """
    starts = range(rank() * batch_size, len(order), world_size() * batch_size)
    return [index for start in starts for index in order[start : start + batch_size]]


def shard_each_batch(order: Sequence[int], *, batch_size: int) -> tuple[list[int], int]:
    """This process's images where each batch is divided among all, and how many of each batch they are.

    A last batch that leaves this process without any stands here as its first image, so that the process keeps step
    with the others; `local_batch_size` says that it does not count.

    Raises:
        ConfigError: a batch has fewer images than there are processes.
    """
    if batch_size < world_size():
        raise ConfigError(
            f"training.batch_size: {batch_size} images cannot be divided among {world_size()} processes; set it "
            "to their number at least, or start fewer"
        )
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    mine = [index for batch in batches for index in batch[rank() :: world_size()] or batch[:1]]
    return mine, local_batch_size(batch_size)


def local_batch_size(batch_size: int) -> int:
    """How many of the images of one batch are this process's; can be 0."""
    return len(range(rank(), batch_size, world_size()))
