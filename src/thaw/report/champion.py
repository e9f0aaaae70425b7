"""The model to use: of the recipe that the report recommends, the seed that does best on val.

With `split.val: per_seed` each seed has other val images: that names one seed, and is no sign that it is a better one.
"""

from pathlib import Path

from thaw.errors import DataError
from thaw.paths import COMPARISON_JSON, Cell
from thaw.utils.records import Record, read_record


class _Recommended(Record):
    variant: str


class _Val(Record):
    log_loss: float


class _Run(Record):
    variant: str
    seed: int
    val: _Val


class _Report(Record):
    """Of comparison.json as much as is needed here: to read all of it loads what computes and draws it."""

    recommended: _Recommended
    runs: tuple[_Run, ...]


def find_champion(root: Path = Path()) -> Cell:
    """The cell whose model is recommended; the test split has no say in which seed it is.

    Raises:
        DataError: there is no report, or it is another release's.
    """
    path = root / COMPARISON_JSON
    if not path.is_file():
        raise DataError(
            f"{path} is not there to say which model is recommended: run `dvc repro`, or name the folder of a model "
            "before the images"
        )
    report = read_record(path, _Report, stage="report")
    runs = [run for run in report.runs if run.variant == report.recommended.variant]
    if not runs:
        raise DataError(f"{path} has no run of {report.recommended.variant}, which it recommends; run `dvc repro`")
    best = min(runs, key=lambda run: run.val.log_loss)
    return Cell(best.variant, best.seed)
