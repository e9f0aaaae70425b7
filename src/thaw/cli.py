"""`thaw`: what people type besides `dvc repro`."""

import argparse
import io
import itertools
import signal
import sys
from pathlib import Path
from typing import NoReturn

from thaw.errors import ConfigError, DataError, escape_controls, exit_code, write_line

LAYOUTS = ("auto", "folders", "split_folders", "csv", "prefix")
"""What `data.layout` may be; a test compares."""
EXPORT_FORMATS = ("onnx", "pt2", "safetensors")
"""What `thaw export --format` may be; a test compares."""
_COLUMNS = """\
parameters count the classifier too, which the pipeline replaces. weights: bundled (in a Python package), cached
(downloaded before), download (from the library's server when they are needed), none.
"""


class _Parser(argparse.ArgumentParser):
    """Says in one sentence what is wrong with the arguments, where argparse prints how all of them are used."""

    remedy = "`thaw --help` lists the commands, and `thaw COMMAND --help` says what one takes"

    def error(self, message: str) -> NoReturn:
        """Write the sentence, and exit as argparse does."""
        write_line(escape_controls(f"error: {self.prog}: {message}; {self.remedy}"))
        sys.exit(2)


def run() -> None:
    """The command `thaw`."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `thaw show | head` ends without a word
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name may have what this terminal cannot show
    sys.exit(exit_code(main))


def main() -> None:
    """Read the arguments and do what they say."""
    parser = _Parser(prog="thaw", description="Frozen, fine-tuned, or both in turn?")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    predict = commands.add_parser(
        "predict",
        help="the most probable class of images",
        usage="thaw predict [-h] [--format {table,csv,jsonl}] [MODEL] PATH [PATH ...]",
        epilog="What cannot be read is named at the end, and the exit code is 1 then; all other images are predicted.",
    )
    predict.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="images (JPEG, PNG, GIF, BMP, TIFF, WebP, AVIF, PPM), folders of them, or - for a list of both on "
        "standard input; before them the folder of a model, or else the one that the report recommends is taken",
    )
    predict.add_argument(
        "--format", choices=("table", "csv", "jsonl"), default="table", help="of what is printed (default: table)"
    )
    predict.remedy = "for instance: thaw predict my_cat.jpg ../photos"
    predict.set_defaults(command=_predict)
    export = commands.add_parser("export", help="write a model as one file that works without thaw")
    export.add_argument("model", type=Path, metavar="MODEL", help="a folder that training wrote")
    export.add_argument("--format", choices=EXPORT_FORMATS, default="onnx", help="default: onnx")
    export.add_argument("--output", type=Path, metavar="FILE", help="default: the model's name, here")
    export.remedy = "for instance: thaw export data/models/frozen-0"
    export.set_defaults(command=_export)
    evaluate = commands.add_parser("evaluate", help="accuracy of models on another archive of labelled images")
    evaluate.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="folders that training wrote")
    evaluate.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="ARCHIVE",
        help="a folder or an archive; copies of training images in it count, too; the names of its classes may "
        "differ from training's in case",
    )
    evaluate.add_argument(
        "--classes",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=CLASS",
        help="a class of the archive, and the class of the models that it is",
    )
    evaluate.remedy = "for instance: thaw evaluate data/models/frozen-0 --data ../other_images.zip"
    evaluate.set_defaults(command=_evaluate)
    inspect = commands.add_parser("inspect", help="what the pipeline would make of a folder or an archive of images")
    inspect.add_argument("path", type=Path, metavar="ARCHIVE", help="a folder, .zip, .tar or .tar.gz (.bz2, .xz)")
    inspect.add_argument("--layout", choices=LAYOUTS, help="instead of data.layout in params.yaml")
    inspect.add_argument("--classes", nargs="+", metavar="CLASS", help="instead of data.classes")
    inspect.add_argument("--labels", metavar="CSV", help="instead of data.labels")
    inspect.add_argument("--json", action="store_true", help="print JSON instead of tables")
    inspect.remedy = "for instance: thaw inspect ../my_images.zip"
    inspect.set_defaults(command=_inspect)
    repro = commands.add_parser("repro", help="run the pipeline, as `dvc repro` does, with several stages at once")
    repro.add_argument(
        "targets",
        nargs="*",
        metavar="STAGE",
        help="run these alone, and what lies before them: evaluate@frozen-0, or 'evaluate@*-0' (default: all)",
    )
    repro.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="at most so many stages at once (default: one a GPU, or else for every compute.threads cores, as far as "
        "memory allows)",
    )
    repro.set_defaults(command=_repro)
    status = commands.add_parser("status", help="say which stages `repro` would run, and why; runs nothing")
    status.set_defaults(command=_status)
    sync = commands.add_parser("sync", help="make MLflow show all runs that DVC's outputs hold")
    sync.set_defaults(command=_sync)
    backbones = commands.add_parser("backbones", help="list the networks that backbone.name can be")
    backbones.add_argument("pattern", nargs="?", default="*", help="'resnet*', or any part of a name; default: all")
    backbones.add_argument("--limit", type=int, default=20, metavar="N", help="print at most N (default: 20)")
    backbones.add_argument("--names", action="store_true", help="print nothing but the names, all of them")
    backbones.set_defaults(command=_backbones)
    show = commands.add_parser(
        "show", help="show the model that params.yaml describes, block by block, and what to know of its trainings"
    )
    show.set_defaults(command=_show)
    names = " ".join(sorted(commands.choices))
    backbones.epilog = f'{_COLUMNS} Tab completion in bash: complete -W "{names} $(thaw backbones --names)" thaw'
    arguments, rest = parser.parse_known_args()
    # argparse takes the paths on one side of an option alone: predict MODEL --format csv IMAGE
    before = list(itertools.takewhile(lambda text: text != "--", rest))
    if rest and "paths" in arguments and not any(text.startswith("-") and len(text) > 1 for text in before):
        arguments.paths += [*before, *rest[len(before) + 1 :]]
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.command(arguments)


# Each command imports what it needs when it runs: `thaw --help` should not wait for torch and MLflow.


def _predict(arguments: argparse.Namespace) -> None:
    from thaw.evaluation.image_paths import find_images, require_named
    from thaw.network.model_folder import is_model_folder, require_model_folder
    from thaw.report.champion import find_champion

    paths = arguments.paths
    if is_model_folder(Path(paths[0])):
        model, paths = Path(paths[0]), paths[1:]
        if not paths:
            raise ConfigError(f"name images behind the model {model}")
    else:
        require_named(paths)
        model = find_champion().model
        write_line(f"model: {model}, recommended by the report")
    files = find_images(paths, read_list=sys.stdin.buffer.read)
    require_model_folder(model)

    # For what is wrong so far, none of the libraries that compute is loaded.
    from thaw.evaluation.predict_files import predict_files
    from thaw.evaluation.prediction_lines import format_lines
    from thaw.evaluation.scorer import load_scorer
    from thaw.utils.progress import print_above, progress

    scorer = load_scorer(model, images=len(files))
    header, line = format_lines(arguments.format, classes=scorer.card.classes, files=files)
    failed = []
    with progress("predict", total=len(files), unit="images") as bar:
        for predicted in predict_files(scorer, files):
            if predicted.probabilities is None:
                failed.append(predicted)
                continue
            print_above(header + line(predicted.path, predicted.probabilities))
            header = ""
            bar.update()
    for one in failed:
        write_line(escape_controls(f"{one.path}: {one.problem}"))
    if failed:
        raise DataError(f"{len(failed):,} of {len(files):,} images could not be predicted: see above")


def _export(arguments: argparse.Namespace) -> None:
    from thaw.network.export import export_model

    output = arguments.output or Path(f"{arguments.model.resolve().name}.{arguments.format}")
    done = export_model(arguments.model, kind=arguments.format, output=output)
    print(
        f"{done.output}: on {done.images} it differs by at most {done.difference:.2g} from the model on the same "
        "pixels; where evaluation decodes a large JPEG at a fraction of its size, probabilities differ by up to "
        f"{done.difference_of_evaluation:.2g}"
    )


def _evaluate(arguments: argparse.Namespace) -> None:
    from thaw.params_file import load_params

    # What is wrong with them is said before torch is loaded.
    params, classes = load_params(), _parse_classes(arguments.classes)
    from thaw.evaluation.archive import evaluate_on_archive

    scores = evaluate_on_archive(
        arguments.models,
        arguments.data,
        classes=classes,
        unzip=params.unzip,
        clean=params.clean,
        compute=params.compute,
        batch_size=params.embed.batch_size,
    )
    for score in scores:
        low, high = score.interval
        print(
            f"{score.model}: {score.correct:,} of {score.images:,} images correct, "
            f"{score.correct / score.images:.1%} (95 % interval {100 * low:.1f} to {100 * high:.1f})",
            flush=True,
        )


def _inspect(arguments: argparse.Namespace) -> None:
    from thaw.data.inspection import format_inspection, inspect_images
    from thaw.params import LayoutParams
    from thaw.params_file import load_params

    params = load_params()
    if not all(arguments.classes or ()):
        raise ConfigError("--classes: a name is empty; name the folders, or leave --classes out")
    layout = LayoutParams(
        layout=arguments.layout or params.data.layout,
        classes=arguments.classes or params.data.classes,
        labels=arguments.labels or params.data.labels,
    )
    found = inspect_images(arguments.path, unzip=params.unzip, clean=params.clean, layout=layout)
    if arguments.json or found.dropped or not found.problem:
        print(found.model_dump_json(indent=2) if arguments.json else format_inspection(found), flush=True)
    if found.problem:
        raise DataError(found.problem)


def _repro(arguments: argparse.Namespace) -> None:
    from thaw.params_file import load_params

    params = load_params()  # before DVC, whose sentences on its matrix name no parameter
    from thaw.pipeline.repro import StoppedError, reproduce_pipeline, require_jobs

    require_jobs(arguments.jobs)
    try:
        reproduce_pipeline(params, targets=arguments.targets, jobs=arguments.jobs)
    except StoppedError as error:
        write_line(f"error: {error}")
        sys.exit(128 + error.number)


def _status(_: argparse.Namespace) -> None:
    from thaw.params_file import load_params

    load_params()
    from thaw.pipeline.dvc_stages import explain
    from thaw.pipeline.reasons import format_reasons

    reasons = explain()
    stale = sum(why.stale for why in reasons.values())
    if not stale:
        print(f"up to date: {len(reasons)} stages")
        return
    print(*format_reasons(reasons), sep="\n")
    are = "is" if stale == 1 else "are"
    print(f"{stale} of {len(reasons)} stages {are} stale; `thaw repro` runs what is, or finds it in DVC's cache")


def _parse_classes(pairs: list[str]) -> dict[str, str]:
    """`["dogs=Dog"]` -> `{"dogs": "Dog"}`."""
    wrong = [pair for pair in pairs if "=" not in pair]
    if wrong:
        raise ConfigError(f"--classes: expected NAME=CLASS, got {wrong[0]!r}")
    return dict(pair.split("=", maxsplit=1) for pair in pairs)


def _sync(_: argparse.Namespace) -> None:
    from thaw.params_file import load_params
    from thaw.paths import COMPARISON_JSON, all_cells
    from thaw.report.champion import find_champion
    from thaw.tracking.background import sync_now
    from thaw.tracking.in_line import hash_here, note_in_line, shown_in_line
    from thaw.tracking.location import tracking_uri

    params = load_params()
    cells = all_cells(params)
    if not any(cell.cost.exists() for cell in cells):
        raise ConfigError("there is no trained model here; run `dvc repro` first")
    shown = shown_in_line(params)
    if shown is None:
        here_sha256 = hash_here(params)
        _export_architectures([cell.model for cell in cells if cell.cost.exists() and cell.metrics.exists()])
        shown = sync_now(champion=find_champion() if COMPARISON_JSON.exists() else None)
        note_in_line(here_sha256, shown)
    if shown.left_out:
        write_line(shown.left_out)
    while_it_runs = "" if tracking_uri().startswith("http") else ", while `make ui` runs"
    print(f"MLflow shows {len(shown.runs)} of {len(cells)} runs: {shown.address}{while_it_runs}")


def _export_architectures(models: list[Path]) -> None:
    """Export each architecture as ONNX that was not yet: MLflow's models are ONNX."""
    from thaw.network.model_card import read_model_card
    from thaw.network.onnx_graph import graph_file

    for model in models:
        if not graph_file(read_model_card(model)).is_file():
            write_line(f"write the network of {model} as ONNX, once: half a minute")
            from thaw.network.onnx_export import onnx_model

            try:
                onnx_model(model)
            except DataError as error:
                write_line(f"MLflow shows no model for some runs: {error}")
                return


def _backbones(arguments: argparse.Namespace) -> None:
    from thaw.network.backbone_names import match_names

    if arguments.limit < 1:
        raise ConfigError(f"--limit: expected a number of at least 1, got {arguments.limit}")
    names = match_names(arguments.pattern)
    if not names:
        raise ConfigError(f"no backbone's name matches {arguments.pattern!r}; `thaw backbones --names` prints all")
    if arguments.names:
        print(*names, sep="\n")
        return
    # For names alone, neither library is loaded.
    from thaw.network.registry import look_up

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
        write_line(f"{len(names) - len(shown)} more match; give a narrower pattern or --limit {len(names)}")


def _show(_: argparse.Namespace) -> None:
    from thaw.network.summary import format_summary, summarise_model
    from thaw.params_file import load_params
    from thaw.training.notes import note_training, read_trainings

    params = load_params()
    print(format_summary(summarise_model(params)))
    for variant in params.variants:
        notes = note_training(variant, read_trainings(variant, params))
        if notes:
            print("", *notes, sep="\n")
