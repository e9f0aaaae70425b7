"""Results -> the numbers of comparison.json and the verdict in words; pure functions."""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thaw.metrics import Integers, compare_paired, holm_correction, wilson_interval
from thaw.params import Params
from thaw.report.read import SPLITS, Results, Run

LEVEL = 0.05
"""Below this p-value, after Holm's correction, a difference counts as real."""

MINUS = "\N{MINUS SIGN}"

Row = dict[str, Any]


def compare_runs(results: Results, *, params: Params, run_ids: Mapping[str, str | None]) -> Row:
    """All that comparison.json holds.

    Args:
        results: what the stages wrote.
        params: the parameters that they ran with.
        run_ids: "{variant}-{seed}" -> the run's id in MLflow; None, or no entry, if it was not logged.

    Returns:
        Values that JSON can hold. Accuracies and their differences are fractions of 1; a pair's `difference` is the
        accuracy of `a` minus that of `b`, on the mean over seeds.
    """
    variants = [_describe_variant(name, results, params) for name in params.variants]
    pairs = _compare_pairs(results, list(params.variants))
    recommended = _recommend(variants, pairs)
    comparison = {
        "dataset": _describe_dataset(results, params),
        "backbone": {
            "name": params.backbone.name,
            "blocks": params.backbone.blocks,
            "weights": params.backbone.weights,
            "image_size_px": params.backbone.image_size_px,
        },
        "seeds": list(params.seeds),
        "runs": [_describe_run(run, run_ids.get(run.name)) for run in results.runs],
        "variants": variants,
        "pairs": pairs,
        "embed": results.embed.model_dump(),
        "recommended": recommended,
    }
    return {**comparison, "verdict": _verdict(comparison)}


def right(runs: Sequence[Run], labels: Integers) -> NDArray[np.bool_]:
    """Which test pictures each run gets right, shape (S, N)."""
    return np.stack([run.predicted == labels for run in runs])


def _describe_dataset(results: Results, params: Params) -> Row:
    reasons = Counter(row.reason for row in results.manifest if not row.kept)
    splits = Counter(results.splits.values())
    most_frequent = max(Counter(results.test_labels.tolist()).values())
    return {
        "source": params.data.source,
        "classes": list(results.classes),
        "files": len(results.manifest),
        "dropped": reasons.total(),
        "splits": {split: splits[split] for split in SPLITS},
        "dropped_by_reason": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        "damaged_but_kept": sum(row.kept and row.damage != "" for row in results.manifest),
        "guessing_accuracy": most_frequent / len(results.test_labels),
    }


def _describe_run(run: Run, run_id: str | None) -> Row:
    metrics = run.metrics.model_dump()
    return {
        "variant": run.variant,
        "seed": run.seed,
        **{key: metrics[key] for key in ("test", "val", "trainable_parameters")},
        "train_seconds": run.cost.train_seconds,
        "mlflow_run_id": run_id,
        **{key: metrics[key] for key in ("best", "backbone_tensors", "backbone_tensors_moved")},
        "epochs": len(run.history),
        "pictures_per_second": run.cost.pictures_per_second,
        "peak_memory_mib": run.cost.peak_memory_mib,
        "device": run.cost.device,
        "threads": run.cost.threads,
    }


