"""External test sets in the report: compared as the test split is, and plainly said where they disagree.

Run with: pytest tests/report/test_external_sets.py
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from report import report_fixtures
from report.report_fixtures import ALIKE, ONLY_FROZEN, make_external, make_params, make_project, summarise, write_pages
from thaw import paths
from thaw.errors import DataError
from thaw.evaluation.significance import compare_recipes
from thaw.params import Params
from thaw.report.build import ComparisonFile
from thaw.report.external import ExternalSummary
from thaw.report.results import read_results
from thaw.report.verdict import write_verdict
from thaw.utils.words import points

written = report_fixtures.written

MANY = {
    "frozen": [list(range(20)), list(range(21)), list(range(20))],
    "fine_tuned": [[0], [1], [0]],
    "two_stage": [[0, 3], [3], [3]],
}
"""Mistakes of a recipe that is far worse than two others."""


def with_web(**changes: Any) -> Params:
    return make_params(evaluate={"external": {"web": {"path": "web.zip"}}}, **changes)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the external set `web`, on which the recommended variant is far worse than the others."""
    root = tmp_path_factory.mktemp("external")
    make_project(root, with_web(), mistakes=ALIKE)
    make_external(root, with_web(), "web", mistakes=MANY)
    return root


def only(comparison: ComparisonFile) -> ExternalSummary:
    (external,) = comparison.external
    return external


def sentence(comparison: ComparisonFile) -> str:
    """What the verdict says of the set."""
    (found,) = [text for text in comparison.verdict if "external set" in text]
    return found


def test_the_numbers_are_those_of_compare_recipes(project: Path) -> None:
    results = read_results(project, with_web())
    (on_web,) = results.external
    assert len(set(on_web.groups.tolist())) == len(on_web.labels) - 1, "copies are one unit"
    expected = compare_recipes(
        {name: on_web.correct(name) for name in ALIKE}, groups=on_web.groups, margin=with_web().report.margin
    )
    found = only(summarise(project, with_web()))
    assert (found.name, found.files, found.images, found.copies_of_training_images) == ("web", 81, 80, 1)
    for row in found.variants:
        assert (row.accuracy_mean, row.accuracy_ci95, row.seed_sd) == (
            expected.variants[row.variant].accuracy,
            expected.variants[row.variant].interval,
            expected.variants[row.variant].seed_sd,
        )
        assert (row.log_loss_mean, row.roc_auc_mean, row.ece_mean) == pytest.approx((0.3, 0.97, 0.04))
    for pair, reference in zip(found.pairs, expected.pairs, strict=True):
        assert (pair.difference, pair.difference_ci95, pair.outcome) == (
            reference.difference,
            reference.interval,
            reference.outcome,
        )
    assert found.better_than_recommended == ("fine_tuned", "two_stage")


def test_the_recommendation_stays_and_the_disagreement_is_said(project: Path, written: Path) -> None:
    found, without = summarise(project, with_web()), summarise(written, make_params())
    assert found.recommended == without.recommended
    assert without.external == ()
    assert [text for text in found.verdict if "external set" not in text] == list(without.verdict)
    text = sentence(found)
    assert found.verdict.index(text) == 3, "right behind how sure the advice is"
    low, high = only(found).variants[0].accuracy_ci95
    assert text.startswith(
        "The external set web (80 images) disagrees with the recommendation: there fine_tuned is "
        f"{points(-only(found).pairs[0].difference)} points above frozen (95 % interval "
    )
    assert text.endswith(
        f": better. frozen has 74.6 % there (95 % interval {points(low)} to {points(high)}), and "
        f"{points(found.variants[0].accuracy_mean)} % on the test split. "
        "1 image of web is a copy of images that were trained on, and is left out."
    )


def test_a_set_that_settles_nothing_neither_confirms_nor_contradicts(tmp_path: Path) -> None:
    make_project(tmp_path, with_web(), mistakes=ALIKE)
    make_external(tmp_path, with_web(), "web", mistakes=ALIKE)
    assert sentence(summarise(tmp_path, with_web())).startswith(
        "On the external set web (80 images) no variant is shown to be better or worse than frozen, which neither "
        "confirms the recommendation nor contradicts it. frozen has 97.9 % there"
    )


def test_a_set_that_agrees(tmp_path: Path) -> None:
    make_project(tmp_path, with_web(), mistakes=ALIKE)
    worse = {"frozen": MANY["fine_tuned"], "fine_tuned": MANY["frozen"], "two_stage": MANY["frozen"]}
    make_external(tmp_path, with_web(), "web", mistakes=worse)
    found = summarise(tmp_path, with_web())
    assert only(found).better_than_recommended == ()
    assert "(80 images) frozen is better than fine_tuned and two_stage, which agrees with the" in sentence(found)


def test_a_cheaper_recipe_that_is_equivalent_there_is_a_disagreement(project: Path) -> None:
    found = summarise(project, with_web())
    web = only(found)
    equal = web.pairs[1].model_copy(update={"outcome_of_models": "equivalent"})
    advice = found.recommended.model_copy(update={"variant": "two_stage", "reason": "better"})
    web = web.model_copy(update={"pairs": (web.pairs[0], equal, web.pairs[2])})
    better = found.pairs[1].model_copy(update={"outcome_of_models": "better", "difference": -0.05})
    pairs = (found.pairs[0], better, found.pairs[2])
    changed = found.model_copy(update={"recommended": advice, "external": (web,), "pairs": pairs})
    (text,) = [text for text in write_verdict(changed).external if "external set" in text]
    assert "disagrees with the recommendation: there frozen, which is cheaper, is equivalent. two_stage has" in text


def test_few_seeds_or_one_variant_compare_nothing(tmp_path: Path) -> None:
    for name, variants, seeds, start in (
        (
            "few",
            None,
            [0, 1],
            "On the external set web (80 images), of these very models, no variant is shown to be better or worse than",
        ),
        ("one", ONLY_FROZEN, [0, 1, 2], "On the external set web (80 images) nothing is compared: frozen has 97.9 %"),
    ):
        params = with_web(seeds=seeds, **({} if variants is None else {"variants": variants}))
        make_project(tmp_path / name, params, mistakes=ALIKE)
        make_external(tmp_path / name, params, "web", mistakes=ALIKE)
        assert sentence(summarise(tmp_path / name, params)).startswith(start)


def test_both_pages_show_it(project: Path) -> None:
    write_pages(project, with_web())
    for page in (paths.COMPARISON_MD, paths.COMPARISON_HTML):
        text = (project / page).read_text(encoding="utf-8")
        assert "External set: web" in text
        assert "81 files in the archive, 80 images to test on; 1 left out: copy of a training image." in text
        assert "accuracy on web" in text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda web, cell: web.predictions(cell).unlink(), "which runs the stage evaluate_external"),
        (lambda web, cell: web.metrics(cell).unlink(), "which runs the stage evaluate_external"),
        (
            lambda web, cell: shutil.copy(cell.predictions, web.predictions(cell)),
            "these are not the 80 test images of data/clean/external/web/manifest.csv",
        ),
        (
            lambda web, cell: shutil.copy(web.predictions(paths.Cell("fine_tuned", 0)), web.predictions(cell)),
            "says test accuracy 0.7500",
        ),
    ],
)
def test_a_file_that_is_missing_or_contradicts_another_is_one_sentence(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any, complaint: str
) -> None:
    shutil.copytree(project, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    change(paths.ExternalSet("web"), paths.Cell("frozen", 0))
    with pytest.raises(DataError, match=complaint):
        read_results(Path(), with_web())
