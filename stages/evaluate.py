"""Predict the test split with one trained model, and add its test metrics to its MLflow run.

    python stages/evaluate.py VARIANT SEED

Reads data/models/VARIANT-SEED/, data/clean/pictures.zip, data/splits.csv and data/features.safetensors.
Writes data/predictions/VARIANT-SEED.csv and reports/metrics/VARIANT-SEED.json.
"""

import sys

from thaw.errors import exit_code
from thaw.evaluate import evaluate_cell
from thaw.layout import Cell
from thaw.params import load_params
from thaw.tracking import mirror_cell


def main() -> None:
    """Run the stage."""
    variant, seed = sys.argv[1:]
    params = load_params()
    cell = Cell(variant, int(seed))
    evaluate_cell(cell, batch_size=params.embed.batch_size)
    mirror_cell(cell, experiment=params.tracking.experiment)


if __name__ == "__main__":
    sys.exit(exit_code(main))
