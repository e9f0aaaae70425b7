"""report.comparison and report.summarise: the numbers of comparison.json, and which variant they recommend.

Run with: pytest tests/report/test_comparison.py
"""

from pathlib import Path

import pytest
from pydantic import ValidationError

from report import report_fixtures
from report.report_fixtures import ALIKE, ONLY_FROZEN, RUN_IDS, VARIANTS, Training, make_params, make_project, summarise
from thaw.evaluation.significance import compare_recipes
from thaw.report.comparison import BUSY_RATIO, VariantSummary
from thaw.report.pairs import PairComparison
from thaw.report.results import read_results
from thaw.report.summarise import build_comparison, recommend_variant

written = report_fixtures.written

FIRST_14 = list(range(14))


def test_the_numbers_are_those_of_the_files(written: Path) -> None:
    params = make_params()
    comparison = build_comparison(read_results(written, params), params=params, run_ids=RUN_IDS)
    dataset = comparison.dataset
    assert (dataset.source, dataset.classes, dataset.files, dataset.dropped) == ("sample", ("Cat", "Dog"), 164, 4)
    assert dataset.splits == {"train": 40, "val": 40, "test": 80}
    assert dataset.dropped_by_reason == {"label conflict": 2, "empty file": 1, "not an image": 1}
    assert [(run.variant, run.seed, run.mlflow_run_id) for run in comparison.runs] == [
        (variant, seed, f"{variant}0{seed}") for variant in ALIKE for seed in range(3)
    ]
    first = comparison.runs[0]
    assert first.test.model_dump() == {
        "accuracy": 0.975,
        "balanced_accuracy": 0.975,
        "log_loss": 0.2,
        "roc_auc": 0.98,
        "ece": 0.03,
    }
    assert (first.val.accuracy, first.trainable_parameters, first.train_seconds) == (0.9, 2562, 2.0)
    frozen = comparison.variants[0]
    assert frozen.accuracy_mean == pytest.approx(1 - 5 / 240)
    assert frozen.accuracy_ci95[0] < frozen.accuracy_mean < frozen.accuracy_ci95[1]
    assert (frozen.accuracy_min, frozen.accuracy_max) == (0.975, 0.9875)
    assert [(pair.a, pair.b) for pair in comparison.pairs] == [
        ("frozen", "fine_tuned"),
        ("frozen", "two_stage"),
        ("fine_tuned", "two_stage"),
    ]
    assert comparison.pairs[1].difference == pytest.approx(-1 / 240)
    assert (comparison.pairs[1].seeds_with_a_ahead, comparison.pairs[1].seeds_with_b_ahead) == (1, 2)


def test_intervals_and_outcomes_are_those_of_compare_recipes(written: Path) -> None:
    params = make_params()
    results = read_results(written, params)
    expected = compare_recipes(
        {name: results.correct(name) for name in params.variants}, groups=results.test_groups, margin=0.01
    )
    found = build_comparison(results, params=params, run_ids={})
    assert found.margin == 0.01
    for variant in found.variants:
        assert variant.accuracy_ci95 == expected.variants[variant.variant].interval
        assert variant.seed_sd == expected.variants[variant.variant].seed_sd
    for pair, reference in zip(found.pairs, expected.pairs, strict=True):
        assert (pair.difference_ci95, pair.p_value, pair.outcome) == (
            reference.interval,
            reference.p_value,
            reference.outcome,
        )


def test_features_are_counted_once_and_only_where_they_are_used(written: Path) -> None:
    frozen, fine_tuned, two_stage = summarise(written, make_params()).variants
    assert (frozen.cost.flops_embed, fine_tuned.cost.flops_embed) == (160 * 10**9, 0)
    assert frozen.cost.flops == 160 * 10**9 + 10**7
    assert two_stage.cost.flops == 160 * 10**9 + 10**7 + 3 * 25 * 10**10
    assert (frozen.cost.images_seen, fine_tuned.cost.images_seen) == (0, 160)
    assert (frozen.cost.one_run_seconds, fine_tuned.cost.one_run_seconds) == (8.0, 40.0)
    assert frozen.cost.measured_on == "cpu with 2 threads"


