"""How far, how fast, how long still: a bar on a terminal, a plain line now and then anywhere else."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tqdm import tqdm

from thaw.errors import write_line
from thaw.utils.ranks import is_main_process

PLAIN_LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What a block under `progress` may do."""

    def update(self, n: int = 1) -> object:
        """Say that `n` more units are done."""

    def set_postfix_str(self, s: str) -> None:
        """Show `s` behind the figures."""


class _PlainLines:
    """The same figures as a bar, as lines: for log files and CI."""

    def __init__(self, label: str, total: int | None, unit: str) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.done, self.done_earlier, self.postfix = 0, 0, ""
        self.started_s = self.printed_s = time.monotonic()

    def update(self, n: int = 1) -> None:
        self.done += n
        if time.monotonic() - self.printed_s >= PLAIN_LINE_EVERY_S:
            self.print_line()

    def set_postfix_str(self, s: str) -> None:
        self.postfix = s

    def print_line(self, *, at_end: bool = False) -> None:
        self.printed_s = time.monotonic()
        per_s = (self.done - self.done_earlier) / max(self.printed_s - self.started_s, 1e-9)
        done, rate = (
            tqdm.format_sizeof(x, divisor=1024) if self.unit == "B" else f"{x:,.0f}" for x in (self.done, per_s)
        )
        total = ""
        if self.total is not None:
            total = f" of {tqdm.format_sizeof(self.total, divisor=1024) if self.unit == 'B' else f'{self.total:,}'}"
        left = (
            f", {(self.total - self.done) / per_s:.0f} s left"
            if self.total and per_s and self.done < self.total and not at_end
            else ""
        )
        tail = f" {self.postfix}" if self.postfix else ""
        write_line(f"{self.label}: {done}{total} {self.unit}, {rate} {self.unit}/s{left}{tail}")


class _Silence:
    """For all processes but the first."""

    def update(self, n: int = 1) -> None:
        pass

    def set_postfix_str(self, s: str) -> None:
        pass


@contextmanager
def progress(label: str, *, total: int | None, unit: str, done: int = 0) -> Iterator[Progress]:
    """Show the progress of a block, on stderr; nothing is left of it at its end if nothing was done.

    Args:
        label: what is being done, for instance "clean".
        total: how many units there are, or None if nobody knows.
        unit: what is counted, for instance "images"; "B" is shown in KiB, MiB and so on.
        done: how many units an earlier try has left behind (a resumed download).
    """
    if not is_main_process():
        yield _Silence()
        return
    if sys.stderr.isatty():
        scaled = unit == "B"
        with tqdm(
            desc=label,
            total=total,
            unit=unit if scaled else f" {unit}",
            initial=done,
            unit_scale=scaled,
            unit_divisor=1024,
            dynamic_ncols=True,
        ) as bar:
            yield bar
            bar.leave = bar.n > 0
        return
    lines = _PlainLines(label, total, unit)
    lines.done = lines.done_earlier = done
    yield lines
    if lines.done > 0:
        lines.print_line(at_end=True)


def print_above(text: str) -> None:
    """Print whole lines to stdout at once, above a bar that stands on the same terminal."""
    with tqdm.external_write_mode(file=sys.stdout):
        sys.stdout.write(text)
        sys.stdout.flush()
