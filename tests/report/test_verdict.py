"""report.verdict: what the numbers are made to say.

Run with: pytest tests/report/test_verdict.py
"""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from report import report_fixtures
from report.report_fixtures import (
    ALIKE,
    ONLY_FROZEN,
    VARIANTS,
    Training,
    make_curve,
    make_params,
    make_project,
    summarise,
)
from thaw import paths
from thaw.diagnosis.label_issues_csv import read_label_issues, write_label_issues
from thaw.diagnosis.learning_curve_csv import CurvePoint, write_learning_curve
from thaw.params import Phase, PhaseChoices, SolvedPhase
from thaw.report.build import ComparisonFile
from thaw.report.comparison import Comparison
from thaw.report.results import read_results
from thaw.report.summarise import recommend_variant
from thaw.report.tables import build_tables
from thaw.report.verdict import ESTIMAND, say_diagnosis, write_verdict
from thaw.training.notes import describe_phases
from thaw.utils.words import MINUS, enumerate_words, points

written = report_fixtures.written


def change(comparison: Comparison, **changes: Any) -> str:
    """The verdict with some numbers of the first pair changed, as one text."""
    pairs = [comparison.pairs[0].model_copy(update=changes), *comparison.pairs[1:]]
    return "\n".join(write_verdict(comparison.model_copy(update={"pairs": tuple(pairs)})).sentences)


@pytest.fixture(scope="module")
def alike(written: Path) -> ComparisonFile:
    """Three variants that nothing tells apart."""
    return summarise(written, make_params())


def test_it_says_first_what_is_estimated_and_then_what_to_do(alike: ComparisonFile) -> None:
    assert alike.verdict[0] == ESTIMAND
    assert "trained anew by this recipe on these training images, and tested on new images from the same" in ESTIMAND
    assert alike.verdict[1] == (
        "Recommended: frozen; it is the cheapest, and no other variant is shown to be better, but two_stage may be up "
        "to 4.7 points more accurate (95 % interval)."
    )
    assert (
        "fine_tuned needs 6.2 times and two_stage 5.7 times the floating-point operations of frozen (160 GFLOP a run, "
        "features included)."
    ) in alike.verdict
    assert (
        "By the clock, one run of frozen took 8 s, fine_tuned 40 s and two_stage 46 s (cpu with 2 threads, features on "
        "up to all cores)."
    ) in alike.verdict


def test_accuracy_that_misleads_is_said_to(alike: ComparisonFile) -> None:
    assert "misleads" not in " ".join(alike.verdict)
    majority = alike.dataset.model_copy(update={"majority_class": "Dog", "majority_class_accuracy": 0.8})
    text = "\n".join(write_verdict(alike.model_copy(update={"dataset": majority})).sentences)
    assert (
        "Accuracy alone misleads here, since the classes are of unlike sizes: 80.0 % of the test images are 'Dog'."
        in text
    )
    frozen = alike.variants[0].model_copy(
        update={"balanced_accuracy_mean": 0.612, "accuracy_mean": 0.8, "recall_mean": {"Cat": 0.2, "Dog": 1.0}}
    )
    rare = alike.model_copy(update={"variants": (frozen, *alike.variants[1:])})
    text = "\n".join(write_verdict(rare).sentences)
    assert "is 61.2 % for frozen (accuracy 80.0 %), " in text
    assert "frozen classifies 20.0 % of 'Cat' correctly, its worst class. `training.class_weights: balanced`" in text


def test_nothing_is_called_real_noise_or_right(alike: ComparisonFile) -> None:
    assert not re.search(r"\b(real|noise|right|guess\w*|mistakes?)\b", " ".join(alike.verdict))


