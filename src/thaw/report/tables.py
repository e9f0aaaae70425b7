"""Numbers -> tables of text, for people: joined and counted with pandas."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import numpy as np
import pandas as pd

from thaw.data.manifest import EXPLANATIONS, Reason
from thaw.data.splits_csv import SPLITS
from thaw.params import SolvedPhase
from thaw.report.comparison import Comparison
from thaw.report.confusion import Counts, count_confusion, measure_recall, rank_confused
from thaw.report.external import ExternalSummary
from thaw.report.pair_words import format_p, has_too_few_images
from thaw.report.pairs import PairComparison
from thaw.report.results import Results
from thaw.training.notes import describe_phases
from thaw.utils.words import MINUS, count, points

EXAMPLES_SHOWN = 4
CLASSES_LISTED = 20
"""At most so many of the worst classes, and of the most confused pairs."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns; the first column is a name, the others are mostly numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    highlighted: int | None = None
    """The row that is recommended."""

    prose: int | None = None
    """The column that holds words, not numbers, beside the first."""

    total: bool = False
    """Whether the last row sums up the others, and stays last."""


def build_tables(results: Results, comparison: Comparison) -> dict[str, Table]:
    """All tables of the page, by name."""
    counts = {row.variant: count_confusion(results.runs_of(row.variant), results) for row in comparison.variants}
    return {
        "variants": _tabulate_variants(comparison),
        "costs": _tabulate_costs(comparison),
        "pairs": _tabulate_pairs(comparison.pairs),
        **{f"external {row.name}": _tabulate_external(row, comparison) for row in comparison.external},
        **{f"external pairs {row.name}": _tabulate_pairs(row.pairs) for row in comparison.external},
        **_tabulate_corrupted(comparison),
        "candidates": _tabulate_candidates(comparison),
        "calibration": _tabulate_calibration(comparison),
        "learning_curve": _tabulate_learning_curve(comparison),
        "runs": _tabulate_runs(comparison),
        "classes": _tabulate_classes(counts, results, comparison),
        "confused": _tabulate_confused(counts, results, comparison),
        "splits": _tabulate_splits(results),
        "dropped": _tabulate_dropped(results),
    }


def _make_table(
    frame: pd.DataFrame, *, highlighted: int | None = None, prose: int | None = None, total: bool = False
) -> Table:
    """The frame's columns and cells, as text."""
    return Table(
        columns=tuple(str(name) for name in frame.columns),
        rows=tuple(tuple(str(cell) for cell in row) for row in frame.itertuples(index=False)),
        highlighted=highlighted,
        prose=prose,
        total=total,
    )


def _flatten(summaries: Sequence[Any]) -> pd.DataFrame:
    """A row a summary; the fields of an inner one are columns such as `test.accuracy`."""
    return pd.json_normalize([summary.model_dump(mode="json") for summary in summaries])


def _percent(fraction: float) -> str:
    return f"{points(fraction)} %"


def _interval(ends: Sequence[float]) -> str:
    return f"{points(ends[0])} to {points(ends[1])}"


def _decimals(digits: int) -> Callable[[float], str]:
    return lambda number: f"{number:,.{digits}f}"


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _spread(row: pd.Series) -> str:
    if pd.isna(row["seed_sd"]):
        return "one seed"
    # An estimate of 0 is no proof that seeds agree: what they differ by is within the chance of the test images.
    return "not detected" if points(row["seed_sd"]) == "0.0" else f"± {points(row['seed_sd'])}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"


def format_flops(flops: float) -> str:
    """1.23e12 -> "1.23 TFLOP"."""
    for size, name in ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP")):
        if flops >= size:
            return f"{flops / size:,.3g} {name}" if flops < 1000 * size else f"{flops / size:,.0f} {name}"
    return f"{flops:,.0f} FLOP"


def _recommended_row(comparison: Comparison) -> int:
    return [row.variant for row in comparison.variants].index(comparison.recommended.variant)


def _tabulate_variants(comparison: Comparison) -> Table:
    rows = _flatten(comparison.variants)
    frame = pd.DataFrame(
        {
            "variant": rows["variant"],
            "test accuracy": rows["accuracy_mean"].map(_percent),
            "95 % interval": rows["accuracy_ci95"].map(_interval),
            "SD between seeds": rows.apply(_spread, axis=1),
            "balanced accuracy": rows["balanced_accuracy_mean"].map(_percent),
            "log loss": rows["log_loss_mean"].map(_decimals(3)),
            "AUC": rows["roc_auc_mean"].map(_decimals(4)),
            "ECE": rows["ece_mean"].map(_decimals(3)),
        }
    )
    return _make_table(frame, highlighted=_recommended_row(comparison))


