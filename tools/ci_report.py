"""What CI says of a run of the pipeline: the text of the step summary and of the comment on a pull request.

All tables are Markdown without HTML, and the plot is made of characters: GitHub shows no picture in a comment that is
not on the web already, and a run of a fork may not put one there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Values = Mapping[str, Any]
"""A nested mapping of names to numbers and words, as in params.yaml."""

_WIDTH = 48
"""Columns of the plot."""


@dataclass(frozen=True, kw_only=True)
class PipelineRun:
    """One run of the pipeline by CI."""

    stages: int
    """All stages of dvc.yaml, cells counted one by one."""
    ran: tuple[str, ...]
    """Those that ran; all others came from the cache."""
    exit_status: int | None
    """None: it was killed, or still runs."""
    ran_again: tuple[str, ...] | None
    """Stages that ran when the same was asked for at once again; None: it was not asked for."""
    seconds: float

    @property
    def succeeded(self) -> bool:
        """It ended well, and had nothing to do at once again."""
        return self.exit_status == 0 and not self.ran_again


@dataclass(frozen=True, kw_only=True)
class Base:
    """What the branch that is compared with has."""

    commit: str
    summary: Values
    params: Values


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All that a report speaks of."""

    run: PipelineRun | None
    stale: Mapping[str, Sequence[str]]
    """What in the committed dvc.lock does not fit, by stage."""
    verdict: Sequence[str]
    summary: Values
    params: Values
    base: Base | None
    details: str
    """Where the whole report is: an address, or nothing."""


def write_comment(outcome: Outcome) -> str:
    """The whole text, Markdown."""
    finished = outcome.run is not None and outcome.run.succeeded
    parts = ["## thaw"]
    if finished and outcome.verdict:
        parts += [f"**{outcome.verdict[0]}**", *(f"- {line}" for line in outcome.verdict[1:4])]
    parts += [describe_run(outcome.run)]
    if outcome.stale:
        parts += [describe_stale(outcome.stale)]
    if finished:
        parts += _compare(outcome)
    if outcome.details:
        parts += [f"Report with all figures: the artifact `report` of {outcome.details}"]
    return "\n\n".join(parts).replace("\n\n- ", "\n- ") + "\n"


def describe_run(run: PipelineRun | None) -> str:
    """How many stages ran: `2 ran, 17 from the cache`."""
    if run is None:
        return "The pipeline was not started."
    names = f" ({', '.join(run.ran[:12])}{', ...' if len(run.ran) > 12 else ''})" if run.ran else ""
    if run.exit_status is None:
        return f"Stopped before the end: {len(run.ran)} of {run.stages} stages had begun{names}. What was done is kept."
    if run.exit_status != 0:
        return f"**Failed:** {len(run.ran)} of {run.stages} stages had begun{names}. What was done is kept."
    cached = run.stages - len(run.ran)
    text = f"{run.stages} stages: {len(run.ran)} ran{names}, {cached} from the cache; {run.seconds:.0f} s."
    if run.ran_again:
        return f"{text} **Asked for again, {', '.join(run.ran_again)} ran again: nothing should have been left to do.**"
    return f"{text} At once again: 0 ran." if run.ran_again is not None else text


def describe_stale(stale: Mapping[str, Sequence[str]]) -> str:
    """What in a lock does not fit, and the remedy."""
    lines = [f"- {stage}: {', '.join(reasons)}" for stage, reasons in stale.items()]
    more = [f"- and {len(lines) - 10} more stages"] if len(lines) > 10 else []
    head = "**The committed dvc.lock does not fit the parameters and the code: run `make repro` and commit dvc.lock.**"
    return "\n".join([head, "", *lines[:10], *more])


def _compare(outcome: Outcome) -> list[str]:
    """Tables of metrics and parameters, and the plot."""
    base = outcome.base
    metrics = diff_table(base.summary if base else {}, outcome.summary, with_change=True, only_changes=False)
    parts = ["### Metrics", metrics]
    if base is None:
        parts.append("There is no finished run of the base branch to compare with.")
    else:
        parts[0] += f", against {base.commit[:10]}"
        changed = diff_table(base.params, outcome.params, with_change=False, only_changes=True)
        parts += ["### Parameters", changed or "None differs."]
    plot = draw_accuracies(outcome.summary, base.summary if base else {})
    return [*parts, *(["### Test accuracy, with its 95 % interval", f"```text\n{plot}\n```"] if plot else [])]


def flatten(values: Values, prefix: str = "") -> dict[str, Any]:
    """Dotted names: {"a": {"b": [1]}} -> {"a.b.0": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        inner = {str(index): item for index, item in enumerate(value)} if isinstance(value, list) else value
        flat |= flatten(inner, f"{name}.") if isinstance(inner, dict) and inner else {name: value}
    return flat


def diff_table(before: Values, after: Values, *, with_change: bool, only_changes: bool) -> str:
    """A Markdown table, one row a value; empty if there is no row."""
    old, new = flatten(before), flatten(after)
    rows = []
    for name in [*new, *(name for name in old if name not in new)]:
        if only_changes and name in old and name in new and old[name] == new[name]:
            continue
        cells = [_escape(name), *(_cell(values, name) for values in (old, new))]
        rows.append([*cells, _difference(old.get(name), new.get(name))] if with_change else cells)
    if not rows:
        return ""
    head = ["", "base", "here", *(["change"] if with_change else [])]
    lines = [head, [":--", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(values: Values, name: str) -> str:
    if name not in values:
        return "—"
    value = values[name]
    return _escape(f"{value:.4g}" if isinstance(value, float) else str(value))


def _escape(text: str) -> str:
    """Text that stays in its cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _difference(old: object, new: object) -> str:
    numbers = (int, float)
    if not isinstance(old, numbers) or not isinstance(new, numbers):
        return "" if old == new or old is None or new is None else "changed"
    return f"{new - old:+.4g}" if new != old else ""


def draw_accuracies(here: Values, base: Values) -> str:
    """A line a variant, and below it the base's where that differs: `|---o---|` is the interval and the mean."""
    rows = []
    for variant in here:
        found = [(label, _accuracy(values.get(variant))) for label, values in (("", here), (" (base)", base))]
        (_, now), (_, then) = found
        rows += [(f"{variant}{label}", row) for label, row in found if row and (label == "" or then != now)]
    if not rows:
        return ""
    low = min(row[0] for _, row in rows)
    high = max(row[2] for _, row in rows)
    span = max(high - low, 0.001)
    name_width = max(len(name) for name, _ in rows)
    lines = []
    for name, row in rows:
        first, middle, last = (round((value - low) / span * (_WIDTH - 1)) for value in row)
        line = [" "] * first + ["-"] * (last - first + 1) + [" "] * (_WIDTH - 1 - last)
        line[first], line[last], line[middle] = "|", "|", "o"
        lines.append(f"{name:{name_width}}  {''.join(line)}  {row[1]:.1%}")
    axis = f"{low:.1%}{f'{high:.1%}':>{_WIDTH - len(f'{low:.1%}')}}"
    return "\n".join([*lines, f"{'':{name_width}}  {axis}"])


def _accuracy(row: object) -> tuple[float, float, float] | None:
    """The interval's lower end, the mean, and its upper end."""
    if not isinstance(row, Mapping) or not {"ci95_low", "test_accuracy", "ci95_high"} <= row.keys():
        return None
    return row["ci95_low"], row["test_accuracy"], row["ci95_high"]
