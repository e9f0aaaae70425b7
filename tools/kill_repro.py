"""Disturb `thaw repro` in each way that there is, and see whether it ends with the bytes of an undisturbed run.

    python tools/kill_repro.py

The stages are the project's own, made small, and the moment is one in which a second candidate trains. Prints a line
for each disturbance, and ends with 1 if a byte differs. Files that hold seconds are left out.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import yaml

ROOT = Path(__file__).resolve().parent.parent
SMALL: dict[str, dict[str, Any]] = {
    "sample": {"images_per_class": 30},
    "backbone": {"name": "mobilenet_v3_small", "weights": "none", "blocks": 2, "image_size_px": 32},
}
VARIANTS = {"frozen": [{"train": "head"}], "fine_tuned": [{"train": "all", "epochs": 4, "lr": [0.001, 0.003]}]}
CELL = "fine_tuned-0"
PATIENCE_S = 600.0

THAW = [sys.executable, "-c", "from thaw.cli import run; run()", "repro", "--jobs", "2"]


def main() -> None:
    """Print the table."""
    # Also where the shell has put this into the background: what is started inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with tempfile.TemporaryDirectory() as name:
        base = prepare(Path(name) / "base")
        undisturbed = copy(base, "undisturbed")
        finish(undisturbed)
        expected = hashes(undisturbed)
        print(f"{'disturbance':34}{'ended with':>11}  {'then':52}bytes", flush=True)
        played = [play(base, title, disturb, expected) for title, disturb in DISTURBANCES.items()]
    sys.exit(0 if all(played) else 1)


def prepare(folder: Path) -> Path:
    """A clone of the last commit with small parameters, in which all is done but what trains, and what follows."""
    subprocess.run(["git", "clone", "--quiet", ROOT, folder], check=True)
    (folder / "dvc.lock").unlink()
    params = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, values in SMALL.items():
        params[section] |= values
    params |= {"variants": VARIANTS, "seeds": [0]}
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    finish(folder, "split", "embed", "diagnose")
    return folder


def copy(base: Path, name: str) -> Path:
    """The prepared project once more."""
    return Path(shutil.copytree(base, base.parent / name.replace(" ", "_"), symlinks=True))


def start(folder: Path, *targets: str) -> "subprocess.Popen[str]":
    """Start `thaw repro`; it writes to a pipe."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "THAW"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"
    environment = inherited | {"PATH": path, "PYTHONPATH": str(folder / "src")}
    pipe = subprocess.PIPE
    return subprocess.Popen([*THAW, *targets], cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(folder: Path, *targets: str) -> str:
    """Run `thaw repro` to its end; returns its last line."""
    process = start(folder, *targets)
    _, said = process.communicate()
    if process.returncode != 0:
        sys.exit(f"thaw repro failed in {folder}:\n{said}")
    return said.splitlines()[-1]


def play(base: Path, title: str, disturb: Callable[[Path, psutil.Process], None], expected: dict[str, str]) -> bool:
    """Disturb a run, run again, and compare; true if all bytes are as expected."""
    folder = copy(base, title)
    driver = start(folder)
    await_second_candidate(folder)
    disturb(folder, psutil.Process(driver.pid))
    driver.communicate()
    then = finish(folder)
    same = hashes(folder) == expected
    print(f"{title:34}{driver.returncode:11}  {then:52}{'the same' if same else 'OTHERS'}", flush=True)
    shutil.rmtree(folder)
    return same


def await_second_candidate(folder: Path) -> None:
    """Wait until a first candidate is trained and a second one is not."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not (folder / f".thaw/checkpoints/{CELL}-0.pt").exists():
        if time.monotonic() > deadline_s:
            sys.exit(f"{CELL} did not train in {PATIENCE_S:.0f} s")
        time.sleep(0.01)


def hashes(folder: Path) -> dict[str, str]:
    """The hash of each output in dvc.lock but for those with seconds in them."""
    stages = yaml.safe_load((folder / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    return {path: md5 for path, md5 in found.items() if not path.startswith(("data/cost", "reports/comparison"))}


def find_training(driver: psutil.Process) -> psutil.Process:
    """The process that trains."""
    for child in driver.children(recursive=True):
        if "stages/train.py" in child.cmdline() and child.name().startswith("python") and CELL[:-2] in child.cmdline():
            return child
    sys.exit(f"no process trains {CELL}")


def kill_training(_: Path, driver: psutil.Process) -> None:
    """Kill the training alone."""
    find_training(driver).kill()


def kill_dvc(_: Path, driver: psutil.Process) -> None:
    """Kill the DVC that waits for it: the driver's child."""
    process = find_training(driver)
    while process.ppid() != driver.pid:
        process = process.parent() or driver
    process.kill()


def kill_driver(_: Path, driver: psutil.Process) -> None:
    """Kill the driver alone."""
    driver.kill()


def kill_all(_: Path, driver: psutil.Process) -> None:
    """Kill all at once, as a machine does that runs out of memory or of power."""
    tree = [driver, *driver.children(recursive=True)]
    for process in tree:
        process.suspend()
    for process in tree:
        process.kill()


def interrupt(_: Path, driver: psutil.Process) -> None:
    """Ctrl-C."""
    driver.send_signal(signal.SIGINT)


def start_second(folder: Path, _driver: psutil.Process) -> None:
    """Start another one, which has to refuse."""
    _, said = start(folder).communicate()
    if "is running here already" not in said:
        sys.exit(f"the second thaw repro did not refuse: {said}")


DISTURBANCES = {
    "kill -9 of the training": kill_training,
    "kill -9 of DVC": kill_dvc,
    "kill -9 of the driver": kill_driver,
    "kill -9 of all": kill_all,
    "Ctrl-C": interrupt,
    "a second thaw repro": start_second,
}


if __name__ == "__main__":
    main()