def test_an_inconclusive_pair_says_what_would_settle_it(alike: ComparisonFile) -> None:
    undecided = {"difference": -0.02, "difference_ci95": (-0.05, 0.01), "p_value": 0.31, "outcome": "inconclusive"}
    text = change(alike, **undecided, images_needed=500, seeds_needed=7)
    assert f"fine_tuned is 2.0 points above frozen (95 % interval {MINUS}1.0 to 5.0, p = 0.31): inconclusive. " in text
    assert "If the difference is as found, about 500 test images or 7 seeds would settle it with 80 % power." in text
    text = change(alike, **undecided, images_needed=None, seeds_needed=None)
    assert "No affordable number of test images or seeds alone would settle it" in text


def test_what_hangs_on_one_test_image_is_said_to(alike: ComparisonFile) -> None:
    undecided = {"difference": -0.06, "difference_ci95": (-0.121, 0.001), "p_value": 0.054, "outcome": "inconclusive"}
    others = f"Inconclusive against fine_tuned ({MINUS}6.0 points, 95 % interval {MINUS}12.1 to 0.1)"
    text = change(alike, **undecided, images_deciding=1)
    assert others in text
    assert "Against fine_tuned that is close: 1 test image answered otherwise would change it." in text
    assert "2 test images answered" in change(alike, **undecided, images_deciding=2)
    assert "that is close" not in change(alike, **undecided, images_deciding=3)
    assert "that is close" not in change(alike, **undecided, images_deciding=None)


def test_a_step_that_the_recommended_variant_is_not_in_is_said_to_be_close(tmp_path: Path) -> None:
    params = make_params(report={"margin_points": 9.5})
    mistakes = {"frozen": list(range(8)), "two_stage": [40, 41], "fine_tuned": []}
    make_project(tmp_path, params, mistakes={name: [wrong] * 3 for name, wrong in mistakes.items()})
    found = summarise(tmp_path, params)
    assert (found.recommended.variant, found.recommended.reason) == ("two_stage", "equivalent")
    (step,) = [pair for pair in found.pairs if pair.outcome == "better"]
    assert {step.a, step.b} == {"frozen", "fine_tuned"}
    assert step.images_deciding in (1, 2)
    assert "That fine_tuned is better than frozen is close: " in " ".join(found.verdict)


def test_a_better_and_an_equivalent_pair(alike: ComparisonFile) -> None:
    better = {"difference": 0.05, "difference_ci95": (0.02, 0.08), "p_value": 0.003, "outcome": "better"}
    assert (
        "frozen is 5.0 points above fine_tuned (95 % interval 2.0 to 8.0, p = 0.003): better."
        in change(alike, **better).splitlines()
    )
    small = better | {"difference": 0.009, "difference_ci95": (0.007, 0.011)}
    assert "better, but probably by less than the margin of 1.0 points." in change(alike, **small)
    within = {"difference": 0.001, "difference_ci95": (-0.004, 0.006), "p_value": 0.8, "outcome": "equivalent"}
    assert "p = 0.8): equivalent within 1.0 points; take the cheaper one." in change(alike, **within)


def test_the_smallest_difference_that_is_found(alike: ComparisonFile) -> None:
    (sentence,) = [sentence for sentence in alike.verdict if "smallest difference" in sentence]
    low, high = (points(f([pair.detectable for pair in alike.pairs])) for f in (min, max))
    assert sentence == (
        f"With 80 test images and 3 seeds, the smallest difference that is found with 80 % power is {low} to {high} "
        "points, depending on the pair."
    )


def test_where_no_difference_is_found_none_is_named(alike: ComparisonFile) -> None:
    pairs = [pair.model_copy(update={"detectable": 1.126}) for pair in alike.pairs]
    sentences = write_verdict(alike.model_copy(update={"pairs": pairs})).sentences
    assert "With 80 test images and 3 seeds, no difference, however large, is found with 80 % power." in sentences


