"""The lock of `thaw repro` says who holds it; tests/pipeline/test_repro.py has the rest.

Run with: pytest tests/pipeline/test_lock.py
"""

import subprocess
import sys
from pathlib import Path

import pytest

from thaw.errors import ConfigError
from thaw.pipeline import lock

JOB = """
import fcntl, sys
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
file.write("999999999")
file.flush()
print("held", flush=True)
sys.stdin.read()
"""
"""Holds the lock of a driver that is gone: no process has that number."""


def test_jobs_that_outlive_their_driver_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)
    path = tmp_path / "repro.lock"
    with subprocess.Popen([sys.executable, "-c", JOB, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == b"held\n"
        with (
            pytest.raises(ConfigError, match=rf"a thaw repro that was killed still run here; .*: kill {job.pid}$"),
            lock.exclusive(path),
        ):
            pass
        assert job.stdin is not None
        job.stdin.close()
