"""`thaw repro`: what `dvc repro` does, with as many stages at once as the machine has room for.

Each stage is `dvc repro --single-item` in a process of its own, once its upstream stages are done; DVC decides what is
stale, and finds results in its cache. A stage that fails stops those alone that need it. At the end DVC is asked
whether all is up to date; what is not, since something was edited meanwhile, is run likewise.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType

from thaw import paths
from thaw.compute.gpus import list_gpus
from thaw.errors import ConfigError, ThawError, TrainingError
from thaw.params import Params
from thaw.pipeline.dvc_stages import drop_torn_rwlock, find_changed, load_dvc, outcome_of, plan, reproduce
from thaw.pipeline.jobs import Job, start_job
from thaw.pipeline.lock import exclusive
from thaw.pipeline.machine import choose_jobs, environment_of_job
from thaw.pipeline.reasons import MOST_NAMED
from thaw.pipeline.schedule import Outcome, Schedule, Stage
from thaw.pipeline.view import View
from thaw.utils.words import count, name_some

REFRESH_S = 0.5
ROUNDS = 3
"""What is edited while stages run is run again, so often at most."""


class StoppedError(TrainingError):
    """A signal came; `number` is its number."""

    def __init__(self, number: int, *, names: Sequence[str]) -> None:
        stopped = f" ({', '.join(names)} stopped)" if names else ""
        super().__init__(f"stopped by {signal.Signals(number).name}{stopped}; run the same command to resume")
        self.number = number


def reproduce_pipeline(params: Params, *, targets: Sequence[str] = (), jobs: int | None = None) -> None:
    """Bring all outputs up to date, or those of some stages.

    Args:
        params: read and valid.
        targets: names of stages, with wildcards, which run with all that lies before them; none stands for all.
        jobs: how many stages at once at most; None: as many as `choose_jobs` says.

    Raises:
        ConfigError: another `thaw repro` is running, DVC cannot read the pipeline, or a target names no stage.
        TrainingError: a stage failed.
        StoppedError: SIGINT, SIGTERM or SIGHUP came; what ran has saved and ended.
    """
    with exclusive(paths.REPRO_LOCK), _captured_signals() as signals:
        load_dvc()
        drop_torn_rwlock()
        gpus = list_gpus()
        slots = jobs or choose_jobs(threads=params.compute.threads, gpus=gpus)
        schedule, rounds = Schedule(plan(targets)), []
        # Again, where something was edited meanwhile.
        for _ in range(ROUNDS):
            if schedule.wanted:
                rounds.append(schedule)
                _Driver(schedule, signals, slots=slots, gpus=gpus, threads=params.compute.threads).run()
                schedule = Schedule(plan(targets))
        if schedule.wanted:
            raise TrainingError(
                f"stale again after {ROUNDS} rounds: {name_some(schedule.wanted)}; `thaw status` says why"
            )
        if signals:
            raise StoppedError(signals[0], names=[])
        View().say(_summarise(rounds))


class _Driver:
    """Starts jobs, waits for them, and says what becomes of them."""

    def __init__(
        self, schedule: Schedule, signals: list[int], *, slots: int, gpus: Sequence[str], threads: int
    ) -> None:
        self.schedule, self.signals, self.view = schedule, signals, View()
        self.slots, self.gpus, self.threads = slots, gpus, threads
        self.running: list[Job] = []

    def run(self) -> None:
        """Run until nothing is left to do; raises TrainingError or StoppedError then, if need be."""
        at_once = min(self.slots, len(self.schedule.wanted))
        self.view.say(f"thaw repro: {count(len(self.schedule.wanted), 'stage')} to look at, {at_once} at once")
        try:
            while not self.signals and not self.schedule.is_over():
                self._start_ready()
                self._wait()
        except ThawError:
            # For instance a params.yaml that was saved half-written: nothing runs on behind the message.
            self._stop()
            raise
        if self.signals:
            names = self._stop()
            raise StoppedError(self.signals[0], names=names)
        failed, skipped = self.schedule.names("failed"), self.schedule.names("skipped")
        if failed:
            logs = name_some([f"{name} (see {_log_of(name)})" for name in failed])
            not_run = ", ".join(skipped) if len(skipped) <= MOST_NAMED else f"{len(skipped)} stages"
            left_out = f"; not run for that: {not_run}" if skipped else ""
            raise TrainingError(f"failed: {logs}{left_out}; mend that, and run the same command to go on")

    def _start_ready(self) -> None:
        ready = self.schedule.ready()
        free = self.slots - len(self.running)
        if free <= 0 or not ready:
            return
        # What only an upstream stage can have made stale: asked for all at once, where there are several.
        doubtful = [stage for stage in ready if not stage.changed]
        if len(doubtful) > 1:
            changed = find_changed([stage.name for stage in doubtful])
            for stage in doubtful:
                if stage.name not in changed:
                    self.schedule.finish(stage.name, "unchanged")
            ready = [stage for stage in ready if stage.name not in self.schedule.outcomes]
        for stage in ready[:free]:
            self._start(stage)

    def _start(self, stage: Stage) -> None:
        gpu = None
        if self.gpus and self.slots > 1:
            used = [job.gpu for job in self.running]
            gpu = min(self.gpus, key=used.count)
        # A cell of a matrix has others beside it; a stage that there is once has the machine almost to itself.
        beside = self.slots if "@" in stage.name else 1
        environment = environment_of_job(gpu=gpu, jobs=beside, threads=self.threads)
        work: Callable[[], int] = partial(reproduce, stage.name)
        self.running.append(start_job(stage.name, work, log=_log_of(stage.name), gpu=gpu, environment=environment))
        self.schedule.start(stage.name)

    def _wait(self) -> None:
        """Wait for a job to end, a signal, or the time to show how far they are."""
        ended = wait([job.process.sentinel for job in self.running], timeout=REFRESH_S)
        for job in [job for job in self.running if job.process.sentinel in ended]:
            self._end(job)
        self.view.show_running(self.running)

    def _end(self, job: Job) -> None:
        code = job.finish()
        self.running.remove(job)
        outcome: Outcome = "failed"
        if code == 0:
            outcome = outcome_of(job.name, job.log.read_text(encoding="utf-8", errors="replace"))
        elif self.signals:
            outcome = "skipped"
        self.schedule.finish(job.name, outcome)
        if outcome != "skipped":
            done = len(self.schedule.names("ran", "cached", "unchanged", "failed"))
            self.view.show_end(job, outcome, done=done, wanted=len(self.schedule.wanted))

    def _stop(self) -> list[str]:
        """Let all jobs save and end; at a second signal, end them at once. Returns their names."""
        names = [job.name for job in self.running]
        if names:
            self.view.say(f"stopping {', '.join(names)}; again to kill")
        for job in self.running:
            job.stop()
        while self.running:
            if len(self.signals) > 1:
                for job in self.running:
                    job.kill()
            self._wait()
        return names


def _log_of(stage: str) -> Path:
    return paths.LOGS / f"{stage}.log"


def _summarise(rounds: Sequence[Schedule]) -> str:
    ran, cached = (sum(len(schedule.names(outcome)) for schedule in rounds) for outcome in ("ran", "cached"))
    return f"up to date: {count(ran, 'stage')} ran, {cached} from the cache"


@contextmanager
def _captured_signals() -> Iterator[list[int]]:
    """The numbers of the signals that come in the block, instead of their effect."""
    came: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    # nohup has made SIGHUP ignored, and it stays so.
    heeded = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, note) for number in heeded}
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def require_jobs(jobs: int | None) -> None:
    """ConfigError for a number of jobs that cannot be."""
    if jobs is not None and jobs < 1:
        raise ConfigError(f"--jobs: expected a number of at least 1, got {jobs}")