def test_fewer_than_three_seeds_allow_no_statement(tmp_path: Path) -> None:
    params = make_params(seeds=[0])
    make_project(
        tmp_path,
        params,
        mistakes={"frozen": [list(range(14))], "fine_tuned": [[0]], "two_stage": [[0, 1]]},
    )
    verdict = summarise(tmp_path, params).verdict
    assert verdict[0] == "What is estimated is the accuracy of these very models on new images from the same source."
    assert verdict[1] == (
        "Recommended: two_stage; of these very models it is better than frozen, but fine_tuned may be up to 5.4 points "
        "more accurate (95 % interval); which recipe is better is not known yet."
    )
    assert "With 1 seed nothing can be said about models trained anew" in verdict[2]
    assert "Add at least 2 seeds to `seeds` in params.yaml" in verdict[2]
    (pair,) = [sentence for sentence in verdict if sentence.startswith("fine_tuned is 16.2 points above frozen ")]
    assert pair.endswith(": better, as these very models are; of recipes inconclusive, for want of seeds.")
    (pair,) = [sentence for sentence in verdict if sentence.startswith("fine_tuned is 1.2 points above two_stage ")]
    assert pair.endswith("): inconclusive, for want of seeds.")
    assert not any("trained anew with another seed" in sentence.lower() for sentence in verdict)


def test_fewer_than_20_different_test_images_allow_no_statement(tmp_path: Path) -> None:
    params = make_params()
    none: list[list[int]] = [[]] * 3
    few = {"frozen": [list(range(10))] * 3, "fine_tuned": none, "two_stage": none}
    make_project(tmp_path, params, mistakes=few, per_class=12)
    comparison = summarise(tmp_path, params)
    assert {pair.different_images for pair in comparison.pairs} == {11}, "of 12, two are copies"
    verdict = comparison.verdict
    assert "whether another variant is better is not known yet" in verdict[1]
    assert verdict[2].startswith("With 11 test images nothing can be said about recipes: ")
    assert "At least 20 are needed, copies counted as one." in verdict[2]
    assert "With 12 test images and 3 seeds, no difference, however large, is found with 80 % power." in verdict
    (pair,) = [sentence for sentence in verdict if sentence.startswith("fine_tuned is 83.3 points above frozen ")]
    assert pair.endswith("inconclusive, for want of test images.")
    table = build_tables(read_results(tmp_path, params), comparison)["pairs"]
    assert {row[table.columns.index("found with 80 % power")] for row in table.rows} == {"none"}


def test_a_spread_that_is_within_the_chance_of_the_test_images_is_not_shown_as_0(
    alike: ComparisonFile, written: Path
) -> None:
    rows = [
        row.model_copy(update={"seed_sd": sd}) for row, sd in zip(alike.variants, (0.0, 0.0004, 0.012), strict=True)
    ]
    changed = alike.model_copy(update={"variants": tuple(rows)})
    table = build_tables(read_results(written, make_params()), changed)
    column = table["variants"].columns.index("SD between seeds")
    assert [row[column] for row in table["variants"].rows] == ["not detected", "not detected", "± 1.2"]
    assert (
        "Trained anew with another seed, the accuracy differs by 1.2 points for two_stage (standard deviation over 3 "
        "seeds, without the chance of the test images); that of frozen and fine_tuned differs by no more than the "
        "chance of the test images explains."
    ) in write_verdict(changed).accuracy
    without = [row.model_copy(update={"seed_sd": 0.0}) for row in rows]
    assert (
        "Trained anew with another seed, the accuracy of frozen, fine_tuned and two_stage differs by no more than the "
        "chance of the test images explains."
    ) in write_verdict(alike.model_copy(update={"variants": tuple(without)})).accuracy


def test_what_beats_the_cheapest_is_worth_its_cost(tmp_path: Path) -> None:
    params = make_params()
    make_project(
        tmp_path,
        params,
        mistakes={"frozen": [list(range(14))] * 3, "fine_tuned": [[0]] * 3, "two_stage": [[0, 1]] * 3},
    )
    verdict = summarise(tmp_path, params).verdict
    assert verdict[1] == (
        "Recommended: two_stage; it is better than frozen, but fine_tuned may be up to 5.4 points more accurate (95 % "
        "interval)."
    )
    assert re.match(
        r"Better than frozen \(\+15\.0 points, 95 % interval .*\)\. Inconclusive against fine_tuned", verdict[2]
    )
    assert any(
        sentence.startswith(
            "frozen needs 0.18 times and fine_tuned 1.1 times the floating-point operations of two_stage"
        )
        for sentence in verdict
    )


