"""`Comparison` -> sentences; pure functions."""

from dataclasses import dataclass
from typing import get_args

from thaw.evaluation.significance import MIN_SEEDS, MIN_UNITS, Outcome
from thaw.params import Phase
from thaw.report.comparison import BUSY_RATIO, Comparison
from thaw.report.external import ExternalSummary
from thaw.report.pair_words import (
    LISTED,
    are_same_models,
    has_too_few_images,
    list_pairs,
    say_close,
    say_difference,
    say_images_needed,
    say_pair,
)
from thaw.report.pairs import find_steps
from thaw.report.tables import format_flops
from thaw.utils.words import count, enumerate_words, points

ESTIMAND = (
    "What is estimated is the accuracy of a model trained anew by this recipe on these training images, and tested on "
    "new images from the same source."
)
"""The first sentence of a report that speaks of recipes."""
ESTIMAND_OF_MODELS = "What is estimated is the accuracy of these very models on new images from the same source."
"""The first sentence of one with too few seeds for that."""

MAJORITY_SHARE = 0.6
"""From so large a share of the most frequent class on, a useless model looks good by its accuracy."""
BALANCED_GAP = 0.03
"""A balanced accuracy that differs by so much from the accuracy is news."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The comparison in sentences, by what they speak of; the page puts each beside its numbers."""

    estimand: str
    decision: str
    certainty: str
    """How sure that is, in a sentence or two."""
    precision: str
    """Which differences could have been found."""
    cost: str
    external: tuple[str, ...] = ()
    """A sentence or two an external set."""
    pairs: tuple[str, ...] = ()
    """A sentence a pair."""
    corrupted: tuple[str, ...] = ()
    """How the variants compare on corrupted test images."""
    accuracy: tuple[str, ...] = ()
    """The baseline, and the spread between seeds."""
    seconds: tuple[str, ...] = ()
    """What the clock says."""
    diagnosis: tuple[str, ...] = ()
    """What would help more."""
    notes: tuple[str, ...] = ()
    """What happened in training that a reader has to know."""

    @property
    def first(self) -> tuple[str, ...]:
        """What stands below the advice: how sure it is, here and elsewhere, and what it costs."""
        return (self.certainty, *self.external, self.precision, self.cost)

    @property
    def sentences(self) -> tuple[str, ...]:
        """All of them: what is estimated, the advice, and then the evidence and its limits."""
        details = (*self.pairs, *self.corrupted, *self.accuracy, *self.seconds, *self.diagnosis, *self.notes)
        return tuple(filter(None, (self.estimand, self.decision, *self.first, *details)))


def write_verdict(comparison: Comparison) -> Verdict:
    """What the numbers say."""
    return Verdict(
        estimand=ESTIMAND if comparison.speaks_of_recipes else ESTIMAND_OF_MODELS,
        decision=_say_recommendation(comparison),
        certainty=_say_certainty(comparison),
        precision=_say_precision(comparison),
        cost=_say_cost(comparison),
        external=tuple(_say_external(external, comparison) for external in comparison.external),
        pairs=tuple(say_pair(pair, comparison) for pair in comparison.pairs),
        corrupted=tuple(_say_corrupted(comparison)),
        accuracy=(_say_baseline(comparison), *_say_imbalance(comparison), *_say_seeds(comparison)),
        seconds=(_say_seconds(comparison), *_say_busy(comparison)),
        diagnosis=tuple(say_diagnosis(comparison)),
        notes=(
            *(note for row in comparison.variants for note in row.training_notes),
            *_say_unequal_candidates(comparison),
        ),
    )


def _say_recommendation(comparison: Comparison) -> str:
    advice = comparison.recommended
    if advice.reason == "only":
        return f"Only {advice.variant} was trained: there is nothing to compare it with."
    if any(map(has_too_few_images, comparison.pairs)):
        why = "it is the cheapest, and whether another variant is better is not known yet"
        return f"Recommended: {advice.variant}; {why}."
    text = f"{_explain_recommendation(comparison)}{_say_what_may_be_lost(comparison)}"
    if not comparison.speaks_of_recipes:
        seeds = len(comparison.seeds)
        mean = f", by the mean of {seeds} each," if seeds > 1 else ""
        text = f"of these very models{mean} {text}; which recipe is better is not known yet"
    return f"Recommended: {advice.variant}; {text}."


