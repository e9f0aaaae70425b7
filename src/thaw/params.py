"""params.yaml -> frozen, typed, strictly validated parameters; everything is checked here, once."""

import difflib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from thaw.errors import ConfigError

NO_FILE = "data/none"
"""What a parameter names that names no file: DVC can only watch a file that exists, so there is one for this."""

TEST_FOLDER_IF_ANY = "auto"
"""The value of `split.test_folder` for "the folder `test`, if the archive has one"."""


def _integer_as_float(value: Any) -> Any:
    """Let `lr: 1` through where a float is meant, but neither `true` nor `'1e-3'`."""
    return float(value) if type(value) is int else value


Fraction = Annotated[float, Field(ge=0, lt=1), BeforeValidator(_integer_as_float)]
ShareAboveZero = Annotated[float, Field(gt=0, le=1), BeforeValidator(_integer_as_float)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False), BeforeValidator(_integer_as_float)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False), BeforeValidator(_integer_as_float)]
Positive = Annotated[int, Field(gt=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Sha256 = Annotated[str, StringConstraints(pattern="^[0-9a-f]{64}$")]
# A variant's name becomes the name of files and of DVC stages.
VariantName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_]+$")]


def _is_trained_part(value: str) -> str:
    if re.fullmatch("head|all|last:[1-9][0-9]*", value) is None:
        raise PydanticCustomError("trained_part", "no part of a model")
    return value


# What a phase trains: the head, all, or the head and the last so many blocks of the backbone.
TrainedPart = Annotated[str, AfterValidator(_is_trained_part)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PinnedParams(_Section):
    """A public archive, and how to know that it is the right one."""

    url: str
    bytes: Positive
    sha256: Sha256


class DataParams(_Section):
    """Where the pictures come from."""

    source: Literal["sample", "file", "url", "microsoft", "kaggle", "cifar10"]
    path: str
    url: str | None
    sha256: Sha256 | None
    microsoft: PinnedParams
    cifar10: PinnedParams
    kaggle_dataset: Annotated[str, StringConstraints(pattern="^[^/ ]+/[^/ ]+$")]
    timeout_s: PositiveFloat
    attempts: Positive

    @property
    def archive(self) -> Path | None:
        """The archive on disk that `path` names, or None."""
        return None if self.path == NO_FILE else Path(self.path)

    @model_validator(mode="after")
    def _needs_its_archive(self) -> "DataParams":
        if self.source == "file" and self.archive is None:
            raise ValueError("data.source 'file' needs the path of an archive in data.path")
        if self.source == "url" and self.url is None:
            raise ValueError("data.source 'url' needs an address in data.url")
        return self


class SampleParams(_Section):
    """How the embedded sample is drawn."""

    pictures_per_class: Annotated[int, Field(ge=20, le=100_000)]
    seed: Seed


class UnzipParams(_Section):
    """What an archive may unpack to."""

    max_files: Positive
    max_bytes: Positive
    max_ratio: Positive


class CleanParams(_Section):
    """Which pictures are kept, and in what form."""

    side_px: Positive
    min_side_px: Positive
    # Where Pillow itself takes a picture for a decompression bomb.
    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)]
    near_duplicate_bits: Annotated[int, Field(ge=0, le=16)]


class SplitParams(_Section):
    """How pictures are divided into train, val and test."""

    val_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    test_list: str
    test_folder: Annotated[str, StringConstraints(pattern="^[^/]+$")] | None

    @property
    def listed(self) -> Path | None:
        """The file that `test_list` names, or None."""
        return None if self.test_list == NO_FILE else Path(self.test_list)

    @property
    def folder(self) -> str | None:
        """The name of the folder of test pictures; with `auto` there need not be one."""
        return "test" if self.test_folder == TEST_FOLDER_IF_ANY else self.test_folder

    @model_validator(mode="after")
    def _names_one_test_split(self) -> "SplitParams":
        if self.listed is not None and self.test_folder not in (None, TEST_FOLDER_IF_ANY):
            raise ValueError(
                f"split.test_list and split.test_folder cannot both be set: set split.test_list to {NO_FILE} "
                "or split.test_folder to null"
            )
        return self

    @model_validator(mode="after")
    def _leaves_something_to_train_on(self) -> "SplitParams":
        if self.val_fraction == 0 or self.test_fraction == 0:
            raise ValueError("split.val_fraction and split.test_fraction must be above 0")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("split.val_fraction and split.test_fraction must leave something to train on: sum below 1")
        return self


class BackboneParams(_Section):
    """The pretrained network, and the size at which it sees pictures."""

    name: str
    weights: str
    blocks: Positive | None
    image_size_px: Annotated[int, Field(ge=32, le=1024)]


class ComputeParams(_Section):
    """How the device computes."""

    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False


FLOAT32 = ComputeParams()
"""As the weights are stored, and as torch comes."""


class EmbedParams(_Section):
    """How features are computed."""

    batch_size: Positive
    views: Positive

    @model_validator(mode="after")
    def _has_room_for_all_views_of_a_picture(self) -> "EmbedParams":
        if self.views > self.batch_size:
            raise ValueError("embed.views: all views of a picture are computed at once; raise embed.batch_size to it")
        return self


