"""Kill a training again and again, and see whether it ends with the bytes of an undisturbed one.

    python tools/kill_training.py [--kills 20]

SIGKILL and SIGTERM take turns, each at a random moment; then the training is started again, until it has been killed
so many times. What is compared: the model, its history, its predictions and its metrics, byte for byte. Prints a table
and ends with 1 if a byte differs.
"""

import argparse
import contextlib
import hashlib
import io
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

from thaw import paths
from thaw.data.clean import clean_images
from thaw.data.split import split_images
from thaw.errors import exit_code
from thaw.evaluation.evaluate import evaluate_cell
from thaw.ingest.unpack import unpack_archive
from thaw.params import AnyPhase, BackboneParams, Phase, SolvedPhase
from thaw.params_file import load_params
from thaw.paths import Cell
from thaw.sample.archive import draw_archive
from thaw.training import checkpoint
from thaw.training.embed import embed_images
from thaw.training.train import train_cell

ROOT = Path(__file__).resolve().parent.parent
PARAMS = load_params(ROOT / "params.yaml")
CELL = Cell("two_stage", 0)
BACKBONE = BackboneParams(name="mobilenet_v3_small", weights="none", blocks=4, image_size_px=32)
TRAINING = PARAMS.training.model_copy(update={"batch_size": 4, "batch_norm": "train", "patience_epochs": 50})
CANDIDATES: list[tuple[AnyPhase, ...]] = [
    (
        SolvedPhase(),
        Phase(train="head", epochs=20, lr=0.01),
        Phase(train="all", epochs=6, lr=lr),
        Phase(train="last:2", epochs=6, lr=lr, views=2),
    )
    for lr in (0.001, 0.003)
]
"""All kinds of phases, and two candidates of which one is chosen."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Kill a training again and again.")
    parser.add_argument("--kills", type=int, default=20)
    kills = parser.parse_args().kills
    # Within an epoch too, as in an epoch that takes minutes.
    checkpoint.SAVE_INTERVAL_S = 0.01
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        assert in_child(prepare) == 0
        started_s = time.monotonic()
        assert in_child(train) == 0
        undisturbed_s, undisturbed = time.monotonic() - started_s, outputs()
        print(f"undisturbed: {undisturbed_s:.1f} s")
        same = kill_and_compare(undisturbed, kills=kills, longest_s=undisturbed_s)
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
            print(f"{done:4}  {name}  {after_s:.2f} s  {status:9}  {state()}")
        same &= outputs() == undisturbed
        print(f"      it ended with {'the same bytes' if outputs() == undisturbed else 'OTHER BYTES'}")
    return same


def prepare() -> None:
    """Draw 40 images and embed them."""
    draw_archive(paths.ARCHIVE, params=PARAMS.sample.model_copy(update={"images_per_class": 20}))
    clean_images(
        unpack_archive(paths.ARCHIVE, paths.IMAGES_FOLDER, limits=PARAMS.unzip),
        params=PARAMS.clean,
        manifest=paths.MANIFEST,
        images=paths.IMAGES,
        dropped=paths.DROPPED,
    )
    split_images(paths.MANIFEST, paths.SPLITS, params=PARAMS.split)
    embed_images(
        backbone=BACKBONE,
        embed=PARAMS.embed,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
    )


def train() -> None:
    """Train, and predict with the model."""
    train_cell(
        CELL,
        candidates=CANDIDATES,
        backbone=BACKBONE,
        storage=PARAMS.clean.storage,
        val=PARAMS.split.val,
        training=TRAINING,
    )
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


def state() -> str:
    """Where the last checkpoint stands."""
    begun = [number for number in range(len(CANDIDATES)) if CELL.checkpoint(number).exists()]
    if not begun:
        return "nothing yet"
    content = CELL.checkpoint(begun[-1]).read_bytes()[checkpoint._CHECKSUM_BYTES :]
    place = torch.load(io.BytesIO(content), weights_only=True)["state"]["state"]
    where = f"phase {place['phase'] + 1}, epoch {place['epoch']}, batch {place['batch']}"
    return f"candidate {begun[-1] + 1}, {where}"


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
