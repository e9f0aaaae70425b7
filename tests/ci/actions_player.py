"""GitHub Actions, played in clones: the steps of a job in .github/workflows/ci.yaml, with a store of caches.

Steps with `run` are done by bash, as GitHub does them; of the actions, checkout is `git clone`, setup-python nothing,
and caches and artifacts are copied. Of GitHub's expressions, those are known that the workflow uses.
"""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml


@dataclass
class Actions:
    """A repository on GitHub, and what Actions keep for it."""

    origin: Path
    """The repository."""
    store: Path
    """Where caches and artifacts are kept."""
    caches: list[tuple[str, str, Path]] = field(default_factory=list)
    """Scope (main or the pull request), key, folder; the newest last."""
    runs: int = 0

    def play(self, branch: str, *, stop: Callable[[Path], bool] | None = None) -> "Job":
        """Run the job `pipeline` for a push to main, or else for a pull request of the branch to main.

        When `stop` says so of the clone, the step that is running is killed, with all that it has started.
        """
        self.runs += 1
        folder = self.store / f"run-{self.runs}" / "clone"
        subprocess.run(["git", "clone", "-q", "-b", branch, self.origin, folder], check=True)
        stand_in_environment(folder)
        job = Job(actions=self, folder=folder, branch=branch, stop=stop)
        job.play()
        return job


@dataclass
class Job:
    """One run of a job in a fresh clone."""

    actions: Actions
    folder: Path
    branch: str
    stop: Callable[[Path], bool] | None
    failed: list[str] = field(default_factory=list)
    """The steps that failed, by name."""
    output: str = ""
    cancelled: bool = False
    seconds: float = 0.0
    """Of the steps with `run`."""

    @property
    def event(self) -> str:
        return "push" if self.branch == "main" else "pull_request"

    @property
    def artifacts(self) -> Path:
        return self.folder.parent / "artifacts"

    @property
    def summary(self) -> str:
        return (self.folder.parent / "summary.md").read_text(encoding="utf-8")

    @property
    def ran(self) -> str:
        """The line that says how many stages ran."""
        (line,) = re.findall(r"^(?:\d+ stages: .*|Stopped .*|\*\*Failed.*)$", self.summary, re.MULTILINE)
        return str(line)

    def play(self) -> None:
        workflow = yaml.safe_load((self.folder / ".github/workflows/ci.yaml").read_text(encoding="utf-8"))
        for step in workflow["jobs"]["pipeline"]["steps"]:
            if self._applies(str(step.get("if", "success()"))):
                self._do(step)

    def _applies(self, condition: str) -> bool:
        condition = condition.removeprefix("${{").removesuffix("}}").strip()
        words = {
            "success()": not self.failed and not self.cancelled,
            "always()": True,
            "!cancelled()": not self.cancelled,
            "github.event_name == 'pull_request'": self.event == "pull_request",
            "github.event_name == 'push'": self.event == "push",
        }
        parts = condition.split(" && ")
        # A condition without a function of its own holds only where all went well.
        implied = [] if any(part.endswith("()") for part in parts) else ["success()"]
        return all(words[part] for part in [*implied, *parts])

    def _do(self, step: dict[str, Any]) -> None:
        name: str = step.get("name") or step.get("run") or step["uses"]
        if "run" in step:
            if self._shell(step) != 0:
                self.failed.append(name)
            return
        action, inputs = step["uses"].split("@")[0], {key: self._fill(value) for key, value in step["with"].items()}
        if action == "actions/cache/restore":
            self._restore(inputs)
        elif action == "actions/cache/save":
            self._save(inputs)
        elif action == "actions/upload-artifact":
            source = self.folder / inputs["path"]
            if source.is_dir():
                shutil.copytree(source, self.artifacts / inputs["name"])
            elif source.exists():
                (self.artifacts / inputs["name"]).mkdir(parents=True)
                shutil.copy(source, self.artifacts / inputs["name"])
        else:
            assert action in {"actions/checkout", "actions/setup-python"}, action

    def _shell(self, step: dict[str, Any]) -> int:
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "GITHUB_"))}
        environment = inherited | {
            "PYTHONPATH": str(self.folder / "src"),
            "PYTHONUNBUFFERED": "1",
            "GITHUB_STEP_SUMMARY": str(self.folder.parent / "summary.md"),
            "GITHUB_SERVER_URL": "https://github.example",
            "GITHUB_REPOSITORY": "owner/project",
            "GITHUB_RUN_ID": str(self.actions.runs),
            **{key: self._fill(value) for key, value in step.get("env", {}).items()},
        }
        log = self.folder.parent / "log.txt"
        start_s = time.monotonic()
        with log.open("a") as file:
            process = subprocess.Popen(
                ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
                cwd=self.folder, env=environment, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            while process.poll() is None:
                if self.stop is not None and self.stop(self.folder):
                    kill_tree(process.pid)
                    self.cancelled, self.stop = True, None
                time.sleep(0.02)
        self.seconds += time.monotonic() - start_s
        self.output = log.read_text(encoding="utf-8")
        return process.wait()

    def _fill(self, value: object) -> str:
        """Text with its expressions replaced."""
        requirements = (self.folder / "requirements.txt").read_bytes()
        known = {
            "runner.os": "Linux",
            "env.PYTHON": "3.11",
            "hashFiles('requirements.txt')": hashlib.sha256(requirements).hexdigest(),
            "github.run_id": str(self.actions.runs),
            "github.run_attempt": "1",
            "github.sha": self._commit(self.branch),
            "github.event.pull_request.base.sha": self._commit("main"),
            "github.event_name == 'push' && 'yes' || ''": "yes" if self.event == "push" else "",
        }
        return re.sub(r"\$\{\{ (.*?) \}\}", lambda match: known[match[1]], str(value))

    def _commit(self, branch: str) -> str:
        command = ["git", "rev-parse", branch]
        return subprocess.run(
            command, cwd=self.actions.origin, capture_output=True, text=True, check=True
        ).stdout.strip()

    def _restore(self, inputs: dict[str, str]) -> None:
        prefixes = [inputs["key"], *inputs.get("restore-keys", "").split()]
        for scope in dict.fromkeys([self.branch, "main"]):
            for prefix in prefixes:
                for owner, key, folder in reversed(self.actions.caches):
                    if owner == scope and key.startswith(prefix):
                        shutil.copytree(folder, self.folder, dirs_exist_ok=True, symlinks=True)
                        return

    def _save(self, inputs: dict[str, str]) -> None:
        kept = self.actions.store / f"cache-{len(self.actions.caches)}"
        for path in inputs["path"].split():
            if (self.folder / path).exists():
                shutil.copytree(self.folder / path, kept / path, symlinks=True)
        if kept.exists():
            self.actions.caches.append((self.branch, inputs["key"], kept))


def stand_in_environment(folder: Path) -> None:
    """A .venv that is this process's own environment, so that `make` has nothing to install."""
    venv = folder / ".venv"
    venv.mkdir()
    for entry in Path(sys.prefix).iterdir():
        (venv / entry.name).symlink_to(entry)
    (venv / "ready").unlink(missing_ok=True)
    ready = venv / "ready"
    ready.touch()
    later_s = time.time() + 86400
    os.utime(ready, (later_s, later_s))


def kill_tree(pid: int) -> None:
    """Kill a process and all that came of it (signal 9), whatever session they are in."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split():
        kill_tree(int(child))
    os.kill(pid, signal.SIGKILL)
