"""Train one variant with one seed, and show the run in MLflow.

    python stages/train.py VARIANT SEED

Reads data/clean/pictures.zip, data/splits.csv and data/features.safetensors.
Writes data/models/VARIANT-SEED/, data/history/VARIANT-SEED.csv and data/cost/VARIANT-SEED.json.
"""

import sys

from thaw.errors import exit_code
from thaw.layout import parse_cell
from thaw.mirror import mirrored
from thaw.params import load_params
from thaw.processes import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    cell = parse_cell(sys.argv[1:], params)
    with mirrored(cell, through="train"):
        # Here, since torch takes seconds to import: MLflow is starting meanwhile.
        from thaw.train import train_cell

        train_cell(
            cell,
            phases=params.variants[cell.variant],
            backbone=params.backbone,
            training=params.training,
            compute=params.compute,
        )


if __name__ == "__main__":
    sys.exit(exit_code(main))
