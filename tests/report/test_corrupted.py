"""Corrupted test images in the report: an image is one unit, and where there are no corruptions nothing is said.

Run with: pytest tests/report/test_corrupted.py
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report import report_fixtures
from report.report_fixtures import ALIKE, ONLY_FROZEN, make_corrupted, make_params, make_project, summarise, write_pages
from thaw import paths
from thaw.errors import DataError
from thaw.evaluation.corrupted_csv import read_corrupted_predictions
from thaw.evaluation.significance import compare_recipes
from thaw.params import Params
from thaw.report.build import write_report
from thaw.report.results import read_results
from thaw.report.verdict import write_verdict
from thaw.utils.words import MINUS

written = report_fixtures.written

NAMES = ["gaussian_noise", "contrast"]
MISTAKES = {"frozen": [8, 16, 24, 32, 40], "fine_tuned": [1, 2, 3, 4, 5], "two_stage": [2, 2, 3, 4, 5]}
"""At each severity."""


def with_corruptions(**changes: Any) -> Params:
    return make_params(evaluate={"corruptions": NAMES}, **changes)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("corrupted")
    make_project(root, with_corruptions(), mistakes=ALIKE)
    make_corrupted(root, with_corruptions(), mistakes=MISTAKES)
    return root


def test_the_numbers_are_those_of_compare_recipes_with_an_image_as_one_unit(project: Path) -> None:
    results, found = read_results(project, with_corruptions()), summarise(project, with_corruptions())
    assert found.corrupted is not None
    versions = {name: np.concatenate([of.correct[name] for of in results.corrupted], axis=2) for name in ALIKE}
    assert versions["frozen"].shape == (3, 80, 10)
    expected = compare_recipes(
        {name: array.reshape(3, 800) for name, array in versions.items()},
        groups=np.repeat(results.test_groups, 10),
        margin=with_corruptions().report.margin,
    )
    for row in found.corrupted.variants:
        recipe = expected.variants[row.variant]
        assert (row.accuracy_mean, row.accuracy_ci95, row.seed_sd) == (recipe.accuracy, recipe.interval, recipe.seed_sd)
        by_severity = 1 - (np.array(MISTAKES[row.variant]) + (np.arange(5) == 4)) / 80
        assert list(row.accuracy_by_severity) == NAMES
        assert row.accuracy_by_severity["contrast"] == pytest.approx(by_severity)
        assert row.accuracy_mean == pytest.approx(by_severity.mean())
    for pair, reference in zip(found.corrupted.pairs, expected.pairs, strict=True):
        assert (pair.difference, pair.difference_ci95) == (reference.difference, reference.interval)
    first = found.corrupted.pairs[0]
    assert (first.winner, first.outcome) == ("fine_tuned", "better")
    assert first.images_differing == 41, "images, not their versions"


def test_the_interval_is_that_of_images_however_many_versions_there_are(tmp_path: Path) -> None:
    widths = []
    for names in (NAMES[:1], NAMES):
        params = make_params(evaluate={"corruptions": names})
        make_project(tmp_path / str(len(names)), params, mistakes=ALIKE)
        make_corrupted(tmp_path / str(len(names)), params, mistakes=MISTAKES)
        corrupted = summarise(tmp_path / str(len(names)), params).corrupted
        assert corrupted is not None
        widths.append([row.accuracy_ci95[1] - row.accuracy_ci95[0] for row in corrupted.variants])
    np.testing.assert_allclose(widths[0], widths[1])


def test_all_else_stays_as_it_is_and_without_corruptions_nothing_is_said(project: Path, written: Path) -> None:
    found, without = summarise(project, with_corruptions()), summarise(written, make_params())
    assert "corrupted" not in json.loads((written / paths.COMPARISON_JSON).read_text(encoding="utf-8"))
    assert not (written / paths.FIGURES / "corruptions.png").exists()
    assert "orrupted test" not in (written / paths.COMPARISON_HTML).read_text(encoding="utf-8")
    assert found.recommended == without.recommended
    (said,) = set(found.verdict) - set(without.verdict)
    assert [text for text in found.verdict if text != said] == list(without.verdict)
    assert said.startswith(
        "On the test images under 2 corruptions, each at five severities, frozen has 69.8 %, fine_tuned has 96.0 % and "
        "two_stage has 95.8 %. fine_tuned is 26.2 points above frozen (95 % interval "
    )
    assert said.endswith("): inconclusive."), "ten versions of 80 images are no 800 images"


def test_intervals_that_hold_0_keep_the_sign_of_their_ends(project: Path) -> None:
    found = summarise(project, with_corruptions())
    assert found.corrupted is not None
    unsettled = {
        "difference": -0.033,
        "difference_ci95": (-0.102, 0.036),
        "p_value": 0.42,
        "outcome_of_models": "inconclusive",
    }
    equal = {"difference": 0.0, "difference_ci95": (-0.004, 0.004), "p_value": 1.0, "outcome_of_models": "equivalent"}
    pairs = tuple(
        pair.model_copy(update=facts) for pair, facts in zip(found.corrupted.pairs, (unsettled, equal), strict=False)
    )
    changed = found.model_copy(update={"corrupted": found.corrupted.model_copy(update={"pairs": pairs})})
    (text,) = write_verdict(changed).corrupted
    assert text.endswith(
        f"fine_tuned is 3.3 points above frozen (95 % interval {MINUS}3.6 to 10.2, p = 0.42): inconclusive; frozen and "
        f"two_stage are equally accurate on these images (95 % interval {MINUS}0.4 to 0.4, p = 1): equivalent."
    )


def test_both_pages_show_it(project: Path) -> None:
    write_report(project, params=with_corruptions(), run_ids={})
    assert (project / paths.FIGURES / "corruptions.png").is_file()
    for page in (paths.COMPARISON_MD, paths.COMPARISON_HTML):
        text = (project / page).read_text(encoding="utf-8")
        assert "Corrupted test images" in text
        assert "mean corruption accuracy" in text
        assert "gaussian noise" in text
        assert "All versions of an image count as one unit" in text


def test_a_single_variant_is_shown_without_pairs(tmp_path: Path) -> None:
    params = with_corruptions(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes=ALIKE)
    make_corrupted(tmp_path, params, mistakes=MISTAKES)
    write_pages(tmp_path, params)
    verdict = summarise(tmp_path, params).verdict
    assert "On the test images under 2 corruptions, each at five severities, frozen has 69.8 %." in verdict


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda test, cell: test.predictions(cell).unlink(), "which runs the stage evaluate_corrupted"),
        (lambda test, cell: test.metrics(cell).unlink(), "which runs the stage evaluate_corrupted"),
        (
            lambda test, cell: test.predictions(cell).write_text("path,label\n", encoding="utf-8"),
            "has no column 'severity_1'",
        ),
        (
            lambda test, cell: test.predictions(cell).write_text(
                "".join(test.predictions(cell).read_text(encoding="utf-8").splitlines(keepends=True)[:-1]),
                encoding="utf-8",
            ),
            "these are not the 80 test images of data/splits.csv",
        ),
        (
            lambda test, cell: shutil.copy(test.predictions(paths.Cell("fine_tuned", 0)), test.predictions(cell)),
            "says test accuracy 0.7000",
        ),
    ],
)
def test_a_file_that_is_missing_or_contradicts_another_is_one_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, complaint: str
) -> None:
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    change(paths.CorruptedTest("contrast"), paths.Cell("frozen", 0))
    with pytest.raises(DataError, match=complaint):
        read_results(Path(), with_corruptions())


def test_another_class_is_one_sentence(project: Path) -> None:
    file = project / paths.CorruptedTest("contrast").predictions(paths.Cell("frozen", 0))
    with pytest.raises(DataError, match=r"names the class 'Dog', which data/splits\.csv does not have"):
        read_corrupted_predictions(file, classes=["Cat"])


def simulate_recipes(random: np.random.Generator, *, images: int, versions: int, seed_sd: float) -> dict[str, Any]:
    """Three recipes of equal expected accuracy: images are hard, or hard under some versions, and seeds differ."""
    hard, harder = random.normal(0, 1.2, (images, 1)), random.normal(0, 0.8, (images, versions))
    return {
        name: (
            hard
            + harder
            + random.normal(0, 0.5, (images, 1))
            + random.normal(0, seed_sd, (3, 1, 1))
            + random.logistic(0, 0.5, (3, images, versions))
            + 1
            > 0
        ).reshape(3, -1)
        for name in ("a", "b", "c")
    }


@pytest.mark.parametrize("seed_sd", [0.0, 0.3])
def test_error_rate_by_simulation(seed_sd: float) -> None:
    draws, images, versions = 200, 100, 15
    groups = np.repeat(np.arange(images), versions)
    found = [
        compare_recipes(
            simulate_recipes(np.random.default_rng([7, draw]), images=images, versions=versions, seed_sd=seed_sd),
            groups=groups,
            margin=0.01,
        )
        for draw in range(draws)
    ]
    false_alarms = sum(any(pair.outcome == "better" for pair in one.pairs) for one in found)
    covered = sum(all(pair.interval[0] <= 0 <= pair.interval[1] for pair in one.pairs) for one in found)
    # Of 200 draws at 5 %, more than 17 are seen once in 50.
    assert false_alarms <= 17
    assert covered >= draws - 17
    naive = [
        compare_recipes(
            simulate_recipes(np.random.default_rng([7, draw]), images=images, versions=versions, seed_sd=seed_sd),
            groups=np.arange(images * versions),
            margin=0.01,
        )
        for draw in range(40)
    ]
    if seed_sd == 0:
        assert sum(any(pair.outcome == "better" for pair in one.pairs) for one in naive) >= 8, "what units are for"
