"""Kill a training again and again, and see whether it ends with the bytes of an undisturbed one.

    python bench/kill_training.py [--kills 20]

SIGKILL and SIGTERM take turns, each at a random moment; then the training is started again, until it has been killed
so many times. What is compared: the model, its history, its predictions and its metrics, byte for byte. Prints a table
and ends with 1 if a byte differs.
"""

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open

from thaw import checkpoint, layout
from thaw.archive import unpack_archive
from thaw.clean import clean_pictures
from thaw.embed import embed_pictures
from thaw.errors import exit_code
from thaw.evaluate import evaluate_cell
from thaw.layout import Cell
from thaw.params import BackboneParams, Phase, load_params
from thaw.sample import draw_archive
from thaw.split import split_pictures
from thaw.train import train_cell

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
CELL = Cell("two_stage", 0)
BACKBONE = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=4, image_size_px=32)
TRAINING = PARAMS.training.model_copy(update={"batch_size": 4, "batch_norm": "train", "patience_epochs": 50})
PHASES = [Phase(train="head", epochs=40, lr=0.01), Phase(train="all", epochs=12, lr=0.001)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Kill a training again and again.")
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    # Within an epoch too, as in an epoch that takes minutes.
    checkpoint.EVERY_S = 0.01
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert in_child(prepare) == 0
        started_s = time.monotonic()
        assert in_child(train) == 0
        undisturbed_s, undisturbed = time.monotonic() - started_s, outputs()
        print(f"undisturbed: {undisturbed_s:.1f} s")
        same = kill_and_compare(undisturbed, kills=kills, longest_s=undisturbed_s / 4)
    print(f"{kills} kills: {'the same bytes' if same else 'OTHER BYTES'} as undisturbed")
    sys.exit(0 if same else 1)


def kill_and_compare(undisturbed: dict[str, str], *, kills: int, longest_s: float) -> bool:
    """Train until so many kills are done, and whatever was begun has ended; true if all bytes were always the same."""
    moments, done, same = random.Random(0), 0, True
    print("kill  signal   after   exit code  the checkpoint stands at")
    while done < kills:
        clear()
        while True:
            name = ("SIGKILL", "SIGTERM")[done % 2]
            after_s = moments.uniform(0.05, longest_s) if done < kills else None
            status = in_child(train, number=signal.Signals[name], after_s=after_s)
            if status == 0:
                break
            done += 1
            print(f"{done:4}  {name}  {after_s:.2f} s  {status:9}  {standing()}")
        same &= outputs() == undisturbed
        print(f"      it ended with {'the same bytes' if outputs() == undisturbed else 'OTHER BYTES'}")
    return same


def prepare() -> None:
    """Draw 40 pictures and embed them."""
    draw_archive(layout.ARCHIVE, params=PARAMS.sample.model_copy(update={"pictures_per_class": 20}))
    unpack_archive(layout.ARCHIVE, layout.PICTURES_FOLDER, limits=PARAMS.unzip)
    clean_pictures(
        layout.PICTURES_FOLDER,
        params=PARAMS.clean,
        manifest=layout.MANIFEST,
        pictures=layout.PICTURES,
        dropped=layout.DROPPED,
    )
    split_pictures(layout.MANIFEST, layout.SPLITS, params=PARAMS.split)
    embed_pictures(
        backbone=BACKBONE,
        batch_size=PARAMS.embed.batch_size,
        pictures=layout.PICTURES,
        features=layout.FEATURES,
        cost=layout.EMBED_COST,
    )


def train() -> None:
    """Train, and predict with the model."""
    train_cell(CELL, phases=PHASES, backbone=BACKBONE, training=TRAINING)
    evaluate_cell(CELL, batch_size=PARAMS.embed.batch_size)


def in_child(work: Callable[[], None], *, number: int = 0, after_s: float | None = None) -> int:
    """Do `work` in a process that is forked off before anything was computed; its exit code, negative for a signal."""

    def quietly() -> None:
        # The work is tiny: more threads would only wait for each other on a busy machine.
        torch.set_num_threads(1)
        with contextlib.redirect_stderr(io.StringIO()):
            code = exit_code(work)
        sys.exit(code)

    process = multiprocessing.get_context("fork").Process(target=quietly)
    process.start()
    process.join(after_s)
    if process.is_alive() and process.pid is not None:
        os.kill(process.pid, number)
        process.join()
    assert process.exitcode is not None
    return process.exitcode


def standing() -> str:
    """Where the checkpoint would go on."""
    if not CELL.checkpoint.exists():
        return "nothing yet"
    with safe_open(CELL.checkpoint, framework="numpy") as file:
        place = json.loads(file.metadata()["about"])["position"]["standing"]
    return f"phase {place['phase']}, epoch {place['epoch']}, batch {place['batch']}"


def outputs() -> dict[str, str]:
    """The hash of each file that has to be the same."""
    files = [*sorted(CELL.model.iterdir()), CELL.history, CELL.predictions, CELL.metrics]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def clear() -> None:
    """Take away what an earlier training wrote."""
    for folder in (CELL.model.parent, CELL.history.parent, CELL.predictions.parent, CELL.metrics.parent):
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
