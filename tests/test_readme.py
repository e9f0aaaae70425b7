"""README's first table is of the run whose outputs dvc.lock names; what its commands write is not for git."""

import hashlib
import re
import subprocess

import pytest

from conftest import ROOT
from thaw import paths
from thaw.report.build import ComparisonFile
from thaw.report.comparison import VariantSummary
from thaw.report.pair_words import format_p
from thaw.report.pairs import PairComparison
from thaw.report.tables import format_flops
from thaw.utils.words import points

SECONDS = r"[\d.,]+ s"
"""They alone differ from run to run."""


@pytest.fixture
def committed() -> ComparisonFile:
    """The comparison that the committed dvc.lock names, where its outputs lie here."""
    show = ["git", "-C", str(ROOT), "show", "HEAD:dvc.lock"]
    lock = subprocess.run(show, capture_output=True, text=True, check=False).stdout
    file = ROOT / paths.COMPARISON_JSON
    if file.exists() and hashlib.md5(file.read_bytes()).hexdigest() in lock:
        comparison = ComparisonFile.model_validate_json(file.read_bytes())
        if comparison.dataset.source == "sample":
            return comparison
    pytest.skip(f"{paths.COMPARISON_JSON} is not that of the committed run; `make repro` writes it")


def test_the_first_table_is_of_the_committed_run(committed: ComparisonFile) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, *others = committed.variants
    assert re.search(re.escape(_row(first)) + rf"{SECONDS} \|  \|\n", readme), _row(first)
    for row in others:
        (pair,) = (pair for pair in committed.pairs if {pair.a, pair.b} == {first.variant, row.variant})
        cells = _row(row), f" | {_against(pair, first.variant)} |\n"
        assert re.search(re.escape(cells[0]) + SECONDS + re.escape(cells[1]), readme), cells
    assert f"*{committed.verdict[1]}*" in " ".join(readme.split())


def test_git_ignores_the_plots_that_dvc_writes() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip(f"{ROOT} is not a git repository")
    done = subprocess.run(["git", "-C", str(ROOT), "check-ignore", "--quiet", "dvc_plots/index.html"], check=False)
    assert done.returncode == 0


def _row(row: VariantSummary) -> str:
    """A row up to the seconds."""
    low, high = map(points, row.accuracy_ci95)
    flops = format_flops(row.cost.flops)
    return f"| `{row.variant}` | {points(row.accuracy_mean)} % | {low} to {high} | {flops} | "


def _against(pair: PairComparison, first: str) -> str:
    """What another variant has more than the first one, with its outcome."""
    sign = -1 if pair.a == first else 1
    low, high = sorted(sign * end for end in pair.difference_ci95)
    plus = "+" if sign * pair.difference > 0 else ""
    outcome = {"better": "better" if pair.winner != first else "worse"}.get(pair.outcome, pair.outcome)
    interval = f"{points(low)} to {points(high)}, p = {format_p(pair.p_value)}"
    return f"{plus}{points(sign * pair.difference)} points ({interval}): {outcome}"