def test_a_dearer_variant_that_is_better_by_little_is_said_to_be(alike: ComparisonFile) -> None:
    first, second, third = alike.pairs
    little = {
        "difference": -0.009,
        "difference_ci95": (-0.011, -0.007),
        "outcome": "better",
        "outcome_of_models": "better",
    }
    advice = alike.recommended.model_copy(update={"variant": "fine_tuned", "best": "fine_tuned", "reason": "better"})

    def decide(third_changes: dict[str, Any]) -> str:
        pairs = (first.model_copy(update=little), second, third.model_copy(update=third_changes))
        return write_verdict(alike.model_copy(update={"pairs": pairs, "recommended": advice})).decision

    # What may be lost by it is within the margin.
    assert third.outcome_of_models == "inconclusive"
    assert decide({"difference_ci95": (-0.01, 0.03)}) == (
        "Recommended: fine_tuned; it is better than frozen, though probably by less than the margin of 1.0 points."
    )
    assert decide({**little, "difference": 0.05, "difference_ci95": (0.03, 0.07)}) == (
        "Recommended: fine_tuned; it is better than frozen and two_stage, though than frozen probably by less than the "
        "margin of 1.0 points."
    )


def test_what_is_equivalent_to_a_better_variant_is_not_said_to_be_better_itself(alike: ComparisonFile) -> None:
    first, second, third = alike.pairs
    better = {"difference": -0.05, "difference_ci95": (-0.08, -0.02), "outcome_of_models": "better"}
    equal = {"difference": 0.001, "difference_ci95": (-0.004, 0.006), "outcome_of_models": "equivalent"}
    assert second.outcome == "inconclusive"
    # By less than the margin, even at the end of the interval.
    second = second.model_copy(update={"difference": -0.02, "difference_ci95": (-0.05, 0.01)})
    pairs = (first.model_copy(update=better), second, third.model_copy(update=equal))
    recommended = recommend_variant(alike.variants, pairs)
    assert write_verdict(alike.model_copy(update={"pairs": pairs, "recommended": recommended})).decision == (
        "Recommended: two_stage; it is equivalent to fine_tuned and cheaper, and fine_tuned is better than frozen."
    )


def test_a_variant_near_the_majority_class_baseline_is_called_out(tmp_path: Path) -> None:
    params = make_params(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes={"frozen": [list(range(0, 80, 2))] * 3})
    comparison = summarise(tmp_path, params)
    assert comparison.pairs == ()
    assert comparison.verdict[1] == "Only frozen was trained: there is nothing to compare it with."
    assert any(
        sentence.startswith("The majority-class baseline is correct on 50.0 % of the test images; frozen cannot be")
        for sentence in comparison.verdict
    )


def test_a_busy_machine_is_noticed(tmp_path: Path) -> None:
    params = make_params()
    make_project(tmp_path, params, mistakes=ALIKE, trainings={"fine_tuned-0": Training(seconds=90.0)})
    (sentence,) = [sentence for sentence in summarise(tmp_path, params).verdict if "busy" in sentence]
    assert sentence.startswith("Training time of fine_tuned is between 40.0 and 90.0 s, which is more than 1.5-fold: ")
    assert "seconds are unreliable" in sentence


