"""Predict the test split under one corruption, at five severities, with one trained model.

    python stages/evaluate_corrupted.py CORRUPTION VARIANT SEED

Reads data/models/VARIANT-SEED/, data/clean/images.zip and data/splits.csv.
Writes data/predictions/corrupted/CORRUPTION/VARIANT-SEED.csv, and its accuracies to
reports/metrics/corrupted/CORRUPTION/VARIANT-SEED.json.
"""

import sys

from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.paths import parse_cell, parse_corrupted_test
from thaw.utils.ranks import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    avoid_spinning(params.compute.threads)
    test, cell = parse_corrupted_test(sys.argv[1:], params), parse_cell(sys.argv[2:], params)
    # Here, since torch reads what was set above when it is imported.
    from thaw.evaluation.corrupted import evaluate_cell_corrupted

    evaluate_cell_corrupted(test, cell, batch_size=params.embed.batch_size, compute=params.compute)


if __name__ == "__main__":
    sys.exit(exit_code(main))
