"""Compare the variants: tables, figures, a verdict in words.

    python stages/report.py

Reads what the stages before wrote, of the variants and seeds in params.yaml.
Writes reports/comparison.md, .html and .json, and reports/figures/.
"""

import sys
from pathlib import Path

from thaw.errors import exit_code
from thaw.params import load_params
from thaw.paths import all_cells, all_external_sets
from thaw.report.build import write_report
from thaw.tracking.mlflow_runs import sync_cell


def main() -> None:
    """Run the stage."""
    params = load_params()
    cells = all_cells(params)
    experiment = params.tracking.experiment
    external = all_external_sets(params)
    run_ids = {
        str(cell): sync_cell(cell, experiment=experiment, through="evaluate", external=external) for cell in cells
    }
    write_report(Path(), params=params, run_ids=run_ids)
    for cell in cells:
        sync_cell(cell, experiment=experiment, through="report")
    print("The report: reports/comparison.md, and with all images reports/comparison.html")


if __name__ == "__main__":
    sys.exit(exit_code(main))
