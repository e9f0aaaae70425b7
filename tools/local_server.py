"""A server on a free port of this machine, for as long as a block lasts."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple


class Server(NamedTuple):
    """A program that serves."""

    address: str
    process: subprocess.Popen[bytes]
    """The first of its process group."""


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether anybody does."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(
    command: Sequence[str], *, environment: Mapping[str, str], start_s: float, stderr: int | None = None
) -> Iterator[Server]:
    """Run a command that takes `--port`, in a process group of its own; yields it once somebody listens.

    Raises:
        RuntimeError: it ends, or nobody listens after `start_s`.
    """
    port = free_port()
    with subprocess.Popen(
        [*command, "--port", str(port)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    ) as process:
        try:
            until_s = time.monotonic() + start_s
            while not listens(port):
                if process.poll() is not None or time.monotonic() > until_s:
                    raise RuntimeError(f"it does not start: {' '.join(command)}")
                time.sleep(0.2)
            yield Server(f"http://127.0.0.1:{port}", process)
        finally:
            # It may have ended.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
