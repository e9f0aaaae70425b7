"""What CI does around the pipeline, step by step; .github/workflows/ci.yaml calls it, and anyone can.

    python tools/ci_pipeline.py restore   # make dvc.lock: what the restored cache can serve
    python tools/ci_pipeline.py run       # make repro, and again to see that nothing is left to do
    python tools/ci_pipeline.py report    # write reports/ci.md, and the step summary
    python tools/ci_pipeline.py save      # keep what the next run needs; --main: also for pull requests and the remote
    python tools/ci_pipeline.py lock      # does the committed dvc.lock fit? ends with 1 if it does not

The cache of one run is of use to another only together with that run's dvc.lock (tools/ci_lock.py says why); it lies in
.thaw/ci/. The checkpoints of trainings that were stopped lie in .thaw/checkpoints/.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import YAMLFileCorruptedError, dumps_yaml, load_yaml

from ci_lock import LOCK, Entry, find_runs, list_run_cache, merge_locks, read_lock, stale_stages
from ci_report import Base, Outcome, PipelineRun, describe_run, describe_stale, write_comment
from thaw import paths
from thaw.errors import ConfigError, DataError, exit_code, one_line
from thaw.utils.atomic import read_json, write_json, write_text

SAVED_LOCK = Path(".thaw/ci/dvc.lock")
RUN = Path(".thaw/ci/run.json")
BASE = Path(".thaw/base")
COMMENT = Path("reports/ci.md")
PARAMS = Path("params.yaml")


def main() -> None:
    """Do one step."""
    parser = argparse.ArgumentParser(prog="ci_pipeline.py")
    steps = parser.add_subparsers(required=True, metavar="STEP")
    functions: tuple[Callable[[argparse.Namespace], None], ...] = (restore, run, report, save, lock)
    for function in functions:
        step = steps.add_parser(function.__name__, help=(function.__doc__ or "").partition("\n")[0])
        step.set_defaults(function=function)
        if function is save:
            step.add_argument("--main", action="store_true", help="this is the branch that pull requests go to")
    arguments = parser.parse_args()
    arguments.function(arguments)


def restore(_: argparse.Namespace) -> None:
    """Fetch from DVC's remote, if there is one, and make the dvc.lock that the cache can serve."""
    RUN.unlink(missing_ok=True)  # the restored one is of another run
    remote = _has_remote()
    if remote and _dvc("fetch", "--run-cache") != 0:
        print("The remote does not have all that dvc.lock names, or could not be read.", flush=True)
    committed, saved = _read_usable(LOCK), _read_usable(SAVED_LOCK)
    merged = merge_locks(committed, saved)
    if remote and (fetched := _fetch_runs(merged)):
        merged = merge_locks(fetched, committed, saved)
    kept = sum(merged[name] is committed.get(name) for name in merged)
    _write_lock(merged)
    print(f"dvc.lock: {kept} entries as committed, {len(merged) - kept} of earlier runs", flush=True)


def _fetch_runs(usable: dict[str, Entry]) -> dict[str, Entry]:
    """Fetch what main's runs made of the stages that a lock leaves to be run; returns the entries of these runs.

    The committed lock may name what another machine made and nobody pushed; main pushed what its own runs made.
    """
    runs = find_runs()
    wanted = {name: runs[name] for name in stale_stages(usable) if name in runs}
    if wanted:
        _write_lock(wanted)
        if _dvc("fetch") != 0:
            print("The remote does not have all that its runs have made; what it lacks is run.", flush=True)
    return wanted


def _write_lock(entries: dict[str, Entry]) -> None:
    write_text(LOCK, dumps_yaml({"schema": "2.0", "stages": entries}))


def _read_usable(path: Path) -> dict[str, Entry]:
    """The entries of a lock; none where there is no lock, or a run was killed while it wrote it."""
    try:
        return read_lock(path.read_text(encoding="utf-8")) if path.exists() else {}
    except YAMLFileCorruptedError:
        print(f"{path} is damaged, and left aside", flush=True)
        return {}