def _tabulate_costs(comparison: Comparison) -> Table:
    rows = _flatten(comparison.variants)
    seconds = rows["cost.train_seconds_mean"].map(_seconds)
    unreliable = rows["cost.seconds_unreliable"].map({True: " (unreliable)", False: ""})
    frame = pd.DataFrame(
        {
            "variant": rows["variant"],
            "operations, one run": rows["cost.flops"].map(format_flops),
            "of these, features": rows["cost.flops_embed"].map(lambda n: format_flops(n) if n else "not needed"),
            "images seen": rows["cost.images_seen"].map(_whole),
            "training time per seed": seconds + unreliable,
            "time for features, once": rows["cost.embed_seconds"].map(lambda s: _seconds(s) if s else "not needed"),
            "images/s": rows["cost.images_per_second_mean"].map(lambda n: _whole(n) if n else "none seen"),
            "peak memory": rows["cost.peak_memory_mib"].map(_whole) + " MiB",
            "trainable parameters": rows["trainable_parameters"].map(_whole),
        }
    )
    return _make_table(frame, highlighted=_recommended_row(comparison))


def _tabulate_runs(comparison: Comparison) -> Table:
    rows = _flatten(comparison.runs)
    kept = [
        f"penalty {run.penalty:.3g}, phase {run.best.phase + 1}"
        if run.penalty is not None and isinstance(run.phases[run.best.phase], SolvedPhase)
        else f"epoch {run.best.epoch}, phase {run.best.phase + 1}"
        for run in comparison.runs
    ]
    frame = pd.DataFrame(
        {
            "variant": rows["variant"],
            "seed": rows["seed"],
            "test accuracy": rows["test.accuracy"].map(_percent),
            "log loss": rows["test.log_loss"].map(_decimals(3)),
            "AUC": rows["test.roc_auc"].map(_decimals(4)),
            "ECE": rows["test.ece"].map(_decimals(3)),
            "val accuracy": rows["val.accuracy"].map(_percent),
            "kept": kept,
            "operations, training": rows["flops"].map(format_flops),
            "training time": rows["train_seconds"].map(_seconds),
            "MLflow run": [(run.mlflow_run_id or "not logged")[:10] for run in comparison.runs],
        }
    )
    return _make_table(frame)


def _tabulate_calibration(comparison: Comparison) -> Table:
    """The temperature of each run, and what it brought."""
    frame = pd.DataFrame(
        [
            {
                "variant": run.variant,
                "seed": run.seed,
                "temperature": f"{run.temperature:.2f}",
                "log loss before": f"{run.uncalibrated.log_loss:.3f}",
                "after": f"{run.test.log_loss:.3f}",
                "ECE before": f"{run.uncalibrated.ece:.3f}",
                "after ": f"{run.test.ece:.3f}",
            }
            for run in comparison.runs
        ]
    )
    return _make_table(frame)


def _tabulate_learning_curve(comparison: Comparison) -> Table:
    """Accuracy by the number of training images."""
    frame = pd.DataFrame(
        [
            {
                "training images": _whole(row.images),
                "accuracy": _percent(row.accuracy),
                "lowest fold": _percent(min(row.fold_accuracies)),
                "highest fold": _percent(max(row.fold_accuracies)),
            }
            for row in comparison.diagnosis.learning_curve
        ]
    )
    return _make_table(frame)


def _tabulate_external(external: ExternalSummary, comparison: Comparison) -> Table:
    rows = _flatten(external.variants)
    frame = pd.DataFrame(
        {
            "variant": rows["variant"],
            f"accuracy on {external.name}": rows["accuracy_mean"].map(_percent),
            "95 % interval": rows["accuracy_ci95"].map(_interval),
            "SD between seeds": rows.apply(_spread, axis=1),
            "log loss": rows["log_loss_mean"].map(_decimals(3)),
            "AUC": rows["roc_auc_mean"].map(_decimals(4)),
            "ECE": rows["ece_mean"].map(_decimals(3)),
            "test accuracy": [_percent(row.accuracy_mean) for row in comparison.variants],
        }
    )
    return _make_table(frame, highlighted=_recommended_row(comparison))


def _tabulate_corrupted(comparison: Comparison) -> dict[str, Table]:
    """The mean over all corruptions, each corruption by itself, and the pairs; nothing if there are none."""
    corrupted = comparison.corrupted
    if corrupted is None:
        return {}
    rows = _flatten(corrupted.variants)
    means = pd.DataFrame(
        {
            "variant": rows["variant"],
            "mean corruption accuracy": rows["accuracy_mean"].map(_percent),
            "95 % interval": rows["accuracy_ci95"].map(_interval),
            "SD between seeds": rows.apply(_spread, axis=1),
            "test accuracy": [_percent(row.accuracy_mean) for row in comparison.variants],
        }
    )
    single = pd.DataFrame(
        [
            {
                "corruption": name.replace("_", " "),
                **{row.variant: _percent(mean(row.accuracy_by_severity[name])) for row in corrupted.variants},
            }
            for name in corrupted.corruptions
        ]
    )
    return {
        "corrupted": _make_table(means, highlighted=_recommended_row(comparison)),
        "corruptions": _make_table(single),
        "corrupted pairs": _tabulate_pairs(corrupted.pairs),
    }


