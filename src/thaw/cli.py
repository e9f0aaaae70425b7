"""`thaw`: what people type besides `dvc repro`."""

import argparse
import signal
import sys
from pathlib import Path

from thaw.errors import ConfigError, exit_code

_AS_WRITTEN = argparse.RawDescriptionHelpFormatter

_COMPLETION = """\
parameters count the classifier too, which the pipeline replaces. weights: embedded (in a Python package), cached
(downloaded before), download (from the library's server when they are needed), none.
For completion of names by Tab, in bash:

    complete -W "backbones predict show sync test $(thaw backbones --names)" thaw
"""


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
    test = commands.add_parser("test", help="say how often a model is right on another archive of labelled pictures")
    test.add_argument("archive", type=Path, help="a .zip or .tar.gz with one folder a class, named as in training")
    test.add_argument("models", type=Path, nargs="+", help="folders that training wrote")
    test.set_defaults(command=_test)
    sync = commands.add_parser("sync", help="make MLflow show all runs that DVC's outputs hold")
    sync.set_defaults(command=_sync)
    backbones = commands.add_parser(
        "backbones", help="list the networks that backbone.name can be", epilog=_COMPLETION, formatter_class=_AS_WRITTEN
    )
    backbones.add_argument("pattern", nargs="?", default="*", help="'resnet*', or any part of a name; default: all")
    backbones.add_argument("--limit", type=int, default=20, metavar="N", help="print at most N (default: 20)")
    backbones.add_argument("--names", action="store_true", help="print nothing but the names, all of them")
    backbones.set_defaults(command=_backbones)
    show = commands.add_parser("show", help="show the model that params.yaml describes, block by block")
    show.set_defaults(command=_show)
    arguments = parser.parse_args()
    arguments.command(arguments)


# Each command imports what it needs when it runs: `thaw --help` should not wait for torch and MLflow.


def _predict(arguments: argparse.Namespace) -> None:
    from thaw.predict import predict_pictures

    for path, probabilities in predict_pictures(arguments.model, arguments.pictures):
        best = max(probabilities, key=lambda name: probabilities[name])
        print(f"{path}: {best} ({probabilities[best]:.1%})")


def _test(arguments: argparse.Namespace) -> None:
    from thaw.metrics import wilson_interval
    from thaw.params import load_params
    from thaw.predict import score_archive

    params = load_params()
    for score in score_archive(
        arguments.models,
        arguments.archive,
        unzip=params.unzip,
        clean=params.clean,
        batch_size=params.embed.batch_size,
    ):
        low, high = wilson_interval(score.correct, score.pictures)
        print(
            f"{score.model}: {score.correct:,} of {score.pictures:,} pictures right, "
            f"{score.correct / score.pictures:.1%} (95 % interval {100 * low:.1f} to {100 * high:.1f})",
            flush=True,
        )


def _sync(_: argparse.Namespace) -> None:
    from thaw.layout import all_cells
    from thaw.params import load_params
    from thaw.tracking import is_evaluated, mirror_cell

    params = load_params()
    cells = all_cells(params)
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


def _backbones(arguments: argparse.Namespace) -> None:
    from thaw.catalogue import look_up, match_names

    if arguments.limit < 1:
        raise ConfigError(f"--limit: expected a number of at least 1, got {arguments.limit}")
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `thaw backbones | head` ends without a word
    names = match_names(arguments.pattern)
    if not names:
        raise ConfigError(f"no backbone's name matches {arguments.pattern!r}; `thaw backbones --names` prints all")
    if arguments.names:
        print(*names, sep="\n")
        return
    shown = names[: arguments.limit]
    name_width = max(len(name) for name in shown)
    print(f"{'name':{name_width}}  library      parameters  input  weights", flush=True)
    for name in shown:
        entry = look_up(name)
        line = (
            f"{name:{name_width}}  {entry.origin:11}  {entry.parameters:10}  {entry.input_size_px:5}  {entry.weights}"
        )
        print(line, flush=True)
    if len(names) > len(shown):
        print(f"{len(names) - len(shown)} more match; give a narrower pattern or --limit {len(names)}", file=sys.stderr)


def _show(_: argparse.Namespace) -> None:
    from thaw.outline import outline_model
    from thaw.params import load_params

    outline = outline_model(load_params())
    seen = outline.preprocessing
    print(f"{outline.name} of {outline.origin}, weights: {outline.weights}", end="")
    print(f" ({outline.whereabouts})" if outline.whereabouts else "")
    print(
        f"pictures: short side to {seen.resize_px} px ({seen.interpolation}), the middle {seen.image_size_px} x "
        f"{seen.image_size_px} px, less {seen.mean}, over {seen.std}"
    )
    print(f"classes: {', '.join(outline.classes) or 'known once `dvc repro split` has run'}\n")
    columns = "{:24} {:>12}  {}"
    print(columns.format("block", "parameters", "output"))
    for block in outline.blocks:
        print(columns.format(block.name, f"{block.parameters:,}", " x ".join(map(str, block.shape))))
    total = sum(block.parameters for block in outline.blocks)
    print(columns.format("backbone", f"{total:,}", f"{outline.width} features") + "\n")
    columns = "{:24} {:>5}  {:10} {:>12}  {:>10}"
    print(columns.format("trained in", "phase", "train", "of backbone", "of head"))
    for phase in outline.phases:
        head = "all" if phase.head is None else f"{phase.head:,}"
        print(columns.format(phase.variant, phase.number, phase.train, f"{phase.backbone:,}", head))
