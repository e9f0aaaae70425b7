"""Errors that a person can act on: each message is one sentence with the value, the place and the remedy.

And how a process of ours begins and ends, since that is where they are caught.
"""

import atexit
import gc
import sys
import unicodedata
from collections.abc import Callable

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what is not seen itself, but ends a line, steers a terminal, or turns the order around."""
_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"
"""Of these categories, what words and emoji are spelt with."""

_ALLOCATIONS = 50_000
"""After so many new objects that may be in a cycle, Python looks for those that are garbage; as it comes, after 700."""


class ThawError(Exception):
    """Anything that went wrong outside this program; its message is one sentence for the person at the terminal."""


class ConfigError(ThawError):
    """params.yaml, or an argument, asks for something that cannot be."""


class DataError(ThawError):
    """An archive, an image or a file that a stage wrote is not what it has to be."""


class TrainingError(ThawError):
    """The computation cannot continue: too little memory, a signal, another process that is gone."""


class DivergedError(TrainingError):
    """A loss is not finite."""


def exit_code(main: Callable[[], None]) -> int:
    """Run `main`; turn a ThawError into one line on stderr and 1, Ctrl-C into 130, success into 0.

    The only place that swallows a traceback, so that every stage and command fails in the same voice.
    Errors that are bugs of ours keep their traceback.
    """
    collect_seldom()
    try:
        main()
    except ThawError as error:
        write_line(" ".join(["error:", *map(escape_controls, str(error).split("\n"))]))
        return 1
    except KeyboardInterrupt:
        write_line("interrupted")
        return 130
    return 0


def collect_seldom() -> None:
    """Let this process look for cyclic garbage seldom, and not at all when it ends; call it before torch is imported.

    Imports make many objects and hardly any garbage: a stage that tests a network took 7.3 CPU seconds so, MLflow's
    process included, and 9.2 as Python comes (https://docs.python.org/3/library/gc.html#gc.freeze). A file that is part
    of a cycle has to be closed by hand, as any file here is: its end would not flush it.
    """
    gc.set_threshold(_ALLOCATIONS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def write_line(line: str) -> None:
    """Write one line to stderr in one piece.

    `print` writes each argument and the end of the line by itself, so the lines of several processes would mix. What
    is written at once stays whole (POSIX, write(2): up to PIPE_BUF bytes to a pipe).
    """
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def one_line(error: BaseException, *, most: int = 120) -> str:
    """What an exception says, on one line of at most `most` characters; the name of its type if it says nothing."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def escape_controls(text: str, *, escape: Callable[[str], str] | None = None) -> str:
    r"""A text in which control characters and their like are written out, by default as Python does: `\x1b`.

    Names of files and classes are anybody's, and printed as they are they can colour, erase or reverse what is seen.
    """
    if text.isprintable():
        return text
    escape = escape or (lambda character: character.encode("unicode_escape").decode("ascii"))
    return "".join(
        escape(character) if unicodedata.category(character) in _HIDDEN and character not in _JOINERS else character
        for character in text
    )
