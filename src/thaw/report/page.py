"""Numbers, figures and images -> comparison.html and comparison.md, which say the same."""

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import jinja2
import numpy as np
from markupsafe import Markup, escape

from thaw.evaluation.significance import Outcome
from thaw.params import OptimizerParams, Params
from thaw.report.comparison import Comparison, VariantSummary
from thaw.report.figures import MATRIX_CLASSES
from thaw.report.fonts import find_uncovered
from thaw.report.results import Results
from thaw.report.tables import Table, build_tables, format_flops
from thaw.report.thumbnails import TileGroup, group_duplicates
from thaw.report.verdict import Verdict
from thaw.training.notes import describe_phases
from thaw.utils.words import count, enumerate_words, points

SCRIPT = Path(__file__).with_name("comparison.js")
LONGEST_UNBROKEN = 12
"""Letters of a name that fits into a column."""


@dataclass(frozen=True, kw_only=True)
class Page:
    """What both renderings are made of."""

    title: str
    source: str
    """The first line: what the data is."""
    setup: str
    comparison: Comparison
    verdict: Verdict
    tables: Mapping[str, Table]
    margin: str
    """Within so many points, variants are equivalent."""
    cheapest_to_dearest: str
    """What one run costs, from the cheapest variant to the dearest."""
    outcomes: str
    """How many pairs have which outcome."""
    matrix: bool
    """Whether there are few enough classes for a confusion matrix."""
    unwritable: str
    """Class names with letters that no font of this machine holds."""
    forward_flops: str
    """What features cost an image, in words to be appended."""
    backbone_lines: tuple[str, ...]
    recipe_lines: tuple[str, ...]
    figures: Collection[str]
    """Names of the files in reports/figures, without their ending."""
    charts: Mapping[str, Markup]
    """Figures as SVG elements."""
    predictions: Mapping[str, tuple[str, Sequence[TileGroup]]]
    """Variant -> name of its first run, and that run's images."""
    sheets: Mapping[str, Sequence[TileGroup]]
    duplicate_groups: int
    given_splits: str
    """Which splits are given, and by what; empty if all were drawn."""


def build_page(
    results: Results,
    comparison: Comparison,
    *,
    params: Params,
    verdict: Verdict,
    figures: Collection[str],
    charts: Mapping[str, Markup],
    predictions: Mapping[str, Sequence[TileGroup]],
    sheets: Mapping[str, Sequence[TileGroup]],
) -> Page:
    """Put the parts together.

    Args:
        results: what the stages wrote.
        comparison: the numbers of comparison.json.
        params: the parameters that the stages ran with.
        verdict: the comparison in sentences.
        figures: names of the files in reports/figures, without their ending.
        charts: name -> SVG element; all figures of the page.
        predictions: name of a run -> its test images with predictions.
        sheets: images of the page on the data: `classes`, `duplicates`, `dropped`, `damaged`.
    """
    first_runs = {variant: results.runs_of(variant)[0].name for variant in params.variants}
    return Page(
        title=enumerate_words(list(params.variants), last="or") + ("?" if len(params.variants) > 1 else ""),
        source=describe_source(params),
        setup=_describe_setup(results, comparison, params),
        comparison=comparison,
        verdict=verdict,
        tables=build_tables(results, comparison),
        margin=points(comparison.margin),
        cheapest_to_dearest=_describe_costs(comparison),
        outcomes=_count_outcomes(comparison),
        matrix=len(results.classes) <= MATRIX_CLASSES,
        unwritable=_list_unwritable(results.classes),
        forward_flops=_describe_forward(results),
        backbone_lines=tuple(
            _describe_backbone(row, first="random" if params.backbone.weights == "none" else "pretrained")
            for row in comparison.variants
        ),
        recipe_lines=_describe_recipes(params),
        figures=figures,
        charts=charts,
        predictions={variant: (name, predictions[name]) for variant, name in first_runs.items()},
        sheets=sheets,
        duplicate_groups=len(group_duplicates(results)),
        given_splits=_list_given_splits(results, params),
    )


def render_html(page: Page) -> str:
    """One file that needs no other: style, script and images are inside, and the browser is told to ask no host."""
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    template = _environment(autoescape=True).get_template("comparison.html.jinja")
    return template.render(page=page, script=Markup(script), script_hash=f"sha256-{digest}")  # noqa: S704 (our own)


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
    environment.filters |= {
        "code": mark_code,
        "name": mark_breaks,
        "cell": escape_cell,
        "prose": escape_prose,
        "flops": format_flops,
    }
    return environment


def mark_code(text: str) -> Markup:
    """Escape a text for HTML, and turn what stands between backticks into code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 (escaped just before)


def mark_breaks(name: str) -> Markup:
    """Escape a name for HTML, and let a long one break behind / and _ before it does inside a word."""
    if len(name) <= LONGEST_UNBROKEN:
        return escape(name)
    return Markup(re.sub(r"(?<=[/_])(?=\w)", "<wbr>", str(escape(name))))  # noqa: S704 (escaped just before)


def escape_cell(text: str) -> str:
    """Escape what Markdown would take for mark-up, or for the end of a table's cell; not the _ inside a word."""
    return re.sub(r"([\\`*|<>\[\]~#]|(?<!\w)_|_(?!\w))", r"\\\1", text)


def escape_prose(sentence: str) -> str:
    """Escape a sentence for Markdown, and leave what stands between backticks as the code that it is."""
    parts = re.split(r"(`[^`]+`)", sentence)
    return "".join(part if i % 2 else escape_cell(part) for i, part in enumerate(parts))


