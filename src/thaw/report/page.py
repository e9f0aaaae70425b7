"""Numbers, figures and pictures -> comparison.html and comparison.md, which say the same."""

import base64
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup, escape

from thaw.manifest import EXPLANATIONS, Reason
from thaw.params import Params
from thaw.report.compare import MINUS, enumerate_words, points
from thaw.report.pictures import TileGroup, group_duplicates
from thaw.report.read import SPLITS, Results

EXAMPLES_SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in rows and columns; the first column is a name, the others are mostly numbers."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    highlighted: int | None = None
    """The row that is recommended."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What both renderings are made of."""

    title: str
    source: str
    """The first line: what the data is."""
    setup: str
    comparison: Mapping[str, Any]
    tables: Mapping[str, Table]
    backbone_lines: tuple[str, ...]
    recipe_lines: tuple[str, ...]
    figures: Mapping[str, bytes]
    predictions: Mapping[str, tuple[str, Sequence[TileGroup]]]
    """Variant -> name of its first run, and that run's pictures."""
    sheets: Mapping[str, Sequence[TileGroup]]
    duplicate_groups: int
    given_test: str
    """By what the test pictures are given; empty if they were drawn."""


def build_page(
    results: Results,
    comparison: Mapping[str, Any],
    *,
    params: Params,
    figures: Mapping[str, bytes],
    predictions: Mapping[str, Sequence[TileGroup]],
    sheets: Mapping[str, Sequence[TileGroup]],
) -> Page:
    """Put the parts together.

    Args:
        results: what the stages wrote.
        comparison: what comparison.json holds.
        params: the parameters that the stages ran with.
        figures: name -> PNG; the names are those of the files in reports/figures, without their ending.
        predictions: name of a run -> its test pictures with predictions.
        sheets: pictures of the page on the data: `classes`, `duplicates`, `dropped`, `damaged`.
    """
    first_runs = {variant: results.runs_of(variant)[0].name for variant in params.variants}
    return Page(
        title=enumerate_words(list(params.variants), last="or") + ("?" if len(params.variants) > 1 else ""),
        source=describe_source(params),
        setup=_describe_setup(results, comparison, params),
        comparison=comparison,
        tables={
            "variants": _tabulate_variants(comparison),
            "costs": _tabulate_costs(comparison),
            "runs": _tabulate_runs(comparison),
            "pairs": _tabulate_pairs(comparison),
            "splits": _tabulate_splits(results),
            "dropped": _tabulate_dropped(results),
        },
        backbone_lines=tuple(
            _describe_backbone(row, first="random" if params.backbone.weights == "none" else "pretrained")
            for row in comparison["variants"]
        ),
        recipe_lines=_describe_recipes(params),
        figures=figures,
        predictions={variant: (name, predictions[name]) for variant, name in first_runs.items()},
        sheets=sheets,
        duplicate_groups=len(group_duplicates(results)),
        given_test=_find_given_test(results, params),
    )


def render_html(page: Page) -> str:
    """One file that needs no other: style and pictures are inside, and there is no script."""
    return _environment(autoescape=True).get_template("comparison.html.jinja").render(page=page)


def render_markdown(page: Page) -> str:
    """The same tables and verdict, with links to reports/figures."""
    return _environment(autoescape=False).get_template("comparison.md.jinja").render(page=page)


def _environment(*, autoescape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("thaw.report", package_path=""),
        autoescape=autoescape,  # noqa: S701 (off for Markdown alone, which has a filter of its own)
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"code": mark_code, "cell": escape_cell, "png_uri": _png_uri}
    return environment