def _say_cost(comparison: Comparison) -> str:
    """What one run costs, the others relative to the recommended one; of many others, the ends."""
    chosen = comparison.recommended.variant
    (flops,) = (row.cost.flops for row in comparison.variants if row.variant == chosen)
    ratios = sorted(comparison.recommended.flops_ratio_of_others.items(), key=lambda item: item[1])
    if not ratios:
        return f"One run of {chosen}, features included, takes {format_flops(flops)}."
    if len(ratios) > LISTED:
        (low, least), *_, (high, most) = ratios
        parts = [f"The {len(ratios)} others need between {_times(least)} ({low}) and {_times(most)} ({high})"]
    else:
        (first, ratio), *others = comparison.recommended.flops_ratio_of_others.items()
        parts = [f"{first} needs {_times(ratio)}", *(f"{name} {_times(ratio)}" for name, ratio in others)]
    return (
        f"{enumerate_words(parts)} the floating-point operations of {chosen} ({format_flops(flops)} a run, features "
        "included)."
    )


def _say_certainty(comparison: Comparison) -> str:
    """The pairs that the recommended variant is in, by outcome, in one sentence."""
    if not comparison.speaks_of_recipes:
        return _say_too_few_seeds(comparison)
    if any(map(has_too_few_images, comparison.pairs)):
        return _say_too_few_images(comparison.pairs[0].different_images)
    chosen, margin = comparison.recommended.variant, points(comparison.margin)
    pairs = sorted(
        (pair for pair in comparison.pairs if chosen in (pair.a, pair.b)), key=lambda pair: -abs(pair.difference)
    )
    flops = {row.variant: row.cost.flops for row in comparison.variants}
    of = {outcome: [pair for pair in pairs if pair.outcome == outcome] for outcome in get_args(Outcome)}
    starts = {
        "better": "Better than",
        "equivalent": f"Equivalent within {margin} points to",
        "inconclusive": "Inconclusive against",
    }
    return " ".join(
        [
            *(f"{start} {list_pairs(of[outcome], chosen)}." for outcome, start in starts.items() if of[outcome]),
            *say_close(pairs, chosen, steps=find_steps(comparison.pairs, flops)),
            *say_images_needed([pair for pair in of["inconclusive"] if not are_same_models(pair, comparison)]),
        ]
    )


def _say_corrupted(comparison: Comparison) -> list[str]:
    """The mean accuracy of each variant under all corruptions, and each pair; nothing if there are none."""
    corrupted = comparison.corrupted
    if corrupted is None:
        return []
    means = enumerate_words([f"{row.variant} has {points(row.accuracy_mean)} %" for row in corrupted.variants])
    kinds = count(len(corrupted.corruptions), "corruption")
    whose = "" if comparison.speaks_of_recipes else " of these very models"
    pairs = "; ".join(f"{say_difference(pair)}: {pair.outcome_of_models}" for pair in corrupted.pairs)
    text = f"On the test images under {kinds}, each at five severities, {means}{whose}."
    return [f"{text} {pairs}." if pairs else text]


def _explain_recommendation(comparison: Comparison) -> str:
    """Why it is recommended; with too few seeds, of these very models."""
    advice = comparison.recommended
    if advice.reason == "cheapest":
        return "it is the cheapest, and no other variant is shown to be better"
    if advice.reason == "better":
        return f"it is {_say_better(advice.variant, comparison)}"
    return f"it is equivalent to {advice.best} and cheaper, and {advice.best} is {_say_better(advice.best, comparison)}"


def _say_better(variant: str, comparison: Comparison) -> str:
    """Than which others a variant is better, and whether by so little that it may not matter."""
    won = [pair for pair in comparison.pairs if pair.outcome_of_models == "better" and pair.winner == variant]
    text = f"better than {enumerate_words([pair.loser for pair in won])}"
    small = [pair.loser for pair in won if abs(pair.difference) < comparison.margin]
    if not small:
        return text
    whom = "" if len(small) == len(won) else f"than {enumerate_words(small)} "
    return f"{text}, though {whom}probably by less than the margin of {points(comparison.margin)} points"