def _tabulate_pairs(pairs: Sequence[PairComparison]) -> Table:
    frame = pd.DataFrame(
        [
            {
                "pair": f"{row.a} {MINUS} {row.b}",
                "difference, points": ("+" if row.difference > 0 else "") + points(row.difference),
                "95 % interval": _interval(row.difference_ci95),
                "p": format_p(row.p_value),
                "outcome": row.outcome_of_models,
                "found with 80 % power": "none"
                if row.detectable > 1 or has_too_few_images(row)
                else points(row.detectable),
                "images that differ": f"{row.images_differing:,}",
                "seeds ahead": f"{row.seeds_with_a_ahead} : {row.seeds_with_b_ahead}",
            }
            for row in pairs
        ]
    )
    return _make_table(frame)


def _tabulate_candidates(comparison: Comparison) -> Table:
    """All recipes that were tried, by variant, with the val loss of each seed."""
    frame = pd.DataFrame(
        [
            {
                "variant": row.variant,
                "recipe": describe_phases(candidate.phases),
                **{
                    f"val loss, seed {seed}": "not finite" if loss is None else f"{loss:.4f}"
                    for seed, loss in zip(comparison.seeds, candidate.val_losses, strict=True)
                },
                "won": f"{candidate.seeds_won} of {count(len(comparison.seeds), 'seed')}",
            }
            for row in comparison.variants
            for candidate in row.candidates
        ]
    )
    return _make_table(frame, prose=1)


def _tabulate_classes(counts: Mapping[str, Counts], results: Results, comparison: Comparison) -> Table:
    """The classes with the most errors: the share classified correctly by each variant, over all seeds."""
    recalls = {name: measure_recall(of_variant) for name, of_variant in counts.items()}
    images = np.bincount(results.test_labels, minlength=len(results.classes))
    order = np.argsort(recalls[comparison.recommended.variant], kind="stable")[:CLASSES_LISTED]
    return Table(
        columns=("class", "test images", *counts),
        rows=tuple(
            (results.classes[i], _whole(images[i]), *(_percent(recall[i]) for recall in recalls.values()))
            for i in order
        ),
    )


def _tabulate_confused(counts: Mapping[str, Counts], results: Results, comparison: Comparison) -> Table:
    """The most frequent errors of the recommended variant, and how often the others make them, over all seeds."""
    worst = rank_confused(counts[comparison.recommended.variant], most=CLASSES_LISTED)
    return Table(
        columns=("class", "taken for", *counts),
        rows=tuple(
            (results.classes[i], results.classes[j], *(_whole(of_variant[i, j]) for of_variant in counts.values()))
            for i, j in worst
        ),
        prose=1,
    )


def _tabulate_splits(results: Results) -> Table:
    """Where the files of each class went; images are in no split if they are copies of a given test image.

    Of many classes those with the fewest training images, and all others together.
    """
    files = pd.DataFrame(
        [
            (row.label or "(no class)", results.splits.get(row.path, "no split") if row.kept else "dropped")
            for row in results.manifest
        ],
        columns=["class", "place"],
    )
    left_out = (files["place"] == "no split").any()
    places = [*SPLITS, *(["no split"] if left_out else []), "dropped"]
    classes = sorted(files["class"].unique(), key=lambda name: (name == "(no class)", name))
    counts = pd.crosstab(files["class"], files["place"]).reindex(index=classes, columns=places, fill_value=0)
    if len(counts) > CLASSES_LISTED + 1:
        fewest = counts["train"].sort_values(kind="stable").index[:CLASSES_LISTED]
        others = counts.drop(index=fewest)
        counts = counts.drop(index=others.index)
        counts.loc[f"the {len(others):,} others, with as many train images or more"] = others.sum()
    counts.loc["all"] = counts.sum()
    frame = counts.map(_whole).reset_index(names="class")
    return _make_table(frame, total=True)


def _tabulate_dropped(results: Results) -> Table:
    dropped = pd.DataFrame(
        [(row.reason, row.path) for row in results.manifest if not row.kept], columns=["reason", "path"]
    )
    reasons = dropped.groupby("reason")["path"].agg(["count", _some]).reset_index()
    reasons = reasons.sort_values(["count", "reason"], ascending=[False, True])
    frame = pd.DataFrame(
        {
            "reason": reasons["reason"],
            "files": reasons["count"].map(_whole),
            "what that means, and for instance": [
                f"{EXPLANATIONS[Reason(reason)]}: {some}"
                for reason, some in zip(reasons["reason"], reasons["_some"], strict=True)
            ],
        }
    )
    return _make_table(frame, prose=2)


def _some(paths: "pd.Series[str]") -> str:
    return ", ".join(paths.iloc[:EXAMPLES_SHOWN]) + (", …" if len(paths) > EXAMPLES_SHOWN else "")