def describe_source(params: Params) -> str:
    """What the images are, in one line; of the sample, that it says nothing about photos."""
    data = params.data
    match data.source:
        case "sample":
            return (
                "These images are drawn by this project, and the numbers say nothing about real photos. "
                "To run on the real ones: `dvc exp run -S data.source=microsoft` (downloads 825 MB), or "
                "`dvc exp run -S data.source=file -S data.path=ARCHIVE.zip` for an archive on disk."
            )
        case "microsoft":
            return "These images are Microsoft's Cats vs Dogs, the Asirra set (`data.source: microsoft`)."
        case "kaggle":
            return f"These images are Kaggle's data set `{data.kaggle_dataset}` (`data.source: kaggle`)."
        case "url":
            return f"These images were downloaded from `{data.url}` (`data.source: url`)."
        case "cifar10":
            where = "downloaded" if data.archive is None else f"from `{data.archive.name}`"
            return f"These images are CIFAR-10's, {where} (`data.source: cifar10`)."
        case "file":
            return f"These images come from `{data.path}` (`data.source: file`)."


def _describe_setup(results: Results, comparison: Comparison, params: Params) -> str:
    """Images, backbone and seeds in a few words; also whether images are enlarged."""
    backbone, splits = params.backbone, comparison.dataset.splits
    blocks = "" if backbone.blocks is None else f", its first {count(backbone.blocks, 'block')}"
    weights = {"imagenet": "ImageNet weights", "none": "random weights"}.get(
        backbone.weights, f"`{backbone.weights_file}`"
    )
    drawn = (
        " (drawn anew with each seed)" if params.split.val == "per_seed" and "val" not in results.given_splits else ""
    )
    text = (
        f"{count(sum(splits.values()), 'image')} of {count(len(results.classes), 'class', 'classes')}, "
        f"{splits['train']:,} to train on, {splits['val']:,} to validate{drawn}, {splits['test']:,} to test. "
        f"Backbone `{backbone.name}`{blocks} ({weights}) at {backbone.image_size_px} px; "
        f"{count(len(params.seeds), 'seed')} for each variant."
    )
    if params.split.train_fraction < 1:
        text += f" Each model is trained on {params.split.train_fraction:.3g} of the training images alone."
    if given := _list_given_splits(results, params):
        text += f" Splits that are given, not drawn: {given}."
    sides = [
        min(row.width_px, row.height_px, params.clean.side_px)
        for row in results.manifest
        if row.kept and row.width_px and row.height_px
    ]
    enlarged = float(np.mean([side < backbone.image_size_px for side in sides]))
    if enlarged > 0:
        text += (
            f" {_share(enlarged)} of the images are smaller than that and are enlarged "
            f"(the median short side is {np.median(sides):.0f} px)."
        )
    return text


def _describe_costs(comparison: Comparison) -> str:
    """`1.14 TFLOP to 6.75 TFLOP a run`."""
    low, high = (format_flops(f([row.cost.flops for row in comparison.variants])) for f in (min, max))
    return f"{low} a run" if low == high else f"{low} to {high} a run"


def _count_outcomes(comparison: Comparison) -> str:
    """`1 better, 2 inconclusive`."""
    found = Counter(pair.outcome_of_models for pair in comparison.pairs)
    return ", ".join(f"{found[outcome]} {outcome}" for outcome in get_args(Outcome) if found[outcome])


def _list_unwritable(classes: Sequence[str]) -> str:
    """Some of the class names that figures cannot show."""
    names = find_uncovered(classes)
    return enumerate_words([*names[:3], f"{len(names) - 3} more"] if len(names) > 4 else names) if names else ""


def _describe_forward(results: Results) -> str:
    """What one forward pass of an image costs."""
    passes = results.embed.images * results.embed.views
    return f", {format_flops(results.embed.flops / passes)} an image" if passes else ""


def _describe_recipes(params: Params) -> tuple[str, ...]:
    """The phases of each variant, and what all of them share."""
    variants = (f"{variant}: {describe_phases(phases)}" for variant, phases in params.variants.items())
    knobs = (
        params.training.model_dump()
        | {"optimizer": _describe_optimizer(params.training.optimizer)}
        | params.compute.model_dump()
        | {"embed.views": params.embed.views}
    )
    return *variants, "all of them: " + ", ".join(f"{name} {value}" for name, value in knobs.items())


def _describe_optimizer(optimizer: OptimizerParams) -> str:
    """`adamw (weight_decay 0.01)`."""
    return f"{optimizer.name} ({', '.join(f'{k} {v}' for k, v in optimizer.model_dump(exclude={'name'}).items())})"


def _list_given_splits(results: Results, params: Params) -> str:
    """What says which images are test and val; empty if they were drawn."""
    if not results.given_splits:
        return ""
    names = enumerate_words([name for name in ("val", "test") if name in results.given_splits])
    if params.split.listed is None:
        return f"{names} by the archive"
    return f"test by the list `{params.split.listed}`" + (", val by the archive" if "val" in names else "")


def _share(share: float) -> str:
    return "All" if share == 1 else f"{max(1, round(100 * share))} %"


def _describe_backbone(row: VariantSummary, *, first: str) -> str:
    tensors, moved = row.backbone_tensors, row.backbone_tensors_moved
    if moved == 0:
        return f"{row.variant}: {tensors} of {tensors} backbone tensors bit-identical to the {first} weights"
    parameters = row.backbone_parameter_tensors
    return (
        f"{row.variant}: {moved} of {tensors} backbone tensors moved; {parameters} are parameters, and "
        f"{tensors - parameters} are buffers, such as BatchNorm's statistics"
    )