def test_the_cost_of_all_candidates_counts(tmp_path: Path) -> None:
    params = make_params(variants={"fine_tuned": [{"train": "all", "epochs": 4, "lr": [0.0001, 0.001, 0.01]}]})
    trainings = {"fine_tuned-0": Training(winner=2), "fine_tuned-1": Training(winner=1)}
    make_project(tmp_path, params, mistakes={"fine_tuned": [[0]] * 3}, trainings=trainings)
    (fine_tuned,) = summarise(tmp_path, params).variants
    assert fine_tuned.cost.flops == pytest.approx(3e12, rel=1e-4)
    assert [candidate.seeds_won for candidate in fine_tuned.candidates] == [1, 1, 1]
    assert [candidate.val_losses for candidate in fine_tuned.candidates] == [
        (0.3, 0.3, 0.25),
        (0.3, 0.25, 0.3),
        (0.25, 0.3, 0.3),
    ]
    assert [candidate.at_edge for candidate in fine_tuned.candidates] == [
        ("phase 1: lr 0.0001, the lowest tried",),
        (),
        ("phase 1: lr 0.01, the highest tried",),
    ]


def test_seconds_that_vary_between_seeds_are_unreliable(tmp_path: Path) -> None:
    params = make_params(variants=ONLY_FROZEN)
    for seconds, unreliable in ((2.0 * BUSY_RATIO, False), (2.1 * BUSY_RATIO, True)):
        make_project(
            tmp_path, params, mistakes={"frozen": [[0]] * 3}, trainings={"frozen-1": Training(seconds=seconds)}
        )
        assert summarise(tmp_path, params).variants[0].cost.seconds_unreliable == unreliable


def test_a_discarded_phase_makes_the_one_variant_the_other(tmp_path: Path) -> None:
    params = make_params()
    mistakes = {**ALIKE, "two_stage": [ALIKE["frozen"][0], [5, 8], [7]]}
    trainings = {"two_stage-0": Training(best=(0, 2))}
    make_project(tmp_path, params, mistakes=mistakes, trainings=trainings)
    comparison = summarise(tmp_path, params)
    frozen, fine_tuned, two_stage = comparison.variants
    assert [run.seed for run in comparison.runs if run.discarded_phases] == [0]
    assert two_stage.same_model_as == {"frozen": (0,)}
    assert frozen.same_model_as == {"two_stage": (0,)}
    assert fine_tuned.same_model_as == {}


def test_the_same_predictions_after_other_phases_are_no_same_model(tmp_path: Path) -> None:
    params = make_params()
    make_project(tmp_path, params, mistakes=dict.fromkeys(ALIKE, [[0]] * 3))
    assert all(variant.same_model_as == {} for variant in summarise(tmp_path, params).variants)


def test_the_last_epoch_and_the_end_of_the_path_are_noticed(tmp_path: Path) -> None:
    params = make_params()
    trainings = {"frozen-0": Training(best=(0, 3)), "fine_tuned-1": Training(best=(0, 4))}
    make_project(tmp_path, params, mistakes=ALIKE, trainings=trainings)
    comparison = summarise(tmp_path, params)
    runs = {f"{run.variant}-{run.seed}": run for run in comparison.runs}
    assert {name for name, run in runs.items() if run.kept_last_epoch} == {"fine_tuned-1"}
    assert {name for name, run in runs.items() if run.penalty_at_edge} == {"frozen-0"}
    assert (runs["frozen-0"].penalty, runs["frozen-1"].penalty, runs["two_stage-0"].penalty) == (0.01, 0.1, 0.1)
    assert runs["fine_tuned-0"].penalty is None
    assert comparison.variants[1].training_notes[0] == (
        "fine_tuned: the kept epoch is the last of its phase in 1 of 3 seeds; more epochs may do better."
    )


def make_pair(a: str, b: str, difference: float, outcome: str) -> PairComparison:
    facts = {
        "a": a,
        "b": b,
        "difference": difference,
        "difference_ci95": (difference - 0.01, difference + 0.01),
        "p_value": 0.5,
        "outcome": outcome,
        "outcome_of_models": outcome,
        "different_images": 80,
        "detectable": 0.02,
        "seeds_needed": None,
        "images_needed": None,
        "images_deciding": None,
        "images_differing": 3,
        "seeds_with_a_ahead": 1,
        "seeds_with_b_ahead": 2,
    }
    return PairComparison.model_validate(facts)