def _say_what_may_be_lost(comparison: Comparison) -> str:
    """Which variant may still be more accurate, and by how much at most, where that is more than the margin."""
    chosen = comparison.recommended.variant
    most = {
        pair.other(chosen): pair.difference_ci95[1] if pair.b == chosen else -pair.difference_ci95[0]
        for pair in comparison.pairs
        if chosen in (pair.a, pair.b)
        and pair.outcome_of_models == "inconclusive"
        and not are_same_models(pair, comparison)
    }
    name = max(most, key=most.__getitem__, default="")
    # As they are printed: "up to 1.0 points" is no news where 1.0 do not matter.
    if not name or round(100 * most[name], 1) <= round(100 * comparison.margin, 1):
        return ""
    return f", but {name} may be up to {points(most[name])} points more accurate (95 % interval)"


def _times(ratio: float) -> str:
    """`0.15 times`, `1.2 times`, `120 times`."""
    if ratio < 1:
        return f"{ratio:#.2g} times"
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _say_seconds(comparison: Comparison) -> str:
    """A sentence of its own, since it alone differs between runs of the same code."""
    ranked = sorted(comparison.variants, key=lambda row: row.cost.one_run_seconds)
    if len(ranked) > LISTED + 1:
        low, high = ranked[0], ranked[-1]
        return (
            f"By the clock, one run took from {low.cost.one_run_seconds:,.0f} s ({low.variant}) to "
            f"{high.cost.one_run_seconds:,.0f} s ({high.variant}), on {comparison.measured_on}."
        )
    first, *others = comparison.variants
    parts = [
        f"{first.variant} took {first.cost.one_run_seconds:,.0f} s",
        *(f"{row.variant} {row.cost.one_run_seconds:,.0f} s" for row in others),
    ]
    return f"By the clock, one run of {enumerate_words(parts)} ({comparison.measured_on})."


def _say_too_few_seeds(comparison: Comparison) -> str:
    found, missing = len(comparison.seeds), MIN_SEEDS - len(comparison.seeds)
    return (
        f"With {count(found, 'seed')} nothing can be said about models trained anew: how far seeds differ is not known "
        f"well enough. Add at least {count(missing, 'seed')} to `seeds` in params.yaml. Until then, intervals and "
        "p-values are of these very models on other images, and so is what is found of a pair."
    )


def _say_too_few_images(found: int) -> str:
    """How many there are, copies counted as one."""
    return (
        f"With {count(found, 'test image')} nothing can be said about recipes: how far images differ is not known well "
        f"enough. At least {MIN_UNITS} are needed, copies counted as one. Until then, every pair is inconclusive."
    )


def _say_external(external: ExternalSummary, comparison: Comparison) -> str:
    """Whether another archive says the same, how accurate the recommended variant is there, and what is left out."""
    advice = comparison.recommended.variant
    there = next(row for row in external.variants if row.variant == advice)
    here = next(row for row in comparison.variants if row.variant == advice)
    low, high = there.accuracy_ci95
    text = (
        f"{_judge_external(external, comparison)}{advice} has {points(there.accuracy_mean)} % there (95 % interval "
        f"{points(low)} to {points(high)}), and {points(here.accuracy_mean)} % on the test split."
    )
    copies = external.copies_of_training_images
    if copies:
        text += (
            f" {count(copies, 'image')} of {external.name} {'is a copy' if copies == 1 else 'are copies'} of images "
            f"that were trained on, and {'is' if copies == 1 else 'are'} left out."
        )
    return text


