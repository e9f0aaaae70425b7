"""Compare the variants: tables, figures, a verdict in words.

    python stages/report.py

Reads what the stages before wrote, of the variants and seeds in params.yaml.
Writes reports/comparison.md, .html and .json, and reports/figures/.
"""

import sys
from pathlib import Path

from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.report.build import write_report
from thaw.tracking.background import tracked_report


def main() -> None:
    """Run the stage."""
    params = load_params()
    with tracked_report() as run_ids:
        write_report(Path(), params=params, run_ids=run_ids)
    print("The report: reports/comparison.md, and with all images reports/comparison.html")


if __name__ == "__main__":
    sys.exit(exit_code(main))
