"""The model that is taken where none is named: of the recommended recipe, the seed that does best on val.

Run with: pytest tests/report/test_champion.py
"""

from pathlib import Path
from typing import Any

import pytest

from thaw.errors import DataError
from thaw.paths import COMPARISON_JSON, Cell
from thaw.report.champion import find_champion
from thaw.utils.atomic import write_json


def run(variant: str, seed: int, val_loss: float) -> dict[str, Any]:
    return {"variant": variant, "seed": seed, "val": {"log_loss": val_loss, "accuracy": 0.5}, "test": {}}


def write(root: Path, *, recommended: str) -> None:
    runs = [run("frozen", 0, 0.1), run("fine_tuned", 0, 0.3), run("fine_tuned", 4, 0.2), run("fine_tuned", 5, 0.2)]
    write_json(root / COMPARISON_JSON, {"recommended": {"variant": recommended}, "runs": runs, "margin": 0.01})


def test_val_chooses_among_the_seeds_of_the_recommended_recipe(tmp_path: Path) -> None:
    for recommended, champion in (("fine_tuned", Cell("fine_tuned", 4)), ("frozen", Cell("frozen", 0))):
        write(tmp_path, recommended=recommended)
        assert find_champion(tmp_path) == champion


def test_without_a_report_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not there .*run `dvc repro`, or name the folder of a model before the im"):
        find_champion(tmp_path)
    write(tmp_path, recommended="two_stage")
    with pytest.raises(DataError, match="has no run of two_stage, which it recommends"):
        find_champion(tmp_path)
    (tmp_path / COMPARISON_JSON).write_text("{}")
    with pytest.raises(DataError, match=r"comparison\.json: recommended: Field required"):
        find_champion(tmp_path)
