"""What passes before a stage begins its work, and what a run in which nothing is stale takes.

    python bench/bench_startup.py [PROJECT ...]

PROJECT is a clone in which `thaw repro` has run to its end; as it comes, the current folder. Several, such as a clone
of another commit, are measured in turns, in one run. What else the machine does bears on the seconds on the clock, and
little on CPU seconds (user and system). A stage's own process is measured from its start until it would begin to fit
or to predict; MLflow's, which starts beside it, is not. DVC's share is a look at one stage, in a fork of `thaw repro`.
"""

import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

ROUNDS = 3
VARIANTS = {"head": "frozen", "more than the head": "fine_tuned"}
"""What is trained, and the variant of params.yaml that trains it."""

_STAGE = """
import importlib, os, runpy, sys, time
from pathlib import Path
from thaw.errors import exit_code

def begin_work(*_, **__):
    seconds = time.time() - float(os.environ["STARTED_UNIX_S"])
    Path(os.environ["BEGAN"]).write_text(f"{{time.process_time()}} {{seconds}}")
    os._exit(0)

def main():
    setattr(importlib.import_module("{module}"), "{function}", begin_work)
    runpy.run_path(sys.argv[0])["main"]()

sys.argv = {arguments}
exit_code(main)
"""
_DVC = """
import os, resource, time
from pathlib import Path
from thaw.pipeline.dvc_stages import FORK, load_dvc, reproduce

load_dvc()
started_s = time.time()
process = FORK.Process(target=reproduce, args=("split",))
process.start()
process.join()
used = resource.getrusage(resource.RUSAGE_CHILDREN)
Path(os.environ["BEGAN"]).write_text(f"{used.ru_utime + used.ru_stime} {time.time() - started_s}")
"""


def main() -> None:
    """Measure and print, a line for each kind of process."""
    projects = [Path(name).resolve() for name in sys.argv[1:]] or [Path.cwd()]
    for project in projects:
        missing = [name for name in VARIANTS.values() if not list_cells(project, name)]
        if missing:
            print(
                f"bench_startup: skipped, since {project} has no tested model of {missing[0]}; run `thaw repro` there"
            )
            return
    kinds = {**stages_of(projects[0]), **commands()}
    measured: dict[tuple[str, Path], list[tuple[float, float]]] = {}
    for _ in range(ROUNDS):
        for kind, command in kinds.items():
            for project in projects:
                measured.setdefault((kind, project), []).append(measure(command, project))
    print(f"{'CPU seconds (and on the clock)':36}" + "".join(f"{project.name:>18}" for project in projects))
    for kind in kinds:
        cells = [tuple(median(values) for values in zip(*measured[kind, project], strict=True)) for project in projects]
        print(f"{kind:36}" + "".join(f"{f'{cpu_s:.2f} ({wall_s:.1f})':>18}" for cpu_s, wall_s in cells))


def stages_of(project: Path) -> Mapping[str, list[str]]:
    """A command for each kind of stage that writes to the file BEGAN when it would begin its work."""
    kinds: dict[str, str] = {}
    for trained, variant in VARIANTS.items():
        seed = min(cell.rpartition("-")[2] for cell in list_cells(project, variant))
        train = _STAGE.format(
            module="thaw.training.train", function="fit", arguments=["stages/train.py", variant, seed]
        )
        evaluate = _STAGE.format(
            module="thaw.evaluation.evaluate",
            function="require_same_inputs",
            arguments=["stages/evaluate.py", variant, seed],
        )
        kinds |= {f"train, {trained}": train, f"evaluate, {trained}": evaluate}
    kinds["DVC's share of a stage"] = _DVC
    return {kind: [sys.executable, "-c", program] for kind, program in kinds.items()}


def list_cells(project: Path, variant: str) -> list[str]:
    """The tested models of a variant, such as frozen-0."""
    return [path.stem for path in (project / "data/predictions").glob(f"{variant}-*.csv")]


def commands() -> Mapping[str, list[str]]:
    """What people type when nothing is stale, and what torch alone takes."""
    return {
        "import torch": [sys.executable, "-c", "import torch"],
        "thaw repro, nothing stale": [sys.executable, "-c", "from thaw.cli import run; run()", "repro"],
        "dvc repro, nothing stale": ["dvc", "repro", "--quiet"],
        "thaw status": [sys.executable, "-c", "from thaw.cli import run; run()", "status"],
    }


def measure(command: list[str], project: Path) -> tuple[float, float]:
    """CPU seconds and seconds on the clock, of all or up to where the command says that its work begins.

    Both are nan if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        began, before, started_s = Path(folder) / "began", used_cpu_s(), time.time()
        own = {"PYTHONPATH": str(project / "src"), "BEGAN": str(began), "STARTED_UNIX_S": str(started_s)}
        done = subprocess.run(command, cwd=project, env={**os.environ, **own}, capture_output=True, check=False)
        if done.returncode != 0:
            return math.nan, math.nan
        if began.exists():
            cpu_s, wall_s = began.read_text().split()
            return float(cpu_s), float(wall_s)
        return used_cpu_s() - before, time.time() - started_s


def used_cpu_s() -> float:
    """Of all processes that this one has started and waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