def mark_code(text: str) -> Markup:
    """Escape a text for HTML, and turn what stands between backticks into code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped just before)


def escape_cell(text: str) -> str:
    """Escape what Markdown would take for mark-up, or for the end of a table's cell; not the _ inside a word."""
    return re.sub(r"([\\`*|<>\[\]~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def _png_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def describe_source(params: Params) -> str:
    """What the pictures are, in one line; of the sample, that it says nothing about photos."""
    data = params.data
    match data.source:
        case "sample":
            return (
                "These pictures are drawn by this project, and the numbers say nothing about real photos. "
                "To run on the real ones: `dvc exp run -S data.source=microsoft` (downloads 825 MB), or "
                "`dvc exp run -S data.source=file -S data.path=ARCHIVE.zip` for an archive on disk."
            )
        case "microsoft":
            return "These pictures are Microsoft's Cats vs Dogs, the Asirra set (`data.source: microsoft`)."
        case "kaggle":
            return f"These pictures are Kaggle's data set `{data.kaggle_dataset}` (`data.source: kaggle`)."
        case "url":
            return f"These pictures were downloaded from `{data.url}` (`data.source: url`)."
        case "cifar10":
            where = "downloaded" if data.archive is None else f"from `{data.archive.name}`"
            return f"These pictures are CIFAR-10's, {where} (`data.source: cifar10`)."
        case "file":
            return f"These pictures come from `{data.path}` (`data.source: file`)."


def _describe_setup(results: Results, comparison: Mapping[str, Any], params: Params) -> str:
    """Pictures, backbone and seeds in a few words; also whether pictures are enlarged."""
    backbone, splits = params.backbone, comparison["dataset"]["splits"]
    blocks = "" if backbone.blocks is None else f", its first {_count(backbone.blocks, 'block')}"
    weights = {"imagenet": "ImageNet weights", "none": "random weights"}.get(backbone.weights, f"`{backbone.weights}`")
    text = (
        f"{_count(sum(splits.values()), 'picture')} of {_count(len(results.classes), 'class', 'classes')}, "
        f"{splits['train']:,} to train on, {splits['val']:,} to choose the epoch, {splits['test']:,} to test. "
        f"Backbone `{backbone.name}`{blocks} ({weights}) at {backbone.image_size_px} px; "
        f"{_count(len(params.seeds), 'seed')} for each variant."
    )
    if given_test := _find_given_test(results, params):
        text += f" The test pictures are given by {given_test}."
    sides = [
        min(row.width_px, row.height_px, params.clean.side_px)
        for row in results.manifest
        if row.kept and row.width_px and row.height_px
    ]
    enlarged = float(np.mean([side < backbone.image_size_px for side in sides]))
    if enlarged > 0:
        text += (
            f" {_share(enlarged)} of the pictures are smaller than that and are enlarged "
            f"(the median short side is {np.median(sides):.0f} px)."
        )
    return text


def _describe_recipes(params: Params) -> tuple[str, ...]:
    """The phases of each variant, and what all of them share."""
    variants = (
        f"{variant}: "
        + ", then ".join(f"{p.train} at {p.lr:g} for {_count(p.epochs, 'epoch')} at most" for p in phases)
        for variant, phases in params.variants.items()
    )
    knobs = params.training.model_dump() | params.compute.model_dump() | {"embed.views": params.embed.views}
    return *variants, "all of them: " + ", ".join(f"{name} {value}" for name, value in knobs.items())


def _find_given_test(results: Results, params: Params) -> str:
    """What says which pictures test; empty if they were drawn."""
    if params.split.listed is not None:
        return f"the list `{params.split.listed}`"
    folder, paths = params.split.folder, [row.path for row in results.manifest if row.kept]
    below = {path for path in paths if folder in PurePosixPath(path).parts[:-2]}
    return f"the archive's folder `{folder}`" if below and below == set(results.test_paths) else ""


def _share(share: float) -> str:
    return "All" if share == 1 else f"{max(1, round(100 * share))} %"


def _count(n: int, one: str, many: str | None = None) -> str:
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def _tabulate_variants(comparison: Mapping[str, Any]) -> Table:
    return Table(
        columns=("variant", "test accuracy", "95 % interval", "spread over seeds", "log loss", "AUC", "ECE"),
        rows=tuple(
            (
                row["variant"],
                f"{points(row['accuracy_mean'])} %",
                f"{points(row['accuracy_ci95'][0])} to {points(row['accuracy_ci95'][1])}",
                "one seed" if row["accuracy_std"] is None else f"± {points(row['accuracy_std'])}",
                f"{row['log_loss_mean']:.3f}",
                f"{row['roc_auc_mean']:.4f}",
                f"{row['ece_mean']:.3f}",
            )
            for row in comparison["variants"]
        ),
        highlighted=_recommended_row(comparison),
    )


def _tabulate_costs(comparison: Mapping[str, Any]) -> Table:
    return Table(
        columns=(
            "variant",
            "training, a seed",
            "embedding, once",
            "pictures/s",
            "peak memory",
            "trainable parameters",
        ),
        rows=tuple(
            (
                row["variant"],
                _seconds(row["cost"]["train_seconds_mean"]),
                _seconds(row["cost"]["embed_seconds"]) if row["cost"]["embed_seconds"] else "not needed",
                f"{row['cost']['pictures_per_second_mean']:,.0f}",
                f"{row['cost']['peak_memory_mib']:,.0f} MiB",
                f"{row['trainable_parameters']:,}",
            )
            for row in comparison["variants"]
        ),
        highlighted=_recommended_row(comparison),
    )


def _recommended_row(comparison: Mapping[str, Any]) -> int:
    return [row["variant"] for row in comparison["variants"]].index(comparison["recommended"]["variant"])


def _tabulate_runs(comparison: Mapping[str, Any]) -> Table:
    return Table(
        columns=(
            "variant",
            "seed",
            "test accuracy",
            "log loss",
            "AUC",
            "ECE",
            "val accuracy",
            "kept epoch",
            "training",
            "MLflow run",
        ),
        rows=tuple(
            (
                row["variant"],
                str(row["seed"]),
                f"{points(row['test']['accuracy'])} %",
                f"{row['test']['log_loss']:.3f}",
                f"{row['test']['roc_auc']:.4f}",
                f"{row['test']['ece']:.3f}",
                f"{points(row['val']['accuracy'])} %",
                f"epoch {row['best']['epoch']}, phase {row['best']['phase'] + 1}",
                _seconds(row["train_seconds"]),
                (row["mlflow_run_id"] or "not logged")[:10],
            )
            for row in comparison["runs"]
        ),
    )


def _tabulate_pairs(comparison: Mapping[str, Any]) -> Table:
    return Table(
        columns=("pair", "difference, points", "95 % interval", "p", "p (Holm)", "pictures that differ", "verdict"),
        rows=tuple(
            (
                f"{row['a']} {MINUS} {row['b']}",
                ("+" if row["difference"] > 0 else "") + points(row["difference"]),
                f"{points(row['difference_ci95'][0])} to {points(row['difference_ci95'][1])}",
                f"{row['p_value']:.2g}",
                f"{row['p_value_holm']:.2g}",
                f"{row['pictures_differing']:,}",
                row["verdict"],
            )
            for row in comparison["pairs"]
        ),
    )


def _tabulate_splits(results: Results) -> Table:
    """Where the files of each class went; pictures are in no split if they are copies of a given test picture."""
    left_out = any(row.kept and row.path not in results.splits for row in results.manifest)
    places = (*SPLITS, *(["no split"] if left_out else []), "dropped")
    counts = Counter(
        (row.label, results.splits.get(row.path, "no split") if row.kept else "dropped") for row in results.manifest
    )
    labels = sorted({row.label for row in results.manifest}, key=lambda label: (label == "", label))
    rows = {label or "(no class)": tuple(counts[label, place] for place in places) for label in labels}
    rows["all"] = tuple(sum(column) for column in zip(*rows.values(), strict=True))
    return Table(columns=("class", *places), rows=tuple((name, *(f"{n:,}" for n in row)) for name, row in rows.items()))


def _tabulate_dropped(results: Results) -> Table:
    paths: dict[str, list[str]] = {}
    for row in results.manifest:
        if not row.kept:
            paths.setdefault(row.reason, []).append(row.path)
    return Table(
        columns=("reason", "files", "what that means, and for instance"),
        rows=tuple(
            (reason, f"{len(found):,}", f"{EXPLANATIONS[Reason(reason)]}: {_some(found)}")
            for reason, found in sorted(paths.items(), key=lambda item: (-len(item[1]), item[0]))
        ),
    )


def _some(paths: Sequence[str]) -> str:
    return ", ".join(paths[:EXAMPLES_SHOWN]) + (", …" if len(paths) > EXAMPLES_SHOWN else "")


def _describe_backbone(row: Mapping[str, Any], *, first: str) -> str:
    tensors, moved = row["backbone_tensors"], row["backbone_tensors_moved"]
    if moved == 0:
        return f"{row['variant']}: {tensors} of {tensors} backbone tensors bit-identical to the {first} weights"
    return f"{row['variant']}: {moved} of {tensors} backbone tensors moved"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds:,.0f} s"
