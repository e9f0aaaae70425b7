"""CI's job `pipeline`, played in clones of a toy project that has this project's workflow and tools.

Run with: pytest tests/ci
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

import ci_pipeline
from ci.actions_player import Actions, Job
from ci_lock import find_runs, merge_locks, read_lock, stale_stages
from conftest import ROOT
from thaw.errors import ConfigError

STAGES = {
    "check": """
from pathlib import Path
from thaw.utils.code_closure import list_code
list_code(Path("stages"), Path("data/code"), package=Path("src/thaw"))
""",
    # The cost differs from run to run, as seconds do. On GitHub, the rate 3 needs two tries: one leaves a checkpoint.
    "train": """
import os, sys, time, uuid
from pathlib import Path
import yaml
from thaw.utils.atomic import write_text
variant = sys.argv[1]
rate = yaml.safe_load(Path("params.yaml").read_text())["variants"][variant]
checkpoint = Path(f".thaw/checkpoints/{variant}-{rate}")
if rate == 3 and "GITHUB_RUN_ID" in os.environ and not checkpoint.exists():
    write_text(checkpoint, "half")
    time.sleep(600)
write_text(Path(f"data/models/{variant}"), str(rate))
write_text(Path(f"data/cost/{variant}"), uuid.uuid4().hex)
""",
    "report": """
from pathlib import Path
from thaw.utils.atomic import write_json, write_text
accuracies = {path.name: 0.8 + float(path.read_text()) / 100 for path in sorted(Path("data/models").iterdir())}
rows = {v: {"test_accuracy": a, "ci95_low": a - 0.05, "ci95_high": a + 0.05} for v, a in accuracies.items()}
write_json(Path("reports/summary.json"), {"recommended": "fast", **rows})
write_json(Path("reports/comparison.json"), {"verdict": ["Of these.", "Recommended: fast; it is the cheapest."]})
write_text(Path("reports/comparison.md"), "# The whole report")
""",
}
DVC_YAML = """
stages:
  check:
    cmd: python stages/check.py
    deps: [params.yaml, requirements.txt, src/thaw, stages]
    outs: [data/code]
  train:
    matrix: {variant: "${variants}"}
    cmd: python stages/train.py ${item.variant}
    deps: [data/code/train.txt]
    params: ["variants.${item.variant}"]
    outs: ["data/models/${item.variant}", "data/cost/${item.variant}"]
  report:
    cmd: python stages/report.py
    deps: [data/code/report.txt, data/models, data/cost]
    outs: [reports/summary.json, reports/comparison.json, reports/comparison.md]
