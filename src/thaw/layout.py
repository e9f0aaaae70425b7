"""Where each stage's files lie, relative to the project's root; dvc.yaml names the same paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from thaw.errors import ConfigError
from thaw.params import Params

ARCHIVE = Path("data/raw/archive")
PICTURES_FOLDER = Path("data/pictures")
LISTING = Path("data/pictures.sha256")
MANIFEST = Path("data/clean/manifest.csv")
PICTURES = Path("data/clean/pictures.zip")
DROPPED = Path("data/clean/dropped.zip")
SPLITS = Path("data/splits.csv")
FEATURES = Path("data/features.safetensors")
EMBED_COST = Path("data/cost/embed.json")
EMBED_CHECKPOINTS = Path(".thaw/checkpoints/embed")
FIGURES = Path("reports/figures")


class Cell(NamedTuple):
    """One cell of the matrix variant x seed: one trained model and all that belongs to it."""

    variant: str
    seed: int

    def __str__(self) -> str:
        return f"{self.variant}-{self.seed}"

    @property
    def model(self) -> Path:
        return Path(f"data/models/{self}")

    @property
    def history(self) -> Path:
        return Path(f"data/history/{self}.csv")

    @property
    def cost(self) -> Path:
        return Path(f"data/cost/{self}.json")

    @property
    def checkpoint(self) -> Path:
        return Path(f".thaw/checkpoints/{self}.safetensors")

    @property
    def predictions(self) -> Path:
        return Path(f"data/predictions/{self}.csv")

    @property
    def metrics(self) -> Path:
        return Path(f"reports/metrics/{self}.json")


def all_cells(params: Params) -> list[Cell]:
    """The whole matrix: variants in the order of params.yaml, and in each the seeds in theirs."""
    return [Cell(variant, seed) for variant in params.variants for seed in params.seeds]


def parse_cell(arguments: Sequence[str], params: Params) -> Cell:
    """The cell that a command line names; ConfigError if it names none.

    Takes all parameters: no output depends on the variants' names, so no stage has to declare that it looks at them.
    """
    known = list(params.variants)
    if len(arguments) != 2 or arguments[0] not in known or not arguments[1].isdecimal():
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"expected VARIANT SEED with VARIANT one of {', '.join(known)}, got {got}")
    return Cell(arguments[0], int(arguments[1]))


def locked_stage(name: str) -> dict[str, Any]:
    """What dvc.lock says of a stage, its `deps` and `outs` with their hashes; nothing if it has not run."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.exists() else {}
    return dict(stages.get(name, {}))
