"""`thaw predict` and `thaw evaluate` say what images show, with a model and nothing else.

Run with: pytest tests/evaluation/test_predict.py
"""

import dataclasses
import io
import json
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from conftest import TINY_BACKBONE, TINY_TRAINING, embed_tiny, run_thaw
from network.test_export import save_tiny
from thaw import paths
from thaw.compute import gpus, inference
from thaw.data.clean import clean_images
from thaw.data.corruptions import corrupt
from thaw.data.decode import Pixels, encode
from thaw.data.external import clean_external, read_training_images
from thaw.data.image_zip import ImageZip
from thaw.data.splits_csv import read_splits, write_splits
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import centre_view
from thaw.errors import DataError
from thaw.evaluation import corrupted as corrupted_evaluation
from thaw.evaluation import predict_files as predict_files_module
from thaw.evaluation import scorer as scorer_module
from thaw.evaluation.archive import ArchiveScore, evaluate_on_archive
from thaw.evaluation.corrupted_csv import read_corrupted_predictions
from thaw.evaluation.evaluate import evaluate_cell
from thaw.evaluation.external import evaluate_cell_on
from thaw.evaluation.metrics_json import read_corrupted_metrics, read_external_metrics, read_metrics
from thaw.evaluation.predict import predict_images
from thaw.evaluation.predict_files import predict_files, read_as_stored
from thaw.evaluation.predictions_csv import read_predictions
from thaw.evaluation.scorer import BATCH_SIZE, load_scorer
from thaw.evaluation.scores import undo_temperature
from thaw.ingest.unpack import Unpacked
from thaw.network.classifier import load_model
from thaw.network.model_card import read_model_card, write_model_card
from thaw.network.model_folder import TENSORS
from thaw.network.onnx_export import onnx_model
from thaw.params import FLOAT32, AnyPhase, CleanParams, Corruption, Params, Phase, SolvedPhase, StorageParams
from thaw.paths import Cell, CorruptedTest, ExternalSet
from thaw.training.history_csv import read_history
from thaw.training.train import train_cell

FROZEN, FINE_TUNED = Cell("frozen", 0), Cell("fine_tuned", 0)
PHASES: dict[Cell, tuple[AnyPhase, ...]] = {
    FROZEN: (SolvedPhase(),),
    FINE_TUNED: (Phase(train="all", epochs=1, lr=0.001),),
}
CLEAN = CleanParams(side_px=40, max_pixels=100_000_000, min_side_px=8, max_hamming_distance=0)
SOURCES = Path("sources")


