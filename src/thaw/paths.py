"""Where each stage's files lie, relative to the project's root; dvc.yaml names the same paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from thaw.errors import ConfigError
from thaw.params import Corruption, Params

ARCHIVE = Path("data/raw/archive")
IMAGES_FOLDER = Path("data/images")
CHECKSUMS = Path("data/images.sha256")
ODD_ENTRIES = Path("data/images.odd.csv")
MANIFEST = Path("data/clean/manifest.csv")
IMAGES = Path("data/clean/images.zip")
DROPPED = Path("data/clean/dropped.zip")
FINGERPRINTS = Path("data/clean/fingerprints.safetensors")
SPLITS = Path("data/splits.csv")
FEATURES = Path("data/features.safetensors")
BACKBONE = Path("data/backbone.safetensors")
COSTS = Path("data/cost")
EMBED_COST = COSTS / "embed.json"
LEARNING_CURVE = Path("data/diagnosis/learning_curve.csv")
LABEL_ISSUES = Path("data/diagnosis/label_issues.csv")
FIGURES = Path("reports/figures")
CODE_LISTS = Path("data/code")
COMPARISON_MD = Path("reports/comparison.md")
COMPARISON_HTML = Path("reports/comparison.html")
COMPARISON_JSON = Path("reports/comparison.json")
SUMMARY = Path("reports/summary.json")

OUTPUTS = (
    CODE_LISTS, ARCHIVE, CHECKSUMS, ODD_ENTRIES, MANIFEST, IMAGES, DROPPED, FINGERPRINTS, SPLITS, FEATURES, BACKBONE,
    EMBED_COST, LEARNING_CURVE, LABEL_ISSUES,
    COMPARISON_MD, COMPARISON_HTML, COMPARISON_JSON, SUMMARY, FIGURES,
)  # fmt: skip
"""All that DVC watches, but for what belongs to a cell."""

SCRATCH = Path(".thaw")
"""Checkpoints, unfinished downloads, logs, locks: what git and DVC ignore, and what can be deleted."""

CHECKPOINTS = SCRATCH / "checkpoints"
EMBED_CHECKPOINTS = CHECKPOINTS / "embed"
DOWNLOADS = SCRATCH / "downloads"
"""Where unfinished downloads wait for the next try. Not in an output of DVC: it deletes those before a stage runs."""

EXTERNAL_SCRATCH = SCRATCH / "external"
MLFLOW_LOCK = SCRATCH / "mlflow.lock"
MLFLOW_IN_LINE = SCRATCH / "mlflow_in_line.json"
"""What `thaw sync` last saw in MLflow."""

REPRO_LOCK = SCRATCH / "repro.lock"
ONNX_GRAPHS = SCRATCH / "onnx"
LOGS = SCRATCH / "logs"
"""What each stage printed under `thaw repro`."""

MLFLOW_LOG = LOGS / "mlflow.log"
"""What MLflow and its drivers printed."""


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
    def live(self) -> Path:
        return SCRATCH / f"live/{self}.jsonl"

    def checkpoint(self, candidate: int) -> Path:
        """Of one of its candidates, counted from 0."""
        return CHECKPOINTS / f"{self}-{candidate}.pt"

    @property
    def predictions(self) -> Path:
        return Path(f"data/predictions/{self}.csv")

    @property
    def metrics(self) -> Path:
        return Path(f"reports/metrics/{self}.json")


class ExternalSet(NamedTuple):
    """One archive of `evaluate.external`, and what is made of it."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def manifest(self) -> Path:
        return Path(f"data/clean/external/{self}/manifest.csv")

    @property
    def images(self) -> Path:
        return Path(f"data/clean/external/{self}/images.zip")

    def predictions(self, cell: Cell) -> Path:
        return Path(f"data/predictions/external/{self}/{cell}.csv")

    def metrics(self, cell: Cell) -> Path:
        return Path(f"reports/metrics/external/{self}/{cell}.json")


class CorruptedTest(NamedTuple):
    """The test split under one corruption of `evaluate.corruptions`, at all severities, and what models say of it."""

    corruption: Corruption

    def __str__(self) -> str:
        return self.corruption

    def predictions(self, cell: Cell) -> Path:
        return Path(f"data/predictions/corrupted/{self}/{cell}.csv")

    def metrics(self, cell: Cell) -> Path:
        return Path(f"reports/metrics/corrupted/{self}/{cell}.json")


def all_cells(params: Params) -> list[Cell]:
    """The whole matrix: variants in the order of params.yaml, and in each the seeds in theirs."""
    return [Cell(variant, seed) for variant in params.variants for seed in params.seeds]


def all_external_sets(params: Params) -> list[ExternalSet]:
    """The archives of `evaluate.external`, in the order of params.yaml."""
    return [ExternalSet(name) for name in params.evaluate.external]


def all_corrupted_tests(params: Params) -> list[CorruptedTest]:
    """The corruptions of `evaluate.corruptions`, in the order of params.yaml."""
    return [CorruptedTest(name) for name in params.evaluate.corruptions]


def parse_external_set(arguments: Sequence[str], params: Params) -> ExternalSet:
    """The external set that a command line names first; ConfigError if it names none."""
    known = list(params.evaluate.external)
    if not arguments or arguments[0] not in known:
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"expected a name of evaluate.external ({', '.join(known) or 'there is none'}), got {got}")
    return ExternalSet(arguments[0])


def parse_corrupted_test(arguments: Sequence[str], params: Params) -> CorruptedTest:
    """The corruption that a command line names first; ConfigError if it names none of params.yaml."""
    known = {test.corruption: test for test in all_corrupted_tests(params)}
    if not arguments or arguments[0] not in known:
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"expected one of evaluate.corruptions ({', '.join(known) or 'there is none'}), got {got}")
    return known[arguments[0]]


def parse_cell(arguments: Sequence[str], params: Params) -> Cell:
    """The cell that a command line names; ConfigError if it names none.

    Takes all parameters: no output depends on the variants' names, so no stage has to declare that it looks at them.
    """
    known = list(params.variants)
    if len(arguments) != 2 or arguments[0] not in known or not arguments[1].isdecimal():
        got = " ".join(arguments) or "nothing"
        raise ConfigError(f"expected VARIANT SEED with VARIANT one of {', '.join(known)}, got {got}")
    return Cell(arguments[0], int(arguments[1]))