class TrainingParams(_Section):
    """What all phases of all variants share."""

    batch_size: Positive
    accumulate_batches: Positive
    optimizer: Literal["adamw", "sgd"]
    momentum: Fraction
    nesterov: bool
    weight_decay: NonNegativeFloat
    warm_up_share: Fraction
    block_lr_decay: ShareAboveZero
    label_smoothing: Fraction
    mixup_alpha: NonNegativeFloat
    patience_epochs: Positive
    batch_norm: Literal["frozen_stats", "train"]

    @model_validator(mode="after")
    def _has_a_momentum_to_look_ahead_with(self) -> "TrainingParams":
        if self.nesterov and self.momentum == 0:
            raise ValueError("training.nesterov true needs training.momentum above 0; or set nesterov to false")
        return self


class Phase(_Section):
    """One step of a variant: what is trained, for how long, and how fast."""

    train: TrainedPart
    epochs: Positive
    lr: PositiveFloat

    @property
    def last_blocks(self) -> int | None:
        """How many blocks of the backbone are trained, counted from its output; None stands for all of them."""
        if self.train == "all":
            return None
        return 0 if self.train == "head" else int(self.train.removeprefix("last:"))


class TrackingParams(_Section):
    """Where runs are logged."""

    experiment: Annotated[str, StringConstraints(min_length=1)]


class Params(_Section):
    """All of params.yaml."""

    data: DataParams
    sample: SampleParams
    unzip: UnzipParams
    clean: CleanParams
    split: SplitParams
    backbone: BackboneParams
    embed: EmbedParams
    compute: ComputeParams
    training: TrainingParams
    variants: Annotated[dict[VariantName, Annotated[list[Phase], Field(min_length=1)]], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    tracking: TrackingParams

    @model_validator(mode="after")
    def _has_no_seed_twice(self) -> "Params":
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected each seed once, got {self.seeds}")
        return self


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check all parameters.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown key or a wrong value. The message
            names each culprit by its dotted path: `variants.frozen.0.lr: expected a number, got '1e-3'`.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist here; run this from the project's root") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        complaints = "; ".join(_describe(detail) for detail in error.errors())
        raise ConfigError(f"{path}: {complaints}") from None


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dict_type": "keys with values",
    "literal_error": "one of {expected}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "at least one entry",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text that matches {pattern}",
    "finite_number": "a finite number",
    "trained_part": "one of 'head', 'all' and 'last:N', with the number of blocks for N",
    "bool_type": "true or false",
}
"""pydantic's kinds of error (https://docs.pydantic.dev/latest/errors/validation_errors/) in the words of a user."""


def _describe(detail: Any) -> str:
    """One pydantic error as `dotted.path: what was expected, what came`."""
    where = dotted(part for part in detail["loc"] if part != "[key]") or "params"
    context = detail.get("ctx", {})
    expected = _EXPECTED.get(detail["type"], "").format_map(context)
    if detail["type"] == "missing":
        return f"{where}: this key is missing"
    if detail["type"] == "extra_forbidden":
        return f"{where}: there is no such parameter; {_suggest(detail['loc'])}"
    if detail["type"] == "value_error":
        return str(context["error"])
    if not expected:
        return f"{where}: {detail['msg']}, got {detail['input']!r}"
    return f"{where}: expected {expected}, got {detail['input']!r}{_hint(detail)}"


def _suggest(loc: Sequence[str | int]) -> str:
    """What may have been meant by a key that does not exist: one of the same section, or of another one."""
    section = Params.model_fields[str(loc[0])].annotation if len(loc) == 2 else Phase if len(loc) > 2 else Params
    own = list(section.model_fields) if isinstance(section, type) and issubclass(section, _Section) else []
    sections = {name: field.annotation for name, field in Params.model_fields.items()}
    elsewhere = [
        f"{name}.{loc[-1]}"
        for name, kind in sections.items()
        if isinstance(kind, type) and issubclass(kind, _Section) and loc[-1] in kind.model_fields
    ]
    near = difflib.get_close_matches(str(loc[-1]), own, n=1) or elsewhere
    return f"did you mean {near[0]}?" if near else "remove it or correct its spelling"


def _hint(detail: Any) -> str:
    """How to write what YAML took for something else: the number 1e-3, or a file that is not there."""
    if detail["loc"] in (("data", "path"), ("split", "test_list")) and detail["input"] is None:
        return f"; write {NO_FILE} for none"
    if detail["type"] != "float_type" or not isinstance(detail["input"], str):
        return ""
    try:
        number = Decimal(detail["input"])
    except InvalidOperation:
        return ""
    return f"; write {number:f}" if number.is_finite() else ""


def dotted(parts: Iterable[str | int]) -> str:
    """`("variants", "frozen", 0, "lr")` -> `variants.frozen.0.lr`."""
    return ".".join(str(part) for part in parts)
