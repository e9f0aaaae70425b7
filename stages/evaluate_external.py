"""Predict an external test set with one trained model, and add its metrics there to its MLflow run.

    python stages/evaluate_external.py NAME VARIANT SEED

Reads data/models/VARIANT-SEED/, data/clean/external/NAME/manifest.csv and images.zip.
Writes data/predictions/external/NAME/VARIANT-SEED.csv and reports/metrics/external/NAME/VARIANT-SEED.json.
"""

import sys

from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.paths import parse_cell, parse_external_set
from thaw.tracking.background import tracked_evaluation
from thaw.utils.ranks import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    avoid_spinning(params.compute.threads)
    external, cell = parse_external_set(sys.argv[1:], params), parse_cell(sys.argv[2:], params)
    with tracked_evaluation(cell, external=[external]):
        # Here, since torch takes seconds to import: MLflow is starting meanwhile.
        from thaw.evaluation.external import evaluate_cell_on

        evaluate_cell_on(external, cell, batch_size=params.embed.batch_size, compute=params.compute)


if __name__ == "__main__":
    sys.exit(exit_code(main))
