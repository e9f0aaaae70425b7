"""Two variants side by side -> words; pure functions."""

from collections.abc import Sequence

from thaw.report.comparison import Comparison
from thaw.report.pairs import PairComparison
from thaw.utils.words import enumerate_words, points

LISTED = 3
"""Of more variants than this, a sentence names only some; the tables have all."""


def say_images_needed(pairs: Sequence[PairComparison]) -> list[str]:
    """How many test images would settle all of the pairs; nothing if some pair would not be settled."""
    needed = [pair.images_needed for pair in pairs if pair.images_needed is not None]
    if not needed or len(needed) < len(pairs):
        return []
    return [f"If the differences are as found, about {max(needed):,} test images would settle it."]


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


def say_gap(pair: PairComparison) -> str:
    """The gap between winner and loser, with its interval."""
    low, high = sorted(abs(end) for end in pair.difference_ci95)
    return (
        f"{points(abs(pair.difference))} points above {pair.loser} (95 % interval {points(low)} to {points(high)}, "
        f"{format_p(pair)})"
    )


def say_pair(pair: PairComparison, comparison: Comparison) -> str:
    """What was found of two variants, and what would settle it if nothing was."""
    same = next(row.same_model_as.get(pair.b, ()) for row in comparison.variants if row.variant == pair.a)
    if same and len(same) == len(comparison.seeds):
        return f"{pair.a} and {pair.b} are the same models with all seeds: a later phase was discarded."
    low, high = pair.difference_ci95
    if pair.winner == pair.b:
        low, high = -high, -low
    numbers = f"95 % interval {points(low)} to {points(high)}, {format_p(pair)}"
    text = (
        f"{pair.a} and {pair.b} are equally accurate on these images ({numbers}): "
        if pair.difference == 0
        else f"{pair.winner} is {points(abs(pair.difference))} points above {pair.loser} ({numbers}): "
    )
    margin = points(comparison.margin)
    if pair.outcome == "better":
        if high <= comparison.margin:
            return f"{text}better, but by less than the margin of {margin} points."
        return f"{text}better."
    if pair.outcome == "equivalent":
        return f"{text}equivalent within {margin} points; take the cheaper one."
    if not comparison.speaks_of_recipes:
        return f"{text}inconclusive, for want of seeds."
    return f"{text}inconclusive. {_say_what_would_settle(pair)}"


def format_p(pair: PairComparison) -> str:
    """`p = 0.031`."""
    return "p < 1e-15" if pair.p_value < 1e-15 else f"p = {pair.p_value:.2g}"


def _say_what_would_settle(pair: PairComparison) -> str:
    ways = []
    if pair.images_needed is not None:
        ways.append(f"about {pair.images_needed:,} test images")
    if pair.seeds_needed is not None:
        ways.append(f"{pair.seeds_needed} seeds")
    if not ways:
        return "No affordable number of test images or seeds alone would settle it, if the difference is as found."
    return f"If the difference is as found, {' or '.join(ways)} would settle it."
