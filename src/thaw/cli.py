"""`thaw`: what people type besides `dvc repro`."""

import argparse
import sys
from pathlib import Path

from thaw.errors import ConfigError, exit_code


def run() -> None:
    """The command `thaw`."""
    sys.exit(exit_code(main))


def main() -> None:
    """Read the arguments and do what they say."""
    parser = argparse.ArgumentParser(prog="thaw", description="Frozen, fine-tuned, or both in turn?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser("predict", help="say what pictures show")
    predict.add_argument("model", type=Path, help="a folder that training wrote, for instance data/models/frozen-0")
    predict.add_argument("pictures", type=Path, nargs="+", help="JPEG, PNG, GIF or BMP files")
    predict.set_defaults(command=_predict)
    sync = commands.add_parser("sync", help="make MLflow show all runs that DVC's outputs hold")
    sync.set_defaults(command=_sync)
    arguments = parser.parse_args()
    arguments.command(arguments)


# Each command imports what it needs when it runs: `thaw --help` should not wait for torch and MLflow.


def _predict(arguments: argparse.Namespace) -> None:
    from thaw.predict import predict_pictures

    for path, probabilities in predict_pictures(arguments.model, arguments.pictures):
        best = max(probabilities, key=lambda name: probabilities[name])
        print(f"{path}: {best} ({probabilities[best]:.1%})")


def _sync(_: argparse.Namespace) -> None:
    from thaw.layout import Cell
    from thaw.params import load_params
    from thaw.tracking import is_evaluated, mirror_cell

    params = load_params()
    cells = [Cell(variant, seed) for variant in params.variants for seed in params.seeds]
    trained = [cell for cell in cells if cell.cost.exists()]
    if not trained:
        raise ConfigError("there is no trained model here; run `dvc repro` first")
    run_ids = [
        mirror_cell(cell, experiment=params.tracking.experiment, through="report" if is_evaluated(cell) else "train")
        for cell in trained
    ]
    shown = [run_id for run_id in run_ids if run_id is not None]
    if len(shown) < len(trained):
        raise ConfigError(f"MLflow shows {len(shown)} of {len(trained)} runs; is MLFLOW_TRACKING_URI right?")
    print(f"MLflow shows {len(shown)} of {len(cells)} runs")
