"""thaw against what people use instead: training seconds and test accuracy on the same photos, in one run.

    python bench/bench_peers.py [--seeds 1] [--threads N]

EfficientNet-Lite0 with the same weights at 96 px, 4 epochs, the same train, val and test images: PyTorch's usual loop
over an ImageFolder, fastai's fine_tune, Lightning's BackboneFinetuning, each near its documentation (bench/peers/ says
how), and thaw's variants. All compute with the same number of threads, and decode
with as many processes (thaw: threads).

fastai and Lightning are installed in environments of their own in .thaw/peers/, on top of this one's torch; each is
skipped with a message where that fails.
"""

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import timm
import torch

from peers.contest import EPOCHS, IMAGE_SIZE_PX, NETWORK, WEIGHTS, Result
from photos import ROOT, clean_and_split, require_photos
from thaw import paths
from thaw.compute.cores import count_cores
from thaw.data.splits_csv import SplitTable, redraw_val, write_splits
from thaw.network.weights import bundled_state

PEERS = {
    "usual loop": ("usual_loop.py", None),
    "fastai": ("fastai_fine_tune.py", "fastai==2.8.12"),
    "Lightning": ("lightning_finetuning.py", "lightning==2.6.6"),
    "thaw": ("thaw_recipes.py", None),
}
"""The script of each, and what it needs besides this environment."""

REFERENCE = "thaw", "frozen"
"""Ratios are against this row."""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Compare thaw with what people use instead.")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="train each with seeds 0 to N - 1")
    parser.add_argument("--threads", type=int, default=count_cores(), help="default: one a core")
    arguments = parser.parse_args()
    require_photos()
    pythons = {name: _find_python(name, needs) for name, (_, needs) in PEERS.items()}
    results: dict[tuple[str, str], list[Result]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        splits = write_task(folder)
        # Seed by seed, so that an hour in which the machine is slow is slow for all.
        for seed in range(arguments.seeds):
            for peer, python in pythons.items():
                if python is not None:
                    for result in _run(peer, python, folder=folder, seed=seed, threads=arguments.threads):
                        results.setdefault((peer, result.recipe), []).append(result)
                        print(f"{peer}, seed {seed}: {result}", file=sys.stderr, flush=True)
    counts = ", ".join(f"{splits.splits.count(split):,} {split}" for split in ("train", "val", "test"))
    print(f"{counts} photos, {NETWORK} at {IMAGE_SIZE_PX} px, {EPOCHS} epochs,")
    print(f"threads: {arguments.threads}, seeds: {arguments.seeds} (means)")
    print_table(results)


def write_task(folder: Path) -> SplitTable:
    """Write what the peers read: photos in folders, the weights, thaw's archive and splits; returns the splits."""
    (folder / paths.IMAGES).parent.mkdir(parents=True)
    images, drawn = clean_and_split(folder / "cleaned")
    # As training with seed 0 draws it.
    splits = redraw_val(drawn, seed=0)
    images.rename(folder / paths.IMAGES)
    rows = list(zip(splits.paths, splits.labels, splits.splits, splits.groups, strict=True))
    write_splits(folder / paths.SPLITS, rows)
    with zipfile.ZipFile(folder / paths.IMAGES) as archive:
        for number, (path, label, split, _) in enumerate(rows):
            target = folder / "images" / split / label / f"{number}{Path(path).suffix}"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(path))
    torch.save(bundled_state(timm.create_model(NETWORK)), folder / WEIGHTS)
    return splits


def _find_python(name: str, needs: str | None) -> Path | None:
    """The interpreter for a peer, its environment made if need be; None, with a message, where that fails."""
    if needs is None:
        return Path(sys.executable)
    folder = ROOT / paths.SCRATCH / "peers" / needs
    python, ready = folder / "bin" / "python", folder / "ready"
    if ready.exists():
        return python
    print(f"Installing {needs} in {folder}", file=sys.stderr)
    venv.create(folder, with_pip=True, clear=True)
    # This environment's libraries come after its own; and none of their versions may change.
    library = next((folder / "lib").glob("python*/site-packages"))
    (library / "thaw_environment.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--constraint", "requirements.txt"]
    done = subprocess.run([python, *install, needs], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["pip says nothing"]
        print(f"{name}: skipped, since {needs} cannot be installed: {said[-1]}", file=sys.stderr)
        return None
    ready.touch()
    return python


def _run(peer: str, python: Path, *, folder: Path, seed: int, threads: int) -> Iterator[Result]:
    """Train a peer's recipes in a process of its own."""
    script = Path(__file__).parent / "peers" / PEERS[peer][0]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT / "bench")])}
    done = subprocess.run(
        [python, "-W", "ignore", script, folder, f"--seed={seed}", f"--threads={threads}"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        print(f"{peer}: failed\n{done.stderr[-2000:]}", file=sys.stderr)
        return
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield Result(**json.loads(line))


def print_table(results: dict[tuple[str, str], list[Result]]) -> None:
    """A row a recipe: means over the seeds."""
    columns = ("seconds", "cpu_seconds", "test_accuracy")
    means = {
        row: {column: mean(dataclasses.asdict(result)[column] for result in found) for column in columns}
        for row, found in results.items()
    }
    print(f"{'':12}{'':32}{'seconds':>9}{'x thaw frozen':>15}{'CPU seconds':>13}{'test accuracy':>15}")
    reference = means.get(REFERENCE)
    for (peer, recipe), row in means.items():
        ratio = f"{row['seconds'] / reference['seconds']:.1f}" if reference else ""
        numbers = f"{row['seconds']:9.1f}{ratio:>15}{row['cpu_seconds']:13.1f}{row['test_accuracy']:15.1%}"
        print(f"{peer:12}{recipe:32}{numbers}")


if __name__ == "__main__":
    main()