def run(_: argparse.Namespace) -> None:
    """Run the pipeline, and run it again to see that nothing is left to do."""
    with Repo(".") as repo:
        commands = {stage.cmd: stage.name for stage in repo.index.stages}
    done = PipelineRun(stages=len(commands), ran=(), exit_status=None, ran_again=None, seconds=0.0)
    write_json(RUN, asdict(done))
    start_s = time.monotonic()
    known = set(list_run_cache())
    shutil.rmtree(paths.LOGS, ignore_errors=True)
    with _Repro() as first:
        for name in first.stages():
            done = replace(done, ran=(*done.ran, name) if name not in done.ran else done.ran)
            write_json(RUN, asdict(done))
        # `thaw repro` prints less than DVC; its logs and what a stage left in the run cache say the rest.
        ran = [*done.ran, *_begun_in_logs(), *_new_in_run_cache(known, commands)]
        done = replace(
            done, ran=tuple(dict.fromkeys(ran)), exit_status=first.wait(), seconds=time.monotonic() - start_s
        )
    write_json(RUN, asdict(done))
    if done.exit_status == 0:
        known = set(list_run_cache())
        shutil.rmtree(paths.LOGS, ignore_errors=True)
        with _Repro() as second:
            again = [*second.stages(), *_begun_in_logs(), *_new_in_run_cache(known, commands)]
            if second.wait() != 0:
                raise DataError("make repro ended well, and failed when it was asked for again")
        done = replace(done, ran_again=tuple(dict.fromkeys(again)))
        write_json(RUN, asdict(done))
    print(describe_run(done), flush=True)
    if not done.succeeded:
        raise DataError("the pipeline failed" if done.exit_status else "stages ran again that should have been done")


class _Repro:
    """`make repro` as long as the block lasts; a signal to this process reaches all that it started."""

    def __enter__(self) -> "_Repro":
        self._process = subprocess.Popen(
            ["make", "--no-print-directory", "repro"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: object) -> None:
        # A training that is asked to stop saves; GitHub kills after ten seconds.
        os.killpg(self._process.pid, number)

    def stages(self) -> Iterator[str]:
        """Print what it prints; give the name of each stage that begins."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            print(line, end="", flush=True)
            yield from re.findall(r"Running stage '([^']+)'", line)

    def wait(self) -> int:
        """Its exit status."""
        return self._process.wait()


def _begun_in_logs() -> list[str]:
    """The stages that have begun to run, by the logs of `thaw repro`, in the order in which they last wrote."""
    logs = sorted(paths.LOGS.glob("*.log"), key=lambda path: path.stat().st_mtime)
    texts = (log.read_text(encoding="utf-8", errors="replace") for log in logs)
    return [name for text in texts for name in re.findall(r"Running stage '([^']+)'", text)]


def _new_in_run_cache(known: set[Path], commands: dict[str, str]) -> list[str]:
    """The names of the stages that have left something in the run cache, in the order in which they did."""
    new = sorted((path for path in list_run_cache() if path not in known), key=lambda path: path.stat().st_mtime)
    found = (commands.get(load_yaml(path)["cmd"]) for path in new)
    return [name for name in found if name is not None]


def report(_: argparse.Namespace) -> None:
    """Write reports/ci.md, the text of a comment, and GitHub's step summary."""
    comparison = read_json(paths.COMPARISON_JSON) if paths.COMPARISON_JSON.exists() else {}
    outcome = Outcome(
        run=_read_run(),
        stale=_find_stale_or_why_not(),
        verdict=_lead(comparison.get("verdict", [])),
        summary=read_json(paths.SUMMARY) if paths.SUMMARY.exists() else {},
        params=_read_params(PARAMS),
        base=_read_base(),
        details=_address_of_run(),
    )
    comment = write_comment(outcome)
    write_text(COMMENT, comment)
    print(comment)
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        full = paths.COMPARISON_MD.read_text(encoding="utf-8") if paths.COMPARISON_MD.exists() else ""
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"{comment}\n{full}\n")