def _describe_variant(name: str, results: Results, params: Params) -> Row:
    runs = results.runs_of(name)
    accuracies = [run.metrics.test.accuracy for run in runs]
    n = len(results.test_labels)
    # From the predictions and not from `accuracies`, whose mean can be a rounding error above 1.
    successes = float(right(runs, results.test_labels).sum() / len(runs))
    train_seconds = mean(run.cost.train_seconds for run in runs)
    uses_features = any(phase.train == "head" for phase in params.variants[name])
    return {
        "variant": name,
        "phases": [phase.model_dump() for phase in params.variants[name]],
        "accuracy_mean": successes / n,
        "accuracy_ci95": list(wilson_interval(successes, n)),
        "accuracy_std": stdev(accuracies) if len(runs) > 1 else None,
        "accuracy_min": min(accuracies),
        "accuracy_max": max(accuracies),
        "log_loss_mean": mean(run.metrics.test.log_loss for run in runs),
        "roc_auc_mean": mean(run.metrics.test.roc_auc for run in runs),
        "ece_mean": mean(run.metrics.test.ece for run in runs),
        "trainable_parameters": max(run.metrics.trainable_parameters for run in runs),
        "backbone_tensors": runs[0].metrics.backbone_tensors,
        "backbone_tensors_moved": max(run.metrics.backbone_tensors_moved for run in runs),
        "cost": {
            "train_seconds_mean": train_seconds,
            "embed_seconds": results.embed.seconds if uses_features else 0.0,
            "one_run_seconds": train_seconds + (results.embed.seconds if uses_features else 0.0),
            "pictures_per_second_mean": mean(run.cost.pictures_per_second for run in runs),
            "peak_memory_mib": max(run.cost.peak_memory_mib for run in runs),
        },
    }


def _compare_pairs(results: Results, names: Sequence[str]) -> list[Row]:
    rights = {name: right(results.runs_of(name), results.test_labels) for name in names}
    couples = list(itertools.combinations(names, 2))
    found = [compare_paired(rights[a], rights[b], groups=results.test_groups) for a, b in couples]
    adjusted = holm_correction([comparison.p_value for comparison in found])
    return [
        {
            "a": a,
            "b": b,
            "difference": comparison.difference,
            "p_value": comparison.p_value,
            "difference_ci95": list(comparison.interval),
            "p_value_holm": p_holm,
            "verdict": "real" if p_holm < LEVEL else "noise",
            "pictures_differing": comparison.units_differing,
            "seeds_with_a_ahead": int(np.sum(rights[a].sum(axis=1) > rights[b].sum(axis=1))),
            "seeds_with_b_ahead": int(np.sum(rights[a].sum(axis=1) < rights[b].sum(axis=1))),
        }
        for (a, b), comparison, p_holm in zip(couples, found, adjusted, strict=True)
    ]


def _recommend(variants: Sequence[Row], pairs: Sequence[Row]) -> Row:
    """The cheapest variant, unless another one is better beyond noise; then the cheapest of those, and so on.

    Each step goes to a variant of higher accuracy, so it ends; and no step is taken without evidence.
    """
    seconds = {row["variant"]: row["cost"]["one_run_seconds"] for row in variants}
    real = [(_winner(pair), _loser(pair)) for pair in pairs if pair["verdict"] == "real"]
    chosen = cheapest = min(seconds, key=seconds.__getitem__)
    while better := [winner for winner, loser in real if loser == chosen]:
        chosen = min(better, key=seconds.__getitem__)
    return {
        "variant": chosen,
        "cheapest": cheapest,
        "seconds_ratio_of_others": {name: seconds[name] / seconds[chosen] for name in seconds if name != chosen},
    }


def _loser(pair: Row) -> str:
    return str(pair["b"] if pair["difference"] > 0 else pair["a"])


def _winner(pair: Row) -> str:
    return str(pair["a"] if pair["difference"] > 0 else pair["b"])


def _verdict(comparison: Row) -> list[str]:
    """What the numbers say, sentence by sentence, the advice first."""
    return [
        _say_recommendation(comparison),
        *(_say_pair(pair, seeds=len(comparison["seeds"])) for pair in comparison["pairs"]),
        _say_noise(comparison),
        _say_guessing(comparison),
        _say_seeds(comparison),
    ]