"""
MAKEFILE = "setup:\nrepro:\n\t@.venv/bin/python -m dvc repro\nexport PATH := $(CURDIR)/.venv/bin:$(PATH)\n"


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments], cwd=folder, check=True)


def commit(origin: Path, branch: str, edit: Callable[[], object]) -> None:
    """Make a change on a branch that starts from where it is, or from main."""
    known = subprocess.run(["git", "rev-parse", "-q", "--verify", branch], cwd=origin, stdout=subprocess.DEVNULL)
    git(origin, "checkout", "-q", *([branch] if known.returncode == 0 else ["-b", branch, "main"]))
    edit()
    git(origin, "add", "-A")
    git(origin, "commit", "-qm", "a change")
    git(origin, "checkout", "-q", "main")


def write_rates(folder: Path, **rates: int) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump({"variants": rates}), encoding="utf-8")


def run_elsewhere(origin: Path, folder: Path) -> None:
    """Run the pipeline on another machine, and commit the dvc.lock that it leaves."""
    git(origin, "clone", "-q", str(origin), str(folder))
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "repro"], cwd=folder, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(folder / "src"), "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    commit(origin, "main", lambda: shutil.copy(folder / "dvc.lock", origin / "dvc.lock"))


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy project, with the dvc.lock of another machine's run on main."""
    folder = tmp_path_factory.mktemp("origin")
    for name in (".github", ".dvc/config", ".dvc/.gitignore", ".dvcignore", ".gitignore", "tools", "src/thaw"):
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    shutil.copy(ROOT / "requirements.txt", folder)
    for name, code in STAGES.items():
        (folder / "stages").mkdir(exist_ok=True)
        (folder / f"stages/{name}.py").write_text(code, encoding="utf-8")
    (folder / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (folder / "Makefile").write_text(MAKEFILE, encoding="utf-8")
    for name in ("data", "reports"):
        (folder / name).mkdir()
        (folder / name / ".gitignore").write_text("*\n!.gitignore\n", encoding="utf-8")
    write_rates(folder, fast=1, slow=2)
    for command in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-qm", "the first"]):
        git(folder, *command)
    run_elsewhere(folder, tmp_path_factory.mktemp("elsewhere") / "clone")
    return folder


@pytest.fixture(scope="module")
def jobs(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    """What CI does, in this order, at each of these pushes."""
    github = Actions(origin=origin, store=tmp_path_factory.mktemp("github"))
    played = {"empty cache": github.play("main")}
    commit(origin, "main", lambda: (origin / "README.md").write_text("Read me.\n", encoding="utf-8"))
    played["README changed"] = github.play("main")
    commit(origin, "other-rate", lambda: write_rates(origin, fast=1, slow=3))
    played["killed"] = github.play("other-rate", stop=lambda clone: (clone / ".thaw/checkpoints/slow-3").exists())
    played["after that"] = github.play("other-rate")
    return played


def test_all_runs_once_where_the_cache_is_empty(jobs: dict[str, Job]) -> None:
    job = jobs["empty cache"]
    assert job.failed == [], job.output
    assert job.ran.startswith("4 stages: 4 ran (check, train@fast, train@slow, report), 0 from the cache; ")
    assert job.ran.endswith("At once again: 0 ran.")


def test_nothing_runs_where_nothing_changed_though_another_machine_wrote_the_lock(jobs: dict[str, Job]) -> None:
    job = jobs["README changed"]
    assert job.failed == [], job.output
    assert job.ran.startswith("4 stages: 0 ran, 4 from the cache; ")
    assert "# The whole report" in job.summary


def test_a_killed_job_leaves_its_stages_and_checkpoints_to_the_next(jobs: dict[str, Job]) -> None:
    killed, following = jobs["killed"], jobs["after that"]
    assert killed.cancelled
    assert killed.ran.startswith("Stopped before the end: 2 of 4 stages had begun (check, train@slow).")
    assert following.ran.startswith("4 stages: 2 ran (train@slow, report), 2 from the cache; "), following.output


def test_a_lock_that_does_not_fit_fails_at_the_end_and_says_where(jobs: dict[str, Job]) -> None:
    assert jobs["after that"].failed == ["The committed dvc.lock fits"]
    assert "- train@slow: variants.slow\n" in jobs["after that"].summary


def test_a_comment_compares_with_the_base(jobs: dict[str, Job]) -> None:
    assert not (jobs["README changed"].artifacts / "comment").exists()
    comment = (jobs["after that"].artifacts / "comment/ci.md").read_text(encoding="utf-8")
    assert "**Recommended: fast; it is the cheapest.**" in comment
    assert "| slow.test_accuracy | 0.82 | 0.83 | +0.01 |" in comment
    assert "| fast.test_accuracy | 0.81 | 0.81 |  |" in comment
    assert "| variants.slow | 2 | 3 |" in comment
    assert "variants.fast" not in comment
    assert "slow (base)  " in comment
    assert "https://github.example/owner/project/actions/runs/4" in comment


@dataclass(frozen=True, kw_only=True)
class RemoteJobs:
    """What CI does where a folder is the project's DVC remote, and how many files lie there after each job."""

    played: dict[str, Job]
    files: dict[str, int]


@pytest.fixture(scope="module")
def remote_jobs(origin: Path, tmp_path_factory: pytest.TempPathFactory) -> RemoteJobs:
    """A pull request and main, and then the pull request where GitHub has dropped all caches."""
    folder = tmp_path_factory.mktemp("with-remote")
    project, remote = folder / "project", folder / "remote"
    remote.mkdir()
    git(folder, "clone", "-q", str(origin), str(project))

    def add_remote() -> None:
        config = (project / ".dvc/config").read_text(encoding="utf-8")
        assert config.startswith("[core]\n")
        text = config.replace("[core]\n", "[core]\n    remote = storage\n")
        (project / ".dvc/config").write_text(f"{text}['remote \"storage\"']\n    url = {remote}\n", encoding="utf-8")

    commit(project, "main", add_remote)
    commit(project, "faster", lambda: write_rates(project, fast=4, slow=2))
    github = Actions(origin=project, store=folder / "github")
    without_caches = Actions(origin=project, store=folder / "later")
    played, files = {}, {}
    for title, actions, branch in (
        ("a pull request", github, "faster"),
        ("main", github, "main"),
        ("without caches", without_caches, "faster"),
    ):
        played[title] = actions.play(branch)
        files[title] = sum(path.is_file() for path in remote.rglob("*"))
    return RemoteJobs(played=played, files=files)


def test_main_alone_pushes_to_the_remote(remote_jobs: RemoteJobs) -> None:
    assert remote_jobs.played["a pull request"].ran.startswith("4 stages: 4 ran ")
    assert remote_jobs.played["main"].failed == [], remote_jobs.played["main"].output
    assert remote_jobs.files["a pull request"] == 0
    assert remote_jobs.files["main"] > 0
    assert remote_jobs.files["without caches"] == remote_jobs.files["main"]


def test_what_main_pushed_is_not_run_again_where_github_has_no_cache(remote_jobs: RemoteJobs) -> None:
    job = remote_jobs.played["without caches"]
    assert job.ran.startswith("4 stages: 3 ran (check, train@fast, report), 1 from the cache; "), job.output


def test_a_run_that_a_kill_left_half_written_is_left_aside(
    origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "-q", str(origin), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    torn = Path(".dvc/cache/runs/aa/aab/torn")
    torn.parent.mkdir(parents=True)
    torn.write_text("cmd: [", encoding="utf-8")
    assert find_runs() == {}


@pytest.mark.parametrize(
    ("edited", "old", "new", "stale"),
    [
        ("params.yaml", "slow: 2", "slow: 2", {}),
        ("params.yaml", "slow: 2", "slow: 4", {"train@slow": ["variants.slow"]}),
        ("params.yaml", "slow: 2", "slow: 2\n  new: 1", {"train@new": ["it has no entry"]}),
        ("stages/report.py", "0.8", "0.7", {"report": ["its code, or a library's version"]}),
        ("dvc.yaml", "data/cost]", "data/cost, README.md]", {"report": ["README.md"]}),
        ("dvc.yaml", "train.py ${item.variant}", "train.py ${item.variant} 1",
         {"train@fast": ["its command"], "train@slow": ["its command"]}),
    ],
)  # fmt: skip
def test_what_does_not_fit_a_lock_is_named(
    jobs: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    edited: str, old: str, new: str, stale: dict[str, list[str]],
) -> None:  # fmt: skip
    git(tmp_path, "clone", "-q", str(jobs["empty cache"].actions.origin), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    text = Path(edited).read_text(encoding="utf-8")
    assert old in text
    Path(edited).write_text(text.replace(old, new), encoding="utf-8")
    assert stale_stages(read_lock(Path("dvc.lock").read_text(encoding="utf-8"))) == stale


@pytest.mark.parametrize(
    ("damaged", "text"), [("dvc.lock", "<<<<<<< HEAD\nstages: {}\n=======\n"), ("params.yaml", "out: [1\n")]
)
def test_a_damaged_file_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(ROOT / ".dvc", tmp_path / ".dvc", ignore=shutil.ignore_patterns("cache", "tmp"))
    Path("dvc.yaml").write_text("stages: {draw: {cmd: 'true', outs: ['${out}']}}\n", encoding="utf-8")
    Path("params.yaml").write_text("out: picture\n", encoding="utf-8")
    Path("requirements.txt").touch()
    Path(damaged).write_text(text, encoding="utf-8")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "damaged"]):
        git(tmp_path, *command)
    sentence = rf"^the committed dvc\.lock cannot be compared: .*{damaged}.*; mend the file"
    with pytest.raises(ConfigError, match=sentence):
        ci_pipeline.lock(argparse.Namespace())
    ci_pipeline.report(argparse.Namespace())
    said = Path("reports/ci.md").read_text(encoding="utf-8")
    assert "- all stages: the committed dvc.lock cannot be compared: " in said


def test_an_entry_counts_only_where_the_cache_has_its_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def keep(md5: str, text: str = "") -> None:
        path = Path(".dvc/cache/files/md5", md5[:2], md5[2:])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def entry(*hashes: str) -> dict[str, object]:
        return {"cmd": "x", "outs": [{"path": md5, "md5": md5} for md5 in hashes]}

    keep("aa1")
    keep("bb1.dir", '[{"md5": "aa1", "relpath": "x"}]')
    keep("bb2.dir", '[{"md5": "aa1", "relpath": "x"}, {"md5": "aa2", "relpath": "y"}]')
    committed = {"whole": entry("aa1", "bb1.dir"), "part": entry("aa1", "aa2"), "folder": entry("bb2.dir")}
    saved = {"whole": entry("aa2"), "part": entry("aa1"), "folder": entry("aa2"), "other": entry("aa1")}
    assert merge_locks(committed, saved) == {
        "whole": committed["whole"], "part": saved["part"], "other": saved["other"],
    }  # fmt: skip


def test_the_committed_lock_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is committed counts, not what is being edited; CI's last step looks at the same.
    if not (ROOT / ".git").exists():
        pytest.skip(f"{ROOT} is not a git repository")
    git(tmp_path, "clone", "-q", str(ROOT), "clone")
    monkeypatch.chdir(tmp_path / "clone")
    assert stale_stages(read_lock(Path("dvc.lock").read_text(encoding="utf-8"))) == {}, (
        "run `make repro`, commit dvc.lock"
    )
