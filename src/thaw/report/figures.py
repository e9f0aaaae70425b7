"""Numbers -> figures: the same ones for the same numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from thaw.diagnosis.extrapolation import PowerLaw
from thaw.evaluation.scores import reliability_bins, undo_temperature
from thaw.report.comparison import Comparison, DiagnosisSummary, VariantSummary
from thaw.report.confusion import count_confusion
from thaw.report.corrupted import CorruptedSummary
from thaw.report.figure_style import AXIS, CELL, COLORS, INK, PALE, color_of
from thaw.report.results import Results, Run
from thaw.report.tables import format_flops
from thaw.training.history_csv import Epoch, History

MATRIX_CLASSES = 20
"""Of more classes than this, a confusion matrix cannot be read: the page has tables instead."""
FEW_CLASSES = 4
"""A confusion matrix of more classes needs narrow labels and room."""
COLUMNS = 3


def draw_run_figures(results: Results, run: Run) -> dict[str, Figure]:
    """`curves` and `confusion` of one run."""
    return {
        "curves": _draw_run_curves(run),
        "confusion": draw_confusion({run.name: count_confusion([run], results)}, results.classes),
    }


def draw_comparison_figures(results: Results, comparison: Comparison) -> dict[str, Figure]:
    """`accuracy_against_cost`, `curves`, `confusion`, `calibration` of all variants; `learning_curve` and `sizes`.

    `accuracy_against_cost_narrow` is the first one for the screen of a telephone. `corruptions` is there if some are.
    """
    names = [row.variant for row in comparison.variants]
    return {
        "accuracy_against_cost": draw_accuracy_against_cost(comparison, results.runs),
        "accuracy_against_cost_narrow": draw_accuracy_against_cost(comparison, results.runs, width_in=3.6),
        "curves": draw_curves(results, names),
        "confusion": draw_confusion(
            {name: count_confusion(results.runs_of(name), results) for name in names}, results.classes
        ),
        "calibration": draw_calibration(results, names),
        "learning_curve": draw_learning_curve(comparison.diagnosis),
        "sizes": draw_sizes(results),
        **({} if comparison.corrupted is None else {"corruptions": draw_corruptions(comparison, comparison.corrupted)}),
    }


def draw_accuracy_against_cost(comparison: Comparison, runs: Sequence[Run], *, width_in: float = 6.2) -> Figure:
    """A dot a variant with its 95 % interval, and a ring for each seed; cheap on the left, accurate at the top."""
    variants, recommended = comparison.variants, comparison.recommended.variant
    baseline = comparison.dataset.majority_class_accuracy
    figure = Figure(figsize=(width_in, 4.2 if width_in > 5 else 3.7), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(variants):
        x, (low, high), color = row.cost.flops, row.accuracy_ci95, color_of(place)
        axes.plot([x, x], [low, high], color=color, linewidth=7, alpha=0.25, solid_capstyle="butt")
        seeds = [run.metrics.test.accuracy for run in runs if run.variant == row.variant]
        axes.scatter([x] * len(seeds), seeds, s=34, facecolors="none", edgecolors=color, linewidths=1.2, zorder=3)
        axes.scatter([x], [row.accuracy_mean], s=42, color=color, zorder=4)
    if baseline > min(row.accuracy_ci95[0] for row in variants) - 0.1:
        axes.axhline(baseline, color=AXIS, linestyle=":", linewidth=1.2)
        axes.annotate("majority class", (0.01, baseline), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    _scale_costs(axes, [row.cost.flops for row in variants], width_in=width_in)
    _show_percent(axes.yaxis)
    axes.set_xlabel("cost of one run: floating-point operations" if width_in > 5 else "floating-point operations a run")
    axes.set_title("test accuracy", fontweight="normal")
    _name_variants(axes, variants, recommended=recommended)
    return figure


def _scale_costs(axes: Axes, costs: Sequence[float], *, width_in: float) -> None:
    """A logarithmic x axis with room for names at both sides, more of it on a narrow figure."""
    axes.set_xscale("log")
    room = (max(costs) / min(costs)) ** (1.3 / width_in) * 1.5 ** (6.2 / width_in)
    axes.set_xlim(min(costs) / room, max(costs) * room)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if max(costs) < 30 * min(costs) and width_in > 5 else (1,)))
    axes.xaxis.set_major_formatter(lambda flops, _: format_flops(flops))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _show_percent(axis: Axis) -> None:
    """Round steps, with no more decimals than they need: 97.5 is not 98 %, and a label has little room."""
    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda fraction, _: f"{round(100 * fraction, 3):g} %"))


def _name_variants(axes: Axes, variants: Sequence[VariantSummary], *, recommended: str) -> None:
    """Name and accuracy beside each dot; those that would lie on another text move down, with a line to their dot."""
    low, high = axes.get_ylim()
    height = 0.115 * (high - low)
    taken: list[tuple[bool, float]] = []
    by_accuracy = sorted(enumerate(variants), key=lambda item: -item[1].accuracy_mean)
    for place, row in by_accuracy:
        left = _is_crowded(row, variants)
        y = row.accuracy_mean
        while any(side == left and abs(y - other) < height for side, other in taken):
            y -= height / 8
        taken.append((left, y))
        moved = y < row.accuracy_mean - height / 4
        axes.annotate(
            f"{row.variant}\n{100 * row.accuracy_mean:.1f} %",
            (row.cost.flops, row.accuracy_mean),
            xytext=(-10 if left else 10, (y - row.accuracy_mean) / (high - low) * 72 * 3.3),
            textcoords="offset points",
            ha="right" if left else "left",
            va="center",
            fontweight="bold" if row.variant == recommended else "normal",
            arrowprops={"arrowstyle": "-", "color": color_of(place), "linewidth": 0.6} if moved else None,
        )


def _is_crowded(row: VariantSummary, variants: Sequence[VariantSummary]) -> bool:
    """Whether the next dearer variant stands where the text would go."""
    costs = [other.cost.flops for other in variants]
    dearer = [cost for cost in costs if cost > row.cost.flops]
    return bool(dearer) and math.log(min(dearer) / row.cost.flops) < 0.35 * math.log(max(costs) / min(costs))


def draw_curves(results: Results, variants: Sequence[str]) -> Figure:
    """Loss above accuracy, a column a variant, all seeds: validation drawn through, training dashed."""
    columns = min(COLUMNS, len(variants))
    blocks = -(-len(variants) // columns)
    figure = _framed_figure(0.7 + 2.9 * columns, 5.0 * blocks)
    grid = figure.subplots(2 * blocks, columns, squeeze=False, gridspec_kw={"hspace": 0.32, "wspace": 0.1})
    for rows in (grid[0::2], grid[1::2]):
        first, *others = rows.flat
        for axes in others:
            axes.sharey(first)
        for axes in rows[:, 1:].flat:
            axes.tick_params(labelleft=False)
        for axes in rows.flat[len(variants) :]:
            axes.set_axis_off()
    for place, name in enumerate(variants):
        block, column = divmod(place, columns)
        losses, accuracies = grid[2 * block, column], grid[2 * block + 1, column]
        _plot_variant(losses, accuracies, results.runs_of(name), color=color_of(place))
        losses.set_title(name, pad=16)
    for block in range(blocks):
        _label_curves(grid[2 * block, 0], grid[2 * block + 1, 0], legend=block == 0)
    return figure


def _draw_run_curves(run: Run) -> Figure:
    figure = _framed_figure(7.2, 2.9)
    losses, accuracies = figure.subplots(1, 2, gridspec_kw={"wspace": 0.3})
    for axes, quantity in ((losses, "loss"), (accuracies, "accuracy")):
        _plot_history(axes, run.history, quantity=quantity, color=COLORS[0])
        _mark_phases(axes, run.history)
        axes.set_xlabel(_name_steps([run.history]))
    losses.set_title(run.name, pad=16)
    _label_curves(losses, accuracies)
    return figure


def _plot_history(axes: Axes, history: History, *, quantity: str, color: str) -> None:
    """One run: validation, training dashed, a dot at the epoch that was kept."""
    x = np.arange(1, len(history.epochs) + 1)
    val = [getattr(epoch, f"val_{quantity}") for epoch in history.epochs]
    train = [getattr(epoch, f"train_{quantity}") for epoch in history.epochs]
    marker = "." if len(history.epochs) == 1 else None
    axes.plot(x, train, color=color, linestyle=(0, (3, 2)), linewidth=1.1, alpha=0.6, marker=marker)
    axes.plot(x, val, color=color, alpha=0.9)
    best = history.best
    axes.scatter([x[best]], [val[best]], s=24, color=color, zorder=4)


def _mark_phases(axes: Axes, history: History) -> None:
    """A line between phases, and above each what it trains. Seeds may stop early: the longest run sets the lines."""
    starts = [i for i, epoch in enumerate(history.epochs) if i == 0 or epoch.phase != history.epochs[i - 1].phase]
    for start in starts:
        if start > 0:
            axes.axvline(start + 0.5, color=AXIS, linewidth=0.8)
        axes.annotate(
            _label_phase(history.epochs[start]),
            (start + 0.5, 1),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            color=INK,
            fontsize=8,
        )
    axes.set_xlim(0.5, len(history.epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))


def _label_phase(first: Epoch) -> str:
    """What a phase trains, from its first epoch; a solved phase has penalties instead of epochs."""
    return f"{first.train} (solved)" if first.penalty is not None else first.train


def _name_steps(histories: Iterable[History]) -> str:
    """The x axis of learning curves."""
    solved = {epoch.penalty is not None for history in histories for epoch in history.epochs}
    if solved == {True}:
        return "penalty, from strong to weak"
    return "penalty, then epoch" if solved == {True, False} else "epoch"


def _label_curves(losses: Axes, accuracies: Axes, *, legend: bool = True) -> None:
    losses.set_ylabel("loss (nats)")
    losses.set_ylim(bottom=0)
    accuracies.set_ylabel("accuracy")
    _show_percent(accuracies.yaxis)
    if not legend:
        return
    for style, label in (("-", "validation"), ((0, (3, 2)), "training")):
        losses.plot([], [], color="#5b6b7a", linestyle=style, label=label)
    losses.scatter([], [], s=24, color="#5b6b7a", label="kept")
    losses.legend(loc="best", fontsize=8)


def _plot_variant(losses: Axes, accuracies: Axes, runs: Sequence[Run], *, color: str) -> None:
    """The curves of all seeds of one variant."""
    longest = max((run.history for run in runs), key=lambda history: len(history.epochs))
    for axes, quantity in ((losses, "loss"), (accuracies, "accuracy")):
        for run in runs:
            _plot_history(axes, run.history, quantity=quantity, color=color)
        _mark_phases(axes, longest)
    accuracies.set_xlabel(_name_steps(run.history for run in runs))


def draw_confusion(counts_of: Mapping[str, np.ndarray[Any, np.dtype[np.int64]]], classes: Sequence[str]) -> Figure:
    """A confusion matrix for each name: counts in the cells, shares of the row as colour."""
    columns = min(COLUMNS if len(classes) <= FEW_CLASSES else COLUMNS - 1, len(counts_of))
    rows = -(-len(counts_of) // columns)
    side = min(1.8 + 0.3 * len(classes), 6.5)
    figure = Figure(figsize=(columns * side + 0.6, rows * side + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for place, axes in enumerate(grid.flat):
        if place >= len(counts_of):
            axes.set_axis_off()
            continue
        name, counts = list(counts_of.items())[place]
        _plot_confusion(axes, counts, classes)
        axes.set_title(name)
        axes.set_xlabel("predicted")
    for axes in grid[:, 0]:
        axes.set_ylabel("truth")
    return figure


def _plot_confusion(axes: Axes, counts: np.ndarray[Any, np.dtype[np.int64]], classes: Sequence[str]) -> None:
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    if len(classes) > MATRIX_CLASSES:
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.15)
    else:
        # One colour, more or less opaque: it suits a light and a dark page.
        axes.pcolormesh(shares, alpha=0.06 + 0.94 * shares, cmap=ListedColormap([COLORS[0]]))
        axes.invert_yaxis()
        axes.set_aspect("equal")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    if len(classes) > MATRIX_CLASSES:
        return
    crowded = len(classes) > FEW_CLASSES
    centres = np.arange(len(classes)) + 0.5
    axes.set_xticks(centres, classes, rotation=90 if crowded else 0, fontsize=8)
    axes.set_yticks(centres, classes, fontsize=8)
    for (i, j), count in np.ndenumerate(counts):
        if count:
            color = CELL if shares[i, j] > 0.55 else INK
            where = (j + 0.5, i + 0.5)
            axes.text(*where, f"{count:,}", ha="center", va="center", color=color, fontsize=7 if crowded else 10)


def draw_calibration(results: Results, variants: Sequence[str]) -> Figure:
    """Accuracy against confidence, a panel a variant, all seeds together: on the diagonal, 90 % are correct in 90 %.

    Before temperature scaling grey, after it in the colour of the variant.
    """
    columns = min(COLUMNS, len(variants))
    rows = -(-len(variants) // columns)
    figure = _framed_figure(columns * 2.6 + 0.8, rows * 2.9)
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False, gridspec_kw={"hspace": 0.45, "wspace": 0.12})
    for place, axes in enumerate(grid.flat):
        if place >= len(variants):
            axes.set_axis_off()
            continue
        runs = results.runs_of(variants[place])
        axes.plot([0, 1], [0, 1], color=AXIS, linewidth=0.9, linestyle=":")
        before = [undo_temperature(run.probabilities, run.card.temperature) for run in runs]
        after = [run.probabilities for run in runs]
        for probabilities, color, label in ((before, PALE, "before"), (after, color_of(place), "after")):
            bins = reliability_bins(np.concatenate(probabilities), np.tile(results.test_labels, len(runs)))
            axes.plot([b.confidence for b in bins], [b.accuracy for b in bins], color=color, linewidth=1, label=label)
            axes.scatter(
                [b.confidence for b in bins],
                [b.accuracy for b in bins],
                s=[12 + 140 * b.share for b in bins],
                color=color,
                alpha=0.7,
                linewidths=0,
            )
        axes.legend(loc="best", fontsize=8)
        axes.set_title(variants[place])
        axes.set_xlim(1 / len(results.classes) - 0.03, 1.03)
        axes.set_ylim(-0.04, 1.06)
        axes.set_xlabel("confidence")
        for axis in (axes.xaxis, axes.yaxis):
            _show_percent(axis)
    grid[0, 0].set_ylabel("accuracy")
    return figure


def draw_learning_curve(diagnosis: DiagnosisSummary) -> Figure:
    """Accuracy of solved heads by training images, to twice as many, with the interval there."""
    figure = _framed_figure(7.2, 3.4)
    axes = figure.subplots()
    color = COLORS[0]
    for row in diagnosis.learning_curve:
        folds = [row.images] * len(row.fold_accuracies)
        axes.scatter(folds, row.fold_accuracies, s=30, facecolors="none", edgecolors=color, linewidths=0.8, alpha=0.6)
    images = [row.images for row in diagnosis.learning_curve]
    axes.plot(images, [row.accuracy for row in diagnosis.learning_curve], color=color, marker="o", markersize=5)
    if (gain := diagnosis.twice_the_images) is not None:
        law = PowerLaw(floor=gain.floor, scale=gain.scale, exponent=gain.exponent)
        x = np.geomspace(min(images[-1], gain.images) / 4, 2 * gain.images, 60)
        axes.plot(x, 1 - law.error(x), color=COLORS[1], linestyle=(0, (3, 2)), linewidth=1.3)
        reference = 1 - law.error(gain.images)
        low, high = (min(1.0, reference + end) for end in gain.accuracy_gain_ci95)
        axes.plot([2 * gain.images] * 2, [low, high], color=COLORS[1], linewidth=7, alpha=0.3, solid_capstyle="round")
        axes.scatter([2 * gain.images], [reference + gain.accuracy_gain], s=42, color=COLORS[1], zorder=4)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    _show_percent(axes.yaxis)
    axes.set_xlabel("training images (log scale)")
    axes.set_ylabel("accuracy, out of fold")
    axes.set_title(
        "solved head: folds (rings), all (dots), power law to twice the images with 95 % interval", fontsize=9
    )
    return figure


def draw_corruptions(comparison: Comparison, corrupted: CorruptedSummary) -> Figure:
    """Accuracy against severity, a panel a corruption and a line a variant; severity 0 is the test split as it is."""
    columns = min(COLUMNS, len(corrupted.corruptions))
    rows = -(-len(corrupted.corruptions) // columns)
    figure = _framed_figure(columns * 2.4 + 0.9, rows * 2.2 + 0.4)
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False, gridspec_kw={"hspace": 0.35})
    for place, axes in enumerate(grid.flat):
        if place >= len(corrupted.corruptions):
            axes.set_axis_off()
            continue
        name = corrupted.corruptions[place]
        for number, (row, clean) in enumerate(zip(corrupted.variants, comparison.variants, strict=True)):
            accuracies = [clean.accuracy_mean, *row.accuracy_by_severity[name]]
            axes.plot(
                [0, *corrupted.severities],
                accuracies,
                color=color_of(number),
                marker="o",
                markersize=3,
                label=row.variant,
            )
        axes.set_title(name.replace("_", " "))
        axes.set_xticks([0, *corrupted.severities])
        axes.tick_params(labelbottom=place + columns >= len(corrupted.corruptions))
        _show_percent(axes.yaxis)
    grid[0, 0].legend(loc="best", fontsize=8)
    grid[-1, 0].set_xlabel("severity")
    grid[0, 0].set_ylabel("accuracy")
    return figure


def draw_sizes(results: Results) -> Figure:
    """Histograms of the short and the long side of all files that decode."""
    sizes = [(row.width_px, row.height_px) for row in results.manifest if row.width_px and row.height_px]
    figure = _framed_figure(7.2, 2.6)
    panels = figure.subplots(1, 2, sharey=True, gridspec_kw={"wspace": 0.08})
    for axes, (name, side) in zip(panels, (("short side", min), ("long side", max)), strict=True):
        sides = np.array([side(size) for size in sizes])
        low, high = int(sides.min()), int(sides.max())
        edges = np.linspace(low - 0.5, high + 0.5, min(40, high - low + 1) + 1)
        axes.hist(sides, bins=edges.tolist(), color=COLORS[0])
        axes.set_title(f"{name} (px)")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, min_n_ticks=1))
    panels[0].set_ylabel("files")
    return figure


def _framed_figure(width_in: float, height_in: float) -> Figure:
    """A figure with room for labels at its edges; matplotlib's own search for it takes as long as drawing."""
    figure = Figure(figsize=(width_in, height_in))
    figure.subplots_adjust(
        left=0.75 / width_in, right=1 - 0.15 / width_in, bottom=0.5 / height_in, top=1 - 0.45 / height_in
    )
    return figure
