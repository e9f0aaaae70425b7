"""How many stages at once: by GPUs, else by cores and threads, and by memory.

Run with `pytest tests/pipeline/test_machine.py`.
"""

from pathlib import Path
from types import SimpleNamespace

import pytest

from thaw import paths
from thaw.compute import gpus as gpus_module
from thaw.compute.gpus import list_gpus
from thaw.pipeline import machine
from thaw.pipeline.machine import choose_jobs, environment_of_job
from thaw.utils.atomic import write_json


@pytest.fixture(autouse=True)
def eight_cores_and_32_gib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(machine, "count_cores", lambda: 8)
    monkeypatch.setattr(gpus_module, "_NVIDIA_GPUS", tmp_path / "gpus")
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=32 * 2**30))
    for name in ("CUDA_VISIBLE_DEVICES", "THAW_LAUNCHER", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)


def test_one_for_every_so_many_cores() -> None:
    assert [choose_jobs(threads=threads, gpus=[]) for threads in (1, 3, 8, 20)] == [8, 2, 1, 1]


def test_one_a_gpu_as_the_environment_or_the_driver_names_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list_gpus() == []
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / "gpus" / name).mkdir(parents=True)
    assert list_gpus() == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8932f937,5")
    assert list_gpus() == ["3", "GPU-8932f937", "5"]
    assert choose_jobs(threads=1, gpus=list_gpus()) == 3
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert list_gpus() == []


def test_no_more_than_memory_holds_of_the_largest_that_was_measured() -> None:
    paths.COSTS.mkdir(parents=True)
    write_json(paths.EMBED_COST, {"peak_memory_mib": 90_000.0})  # computes several batches at once
    for name, peak_mib in (("frozen-0", 900.0), ("fine_tuned-0", 10_000.0)):
        write_json(paths.COSTS / f"{name}.json", {"peak_memory_mib": peak_mib})
    assert choose_jobs(threads=1, gpus=[]) == 3


def test_a_launcher_has_the_machine_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THAW_LAUNCHER", "torchrun --nproc-per-node=2")
    assert choose_jobs(threads=1, gpus=["0", "1"]) == 1


def test_threads_sleep_where_all_jobs_have_more_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment_of_job(gpu=None, jobs=4, threads=2) == {"THAW_JOBS": "4"}
    assert environment_of_job(gpu="1", jobs=5, threads=2) == {
        "THAW_JOBS": "5",
        "CUDA_VISIBLE_DEVICES": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    monkeypatch.setenv("OMP_WAIT_POLICY", "active")
    assert environment_of_job(gpu=None, jobs=5, threads=2) == {"THAW_JOBS": "5"}