def test_what_happened_in_training_is_said(tmp_path: Path) -> None:
    variants = {
        "frozen": [{"train": "head"}],
        "fine_tuned": [{"train": "all", "epochs": 4, "lr": [0.0001, 0.001, 0.01]}],
        "two_stage": [{"train": "head"}, {"train": "all", "epochs": 3, "lr": 0.0001}],
    }
    params = make_params(variants=variants)
    trainings = {
        "frozen-2": Training(best=(0, 3)),
        "fine_tuned-0": Training(winner=2, best=(0, 4)),
        "fine_tuned-1": Training(winner=1),
        "fine_tuned-2": Training(winner=2),
        "two_stage-0": Training(best=(0, 2)),
    }
    mistakes = {**ALIKE, "two_stage": [ALIKE["frozen"][0], [5, 8], [7]]}
    make_project(tmp_path, params, mistakes=mistakes, trainings=trainings)
    notes = [
        sentence
        for sentence in summarise(tmp_path, params).verdict
        if re.match("(frozen|fine_tuned|two_stage): ", sentence)
    ]
    assert notes == [
        "frozen: the penalty of the solved head, chosen on val, is 0.01 or 0.1; it is at the end of its path in 1 of 3 "
        "seeds: one beyond may do better.",
        "fine_tuned: the kept epoch is the last of its phase in 1 of 3 seeds; more epochs may do better.",
        "fine_tuned: a candidate at the edge of its list won in 2 of 3 seeds (phase 1: lr 0.01, the highest tried); a "
        "longer list may do better.",
        "two_stage: phase 2 made nothing better on val and was discarded in 1 of 3 seeds; the model is that of the "
        "earlier phases; with seed 0 two_stage is frozen.",
        "two_stage: the penalty of the solved head, chosen on val, is 0.1.",
    ]


def test_unequal_numbers_of_candidates_are_noted(alike: ComparisonFile, tmp_path: Path) -> None:
    assert "unequal" not in " ".join(alike.verdict), "a solved head has its path, and one candidate"
    tuned = [{"train": "all", "epochs": 4, "lr": [0.0001, 0.001, 0.01]}]
    params = make_params(variants={**VARIANTS, "fine_tuned": tuned})
    make_project(tmp_path, params, mistakes=ALIKE)
    assert (
        "Val chose from unequal numbers of candidates, 3 of fine_tuned and 1 of two_stage: with more of them a variant "
        "has better chances; give all the same number."
    ) in summarise(tmp_path, params).verdict


def test_variants_that_are_one_model_with_every_seed_are_not_compared(tmp_path: Path) -> None:
    params = make_params()
    trainings = {f"two_stage-{seed}": Training(best=(0, 2)) for seed in params.seeds}
    make_project(tmp_path, params, mistakes={**ALIKE, "two_stage": ALIKE["frozen"]}, trainings=trainings)
    verdict = summarise(tmp_path, params).verdict
    assert "frozen and two_stage are the same models with all seeds: a later phase was discarded." in verdict
    assert any(sentence.endswith("with seeds 0, 1 and 2 two_stage is frozen.") for sentence in verdict)


def test_variants_of_one_recipe_are_the_same_models_and_no_phase_was_discarded(tmp_path: Path) -> None:
    params = make_params(variants={"a": [{"train": "head"}], "b": [{"train": "head"}]})
    make_project(tmp_path, params, mistakes=dict.fromkeys("ab", ALIKE["frozen"]))
    assert (
        "a and b are the same models with all seeds: both went through the same phases."
        in summarise(tmp_path, params).verdict
    )


def test_phases_in_words() -> None:
    assert describe_phases([SolvedPhase(), Phase(train="last:2", epochs=1, lr=0.01)]) == (
        "head (solved), then last:2 at 0.01 for 1 epoch at most"
    )
    choices = PhaseChoices.model_validate({"train": "all", "epochs": 4, "lr": [0.0001, 0.001], "head_lr": 0.01})
    assert describe_phases([choices]) == "all at 0.0001 or 0.001 (its head at 0.01) for 4 epochs at most"
    assert describe_phases([PhaseChoices(train="head")]) == "head (solved)"
    cached = PhaseChoices(train="last:2", epochs=1, lr=0.1, views=4)
    assert describe_phases([cached]) == "last:2 on cached views (4 an image) at 0.1 for 1 epoch at most"


