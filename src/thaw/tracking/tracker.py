"""The process that talks to MLflow, so that no training waits for it: `python -m thaw.tracking.tracker`.

It reads one line of JSON, what to do; `background` starts it, and reads what it says, a line of JSON each: that it is
alive, what MLflow shows, or why it gave up. After the first failure it does nothing more.
"""

import json
import os
import select
import sys
from collections.abc import Callable, Mapping
from typing import Any

from thaw.errors import ThawError, collect_seldom
from thaw.params_file import load_params
from thaw.paths import Cell, ExternalSet
from thaw.tracking.content import is_evaluated
from thaw.tracking.location import require_answer, tracking_uri
from thaw.utils.dvc_lock import read_dvc_lock

_OUTPUT = 3
"""The file descriptor that takes what this process has to say."""

POLL_S = 2.0
"""A live run gets what is new so often."""


def main() -> None:
    """Do what the first line of the input says."""
    collect_seldom()
    # MLflow prints where to look at a run: to the log, and not to whoever reads JSON here.
    os.dup2(sys.stdout.fileno(), _OUTPUT, inheritable=False)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    job = json.loads(_read_line())
    try:
        require_answer(tracking_uri())
        _JOBS[job["job"]](job)
    except ThawError as error:
        say({"failed": str(error)})


def say(message: Mapping[str, Any]) -> None:
    """One line to whoever started this; that one may be gone."""
    try:
        os.write(_OUTPUT, f"{json.dumps(message)}\n".encode())
    except BrokenPipeError:
        sys.exit(1)


def beat() -> None:
    """Say that something has been done."""
    say({})


def is_told_to_end(*, wait_s: float | None = None) -> bool | None:
    """True: the work has ended well; False: it has failed, or was killed; None: not yet."""
    if not select.select([sys.stdin], [], [], wait_s)[0]:
        return None
    return bool(_read_line())


def _read_line() -> bytes:
    """Byte by byte, since `select` does not see what a buffer holds; nothing at the end of the input."""
    line = b""
    while not line.endswith(b"\n") and (byte := os.read(sys.stdin.fileno(), 1)):
        line += byte
    return line


def _train(job: Mapping[str, Any]) -> None:
    """Show a training while it happens, and what it made."""
    from thaw.tracking.live import LiveRuns
    from thaw.tracking.store import connect, exclusive, explained, open_experiment
    from thaw.tracking.sync import show_cell

    cell, params = Cell(*job["cell"]), load_params()
    with explained():
        client = connect(lambda: None)
        with exclusive(lambda: None):
            experiment_id = open_experiment(client, params.tracking.experiment)
        live = LiveRuns(client, experiment_id, cell, params)
        ended = is_told_to_end(wait_s=0)
        while ended is None:
            live.update()
            ended = is_told_to_end(wait_s=POLL_S)
        if not ended:
            live.interrupt()
            return
        beat()
        live.update()
        client = connect(beat)
        show_cell(
            client,
            experiment_id,
            cell,
            stages=read_dvc_lock(),
            beat=beat,
            compute=params.compute.model_dump(),
            live=live,
        )


def _evaluate(job: Mapping[str, Any]) -> None:
    """Add the scores of one cell on the test split, or on an external test set, once they are there."""
    from thaw.tracking.store import connect, exclusive, explained, open_experiment
    from thaw.tracking.sync import show_cell

    cell, external = Cell(*job["cell"]), [ExternalSet(name) for name in job["external"]]
    if not is_told_to_end():
        return
    beat()
    with explained():
        client, stages = connect(beat), read_dvc_lock()
        with exclusive(beat):
            experiment_id = open_experiment(client, load_params().tracking.experiment)
        # DVC notes a stage when it has ended.
        evaluated = not external or is_evaluated(cell, stages)
        show_cell(client, experiment_id, cell, stages=stages, beat=beat, evaluated=evaluated, external=external)


def _report(_: Mapping[str, Any]) -> None:
    """Show all cells, say their ids, and add the report once it is there."""
    from thaw.tracking.sync import show_all

    say(show_all(load_params(), beat, with_report=False)._asdict())
    if is_told_to_end():
        beat()
        show_all(load_params(), beat)


def _sync(job: Mapping[str, Any]) -> None:
    """Show all that is there, the models too."""
    from thaw.tracking.sync import show_all, show_models

    params = load_params()
    shown = show_all(params, beat)
    champion = job["champion"]
    left_out = show_models(params, shown.runs, beat, champion=Cell(*champion) if champion else None)
    say(shown._replace(left_out=left_out)._asdict())


_JOBS: dict[str, Callable[[Mapping[str, Any]], None]] = {
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
    "sync": _sync,
}

if __name__ == "__main__":
    main()
