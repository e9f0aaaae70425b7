"""Where each stage's files lie, relative to the project's root; dvc.yaml names the same paths."""

from pathlib import Path
from typing import NamedTuple

ARCHIVE = Path("data/raw/archive")
PICTURES_FOLDER = Path("data/pictures")
MANIFEST = Path("data/clean/manifest.csv")
PICTURES = Path("data/clean/pictures.zip")
DROPPED = Path("data/clean/dropped.zip")
SPLITS = Path("data/splits.csv")
FEATURES = Path("data/features.safetensors")
EMBED_COST = Path("data/cost/embed.json")
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
    def predictions(self) -> Path:
        return Path(f"data/predictions/{self}.csv")

    @property
    def metrics(self) -> Path:
        return Path(f"reports/metrics/{self}.json")