def test_numbers_and_lists_in_words() -> None:
    assert [points(0.0123), points(-0.0123), points(-0.0001)] == ["1.2", f"{MINUS}1.2", "0.0"]
    assert [enumerate_words(["x"]), enumerate_words(["x", "y", "z"], last="or")] == ["x", "x, y or z"]


def test_what_twice_the_images_would_bring(tmp_path: Path) -> None:
    params = make_params(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes={"frozen": [[0]] * 3})
    comparison = summarise(tmp_path, params)
    gain = comparison.diagnosis.twice_the_images
    assert gain is not None
    # The law of the fixture: 0.05 + images ** -0.5.
    assert gain.images == comparison.dataset.splits["train"] == 40
    assert gain.accuracy_gain == pytest.approx(40**-0.5 - 80**-0.5, rel=0.2)
    assert [row.images for row in comparison.diagnosis.learning_curve] == [20, 40, 80, 200, 400]
    sentence, labels = say_diagnosis(comparison)
    assert {sentence, labels} <= set(comparison.verdict)
    assert labels == (
        "Cleaner labels: about 2 of the 80 images that are not test (2.5 %) may be labelled wrongly; "
        "data/diagnosis/label_issues.csv names them."
    )
    low, high = (points(end) for end in gain.accuracy_gain_ci95)
    assert sentence == (
        "More images: twice as many to train on, 80 instead of 40, would bring a solved head about "
        f"+{points(gain.accuracy_gain)} points (95 % interval {low} to {high})."
    )


def test_no_label_is_said_to_be_wrong(tmp_path: Path) -> None:
    params = make_params(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes={"frozen": [[0]] * 3})
    checked = read_label_issues(tmp_path / paths.LABEL_ISSUES)
    write_label_issues(tmp_path / paths.LABEL_ISSUES, [dataclasses.replace(row, rank=None) for row in checked])
    expected = "Cleaner labels: none of the 80 images that are not test seems to be labelled wrongly."
    assert say_diagnosis(summarise(tmp_path, params))[1] == expected


@pytest.mark.parametrize(
    ("curve", "expected"),
    [
        (
            make_curve(floor=0.2, scale=-0.1),
            "More images: no gain is visible; so far, a solved head does not get better with them.",
        ),
        (
            make_curve(floor=0.2, scale=0.0),
            "More images: twice as many to train on, 80 instead of 40, would bring a solved head about +0.0 points "
            "(95 % interval 0.0 to 0.0): whether they help is not settled, since the interval includes 0.",
        ),
        (make_curve(floor=0.2, scale=1.0)[:5], "More images: there are too few to say what more of them would bring."),
    ],
)
def test_a_gain_within_its_interval_is_not_called_one(tmp_path: Path, curve: list[CurvePoint], expected: str) -> None:
    params = make_params(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes={"frozen": [[0]] * 3})
    write_learning_curve(tmp_path / paths.LEARNING_CURVE, curve)
    assert say_diagnosis(summarise(tmp_path, params))[0] == expected


def test_a_weak_head_cannot_tell_wrong_labels(tmp_path: Path) -> None:
    params = make_params(variants=ONLY_FROZEN)
    make_project(tmp_path, params, mistakes={"frozen": [[0]] * 3})
    checked = read_label_issues(tmp_path / paths.LABEL_ISSUES)
    other = {"Cat": "Dog", "Dog": "Cat"}
    weak = [
        dataclasses.replace(row, likely_label=other[row.label] if place < 20 else row.label)
        for place, row in enumerate(checked)
    ]
    # Neither from the labels that it contradicts, nor from there being none.
    for rows in (weak, [dataclasses.replace(row, rank=None) for row in weak]):
        write_label_issues(tmp_path / paths.LABEL_ISSUES, rows)
        assert say_diagnosis(summarise(tmp_path, params))[1] == (
            "Cleaner labels: nothing can be said. The head on frozen features is correct on 75.0 % of the images that "
            "it did not see, too few to tell a wrong label from an error of its own."
        )