def save_image(path: Path, *, label: str, number: int) -> None:
    """An image as cameras and scanners write it: each fourth one is larger than what is stored, or not upright."""
    random = np.random.default_rng(number)
    height, width = ((40, 48), (90, 70), (44, 60), (36, 120))[number // 4 % 4]
    coarse = random.integers(0, 160, (height // 4, width // 4, 3), np.uint8).repeat(4, axis=0).repeat(4, axis=1)
    coarse[..., 2 if label == "Cat" else 0] += 60
    image = Image.fromarray(coarse)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        image.save(path)
        return
    exif = Image.Exif()
    exif[0x0112] = (1, 6)[number // 4 % 2]  # 6: turned by a quarter
    image.save(path, quality=90, exif=exif)


def predict(model: Path, files: Sequence[Path]) -> list[dict[str, float]]:
    """What a model says of sound files."""
    scorer = load_scorer(model, images=len(files))
    said = []
    for path, one in zip(files, predict_files(scorer, files), strict=True):
        assert (one.path, one.problem) == (path, "")
        assert one.probabilities is not None
        said.append(dict(zip(scorer.card.classes, one.probabilities.tolist(), strict=True)))
    return said


def short_side(path: Path) -> int:
    with Image.open(path) as image:
        return min(image.size)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose images were cleaned from files in `sources`, with a frozen model and a fine-tuned one."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number in range(32):
            label, suffix = ("Cat", "Dog")[number % 2], ("png", "jpg")[number // 2 % 2]
            save_image(SOURCES / label / f"{number:02}.{suffix}", label=label, number=number)
        clean_images(
            Unpacked(folder=SOURCES, name="sources"),
            params=CLEAN,
            manifest=paths.MANIFEST,
            images=paths.IMAGES,
            dropped=paths.DROPPED,
            fingerprints=paths.FINGERPRINTS,
        )
        with ImageZip(paths.IMAGES) as images:
            kept = images.paths
        rows = [
            (path, path.split("/")[0], ("train", "train", "val", "test")[number % 4], path)
            for number, path in enumerate(kept)
        ]
        assert len(rows) == 32
        write_splits(paths.SPLITS, rows)
        embed_tiny()
        for cell, phases in PHASES.items():
            train_cell(
                cell,
                candidates=[phases],
                backbone=TINY_BACKBONE,
                storage=CLEAN.storage,
                val="fixed",
                training=TINY_TRAINING,
            )
    return folder


@pytest.fixture
def project(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a copy of `trained`."""
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(trained, tmp_path, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which `thaw sync` keeps the graph of the models' network."""
    folder = tmp_path_factory.mktemp("graphs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        save_tiny(Path("model"))
        onnx_model(Path("model"))
    return folder / paths.ONNX_GRAPHS


@pytest.fixture(params=["onnxruntime", "torch"])
def runtime(request: pytest.FixtureRequest, project: Path, graphs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The project with the graph; models run on each runtime in turn, as if there were a GPU for torch."""
    shutil.copytree(graphs, paths.ONNX_GRAPHS)
    other = "_load_torch_scorer"
    if request.param == "torch":
        monkeypatch.setattr(scorer_module, "_MANY_IMAGES", 1)
        monkeypatch.setattr(scorer_module, "list_gpus", lambda: ["0"])
        other = "_score_with_onnx"
    monkeypatch.setattr(scorer_module, other, lambda *_, **__: pytest.fail("the other runtime"))


@pytest.mark.parametrize(
    ("by_torch", "images", "gpu", "visible", "has_graph"),
    [
        (False, 1000, False, None, True),
        (False, 999, True, None, True),
        (True, 1000, True, None, True),
        (False, 1000, True, "", True),
        (True, 1, False, None, False),
    ],
)
def test_torch_computes_many_images_on_a_gpu_and_what_has_no_graph(
    by_torch: bool,
    images: int,
    gpu: bool,
    visible: str | None,
    has_graph: bool,
    graphs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    save_tiny(Path("model"))
    if has_graph:
        shutil.copytree(graphs, paths.ONNX_GRAPHS)
    if gpu:
        Path("gpus/0000:01:00.0").mkdir(parents=True)
    monkeypatch.setattr(gpus, "_NVIDIA_GPUS", Path("gpus"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    torch_scorer = replace(load_scorer(Path("model"), images=1), batch_size=4711)
    monkeypatch.setattr(scorer_module, "_load_torch_scorer", lambda *_, **__: torch_scorer)
    assert (load_scorer(Path("model"), images=images).batch_size == 4711) == by_torch


@pytest.mark.usefixtures("runtime")
def test_an_image_of_the_data_set_gets_the_probabilities_that_evaluation_gave_it() -> None:
    classes = read_splits(paths.SPLITS).classes
    for cell, moves in ((FROZEN, False), (FINE_TUNED, True)):
        evaluate_cell(cell, batch_size=5)
        expected = read_predictions(cell.predictions, classes=classes)
        assert max(short_side(SOURCES / path) for path in expected.paths) > CLEAN.side_px, "cleaning shrank none"
        metrics = read_metrics(cell.metrics)
        assert (metrics.backbone_tensors_moved > 0) == moves
        backbone = load_model(cell.model).classifier.backbone
        assert metrics.backbone_parameter_tensors == len(list(backbone.parameters())) < metrics.backbone_tensors
        found = predict(cell.model, [SOURCES / path for path in expected.paths])
        values = np.array([[one[name] for name in classes] for one in found])
        np.testing.assert_allclose(values, expected.probabilities, rtol=0, atol=1e-6)
        np.testing.assert_allclose(values.sum(axis=1), 1)
        (alone,) = predict(cell.model, [SOURCES / expected.paths[0]])
        assert [alone[name] for name in classes] == pytest.approx(expected.probabilities[0], abs=1e-6)


@pytest.mark.usefixtures("runtime")
def test_the_temperature_reaches_all_probabilities_and_no_val_loss() -> None:
    classes = read_splits(paths.SPLITS).classes
    for cell in PHASES:
        found = {}
        card = read_model_card(cell.model)
        for temperature in (1.0, 3.0):
            write_model_card(cell.model, card.model_copy(update={"temperature": temperature}))
            evaluate_cell(cell, batch_size=5)
            predictions = read_predictions(cell.predictions, classes=classes)
            said = predict(cell.model, [SOURCES / path for path in predictions.paths])
            values = np.array([[one[name] for name in classes] for one in said])
            np.testing.assert_allclose(values, predictions.probabilities, rtol=0, atol=1e-6)
            found[temperature] = predictions, read_metrics(cell.metrics)
        (before, metrics), (after, scaled) = found.values()
        assert np.abs(after.probabilities - before.probabilities).max() > 1e-4
        np.testing.assert_allclose(undo_temperature(after.probabilities, 3.0), before.probabilities, atol=1e-7)
        assert scaled.uncalibrated.model_dump() == pytest.approx(metrics.test.model_dump(include={"log_loss", "ece"}))
        assert scaled.test.log_loss != pytest.approx(metrics.test.log_loss)
        assert scaled.test.accuracy == metrics.test.accuracy
        history = read_history(cell.history)
        assert scaled.val.log_loss == pytest.approx(history.epochs[history.best].val_loss, abs=1e-5)


@pytest.mark.usefixtures("project")
def test_a_gpu_computes_in_float32_as_in_the_pipeline(
    tmp_path: Path, default_params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    for compute_something in (
        lambda: predict(FROZEN.model, [SOURCES / "Cat/00.png"]),
        lambda: external([FROZEN.model], archive, default_params),
    ):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
        compute_something()
        assert not torch.backends.cudnn.allow_tf32


def damage_variance(state: dict[str, torch.Tensor]) -> str:
    name = next(name for name in state if name.endswith("running_var"))
    state[name][0] = -1
    return f"holds no whole model (model.safetensors holds a variance below 0, in {name})"


def damage_head(state: dict[str, torch.Tensor]) -> str:
    state["head.weight"].fill_(3e38)
    return "gives probabilities that are not finite: its weights are damaged"


@pytest.mark.usefixtures("runtime")
@pytest.mark.parametrize("damage", [damage_variance, damage_head])
def test_what_is_no_number_is_no_prediction(
    damage: Callable[[dict[str, torch.Tensor]], str], tmp_path: Path, default_params: Params
) -> None:
    state = load_file(FROZEN.model / TENSORS)
    said = re.escape(f"{FROZEN.model} {damage(state)}")
    save_file(state, FROZEN.model / TENSORS)
    with pytest.raises(DataError, match=f"^{said}"):
        predict(FROZEN.model, [SOURCES / "Cat/00.png"])
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    with pytest.raises(DataError, match=f"^{said}"):
        external([FROZEN.model], archive, default_params)


@pytest.mark.usefixtures("project")
def test_a_file_has_the_pixels_that_cleaning_stored() -> None:
    with ImageZip(paths.IMAGES) as images:
        for path in images.paths:
            assert np.array_equal(
                read_as_stored(SOURCES / path, storage=CLEAN.storage).pixels(), images.read_image(path).pixels()
            ), path


@pytest.mark.usefixtures("project")
def test_probabilities_sum_to_one_whatever_the_batch() -> None:
    model = load_model(FROZEN.model).classifier
    random = np.random.default_rng(0)
    images = [
        StoredImage(
            encode(Image.fromarray(random.integers(0, 256, (40, 50, 3), np.uint8)), lossless=True), place="test"
        )
        for _ in range(7)
    ]

    first = predict_images(model, images.__getitem__, count=7, batch_size=7, label="test", temperature=1.0)
    assert first.shape == (7, 2)
    np.testing.assert_allclose(first.sum(axis=1), 1)
    for batch_size in (1, 3, 16):
        again = predict_images(
            model, images.__getitem__, count=7, batch_size=batch_size, label="test", temperature=1.0, compute=FLOAT32
        )
        np.testing.assert_allclose(again, first, atol=1e-5)


@pytest.mark.usefixtures("runtime")
def test_broken_files_stop_no_others_and_results_keep_their_order() -> None:
    sound = sorted(SOURCES.rglob("*.*"))[: BATCH_SIZE + 3]
    expected = predict(FROZEN.model, sound)
    broken = {
        "empty.jpg": (b"", "empty file (0 bytes)"),
        "page.jpg": (b"<html>", "not an image (starts with b'<html>')"),
        "cut.jpg": (b"\xff\xd8\xff\xe0", "truncated ("),
        "cut.png": (sound[0].read_bytes()[:-90], "truncated ("),
    }
    for name, (content, _) in broken.items():
        Path(name).write_bytes(content)
    problems = {Path(name): said for name, (_, said) in broken.items()}
    problems[Path("nowhere.jpg")] = "cannot be read (No such file or directory)"
    problems[SOURCES] = "cannot be read (Is a directory)"
    files = [*list(problems)[:3], *sound, *list(problems)[3:]]
    found = list(predict_files(load_scorer(FROZEN.model, images=len(files)), files))
    assert [one.path for one in found] == files
    for one in found:
        assert one.problem.startswith(problems.get(one.path, "")), one
        assert (one.probabilities is None) == (one.path in problems)
    values = [one.probabilities for one in found if one.probabilities is not None]
    np.testing.assert_allclose(values, [list(said.values()) for said in expected], rtol=0, atol=1e-6)
    alone = list(predict_files(load_scorer(FROZEN.model, images=len(problems)), list(problems)))
    assert all(one.probabilities is None for one in alone)


@pytest.mark.usefixtures("runtime")
def test_results_come_while_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def watch(path: Path, *, storage: StorageParams) -> StoredImage:
        read.append(path)
        return read_as_stored(path, storage=storage)

    monkeypatch.setattr(predict_files_module, "read_as_stored", watch)
    for module in (predict_files_module, scorer_module, inference):
        monkeypatch.setattr(module, "count_own_cores", lambda: 1)
    files = sorted(SOURCES.rglob("*.png"))[:2] * 50
    found = predict_files(load_scorer(FROZEN.model, images=100, batch_size=2), files)
    next(found)
    assert len(read) <= 12, "memory would grow with the number of files"
    assert 1 + sum(1 for _ in found) == len(read) == 100


def test_the_commands(project: Path, default_params: Params) -> None:
    model = project / FROZEN.model
    images = [project / SOURCES / "Cat/00.png", project / SOURCES / "Dog/03.jpg"]
    done = run_thaw("predict", model, *images)
    assert done.code == 0, done.stderr
    header, *lines = done.stdout.splitlines()
    assert header.split() == ["image", "class", "probability"]
    for line, image, said in zip(lines, images, predict(model, images), strict=True):
        best = max(said, key=lambda name: said[name])
        assert line.split() == [str(image), best, f"{said[best]:.1%}"]
    done = run_thaw("predict", model, "--format", "csv", images[0], "--", images[1])
    assert [line.partition(",")[0] for line in done.stdout.splitlines()] == ["path", *map(str, images)], done.stderr
    archive = make_archive(project / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    (score,) = external([model], archive, default_params)
    done = run_thaw("evaluate", model, "--data", archive)
    assert done.code == 0, done.stderr
    assert done.stdout.startswith(f"{model}: {score.correct} of 20 images correct, {score.correct / 20:.1%} (95 % ")
    done = run_thaw("predict", images[0], cwd=project)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr.startswith("error: reports/comparison.json is not there to say which model is recommended: ")
    assert done.stderr.count("\n") == 1
    done = run_thaw("predict", "data/models/frozn-0", *images, cwd=project)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        "error: there is no data/models/frozn-0, neither a model's folder nor an image; `ls data/models` lists the "
        "models\n"
    )


def test_the_command_names_broken_files_at_its_end_and_lets_no_name_steer_the_terminal(
    project: Path, graphs: Path
) -> None:
    shutil.copytree(graphs, paths.ONNX_GRAPHS)  # without torch it starts sooner
    folder = project / "\x1b[31mred"
    (folder / "a").mkdir(parents=True)
    names = ["a/1.png", "a/2\u202egnp.png", "cut.png", "last.PNG"]
    for name in names:
        shutil.copy(SOURCES / "Cat/00.png", folder / name)
    (folder / "cut.png").write_bytes((folder / "last.PNG").read_bytes()[:99])
    (folder / "notes.txt").write_text("no image")
    listed = f"{folder}\n{project / SOURCES / 'Dog/03.jpg'}\n".encode()
    command = Path(sys.executable).with_name("thaw"), "predict", "--format", "jsonl", project / FROZEN.model, "-"
    done = subprocess.run(command, input=listed, capture_output=True, check=False)
    assert done.returncode == 1
    stdout, stderr = done.stdout.decode(), done.stderr.decode()
    found = [json.loads(line) for line in stdout.splitlines()]
    sound = [str(folder / name) for name in names if name != "cut.png"]
    assert [one["path"] for one in found] == [*sound, str(project / SOURCES / "Dog/03.jpg")]
    assert all(one["predicted"] == max(one["probabilities"], key=one["probabilities"].get) for one in found)
    *_, counted, named, last = stderr.splitlines()
    assert re.fullmatch(r"predict: 4 of 5 images, [\d,]+ images/s", counted), counted
    assert named.endswith("\\x1b[31mred/cut.png: truncated (image file is truncated)"), named
    assert last == "error: 1 of 5 images could not be predicted: see above"
    assert not {"\x1b", "\u202e"} & set(stdout + stderr)


@pytest.mark.parametrize("kind", ["table", "csv"])
def test_where_nothing_can_be_predicted_no_header_and_no_count_are_printed(project: Path, kind: str) -> None:
    (project / "notes.txt").write_text("no image")
    done = run_thaw("predict", "--format", kind, FROZEN.model, "notes.txt", cwd=project)
    assert (done.code, done.stdout) == (1, "")
    assert done.stderr == (
        "notes.txt: not an image (starts with b'no image')\nerror: 1 of 1 images could not be predicted: see above\n"
    )


def test_the_command_starts_without_what_it_does_not_need(project: Path) -> None:
    program = (
        "import sys; from thaw import cli; sys.argv = ['thaw', 'predict', *sys.argv[1:]]; cli.main(); "
        "print([name for name in ('mlflow', 'dvc', 'pandas', 'sklearn', 'scipy', 'matplotlib') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(project / FROZEN.model), str(SOURCES / "Cat/00.png")]
    assert subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).splitlines()[-1] == "[]"
    program = (
        "import sys; from thaw import cli; sys.argv = ['thaw', 'predict', *sys.argv[1:]]\n"
        "try: cli.main()\nexcept cli.DataError as error: print(error, 'torch' in sys.modules)"
    )
    (project / FROZEN.model / "model.json").write_text("{}")
    command = [sys.executable, "-c", program, str(project / FROZEN.model), str(SOURCES / "Cat/00.png")]
    said = subprocess.check_output(command, text=True)
    assert said.endswith("holds no whole model (model.json: classes: Field required; delete it and run `dvc repro`); "
                         "name a folder that the train stage wrote False\n"), said  # fmt: skip


def test_the_command_loads_no_torch_where_the_graph_is_there(project: Path, graphs: Path) -> None:
    shutil.copytree(graphs, paths.ONNX_GRAPHS)
    program = (
        "import sys; from thaw import cli; sys.argv = ['thaw', 'predict', *sys.argv[1:]]; cli.main(); "
        "print([name for name in ('torch', 'torchvision', 'timm', 'mlflow', 'scipy') if name in sys.modules])"
    )
    files = [SOURCES / "Cat/00.png", SOURCES / "Dog/03.jpg"]
    command = [sys.executable, "-c", program, "--format", "jsonl", str(FROZEN.model), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    *lines, loaded = done.stdout.splitlines()
    assert loaded == "[]"
    shutil.rmtree(paths.ONNX_GRAPHS)
    for line, said in zip(lines, predict(FROZEN.model, files), strict=True):
        assert json.loads(line)["probabilities"] == pytest.approx(said, abs=1e-6)
    assert not [line for line in done.stderr.splitlines() if not line.startswith("predict: ")], done.stderr


@pytest.mark.usefixtures("project")
def test_corrupted_images_are_predicted_as_by_hand_and_are_the_same_for_all_models(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    test, splits = CorruptedTest("impulse_noise"), read_splits(paths.SPLITS)
    seen: dict[Cell, list[bytes]] = {}
    for cell in (FROZEN, FINE_TUNED):
        seen[cell] = []

        def spy(square: Pixels, name: Corruption, *, severity: int, squares: list[bytes] = seen[cell]) -> Pixels:
            corrupted = corrupt(square, name, severity=severity)
            squares.append(corrupted.tobytes())
            return corrupted

        monkeypatch.setattr(corrupted_evaluation, "corrupt", spy)
        corrupted_evaluation.evaluate_cell_corrupted(test, cell, batch_size=7)
        found = read_corrupted_predictions(test.predictions(cell), classes=splits.classes)
        assert found.predicted.shape == (8, 5)
        assert set(found.paths) == {
            path for path, split in zip(splits.paths, splits.splits, strict=True) if split == "test"
        }
        whole = dataclasses.replace(load_model(cell.model).classifier.preprocessing, image_size_px=256, resize_px=256)
        with ImageZip(paths.IMAGES) as images:
            square = centre_view(images.read_image(found.paths[1]), whole)
        for place in range(5):
            Image.fromarray(corrupt(square, "impulse_noise", severity=place + 1)).save(f"by_hand_{place}.png")
        by_hand = [Path(f"by_hand_{place}.png") for place in range(5)]
        said = predict_files(load_scorer(cell.model, images=len(by_hand)), by_hand)
        probabilities = [one.probabilities for one in said if one.probabilities is not None]
        assert found.predicted[1].tolist() == [one.argmax() for one in probabilities]
        correct = np.array(splits.classes)[found.predicted] == np.array(found.labels)[:, None]
        metrics = read_corrupted_metrics(test.metrics(cell))
        assert metrics.accuracy == correct.mean()
        assert list(metrics.accuracy_by_severity.values()) == correct.mean(axis=0).tolist()
        before = test.predictions(cell).read_bytes(), test.metrics(cell).read_bytes()
        corrupted_evaluation.evaluate_cell_corrupted(test, cell, batch_size=7)
        assert (test.predictions(cell).read_bytes(), test.metrics(cell).read_bytes()) == before
    assert sorted(seen[FROZEN]) == sorted(seen[FINE_TUNED])
    assert len(set(seen[FROZEN])) == 40


def make_archive(path: Path, labels: dict[str, tuple[int, int, int]], *, copies: int = 1) -> Path:
    """Ten images of each label, all of its colour, each so many times."""
    with zipfile.ZipFile(path, "w") as archive:
        for label, colour in labels.items():
            for number in range(10):
                buffer = io.BytesIO()
                noise = np.random.default_rng([number, *colour]).integers(0, 60, (40, 50, 3))
                Image.fromarray((noise + colour).astype(np.uint8)).save(buffer, "PNG")
                for copy in range(copies):
                    archive.writestr(f"{label}/{number}{'-copy' * copy}.png", buffer.getvalue())
    return path


def external(
    models: list[Path], archive: Path, params: Params, classes: dict[str, str] | None = None
) -> list[ArchiveScore]:
    scores = evaluate_on_archive(
        models,
        archive,
        classes=classes or {},
        unzip=params.unzip,
        clean=params.clean,
        compute=FLOAT32,
        batch_size=8,
    )
    return list(scores)


@pytest.mark.usefixtures("project")
def test_external_data_is_counted_as_predict_says(tmp_path: Path, default_params: Params) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    models = [cell.model for cell in PHASES]
    scores = external(models, archive, default_params)
    with zipfile.ZipFile(archive) as package:
        package.extractall(tmp_path / "by_hand")
    files = sorted((tmp_path / "by_hand").rglob("*.png"))
    assert [score.model for score in scores] == models
    for score in scores:
        said = predict(score.model, files)
        correct = [path.parent.name == max(p, key=lambda name: p[name]) for path, p in zip(files, said, strict=True)]
        assert (score.images, score.correct) == (20, sum(correct))


@pytest.mark.usefixtures("project")
def test_copies_in_external_data_make_no_interval_narrower(tmp_path: Path, default_params: Params) -> None:
    labels = {"Cat": (150, 0, 0), "Dog": (0, 150, 0)}
    (once,) = external([FROZEN.model], make_archive(tmp_path / "once.zip", labels), default_params)
    (thrice,) = external([FROZEN.model], make_archive(tmp_path / "thrice.zip", labels, copies=3), default_params)
    assert (thrice.images, thrice.correct) == (3 * once.images, 3 * once.correct)
    assert thrice.interval == pytest.approx(once.interval)


@pytest.mark.usefixtures("project")
def test_a_class_that_the_model_does_not_know_is_one_sentence(tmp_path: Path, default_params: Params) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Emu": (0, 150, 0)})
    with pytest.raises(
        DataError, match=r"has the class 'Emu', which is none of the models' classes \(Cat, Dog\): say "
    ):
        external([FROZEN.model], archive, default_params)


@pytest.mark.usefixtures("project")
def test_classes_are_matched_without_regard_to_case_and_by_a_mapping(tmp_path: Path, default_params: Params) -> None:
    plain = make_archive(tmp_path / "plain.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    other = make_archive(tmp_path / "other.zip", {"cat ": (150, 0, 0), "hounds": (0, 150, 0)})
    (expected,) = external([FROZEN.model], plain, default_params)
    assert external([FROZEN.model], other, default_params, {"Hounds": "Dog"}) == [expected]


@pytest.mark.usefixtures("project")
def test_an_archive_that_is_not_there_is_blamed_on_the_option(default_params: Params) -> None:
    with pytest.raises(DataError, match=r"^the archive nowhere\.zip does not exist; correct --data$"):
        external([FROZEN.model], Path("nowhere.zip"), default_params)
    done = run_thaw("evaluate", "m", "--data", "nowhere.zip", "--classes", "hounds")
    assert (done.code, done.stderr) == (1, "error: --classes: expected NAME=CLASS, got 'hounds'\n")


@pytest.mark.usefixtures("project")
def test_a_folder_that_holds_no_model_is_named_before_the_archive_is_unpacked(
    tmp_path: Path, default_params: Params
) -> None:
    archive = make_archive(tmp_path / "other.zip", {"Cat": (150, 0, 0), "Dog": (0, 150, 0)})
    with pytest.raises(
        DataError, match=r"^frozen holds no whole model \(.*; name a folder that the train stage wrote$"
    ):
        external([FROZEN.model, Path("frozen")], archive, default_params)


@pytest.mark.usefixtures("project")
def test_a_cell_is_evaluated_on_an_external_set_as_predict_says(tmp_path: Path, default_params: Params) -> None:
    archive = make_archive(tmp_path / "web.zip", {"dog": (150, 0, 0), "CAT": (0, 0, 150)})
    web, splits = ExternalSet("web"), read_splits(paths.SPLITS)
    clean_external(
        archive,
        unzip=default_params.unzip,
        clean=CLEAN,
        known=splits.classes,
        mapping={},
        named_by="evaluate.external.web.classes",
        trained_on=read_training_images(paths.MANIFEST, paths.FINGERPRINTS, splits=splits),
        manifest=web.manifest,
        images=web.images,
        scratch=paths.EXTERNAL_SCRATCH,
    )
    with zipfile.ZipFile(archive) as package:
        package.extractall(tmp_path / "by_hand")
    for cell in (FROZEN, FINE_TUNED):
        evaluate_cell_on(web, cell, batch_size=8)
        found = read_predictions(web.predictions(cell), classes=splits.classes)
        assert Counter(found.labels) == {"Cat": 10, "Dog": 10}
        said = predict(cell.model, [tmp_path / "by_hand" / path for path in found.paths])
        values = np.array([[one[name] for name in splits.classes] for one in said])
        np.testing.assert_allclose(found.probabilities, values, rtol=0, atol=1e-6)
        correct = [label == splits.classes[p] for label, p in zip(found.labels, found.predicted, strict=True)]
        assert read_external_metrics(web.metrics(cell)).external.accuracy == np.mean(correct)
        before = web.predictions(cell).read_bytes(), web.metrics(cell).read_bytes()
        evaluate_cell_on(web, cell, batch_size=8)
        assert (web.predictions(cell).read_bytes(), web.metrics(cell).read_bytes()) == before
