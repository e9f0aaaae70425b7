"""Train one variant with one seed, and show the run in MLflow.

    python stages/train.py VARIANT SEED

Reads data/clean/images.zip, data/splits.csv, data/features.safetensors and data/backbone.safetensors.
Writes data/models/VARIANT-SEED/, data/history/VARIANT-SEED.csv and data/cost/VARIANT-SEED.json.
"""

import sys

from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params import list_candidates
from thaw.params_file import load_params
from thaw.paths import parse_cell
from thaw.tracking.background import tracked_training
from thaw.utils.ranks import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    avoid_spinning(params.compute.threads)
    cell = parse_cell(sys.argv[1:], params)
    with tracked_training(cell):
        # Here, since torch takes seconds to import: MLflow is starting meanwhile.
        from thaw.training.train import train_cell

        notes = train_cell(
            cell,
            candidates=list_candidates(params.variants[cell.variant]),
            backbone=params.backbone,
            storage=params.clean.storage,
            val=params.split.val,
            training=params.training,
            train_fraction=params.split.train_fraction,
            compute=params.compute,
        )
    sys.stdout.writelines(f"{line}\n" for line in notes)


if __name__ == "__main__":
    sys.exit(exit_code(main))
