"""How far a model in MLflow, served where neither thaw nor torch is, is from all else that says what images show.

Command: `python tools/check_served_model.py models:/thaw@champion`, or the folder of a logged model, in the project
that trained it; needs a package index, and minutes. It installs the model's own requirements into a new environment,
serves it there, sends test images, and prints the largest differences of a probability from predictions.csv, from
`thaw predict` and from `thaw export`. Exit code 1 if one is above 0.00001.
"""

import argparse
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import venv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnxruntime
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.models import Model
from numpy.typing import NDArray
from PIL import Image

from local_server import serving
from thaw.data.image_zip import ImageZip
from thaw.evaluation.predictions_csv import Probabilities, read_predictions
from thaw.network.model_card import read_model_card
from thaw.paths import IMAGES, Cell
from thaw.tracking.location import tracking_uri

MOST_DIFFERENCE = 1e-5
MOST_IMAGES = 200
START_S, ANSWER_S = 120, 600
THAW = [sys.executable, "-c", "from thaw.cli import run; run()"]


def main() -> None:
    """Compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="an address such as models:/thaw@champion, or a folder")
    model = parser.parse_args().model
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    with tempfile.TemporaryDirectory() as scratch_name:
        scratch = Path(scratch_name)
        folder = Path(model)
        if not folder.is_dir():
            folder = Path(download_artifacts(model, dst_path=str(scratch / "model"), tracking_uri=tracking_uri()))
        cell = find_cell(folder)
        classes = read_model_card(cell.model).classes
        expected = read_predictions(cell.predictions, classes=classes)
        rows = list(range(0, len(expected.paths), -(-len(expected.paths) // MOST_IMAGES)))
        with ImageZip(IMAGES) as images:
            files = [images.read(expected.paths[row]) for row in rows]
        pixels = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
        with serve_model(folder, make_environment(folder, scratch / "environment")) as address:
            of_files = ask(address, files, classes)
            # The exported file takes pixels; of a JPEG, the server may decode fewer.
            of_pixels = ask(address, [encode_png(image) for image in pixels], classes)
        differences = {
            "predictions.csv": np.abs(of_files - expected.probabilities[rows]).max(),
            "thaw predict": np.abs(of_files - run_predict(cell, files, classes, scratch)).max(),
            "thaw export": np.abs(of_pixels - run_exported(cell, pixels, scratch)).max(),
        }
    print(f"{model} ({cell}), served without thaw and torch: {len(rows)} test images, the largest difference from")
    for name, difference in differences.items():
        print(f"{name:15}  {difference:.1e}")
    sys.exit(not max(differences.values()) <= MOST_DIFFERENCE)


def find_cell(folder: Path) -> Cell:
    """Which cell a logged model is of."""
    model_id = Model.load(folder).model_id
    assert model_id is not None
    tags = MlflowClient(tracking_uri()).get_logged_model(model_id).tags
    return Cell(tags["variant"], int(tags["seed"]))


def make_environment(model: Path, folder: Path) -> Path:
    """The programs of a new environment with what `model` requires, which is neither thaw nor torch."""
    venv.create(folder, with_pip=True)
    pip = [str(folder / "bin/python"), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "install", "--quiet", "--requirement", str(model / "requirements.txt")], env=outside(), check=True
    )
    listed = subprocess.run([*pip, "list", "--format", "json"], env=outside(), check=True, capture_output=True).stdout
    assert not {package["name"] for package in json.loads(listed)} & {"thaw", "torch"}
    return folder / "bin"


def outside() -> dict[str, str]:
    """This process's environment without what would show thaw to another Python."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@contextmanager
def serve_model(model: Path, programs: Path) -> Iterator[str]:
    """Serve a model by the programs of an environment; yields the address."""
    command = [str(programs / "mlflow"), "models", "serve", "--model-uri", str(model), "--env-manager", "local"]
    environment = {**outside(), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
    with serving([*command, "--host", "127.0.0.1"], environment=environment, start_s=START_S) as server:
        yield f"{server.address}/invocations"


def ask(address: str, files: Sequence[bytes], classes: Sequence[str]) -> Probabilities:
    """What the server says of image files, shape `(N, C)`."""
    body = {"dataframe_records": [{"image": base64.b64encode(file).decode()} for file in files]}
    request = urllib.request.Request(address, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=ANSWER_S) as response:
        said = json.load(response)["predictions"]
    return np.array([[row["probabilities"][name] for name in classes] for row in said])


def run_predict(cell: Cell, files: Sequence[bytes], classes: Sequence[str], scratch: Path) -> Probabilities:
    """What `thaw predict` says of them."""
    paths = [scratch / f"{number:04}" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        path.write_bytes(file)
    command = [*THAW, "predict", "--format", "jsonl", str(cell.model), *map(str, paths)]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return np.array([[json.loads(line)["probabilities"][name] for name in classes] for line in lines])


def run_exported(cell: Cell, pixels: Sequence[NDArray[np.uint8]], scratch: Path) -> Probabilities:
    """What the file of `thaw export` says of pixels, each of shape `(H, W, 3)`."""
    file = scratch / "exported.onnx"
    subprocess.run([*THAW, "export", str(cell.model), "--output", str(file)], check=True, stdout=subprocess.DEVNULL)
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(["probabilities"], {"images": image[None]})[0] for image in pixels])


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """As a file without loss."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


if __name__ == "__main__":
    main()