def _say_recommendation(comparison: Row) -> str:
    chosen, cheapest = comparison["recommended"]["variant"], comparison["recommended"]["cheapest"]
    ratios = comparison["recommended"]["seconds_ratio_of_others"]
    if not ratios:
        return f"Only {chosen} was trained: there is nothing to compare it with."
    if chosen == cheapest:
        reason = "it is the cheapest, and no other variant is better beyond noise"
    else:
        worse = [_loser(pair) for pair in comparison["pairs"] if pair["verdict"] == "real" and _winner(pair) == chosen]
        reason = f"it is better than {enumerate_words(worse)} beyond noise"
    costs = [
        f"{name} takes {_times(ratio)} as long as {chosen}"
        if ratio >= 1
        else f"{chosen} takes {_times(1 / ratio)} as long as {name}"
        for name, ratio in ratios.items()
    ]
    return f"Recommended: {chosen}; {reason}. For one run, embedding included, {enumerate_words(costs)}."


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 10 else f"{ratio:,.0f} times"


def _say_pair(pair: Row, *, seeds: int) -> str:
    if pair["pictures_differing"] == 0:
        return f"{pair['a']} and {pair['b']} get the same test pictures right: noise, if anything."
    p = f"p = {pair['p_value_holm']:.2g} after Holm's correction"
    if pair["difference"] == 0:
        return f"{pair['a']} and {pair['b']} are equally accurate ({p}): noise, if anything."
    low, high = pair["difference_ci95"]
    if _winner(pair) == pair["b"]:
        low, high = -high, -low
    text = (
        f"{_winner(pair)} is {points(abs(pair['difference']))} points above {_loser(pair)} "
        f"(95 % interval {points(low)} to {points(high)}, {p}): "
    )
    if pair["verdict"] == "noise":
        return text + "this cannot be told from noise."
    ahead = pair["seeds_with_a_ahead"] if _winner(pair) == pair["a"] else pair["seeds_with_b_ahead"]
    if ahead < seeds:
        return text + f"real on these pictures, but only {ahead} of {seeds} seeds agree; try more seeds."
    return text + "real."


def _say_noise(comparison: Row) -> str:
    n = comparison["dataset"]["splits"]["test"]
    widths = [(high - low) / 2 for low, high in (pair["difference_ci95"] for pair in comparison["pairs"])]
    if widths:
        smallest, largest = points(min(widths)), points(max(widths))
        gap = f"{largest} points" if smallest == largest else f"{smallest} to {largest} points (it depends on the pair)"
        return f"The test split has {n:,} pictures: a gap under about {gap} cannot be told from noise."
    low, high = comparison["variants"][0]["accuracy_ci95"]
    return (
        f"The test split has {n:,} pictures: the accuracy is known to about {points((high - low) / 2)} points "
        "either way."
    )


def _say_guessing(comparison: Row) -> str:
    guess = comparison["dataset"]["guessing_accuracy"]
    poor = [row["variant"] for row in comparison["variants"] if row["accuracy_ci95"][0] <= guess]
    start = f"Guessing the most frequent class would be right on {points(guess)} % of the test pictures"
    if poor:
        return (
            f"{start}; {enumerate_words(poor)} cannot be told from that: there are too few test pictures, or something "
            "is wrong with data or training."
        )
    return f"{start}; every variant is better than that beyond noise."


def _say_seeds(comparison: Row) -> str:
    spreads = {row["variant"]: row["accuracy_std"] for row in comparison["variants"] if row["accuracy_std"] is not None}
    if not spreads:
        return (
            "Each variant was trained with one seed, so how much training again would change is unknown; "
            "add seeds to params.yaml."
        )
    parts = [f"{points(spread)} points for {name}" for name, spread in spreads.items()]
    return (
        f"Training again with another seed changes the accuracy by {enumerate_words(parts)} (standard deviation over "
        f"{len(comparison['seeds'])} seeds); intervals and p-values speak of other pictures, not of other seeds."
    )


def points(fraction: float) -> str:
    """0.0123 -> "1.2": percent or percentage points, with a real minus sign and none before zero."""
    text = f"{100 * fraction:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", MINUS)


def enumerate_words(parts: Sequence[str], *, last: str = "and") -> str:
    """`["x", "y", "z"]` -> "x, y and z"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
