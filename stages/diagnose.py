"""Find out what would help more: more images, or cleaner labels.

    python stages/diagnose.py

Reads data/splits.csv and data/features.safetensors, of all images but the test split.
Writes data/diagnosis/learning_curve.csv and data/diagnosis/label_issues.csv.
"""

import sys

from thaw.diagnosis.diagnose import diagnose
from thaw.errors import exit_code
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    diagnose(params.compute)


if __name__ == "__main__":
    sys.exit(exit_code(main))
