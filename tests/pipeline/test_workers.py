"""docs/scaling.md: two machines with a shared DVC remote run half of the cells each; a third has only the report left.

Run with `pytest tests/pipeline/test_workers.py`. The machines are folders, the stages toys, the commands the page's.
"""

import subprocess
from pathlib import Path

from pipeline import toy_project
from pipeline.test_repro import THAW, lock, notes, repro
from pipeline.toy_project import environment, make_toy

finished = toy_project.finished

PUSH = ["dvc", "push", "--quiet", "--run-cache"]


def make_clone(folder: Path, *, remote: Path) -> Path:
    """The toy project, without a dvc.lock, as a worker has it."""
    clone = make_toy(folder)
    with (clone / ".dvc/config").open("a") as config:
        config.write(f"    remote = shared\n['remote \"shared\"']\n    url = {remote}\n")
    return clone


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def ran(folder: Path) -> set[str]:
    return {path.stem for path in notes(folder, "*.json")}


def test_two_workers_share_the_cells_and_a_third_machine_has_only_the_report_left(
    tmp_path: Path, finished: Path
) -> None:
    first, second, third = (make_clone(tmp_path / name, remote=tmp_path / "remote") for name in ("a", "b", "c"))
    run(first, *THAW, "prepare")
    run(first, *PUSH)
    # Both at once, and both write to the remote.
    shares = {first: "evaluate*[@-]frozen-*", second: "evaluate*[@-]tuned-*"}
    workers = []
    for folder, share in shares.items():
        script = f"dvc repro -q --pull prepare && '{THAW[0]}' -c '{THAW[2]}' repro '{share}' && {' '.join(PUSH)}"
        workers.append(
            subprocess.Popen(["sh", "-c", script], cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
        )
    for worker in workers:
        _, said = worker.communicate(timeout=300)
        assert worker.returncode == 0, said
    assert ran(first) == {"prepare", *(f"{name}@frozen-{seed}" for name in ("train", "evaluate") for seed in (0, 1))}
    assert ran(second) == {f"{name}@tuned-{seed}" for name in ("train", "evaluate") for seed in (0, 1)}
    run(third, "dvc", "repro", "--quiet", "--pull")
    assert ran(third) == {"report"}
    assert repro(third).stderr == "up to date: 0 stages ran, 0 from the cache\n"
    assert lock(third) == lock(finished)
