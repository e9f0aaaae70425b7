"""Cores: those that a process may use, its share of them, and no spinning where there are too few.

Run with `pytest tests/compute/test_cores.py`.
"""

import os
from pathlib import Path

import pytest

from thaw.compute import cores


@pytest.fixture(autouse=True)
def eight_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(cores, "_QUOTA", tmp_path / "cpu.max")
    monkeypatch.setattr(cores, "_QUOTA_V1", (tmp_path / "cpu.cfs_quota_us", tmp_path / "cpu.cfs_period_us"))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000\n"}, 8),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "10000 100000\n"}, 1),
        ({"cpu.max": "1600000 100000\n"}, 8),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, 8),
        ({"cpu.cfs_quota_us": "300000\n", "cpu.cfs_period_us": "100000\n"}, 3),
    ],
)
def test_a_process_uses_no_more_cores_than_its_container_may(
    tmp_path: Path, quota: dict[str, str], expected: int
) -> None:
    for name, text in quota.items():
        (tmp_path / name).write_text(text)
    assert cores.count_cores() == expected


def test_processes_of_one_machine_share_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cores.count_own_cores() == 8
    for processes, share in ((3, 2), (8, 1), (20, 1)):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
        assert cores.count_own_cores() == share


def test_threads_sleep_where_there_are_more_than_cores_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    cores.avoid_spinning(8)
    assert "OMP_WAIT_POLICY" not in os.environ
    with monkeypatch.context() as patched:
        patched.setenv("OMP_WAIT_POLICY", "active")
        cores.avoid_spinning(9)
        assert os.environ["OMP_WAIT_POLICY"] == "active"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    cores.avoid_spinning(5)
    assert os.environ["OMP_WAIT_POLICY"] == "passive"
