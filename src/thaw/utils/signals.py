"""SIGTERM and Ctrl-C, noted so that work can stop at a good moment."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from thaw.utils.ranks import world_size


@contextmanager
def capture_signals() -> Iterator[Callable[[], str | None]]:
    """Note SIGTERM and Ctrl-C within the block, so that work can stop at a good moment; a second one ends it at once.

    Not so in one of several processes, which can get the same signal from whoever stops the job and from torchrun;
    that kills by itself who does not end. For the main thread only.

    Yields:
        A function that returns the name of the signal that came, or None.
    """
    names: list[str] = []
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        names.append(signal.Signals(number).name)
        if world_size() == 1:
            restore()

    for number in previous:
        signal.signal(number, note)
    try:
        yield lambda: names[0] if names else None
    finally:
        restore()
