"""Predict the test split with one trained model, and add its test metrics to its MLflow run.

    python stages/evaluate.py VARIANT SEED

Reads data/models/VARIANT-SEED/, data/clean/images.zip, data/splits.csv, data/features.safetensors and
data/backbone.safetensors.
Writes data/predictions/VARIANT-SEED.csv and reports/metrics/VARIANT-SEED.json.
"""

import sys

from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.paths import parse_cell
from thaw.tracking.background import tracked_evaluation
from thaw.utils.ranks import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    avoid_spinning(params.compute.threads)
    cell = parse_cell(sys.argv[1:], params)
    with tracked_evaluation(cell):
        # Here, since torch takes seconds to import: MLflow is starting meanwhile.
        from thaw.evaluation.evaluate import evaluate_cell

        evaluate_cell(cell, batch_size=params.embed.batch_size, compute=params.compute)


if __name__ == "__main__":
    sys.exit(exit_code(main))