def _judge_external(external: ExternalSummary, comparison: Comparison) -> str:
    """Whether an external set agrees with what is recommended; nothing if there is nothing to compare."""
    name, advice = f"the external set {external.name} ({count(external.images, 'image')})", comparison.recommended
    if advice.reason == "only":
        return f"On {name} nothing is compared: "
    if any(map(has_too_few_images, external.pairs)):
        return (
            f"On {name} there are too few images to compare recipes: at least {MIN_UNITS} different ones are needed. "
        )
    whose = "" if comparison.speaks_of_recipes else ", of these very models,"
    start = f"On {name}{whose} "
    disagrees = f"{name[0].upper()}{name[1:]} disagrees with the recommendation: there{whose} "
    pairs = [pair for pair in external.pairs if advice.variant in (pair.a, pair.b)]
    better = [pair for pair in pairs if pair.outcome_of_models == "better" and pair.loser == advice.variant]
    if better:
        differences = enumerate_words([say_difference(pair) for pair in better])
        return f"{disagrees}{differences}: better. "
    worse = [pair.loser for pair in pairs if pair.outcome_of_models == "better"]
    equal = [pair.other(advice.variant) for pair in pairs if pair.outcome_of_models == "equivalent"]
    flops = {row.variant: row.cost.flops for row in comparison.variants}
    cheaper = [other for other in equal if flops[other] < flops[advice.variant]]
    if cheaper:
        are = "is" if len(cheaper) == 1 else "are"
        return f"{disagrees}{enumerate_words(cheaper)}, which {are} cheaper, {are} equivalent. "
    found = [
        *([f"is better than {enumerate_words(worse)}"] if worse else []),
        *([f"is equivalent to {enumerate_words(equal)}"] if equal else []),
    ]
    if found:
        return f"{start}{advice.variant} {enumerate_words(found)}, which agrees with the recommendation. "
    return (
        f"{start}no variant is shown to be better or worse than {advice.variant}, which neither confirms the "
        "recommendation nor contradicts it. "
    )


def _say_precision(comparison: Comparison) -> str:
    if not comparison.pairs:
        low, high = comparison.variants[0].accuracy_ci95
        images = count(comparison.dataset.splits["test"], "image")
        return f"The test split has {images}: the 95 % interval of the accuracy is {points(high - low)} points wide."
    whose = "" if comparison.speaks_of_recipes else " between these very models"
    images, seeds = count(comparison.dataset.splits["test"], "test image"), count(len(comparison.seeds), "seed")
    if min(pair.detectable for pair in comparison.pairs) > 1 or any(map(has_too_few_images, comparison.pairs)):
        return f"With {images} and {seeds}, no difference{whose}, however large, is found with 80 % power."
    sizes = [points(min(pair.detectable, 1.0)) for pair in sorted(comparison.pairs, key=lambda pair: pair.detectable)]
    spread = "" if sizes[0] == sizes[-1] else f" to {sizes[-1]} points, depending on the pair"
    found = sizes[0] + (spread or " points")
    return f"With {images} and {seeds}, the smallest difference{whose} that is found with 80 % power is {found}."


def _say_baseline(comparison: Comparison) -> str:
    baseline = comparison.dataset.majority_class_accuracy
    poor = [row.variant for row in comparison.variants if row.accuracy_ci95[0] <= baseline]
    start = f"The majority-class baseline is correct on {points(baseline)} % of the test images"
    below = [row.variant for row in comparison.variants if row.accuracy_ci95[1] < baseline]
    if below:
        return f"{start}; {enumerate_words(below)} did worse than that: something is wrong with data or training."
    if poor:
        return (
            f"{start}; {enumerate_words(poor)} cannot be told from that: there are too few test images, or something "
            "is wrong with data or training."
        )
    return f"{start}; the interval of every variant lies above it."


def _say_imbalance(comparison: Comparison) -> list[str]:
    """A warning where accuracy says little about the rare classes."""
    data = comparison.dataset
    gaps = [abs(row.accuracy_mean - row.balanced_accuracy_mean) for row in comparison.variants]
    if data.majority_class_accuracy < MAJORITY_SHARE and max(gaps) < BALANCED_GAP:
        return []
    chosen = next(row for row in comparison.variants if row.variant == comparison.recommended.variant)
    shown = [
        f"{points(row.balanced_accuracy_mean)} % for {row.variant} (accuracy {points(row.accuracy_mean)} %)"
        for row in [chosen, *(row for row in comparison.variants if row is not chosen)][:LISTED]
    ]
    worst = min(chosen.recall_mean, key=lambda label: chosen.recall_mean[label])
    return [
        "Accuracy alone misleads here, since the classes are of unlike sizes: "
        f"{points(data.majority_class_accuracy)} % of the test images are {data.majority_class!r}. Balanced accuracy, "
        f"in which each class counts the same, is {enumerate_words(shown)}; {chosen.variant} classifies "
        f"{points(chosen.recall_mean[worst])} % of {worst!r} correctly, its worst class."
        + (
            ""
            if data.class_weights == "balanced"
            else " `training.class_weights: balanced` trains for balanced accuracy."
        )
    ]