@pytest.mark.parametrize(
    ("outcomes", "variant", "reason"),
    [
        ({}, "frozen", "cheapest"),
        ({"frozen fine_tuned": (-0.05, "better")}, "fine_tuned", "better"),
        ({"frozen fine_tuned": (0.05, "better")}, "frozen", "cheapest"),
        ({"frozen fine_tuned": (-0.002, "equivalent")}, "frozen", "cheapest"),
        # Both beat the cheapest: the cheaper of them.
        ({"frozen fine_tuned": (-0.05, "better"), "frozen two_stage": (-0.04, "better")}, "two_stage", "better"),
        # Unless the dearer beats that one, too.
        (
            {
                "frozen fine_tuned": (-0.09, "better"),
                "frozen two_stage": (-0.04, "better"),
                "fine_tuned two_stage": (0.05, "better"),
            },
            "fine_tuned",
            "better",
        ),
        # The dearest beats the cheapest, and is equivalent to what costs less.
        (
            {"frozen fine_tuned": (-0.05, "better"), "fine_tuned two_stage": (0.001, "equivalent")},
            "two_stage",
            "equivalent",
        ),
    ],
)
def test_the_cheapest_is_recommended_unless_another_one_is_better(
    written: Path, outcomes: dict[str, tuple[float, str]], variant: str, reason: str
) -> None:
    comparison = summarise(written, make_params())
    pairs = [
        make_pair(pair.a, pair.b, *outcomes.get(f"{pair.a} {pair.b}", (0.0, "inconclusive")))
        for pair in comparison.pairs
    ]
    recommended = recommend_variant(comparison.variants, pairs)
    assert (recommended.variant, recommended.reason, recommended.cheapest) == (variant, reason, "frozen")


def test_the_recommendation_does_not_hang_on_the_clock(tmp_path: Path) -> None:
    params = make_params()
    slow = {f"frozen-{seed}": Training(seconds=1e4) for seed in params.seeds}
    make_project(tmp_path, params, mistakes=ALIKE, trainings=slow)
    recommended = summarise(tmp_path, params).recommended
    assert recommended.variant == "frozen"
    assert recommended.flops_ratio_of_others["fine_tuned"] == pytest.approx(1e12 / 160e9, rel=1e-3)
    assert recommended.seconds_ratio_of_others["fine_tuned"] < 0.01


def test_a_difference_worth_its_cost_is_better(tmp_path: Path) -> None:
    params = make_params()
    mistakes = {"frozen": [FIRST_14, [*FIRST_14, 20], FIRST_14], "fine_tuned": [[0]] * 3, "two_stage": [[0, 1]] * 3}
    make_project(tmp_path, params, mistakes=mistakes)
    comparison = summarise(tmp_path, params)
    assert [pair.outcome for pair in comparison.pairs] == ["better", "better", "inconclusive"]
    assert (comparison.pairs[0].winner, comparison.pairs[0].loser) == ("fine_tuned", "frozen")
    assert all(pair.p_value < 0.05 for pair in comparison.pairs[:2])
    # Of the two, it costs less.
    assert comparison.recommended.variant == "two_stage"


def test_two_seeds_say_nothing_about_recipes(tmp_path: Path) -> None:
    params = make_params(seeds=[0, 1])
    make_project(tmp_path, params, mistakes={"frozen": [FIRST_14] * 2, "fine_tuned": [[]] * 2, "two_stage": [[]] * 2})
    comparison = summarise(tmp_path, params)
    assert not comparison.speaks_of_recipes
    assert {pair.outcome for pair in comparison.pairs} == {"inconclusive"}
    # But of the models that there are, one will be used.
    assert [pair.outcome_of_models for pair in comparison.pairs] == ["better", "better", "inconclusive"]
    assert comparison.recommended.variant == "two_stage"


def test_a_comparison_is_frozen_strict_and_complete(written: Path) -> None:
    variant = summarise(written, make_params()).variants[0]
    with pytest.raises(ValidationError, match="frozen"):
        variant.accuracy_mean = 1.0
    with pytest.raises(ValidationError, match="Extra inputs"):
        VariantSummary(**(dict(variant) | {"surplus": 1}))
    with pytest.raises(ValidationError, match="accuracy_mean"):
        VariantSummary(**(dict(variant) | {"accuracy_mean": "1.0"}))


def test_variants_come_in_the_order_of_the_parameters(written: Path) -> None:
    turned = dict(reversed(VARIANTS.items()))
    comparison = summarise(written, make_params(variants=turned))
    assert [variant.variant for variant in comparison.variants] == list(turned)
