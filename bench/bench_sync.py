"""What `thaw sync` takes for 30 runs of 100 epochs: into an empty SQLite file, and again when nothing has changed.

    python bench/bench_sync.py [data/models/frozen-0]

The runs are copies of one that was trained and tested in the current folder, with longer curves; the models are logged,
too. CPU seconds (user and system) are those of all processes of the command; with nothing to do, the median of rounds.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from photos import require_model
from thaw.network.model_card import read_model_card, write_model_card
from thaw.network.model_folder import TENSORS
from thaw.network.onnx_export import onnx_model
from thaw.paths import IMAGES, ONNX_GRAPHS, SCRATCH, SPLITS, Cell
from thaw.training.history_csv import read_history, write_history
from thaw.utils.dvc_lock import LOCK, read_dvc_lock

VARIANTS, SEEDS, EPOCHS = 10, 3, 100
ROUNDS = 5


def main() -> None:
    """Measure, and print."""
    model = require_model()
    onnx_model(model)  # else exporting the network once would be most of it
    with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
        project = Path(folder).resolve()
        build_project(project, model)
        cpu_s, wall_s = sync(project)
        idle = [sync(project) for _ in range(ROUNDS)]
    idle_cpu_s, idle_wall_s = (median(values) for values in zip(*idle, strict=True))
    print(f"{VARIANTS * SEEDS} runs of {EPOCHS} epochs    CPU seconds    on the clock")
    print(f"into an empty file   {cpu_s:11.2f}    {wall_s:12.2f}")
    print(f"nothing to do        {idle_cpu_s:11.2f}    {idle_wall_s:12.2f}")
    print(f"ratio                {cpu_s / idle_cpu_s:11.1f}    {wall_s / idle_wall_s:12.1f}")


def build_project(project: Path, model: Path) -> None:
    """A project in which DVC has run the cell of `model` as so many variants and seeds."""
    card = read_model_card(model)
    cell, history = Cell(card.variant, card.seed), read_history(Cell(card.variant, card.seed).history)
    epochs = [replace(history.epochs[n % len(history.epochs)], phase=0, epoch=n + 1) for n in range(EPOCHS)]
    shutil.copytree(ONNX_GRAPHS, project / ONNX_GRAPHS)
    for path in (IMAGES, SPLITS):
        link(path, project / path)
    copies = [Cell(f"copy{variant}", seed) for variant in range(VARIANTS) for seed in range(SEEDS)]
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params |= {"variants": {copy.variant: params["variants"][cell.variant] for copy in copies}}
    params |= {"seeds": list(range(SEEDS))}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    stages: dict[str, Any] = read_dvc_lock()
    for copy in copies:
        for stage in ("train", "evaluate"):
            ran = json.dumps(stages[f"{stage}@{cell}"])
            stages[f"{stage}@{copy}"] = json.loads(ran.replace(str(cell), str(copy)))
        for path, new in ((cell.cost, copy.cost), (cell.predictions, copy.predictions), (cell.metrics, copy.metrics)):
            link(path, project / new)
        link(cell.model / TENSORS, project / copy.model / TENSORS)
        write_model_card(project / copy.model, card.model_copy(update=copy._asdict()))
        write_history(project / copy.history, replace(history, epochs=tuple(epochs)))
    (project / LOCK).write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}), encoding="utf-8")


def link(path: Path, new: Path) -> None:
    """The same file in a new place."""
    new.parent.mkdir(parents=True, exist_ok=True)
    os.link(path, new)


def sync(project: Path) -> tuple[float, float]:
    """CPU seconds and seconds on the clock of `thaw sync`."""
    environment = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    before, started_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    command = [sys.executable, "-c", "from thaw.cli import run; run()", "sync"]
    subprocess.run(command, cwd=project, env=environment, check=True, capture_output=True)
    after, ended_s = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, ended_s - started_s


if __name__ == "__main__":
    main()
