"""The whole pipeline, as people run it: `dvc repro` in a fresh copy of the project, small enough for a minute.

Run with: pytest tests/test_pipeline.py
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from conftest import ROOT

SMALL = {
    "sample.images_per_class": 30,
    "backbone.name": "mobilenet_v3_small",
    "backbone.weights": "none",
    "backbone.blocks": 2,
    "backbone.image_size_px": 32,
    "variants": {
        "frozen": [{"train": "head"}],
        "fine_tuned": [{"train": "all", "epochs": 1, "lr": [0.001, 0.003]}],
    },
    "seeds": [0],
}


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of this environment in `folder`."""
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def environment() -> dict[str, str]:
    """Of a person who has activated this environment, and has set nothing for MLflow."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW")}
    return inherited | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{inherited['PATH']}"}


def kill_in_stage(folder: Path, stage: str) -> None:
    """Run `dvc repro`, and kill it with all its processes (signal 9) when `stage` has begun to write, or to compute."""
    with subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=environment() | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as victim:
        assert victim.stdout is not None
        begun = any(line.startswith(f"Running stage '{stage}'") for line in victim.stdout)
        # A stage imports for a second, or for ten if it needs torch; then it writes beside the final names.
        deadline_s = time.monotonic() + 8
        while time.monotonic() < deadline_s and not any((folder / "data").rglob(".*.partial")):
            time.sleep(0.001)
        os.killpg(victim.pid, signal.SIGKILL)
    assert begun, f"{stage} did not run"


def stages_run(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", done.stdout)


def change_params(folder: Path, changes: dict[str, Any]) -> None:
    """Set values in params.yaml by their dotted paths."""
    path = folder / "params.yaml"
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    for key, value in changes.items():
        *parents, last = key.split(".")
        place = values
        for parent in parents:
            place = place[int(parent) if isinstance(place, list) else parent]
        place[int(last) if isinstance(place, list) else last] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def hashes(lock: Path) -> dict[str, str]:
    """The hash of each output in a dvc.lock, but for those that differ from run to run by their nature."""
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"]
    found = {out["path"]: out["md5"] for stage in stages.values() for out in stage["outs"]}
    return {path: md5 for path, md5 in found.items() if not path.startswith(("data/cost", "reports/comparison"))}


def copy_project(folder: Path) -> Path:
    """What a clone would hold, under git and DVC, with the small parameters."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        if name != "dvc.lock" and not name.startswith("reports/metrics") and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    change_params(folder, SMALL)
    for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "t"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which `dvc repro` has run; first.lock is the dvc.lock that it left."""
    folder = copy_project(tmp_path_factory.mktemp("finished"))
    done = run(folder, "dvc", "repro")
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(folder / "dvc.lock", folder / "first.lock")
    return folder


@pytest.fixture
def project(finished: Path) -> Iterator[Path]:
    """The finished project, with its parameters put back afterwards."""
    before = (finished / "params.yaml").read_text(encoding="utf-8")
    yield finished
    (finished / "params.yaml").write_text(before, encoding="utf-8")


def test_the_comparison_has_the_keys_that_tools_read(finished: Path) -> None:
    comparison = json.loads((finished / "reports/comparison.json").read_text(encoding="utf-8"))
    assert {"source", "classes", "files", "dropped", "splits"} <= comparison["dataset"].keys()
    assert {"train", "val", "test"} == comparison["dataset"]["splits"].keys()
    assert {"name", "blocks", "weights", "image_size_px"} <= comparison["backbone"].keys()
    assert [(run["variant"], run["seed"]) for run in comparison["runs"]] == [("frozen", 0), ("fine_tuned", 0)]
    for cell in comparison["runs"]:
        assert {"accuracy", "log_loss", "roc_auc", "ece"} <= cell["test"].keys()
        assert {"val", "trainable_parameters", "train_seconds", "mlflow_run_id"} <= cell.keys()
    assert {"variant", "accuracy_mean", "accuracy_ci95"} <= comparison["variants"][0].keys()
    assert {"a", "b", "difference", "p_value"} <= comparison["pairs"][0].keys()
    frozen, fine_tuned = comparison["runs"]
    assert frozen["backbone_tensors_moved"] == 0 < fine_tuned["backbone_tensors_moved"]


def test_the_report_says_that_the_images_are_drawn_and_how_to_get_real_ones(finished: Path) -> None:
    text = (finished / "reports/comparison.md").read_text(encoding="utf-8")
    assert "drawn" in text.splitlines()[0] + text.splitlines()[2]
    assert "data.source=" in text
    page = (finished / "reports/comparison.html").read_text(encoding="utf-8")
    assert set(re.findall(r'(?:src|href)="([^"#]{5})', page)) == {"data:"}  # opens offline


def test_every_cell_is_a_run_in_mlflow(finished: Path) -> None:
    client = MlflowClient(f"sqlite:///{finished / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = [run for run in found if "variant" in run.data.tags]
    assert sorted(run.info.run_name for run in runs) == ["fine_tuned-0", "frozen-0"]
    (parent,) = [run for run in found if run not in runs]
    assert {run.data.tags["mlflow.parentRunId"] for run in runs} == {parent.info.run_id}
    assert {f.path for f in client.list_artifacts(parent.info.run_id)} == {"report", "figures"}
    comparison = json.loads((finished / "reports/comparison.json").read_text(encoding="utf-8"))
    assert {run.info.run_id for run in runs} == {run["mlflow_run_id"] for run in comparison["runs"]}
    for logged in runs:
        assert "test_accuracy" in logged.data.metrics
        assert {"variant", "seed", "mlflow.source.git.commit", "dvc.images_md5"} <= logged.data.tags.keys()
        assert {f.path for f in client.list_artifacts(logged.info.run_id)} >= {"model", "figures"}


def test_a_second_repro_does_nothing(finished: Path) -> None:
    done = run(finished, "dvc", "repro")
    assert done.returncode == 0
    assert stages_run(done) == []
    assert "up to date" in done.stdout


def test_a_changed_learning_rate_runs_that_variant_alone(project: Path) -> None:
    change_params(project, {"variants.fine_tuned.0.lr": [0.001, 0.002]})
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    assert stages_run(done) == ["check", "train@fine_tuned-0", "evaluate@fine_tuned-0", "report"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"colour": "red"}, "colour: there is no such parameter"),
        ({"training.batch_size": "many"}, "training.batch_size: expected a whole number, got 'many'"),
        ({"data.source": "file"}, "data.source 'file' needs the path of an archive in data.path"),
        ({"data.source": "file", "data.path": "README.md"}, "README.md"),
        ({"data.source": "file", "data.path": "one_class.zip"}, "class"),
        ({"data.source": "file", "data.path": "no_image.zip"}, "image"),
        (
            {"data.source": "file", "data.path": "missing.zip"},
            "error: the archive missing.zip does not exist; correct data.path in params.yaml",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_earlier_reports_stay(
    project: Path, changes: dict[str, Any], complaint: str
) -> None:
    sound = (ROOT / "docs/sample.jpg").read_bytes()
    with zipfile.ZipFile(project / "one_class.zip", "w") as archive:
        archive.writestr("Cat/0.jpg", sound)
    with zipfile.ZipFile(project / "no_image.zip", "w") as archive:
        archive.writestr("Cat/0.jpg", b"<html>")
        archive.writestr("Dog/0.jpg", b"")
    before = {path: path.read_bytes() for path in (project / "reports").glob("comparison.*")}
    assert len(before) == 3
    change_params(project, changes)
    done = run(project, "dvc", "repro")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if complaint in line]
    assert len(errors) == 1, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert before == {path: path.read_bytes() for path in (project / "reports").glob("comparison.*")}


@pytest.mark.parametrize("arguments", [["frozne", "0"], ["frozen", "zero"], ["frozen"], []])
def test_a_stage_that_is_run_by_hand_with_wrong_arguments_says_which_are_right(
    finished: Path, arguments: list[str]
) -> None:
    done = run(finished, "python", "stages/train.py", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith("error: expected VARIANT SEED with VARIANT one of frozen, fine_tuned, got ")
    assert done.stderr.count("\n") == 1


def test_a_changed_archive_is_noticed(project: Path) -> None:
    # A failed download may have taken the archive away; repro brings it back from the cache.
    assert run(project, "dvc", "repro", "download").returncode == 0
    mine = project / "mine.zip"
    shutil.copy(project / "data/raw/archive", mine)
    change_params(project, {"data.source": "file", "data.path": "mine.zip"})
    assert "download" in run(project, "dvc", "status").stdout
    assert run(project, "dvc", "repro", "split").returncode == 0
    assert run(project, "dvc", "status", "download").stdout.strip().endswith("up to date.")
    with zipfile.ZipFile(mine, "a") as archive:
        archive.writestr("PetImages/Cat/new.jpg", (ROOT / "docs/sample.jpg").read_bytes())
    assert "download" in run(project, "dvc", "status").stdout


def test_a_changed_list_of_test_images_is_noticed(project: Path) -> None:
    splits = (project / "data/splits.csv").read_text(encoding="utf-8").splitlines()[1:]
    test_paths = [line.split(",")[0] for line in splits if line.split(",")[2] == "test"]
    (project / "list.txt").write_text("\n".join(test_paths), encoding="utf-8")
    change_params(project, {"split.test_list": "list.txt"})
    assert run(project, "dvc", "repro", "split").returncode == 0
    (project / "list.txt").write_text("\n".join(test_paths[1:]), encoding="utf-8")
    assert stages_run(run(project, "dvc", "repro", "split")) == ["split"]
    assert test_paths[0] not in [
        line.split(",")[0]
        for line in (project / "data/splits.csv").read_text(encoding="utf-8").splitlines()
        if line.split(",")[2] == "test"
    ]


def test_a_plain_folder_with_its_own_splits(project: Path) -> None:
    pictures = zipfile.ZipFile(project / "data/raw/archive")
    for label in ("Cat", "Dog"):
        names = [name for name in pictures.namelist() if re.fullmatch(rf"PetImages/{label}/\d\.jpg", name)]
        for number, name in enumerate(sorted(names)):
            place = project / "mine" / ("train", "valid", "Test")[number % 3] / label / f"{number}.jpg"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(pictures.read(name))
    change_params(project, {"data.source": "file", "data.path": "mine"})
    done = run(project, "dvc", "repro", "split")
    assert done.returncode == 0, done.stderr
    assert "in 2 classes (Cat " in done.stdout
    assert "val and test given\n" in done.stdout
    splits = (project / "data/splits.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert {line.split(",")[0].split("/")[0]: line.split(",")[2] for line in splits} == {
        "train": "train", "valid": "val", "Test": "test",
    }  # fmt: skip
    assert run(project, "dvc", "status", "download").stdout.strip().endswith("up to date.")
    shutil.copy(project / "mine/train/Cat/0.jpg", project / "mine/train/Cat/new.jpg")
    assert "download" in run(project, "dvc", "status").stdout
    change_params(project, {"data.layout": "csv"})
    done = run(project, "dvc", "repro", "split")
    assert "error: mine holds no table of labels: name one in data.labels" in done.stderr


def test_external_sets_and_corruptions_run_their_own_stages_and_the_report_alone(project: Path) -> None:
    assert run(project, "dvc", "repro").returncode == 0
    stages = run(project, "dvc", "stage", "list").stdout
    assert "external" not in stages, "with no set there is no stage"
    assert "corrupted@" not in stages
    before = (project / "reports/comparison.json").read_bytes()
    rows = [line.split(",") for line in (project / "data/splits.csv").read_text(encoding="utf-8").splitlines()[1:]]
    splits = {row[0]: row[2] for row in rows}
    web = project / "web.zip"
    with zipfile.ZipFile(project / "data/clean/images.zip") as source, zipfile.ZipFile(web, "w") as target:
        for path in splits:
            target.writestr(path.replace("Cat/", "cats/").replace("Dog/", "DOG/"), source.read(path))
    with_web = {"evaluate.external": {"web": {"path": "web.zip", "classes": {"cats": "Cat"}}}}
    change_params(project, with_web | {"evaluate.corruptions": ["contrast"]})
    done = run(project, "dvc", "repro")
    assert done.returncode == 0, done.stderr
    on_web = ["clean_external@web", "evaluate_external@web-frozen-0", "evaluate_external@web-fine_tuned-0"]
    corrupted = ["evaluate_corrupted@contrast-frozen-0", "evaluate_corrupted@contrast-fine_tuned-0"]
    assert sorted(stages_run(done)) == sorted(["check", *on_web, *corrupted, "report"])

    copies = sum(split != "test" for split in splits.values())
    report = (project / "reports/comparison.md").read_text(encoding="utf-8")
    assert f"{copies} images of web are copies of images that were trained on, and are left out." in report
    comparison = json.loads((project / "reports/comparison.json").read_text(encoding="utf-8"))
    (found,) = comparison["external"]
    assert (found["images"], found["copies_of_training_images"]) == (len(splits) - copies, copies)
    metrics = json.loads((project / "reports/metrics/corrupted/contrast/frozen-0.json").read_text(encoding="utf-8"))
    assert comparison["corrupted"]["variants"][0]["accuracy_mean"] == pytest.approx(metrics["accuracy"])
    client = MlflowClient(f"sqlite:///{project / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("thaw")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert len([logged for logged in runs if "external_web_accuracy" in logged.data.metrics]) == 2

    assert run(project, "thaw", "status").stdout.startswith("up to date: ")
    with zipfile.ZipFile(web, "a") as archive:
        archive.writestr("PetImages/cats/new.jpg", (ROOT / "docs/sample.jpg").read_bytes())
    assert run(project, "thaw", "status").stdout.splitlines()[:-1] == [
        "web.zip changed",
        "  stale: clean_external@web",
        f"behind these: {', '.join(on_web[1:])}, report",
    ]
    change_params(project, {"evaluate.external": {"web": {"path": "gone.zip"}}})
    done = run(project, "dvc", "repro")
    assert done.returncode != 0
    assert "gone.zip" in done.stderr
    assert "Traceback" not in done.stderr

    change_params(project, {"evaluate.external": {}, "evaluate.corruptions": []})
    assert run(project, "dvc", "repro").returncode == 0
    assert (project / "reports/comparison.json").read_bytes() == before


def test_the_unpacked_images_can_be_deleted(project: Path) -> None:
    assert run(project, "dvc", "repro", "clean").returncode == 0
    shutil.rmtree(project / "data/images")
    assert stages_run(run(project, "dvc", "repro", "clean")) == []
    change_params(project, {"clean.min_side_px": 40})
    done = run(project, "dvc", "repro", "clean")
    assert done.returncode == 0, done.stderr
    assert stages_run(done) == ["check", "clean"]


def test_going_back_to_earlier_images_cleans_these(project: Path) -> None:
    # DVC brings the earlier checksums back without running `unzip`: the folder still holds the later images.
    assert run(project, "dvc", "repro", "clean").returncode == 0
    before = (project / "data/clean/manifest.csv").read_bytes()
    change_params(project, {"sample.seed": 1})
    assert run(project, "dvc", "repro", "clean").returncode == 0
    assert (project / "data/clean/manifest.csv").read_bytes() != before
    change_params(project, {"sample.seed": 0, "clean.max_pixels": 99_000_000})
    done = run(project, "dvc", "repro", "clean")
    assert done.returncode == 0, done.stderr
    assert stages_run(done) == ["check", "clean"]
    assert (project / "data/clean/manifest.csv").read_bytes() == before


def test_a_lost_mlflow_is_filled_again_by_sync(project: Path) -> None:
    (project / "mlflow.db").unlink()
    done = run(project, "thaw", "sync")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("MLflow shows 2 of 2 runs: http://127.0.0.1:5000/#/experiments/")


def test_two_clones_give_the_same_bytes_even_if_one_is_killed(finished: Path, tmp_path: Path) -> None:
    clone = copy_project(tmp_path)
    for stage in ("unzip", "clean", "train@frozen-0"):
        kill_in_stage(clone, stage)
    assert run(clone, "dvc", "repro").returncode == 0
    assert hashes(clone / "dvc.lock") == hashes(finished / "first.lock")
