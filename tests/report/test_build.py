"""report.build: the files under reports/, the schema of comparison.json, and what happens when a file is missing.

Run with: pytest tests/report/test_build.py
"""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from conftest import ROOT
from report import report_fixtures
from report.report_fixtures import ONLY_FROZEN, RUN_IDS, make_params, make_project, write_pages
from thaw import paths
from thaw.diagnosis.label_issues_csv import read_label_issues, write_label_issues
from thaw.errors import DataError
from thaw.report.build import SCHEMA, ComparisonFile, write_report, write_schema
from thaw.report.results import read_results
from thaw.report.summarise import build_comparison

written = report_fixtures.written

TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COMMAND = "python -c 'from thaw.report.build import write_schema; write_schema()'"


def test_the_published_schema_is_that_of_the_model(tmp_path: Path) -> None:
    write_schema(tmp_path / "schema.json")
    expected = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert (ROOT / SCHEMA).read_text(encoding="utf-8") == expected, f"write it anew: {COMMAND}"


def test_every_field_of_the_schema_says_what_it_is() -> None:
    schema = ComparisonFile.model_json_schema(mode="serialization")
    summaries = [schema, *(part for name, part in schema["$defs"].items() if name.endswith("Summary"))]
    assert len(summaries) > 4
    for part in summaries:
        assert part["additionalProperties"] is False
        assert all("description" in field for field in part["properties"].values()), part["title"]


def test_the_summary_holds_few_numbers_of_the_comparison(written: Path) -> None:
    comparison = json.loads((written / paths.COMPARISON_JSON).read_text())
    summary = json.loads((written / paths.SUMMARY).read_text())
    assert list(summary) == ["recommended", *(row["variant"] for row in comparison["variants"])]
    assert summary["recommended"] == comparison["recommended"]["variant"]
    for row in comparison["variants"]:
        low, high = row["accuracy_ci95"]
        assert summary[row["variant"]] == {
            "test_accuracy": row["accuracy_mean"],
            "ci95_low": low,
            "ci95_high": high,
            "val_accuracy": pytest.approx(0.9),
            "tflop": row["cost"]["flops"] / 1e12,
        }


def test_comparison_json_is_the_model_dumped(written: Path) -> None:
    text = (written / paths.COMPARISON_JSON).read_text(encoding="utf-8")
    comparison = ComparisonFile.model_validate_json(text)
    assert comparison.model_dump(mode="json") == json.loads(text)
    assert [run.mlflow_run_id for run in comparison.runs] == list(RUN_IDS.values())


def test_only_the_runs_of_params_are_reported(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / paths.FIGURES / "gone-7-curves.png").write_bytes(b"of a variant that is no more")
    params = make_params(seeds=[1], variants=ONLY_FROZEN)
    write_pages(tmp_path / "copy", params)
    comparison = json.loads((tmp_path / "copy" / paths.COMPARISON_JSON).read_text())
    assert [(run["variant"], run["seed"], run["mlflow_run_id"]) for run in comparison["runs"]] == [("frozen", 1, None)]
    names = {path.name for path in (tmp_path / "copy" / paths.FIGURES).iterdir()}
    assert {name for name in names if "-" in name} == {f"frozen-1-{k}.png" for k in ("curves", "confusion", "images")}


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    params = make_params(seeds=[0], variants=ONLY_FROZEN)
    for name in ("one", "two"):
        make_project(tmp_path / name, params, per_class=12, mistakes={"frozen": [[0]]})
        write_report(tmp_path / name, params=params, run_ids={})
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name / "reports").rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert len(one) > 10
    assert one == two


def test_dropped_images_that_decode_are_shown(written: Path) -> None:
    assert (written / paths.FIGURES / "dropped.png").is_file()
    assert "Dropped, though they decode" in (written / paths.COMPARISON_HTML).read_text(encoding="utf-8")


def test_labels_that_a_weak_head_contradicts_are_not_shown(written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "copy")
    table = tmp_path / "copy" / paths.LABEL_ISSUES
    other = {"Cat": "Dog", "Dog": "Cat"}
    checked = read_label_issues(table)
    write_label_issues(table, [dataclasses.replace(row, likely_label=other[row.label]) for row in checked])
    write_pages(tmp_path / "copy", make_params())
    for root, shown in ((written, True), (tmp_path / "copy", False)):
        assert (root / paths.FIGURES / "label_issues.png").exists() == shown
        for page in (paths.COMPARISON_HTML, paths.COMPARISON_MD):
            assert ("Labels that may be wrong" in (root / page).read_text(encoding="utf-8")) == shown


def test_ten_classes_and_tiny_images(tmp_path: Path) -> None:
    params = make_params(seeds=[0], variants=ONLY_FROZEN, data={"source": "cifar10"}, backbone={"blocks": 5})
    make_project(tmp_path, params, classes=TEN, per_class=8, mistakes={"frozen": [[1, 2, 17]]})
    write_report(tmp_path, params=params, run_ids={})
    comparison = json.loads((tmp_path / paths.COMPARISON_JSON).read_text())
    assert comparison["dataset"]["classes"] == list(TEN)
    assert comparison["backbone"]["blocks"] == 5
    html = (tmp_path / paths.COMPARISON_HTML).read_text(encoding="utf-8")
    assert "its first 5 blocks" in html
    assert "All of the images are smaller than that and are enlarged (the median short side is 64 px)" in html


@pytest.mark.parametrize("path", ["data/clean/images.zip", "data/cost/frozen-0.json"])
def test_a_missing_file_leaves_the_old_report(written: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / path).unlink()
    with pytest.raises(DataError):
        write_report(tmp_path / "copy", params=make_params(), run_ids={})
    for kept in (paths.COMPARISON_HTML, paths.COMPARISON_MD, paths.COMPARISON_JSON, paths.FIGURES / "curves.png"):
        assert (tmp_path / "copy" / kept).read_bytes() == (written / kept).read_bytes()


def test_an_unlogged_run_has_no_id(written: Path) -> None:
    params = make_params()
    comparison = build_comparison(read_results(written, params), params=params, run_ids={"frozen-0": None})
    assert {run.mlflow_run_id for run in comparison.runs} == {None}
