"""What the person at the terminal sees: a line for each job that runs, or, elsewhere, a line for each that ends."""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from thaw.errors import write_line
from thaw.pipeline.jobs import Job
from thaw.pipeline.schedule import Outcome

_WORDS: dict[Outcome, str] = {
    "ran": "done in {seconds:.0f} s",
    "cached": "from the cache",
    "unchanged": "unchanged",
    "failed": "failed after {seconds:.0f} s",
}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_TAIL_LINES, _TAIL_BYTES = 20, 4000


class View:
    """Writes to stderr; on a terminal the running jobs stay below what has been said."""

    def __init__(self) -> None:
        self._shown = 0
        self._is_terminal = sys.stderr.isatty()

    def say(self, line: str) -> None:
        """Say something that stays."""
        self._clear()
        write_line(line)

    def show_end(self, job: Job, outcome: Outcome, *, done: int, wanted: int) -> None:
        """Say what has become of a job, and how it failed."""
        self.say(f"{job.name} {_WORDS[outcome].format(seconds=job.seconds())} ({done} of {wanted})")
        if outcome == "failed":
            self.say("\n".join(f"  {line}" for line in last_lines(job.log, count=_TAIL_LINES)))
            self.say(f"  (all of it: {job.log})")

    def show_running(self, jobs: Sequence[Job]) -> None:
        """On a terminal, show each running job: its name, for how long it has been running, and what it said last."""
        if not self._is_terminal:
            return
        self._clear()
        width = shutil.get_terminal_size().columns - 1
        for job in jobs:
            said = "".join(last_lines(job.log, count=1))
            print(f"{job.name}  {job.seconds():.0f} s  {said}"[:width], file=sys.stderr)
        sys.stderr.flush()
        self._shown = len(jobs)

    def _clear(self) -> None:
        if self._shown:
            print(f"\x1b[{self._shown}F\x1b[J", end="", file=sys.stderr)
            self._shown = 0


def last_lines(log: Path, *, count: int) -> list[str]:
    """The last lines of a log that say something, without colours."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = [line.rpartition("\r")[2].rstrip() for line in _ESCAPES.sub("", text).split("\n")]
    return [line for line in lines if line][-count:]
