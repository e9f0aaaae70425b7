"""Find out what would help more: more images, or cleaner labels.

    python stages/diagnose.py

Reads data/splits.csv and data/features.safetensors, of all images but the test split.
Writes data/diagnosis/learning_curve.csv and data/diagnosis/label_issues.csv.
"""

import sys

from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params_file import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    avoid_spinning(params.compute.threads)
    # Here, since that has to be said before torch is loaded.
    from thaw.diagnosis.diagnose import diagnose

    diagnose(params.compute)


if __name__ == "__main__":
    sys.exit(exit_code(main))
