"""Two variants side by side -> words; pure functions."""

from collections.abc import Sequence

from thaw.evaluation.significance import MIN_UNITS
from thaw.report.comparison import Comparison
from thaw.report.pairs import PairComparison
from thaw.utils.words import count, enumerate_words, points

LISTED = 3
"""Of more variants than this, a sentence names only some; the tables have all."""

CLOSE_IMAGES = 2
"""An outcome that hangs on so few test images may be another one on another kind of processor."""


def has_too_few_images(pair: PairComparison) -> bool:
    """Whether the pair is inconclusive whatever was found, since it was tested on so few images."""
    return pair.different_images < MIN_UNITS


def are_same_models(pair: PairComparison, comparison: Comparison) -> bool:
    """Whether the two have the same model with each seed: what was found of them is no chance."""
    same = next(row.same_model_as.get(pair.b, ()) for row in comparison.variants if row.variant == pair.a)
    return len(same) == len(comparison.seeds)


def say_images_needed(pairs: Sequence[PairComparison]) -> list[str]:
    """How many test images would settle all of the pairs; nothing if some pair would not be settled."""
    needed = [pair.images_needed for pair in pairs if pair.images_needed is not None]
    if not needed or len(needed) < len(pairs):
        return []
    return [f"If the differences are as found, about {max(needed):,} test images would settle it with 80 % power."]


def say_close(pairs: Sequence[PairComparison], chosen: str, *, steps: Sequence[PairComparison]) -> list[str]:
    """Which of the pairs hang on one or two test images, and which steps to the best variant that are none of them."""
    close = [pair for pair in pairs if _hangs_on_few(pair)]
    others = [pair for pair in steps if pair not in pairs and _hangs_on_few(pair)]
    said = [("Against " + enumerate_words([pair.other(chosen) for pair in close]) + " that", close)] if close else []
    said += [(f"That {pair.winner} is better than {pair.loser}", [pair]) for pair in others]
    return [
        f"{what} is close: {count(max(pair.images_deciding or 0 for pair in hanging), 'test image')} answered "
        "otherwise would change it."
        for what, hanging in said
    ]


def _hangs_on_few(pair: PairComparison) -> bool:
    return pair.images_deciding is not None and pair.images_deciding <= CLOSE_IMAGES


def list_pairs(pairs: Sequence[PairComparison], chosen: str) -> str:
    """Other variants, each with the accuracy of the chosen one less its own; of many, the largest differences."""
    parts: list[str] = []
    for pair in pairs[:LISTED]:
        sign = 1 if pair.a == chosen else -1
        low, high = sorted(sign * end for end in pair.difference_ci95)
        plus = "+" if sign * pair.difference > 0 else ""
        unit, interval = (" points", "95 % interval ") if not parts else ("", "")
        difference = f"{plus}{points(sign * pair.difference)}{unit}"
        parts.append(f"{pair.other(chosen)} ({difference}, {interval}{points(low)} to {points(high)})")
    more = len(pairs) - len(parts)
    return enumerate_words([*parts, f"{more} more"] if more else parts)


def say_difference(pair: PairComparison) -> str:
    """`fine_tuned is 2.0 points above frozen (95 % interval 0.6 to 3.4, p = 0.031)`."""
    low, high = pair.difference_ci95
    if pair.winner == pair.b:
        low, high = -high, -low
    p_value = format_p(pair.p_value)
    numbers = f"95 % interval {points(low)} to {points(high)}, p {'' if p_value.startswith('<') else '= '}{p_value}"
    if pair.difference == 0:
        return f"{pair.a} and {pair.b} are equally accurate on these images ({numbers})"
    return f"{pair.winner} is {points(abs(pair.difference))} points above {pair.loser} ({numbers})"


def say_pair(pair: PairComparison, comparison: Comparison) -> str:
    """What was found of two variants, and what would settle it if nothing was."""
    if are_same_models(pair, comparison):
        discarded = any(run.discarded_phases for run in comparison.runs if run.variant in (pair.a, pair.b))
        why = "a later phase was discarded" if discarded else "both went through the same phases"
        return f"{pair.a} and {pair.b} are the same models with all seeds: {why}."
    text = f"{say_difference(pair)}: "
    margin = points(comparison.margin)
    if pair.outcome == "better":
        if abs(pair.difference) < comparison.margin:
            return f"{text}better, but probably by less than the margin of {margin} points."
        return f"{text}better."
    if pair.outcome == "equivalent":
        return f"{text}equivalent within {margin} points; take the cheaper one."
    if has_too_few_images(pair):
        return f"{text}inconclusive, for want of test images."
    if not comparison.speaks_of_recipes:
        found = pair.outcome_of_models
        of_models = "" if found == "inconclusive" else f"{found}, as these very models are; of recipes "
        return f"{text}{of_models}inconclusive, for want of seeds."
    return f"{text}inconclusive. {_say_what_would_settle(pair)}"


def format_p(p_value: float) -> str:
    """`0.031`, or `< 0.001`: what is smaller hangs on the shape of distributions that a few seeds cannot show."""
    return "< 0.001" if p_value < 0.001 else f"{p_value:.2g}"


def _say_what_would_settle(pair: PairComparison) -> str:
    ways = []
    if pair.images_needed is not None:
        ways.append(f"about {pair.images_needed:,} test images")
    if pair.seeds_needed is not None:
        ways.append(f"{pair.seeds_needed} seeds")
    if not ways:
        return "No affordable number of test images or seeds alone would settle it, if the difference is as found."
    return f"If the difference is as found, {' or '.join(ways)} would settle it with 80 % power."