def _say_seeds(comparison: Comparison) -> list[str]:
    if not comparison.speaks_of_recipes:
        return []
    spreads = {row.variant: points(row.seed_sd) for row in comparison.variants if row.seed_sd is not None}
    if not spreads:
        return []
    found = [f"{spread} points for {variant}" for variant, spread in spreads.items() if spread != "0.0"]
    none = [variant for variant, spread in spreads.items() if spread == "0.0"]
    parts = []
    if found:
        seeds = len(comparison.seeds)
        parts.append(
            f"differs by {enumerate_words(found)} (standard deviation over {seeds} seeds, without the chance of the "
            "test images)"
        )
    if none:
        parts.append(f"of {enumerate_words(none)} differs by no more than the chance of the test images explains")
    return [f"Trained anew with another seed, the accuracy {'; that '.join(parts)}."]


def _say_busy(comparison: Comparison) -> list[str]:
    return [
        f"Training time of {row.variant} is between {row.cost.train_seconds_min:,.1f} and "
        f"{row.cost.train_seconds_max:,.1f} s, which is more than {BUSY_RATIO:g}-fold: the machine was busy, and "
        "seconds are unreliable. The recommendation does not go by them."
        for row in comparison.variants
        if row.cost.seconds_unreliable
    ]


def _say_unequal_candidates(comparison: Comparison) -> list[str]:
    """A warning where val could choose from more in one variant; not of solved heads alone, which have their path."""
    candidates = {
        row.variant: len(row.candidates)
        for row in comparison.variants
        if any(isinstance(phase, Phase) for phase in row.candidates[0].phases)
    }
    if len(set(candidates.values())) < 2:
        return []
    numbers = enumerate_words([f"{number:,} of {variant}" for variant, number in candidates.items()])
    return [
        f"Val chose from unequal numbers of candidates, {numbers}: with more of them a variant has better chances; "
        "give all the same number."
    ]


def say_diagnosis(comparison: Comparison) -> list[str]:
    """What would help more, found out with solved heads."""
    return [_say_more_images(comparison), _say_cleaner_labels(comparison)]


def _say_more_images(comparison: Comparison) -> str:
    gain = comparison.diagnosis.twice_the_images
    if gain is None:
        return "More images: there are too few to say what more of them would bring."
    low, high = gain.accuracy_gain_ci95
    if low == high:
        # Not an interval of no width: no law falls that was fitted.
        return "More images: no gain is visible; so far, a solved head does not get better with them."
    text = (
        f"More images: twice as many to train on, {2 * gain.images:,} instead of {gain.images:,}, would bring a solved "
        f"head about +{points(gain.accuracy_gain)} points (95 % interval {points(low)} to {points(high)})"
    )
    return f"{text}." if low > 0 else f"{text}: whether they help is not settled, since the interval includes 0."


def _say_cleaner_labels(comparison: Comparison) -> str:
    diagnosis = comparison.diagnosis
    checked, wrong = diagnosis.labels_checked, diagnosis.labels_contradicted
    if not diagnosis.tells_wrong_labels:
        return (
            f"Cleaner labels: nothing can be said. The head on frozen features is correct on "
            f"{points(diagnosis.out_of_fold_accuracy)} % of the images that it did not see, too few to tell a wrong "
            "label from an error of its own."
        )
    if wrong == 0:
        return f"Cleaner labels: none of the {checked:,} images that are not test seems to be labelled wrongly."
    return (
        f"Cleaner labels: about {wrong:,} of the {checked:,} images that are not test ({points(wrong / checked)} %) "
        "may be labelled wrongly; data/diagnosis/label_issues.csv names them."
    )