def _read_run() -> PipelineRun | None:
    if not RUN.exists():
        return None
    values = read_json(RUN)
    again = values["ran_again"]
    ran_again = None if again is None else tuple(again)
    # Killed, it could not say what had begun since it last wrote.
    ran = [*values["ran"], *(_begun_in_logs() if values["exit_status"] is None else [])]
    return PipelineRun(**values | {"ran": tuple(dict.fromkeys(ran)), "ran_again": ran_again})


def _read_base() -> Base | None:
    if not (BASE / "summary.json").exists():
        return None
    return Base(
        commit=(BASE / "commit").read_text(encoding="utf-8").strip(),
        summary=read_json(BASE / "summary.json"),
        params=_read_params(BASE / "params.yaml"),
    )


def _read_params(path: Path) -> dict[str, Any]:
    """The parameters; none where the file is damaged: then the pipeline did not run, and nothing is compared."""
    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError, ValueError):
        return {}


def _lead(verdict: list[str]) -> list[str]:
    """The verdict from its recommendation on; all of it if it has none."""
    first = next((index for index, line in enumerate(verdict) if line.startswith("Recommended")), 0)
    return verdict[first:]


def _address_of_run() -> str:
    """Where GitHub shows this run; nothing elsewhere."""
    parts = [os.environ.get(f"GITHUB_{name}", "") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else ""


def save(arguments: argparse.Namespace) -> None:
    """Keep what the next run needs; of the main branch, also what pull requests are compared with."""
    done = _read_run()
    if not _read_usable(LOCK):
        print("dvc.lock has nothing to keep", flush=True)
        return
    SAVED_LOCK.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(LOCK, SAVED_LOCK)
    if _dvc("gc", "--workspace", "--force", "--quiet") != 0:
        print("dvc gc failed; the cache is kept as it is", flush=True)
    if not arguments.main or done is None or not done.succeeded:
        return
    BASE.mkdir(parents=True, exist_ok=True)
    shutil.copy(paths.SUMMARY, BASE / "summary.json")
    shutil.copy(PARAMS, BASE / "params.yaml")
    write_text(BASE / "commit", _git("rev-parse", "HEAD"))
    if _has_remote() and _dvc("push", "--run-cache") != 0:
        raise DataError("DVC's remote did not take what was pushed: see above")


def lock(_: argparse.Namespace) -> None:
    """See whether the committed dvc.lock fits the parameters and the code; run nothing."""
    stale = _find_stale()
    if stale:
        print(describe_stale(stale), flush=True)
        raise ConfigError("the committed dvc.lock does not fit: run `make repro` and commit dvc.lock")
    print("The committed dvc.lock fits the parameters and the code.")


def _find_stale() -> dict[str, list[str]]:
    """What in the committed dvc.lock does not fit.

    Raises:
        ConfigError: it, or what it is compared with, cannot be read.
    """
    try:
        return stale_stages(_committed_lock())
    except DvcException as error:
        raise ConfigError(
            f"the committed dvc.lock cannot be compared: {one_line(error, most=400)}; mend the file (after a "
            "merge with conflicts, run `make repro`), and commit it"
        ) from None


def _find_stale_or_why_not() -> dict[str, list[str]]:
    try:
        return _find_stale()
    except ConfigError as error:
        return {"all stages": [str(error)]}


def _committed_lock() -> dict[str, Entry]:
    """The lock of the last commit: the one in the folder may be that of a restored run."""
    listed = _git("ls-tree", "--name-only", "HEAD", LOCK.as_posix()).strip()
    return read_lock(_git("show", f"HEAD:./{LOCK}")) if listed else {}


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout


def _has_remote() -> bool:
    """Whether the project has a DVC remote that is used by default."""
    with Repo(".") as repo:
        return bool(repo.config.get("core", {}).get("remote"))


def _dvc(*arguments: str) -> int:
    """The exit status of a command of DVC."""
    return subprocess.run([sys.executable, "-m", "dvc", *arguments], check=False).returncode


if __name__ == "__main__":
    sys.exit(exit_code(main))
