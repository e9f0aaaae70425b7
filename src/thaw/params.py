"""What params.yaml may say: frozen, typed, strictly validated parameters; everything is checked here, once."""

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

NO_FILE = "data/none"
"""The value of a parameter for "no file". It does exist, since DVC can only watch a file that does."""
TEST_FOLDER_IF_ANY = "auto"
"""The value of `split.test_folder` for "the test split that the archive gives, if it does"."""


def _integer_as_float(value: Any) -> Any:
    """Let `lr: 1` through where a float is meant, but neither `true` nor the text `'0.1'`."""
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
# And so does that of an external test set.
ExternalName = VariantName


ClassName = Annotated[str, StringConstraints(min_length=1)]

Value = TypeVar("Value")


def _require_distinct(values: list[Value]) -> list[Value]:
    if len(set(values)) < len(values):
        raise PydanticCustomError("not_distinct", "a value twice")
    return values


_EACH_ONCE = AfterValidator(_require_distinct)


def _is_trained_part(value: str) -> str:
    if re.fullmatch("head|all|last:[1-9][0-9]*", value) is None:
        raise PydanticCustomError("trained_part", "no part of a model")
    return value


# What a phase trains: the head, all, or the head and the last so many blocks of the backbone.
TrainedPart = Annotated[str, AfterValidator(_is_trained_part)]


class Section(BaseModel):
    """A part of params.yaml: no key but those declared here, and no value that has to be converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class PinnedParams(Section):
    """A public archive, and how to know that it is the right one."""

    url: str
    bytes: Positive
    sha256: Sha256


LayoutKind = Literal["auto", "folders", "split_folders", "csv", "prefix"]
"""Where labels are read from: see `thaw.data.layouts`."""


class LayoutParams(Section):
    """How labels are read from the files of an archive; each source of images has these keys."""

    layout: LayoutKind = "auto"
    classes: Annotated[list[ClassName], Field(min_length=1)] | None = None
    """Their names; None finds them."""
    labels: str = NO_FILE
    """A table of labels beside the archive."""

    @property
    def table(self) -> Path | None:
        """The table of labels that lies beside the archive, or None."""
        return None if self.labels == NO_FILE else Path(self.labels)


AS_FOUND = LayoutParams()
"""Nothing is said: the layout is found out."""


class SampleSource(LayoutParams):
    """The sample that the project draws itself; the section `sample` says how."""

    source: Literal["sample"] = "sample"


class FileSource(LayoutParams):
    """An archive on disk."""

    source: Literal["file"] = "file"
    path: str

    @property
    def archive(self) -> Path:
        return Path(self.path)

    @field_validator("path")
    @classmethod
    def _names_an_archive(cls, path: str) -> str:
        if path == NO_FILE:
            raise ValueError("data.source 'file' needs the path of an archive in data.path")
        return path


class DownloadParams(LayoutParams):
    """How patient a download is."""

    timeout_s: PositiveFloat
    attempts: Positive


class UrlSource(DownloadParams):
    """An archive at an address of the user's."""

    source: Literal["url"] = "url"
    url: str
    sha256: Sha256 | None

    @field_validator("url", mode="before")
    @classmethod
    def _names_an_address(cls, url: Any) -> Any:
        if url is None:
            raise ValueError("data.source 'url' needs an address in data.url")
        return url


class MicrosoftSource(DownloadParams):
    """Microsoft's Cats vs Dogs."""

    source: Literal["microsoft"] = "microsoft"
    microsoft: PinnedParams


class KaggleSource(DownloadParams):
    """A data set of Kaggle's."""

    source: Literal["kaggle"] = "kaggle"
    kaggle_dataset: Annotated[str, StringConstraints(pattern="^[^/ ]+/[^/ ]+$")]


class Cifar10Source(DownloadParams):
    """CIFAR-10, downloaded or on disk."""

    source: Literal["cifar10"] = "cifar10"
    path: str
    cifar10: PinnedParams

    @property
    def archive(self) -> Path | None:
        """The archive on disk; None where it is to be downloaded."""
        return None if self.path == NO_FILE else Path(self.path)


_Source = SampleSource | FileSource | UrlSource | MicrosoftSource | KaggleSource | Cifar10Source


def _keep_keys_of_source(section: Any) -> Any:
    """Drop the keys that only other sources have.

    In params.yaml the keys of all sources stand side by side, so that `-S data.source=url -S data.url=...` finds both.
    """
    keys = {kind.model_fields["source"].default: set(kind.model_fields) for kind in get_args(_Source)}
    chosen = section.get("source") if isinstance(section, dict) else None
    if not isinstance(chosen, str) or chosen not in keys:
        return section
    # Who names images and forgets the source would get the drawn ones. Of any other source, which was chosen, keys of
    # one that was tried before may stay.
    for source, key, unset in (("file", "path", NO_FILE), ("url", "url", None)):
        value = section.get(key, unset)
        if chosen == "sample" and value != unset:
            raise ValueError(
                f"data.{key} is {value!r}, which data.source 'sample' does not read; set data.source to {source}, or "
                f"data.{key} to {unset or 'null'}"
            )
    others = set().union(*keys.values()) - keys[chosen]
    return {key: value for key, value in section.items() if key not in others}


DataParams = Annotated[_Source, Field(discriminator="source"), BeforeValidator(_keep_keys_of_source)]
"""Where the images come from: one class for each `data.source`, with the keys that it uses and no others."""


class SampleParams(Section):
    """How the sample is drawn."""

    images_per_class: Annotated[int, Field(ge=20, le=12_000)]
    """Planted images are numbered from 12,001 on."""
    seed: Seed


class UnzipParams(Section):
    """What an archive may unpack to."""

    max_files: Positive
    max_bytes: Positive
    max_ratio: Positive


class StorageParams(Section):
    """The form in which images are stored, and predicted."""

    side_px: Positive
    # Where Pillow itself takes an image for a decompression bomb.
    max_pixels: Annotated[int, Field(gt=0, le=178_956_970)]


class CleanParams(StorageParams):
    """Which images are kept, and in what form."""

    min_side_px: Positive
    max_hamming_distance: Annotated[int, Field(ge=0, le=16)]

    @property
    def storage(self) -> StorageParams:
        """What a model has to know of these, so that it predicts as it was trained."""
        return StorageParams(side_px=self.side_px, max_pixels=self.max_pixels)


ValDraw = Literal["per_seed", "fixed"]
"""Whether each seed draws a val split of its own from what is not test."""


class SplitParams(Section):
    """How images are divided into train, val and test."""

    val_fraction: Fraction
    test_fraction: Fraction
    seed: Seed
    val: ValDraw
    train_fraction: ShareAboveZero = 1.0
    test_list: str
    test_folder: Annotated[str, StringConstraints(pattern="^[^/]+$")] | None

    @property
    def listed(self) -> Path | None:
        """The file that `test_list` names, or None."""
        return None if self.test_list == NO_FILE else Path(self.test_list)

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
            raise ValueError(
                "split.val_fraction and split.test_fraction must both be above 0, "
                f"got {self.val_fraction:g} and {self.test_fraction:g}"
            )
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                "split.val_fraction and split.test_fraction must leave something to train on: expected a sum below 1, "
                f"got {self.val_fraction:g} + {self.test_fraction:g}"
            )
        return self


class BackboneParams(Section):
    """The pretrained network, and the size at which it sees images."""

    name: str
    weights: Literal["imagenet", "none", "file"]
    weights_file: str = NO_FILE
    """A key of its own, so that DVC can watch the file."""
    blocks: Positive | None
    image_size_px: Annotated[int, Field(ge=32, le=1024)]

    @property
    def file(self) -> Path | None:
        """The file that the weights come from, or None."""
        return None if self.weights_file == NO_FILE else Path(self.weights_file)

    @model_validator(mode="before")
    @classmethod
    def _read_path_of_earlier_release(cls, values: Any) -> Any:
        """Models of an earlier release have the path of the file in `weights`."""
        if not _names_weights_file(values):
            return values
        return {**values, "weights": "file", "weights_file": values["weights"]}

    @model_validator(mode="after")
    def _names_a_file_if_it_needs_one(self) -> "BackboneParams":
        if self.weights == "file" and self.file is None:
            raise ValueError("backbone.weights 'file' needs the path of a weights file in backbone.weights_file")
        if self.weights != "file" and self.file is not None:
            raise ValueError(
                f"backbone.weights_file is {self.weights_file!r}, but backbone.weights is {self.weights!r}: "
                f"write weights: file, or weights_file: {NO_FILE}"
            )
        return self


def _names_weights_file(values: Any) -> bool:
    """Whether a section `backbone` has a path where the kind of weights is expected."""
    kind = values.get("weights") if isinstance(values, dict) else None
    return isinstance(kind, str) and ("." in kind or "/" in kind)


class ComputeParams(Section):
    """How the device computes."""

    threads: Positive = 1
    """Of one process; results depend on it, and not on how many cores there are."""

    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False


FLOAT32 = ComputeParams()
"""As the weights are stored, and as torch comes."""


class EmbedParams(Section):
    """How features are computed."""

    batch_size: Positive
    views: Positive

    @model_validator(mode="after")
    def _computes_all_views_of_an_image_at_once(self) -> "EmbedParams":
        if self.views > self.batch_size:
            raise ValueError(
                f"embed.views: {self.views} views do not fit into one batch of {self.batch_size}; "
                f"raise embed.batch_size to {self.views}"
            )
        return self


class AdamWParams(Section):
    """AdamW (Loshchilov and Hutter, ICLR 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NonNegativeFloat = 0.01


class SGDParams(Section):
    """SGD with momentum (Sutskever et al., ICML 2013)."""

    name: Literal["sgd"] = "sgd"
    weight_decay: NonNegativeFloat = 0.01
    momentum: Fraction = 0.9
    nesterov: bool = True

    @model_validator(mode="after")
    def _has_a_momentum_to_look_ahead_with(self) -> "SGDParams":
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "training.optimizer.nesterov true needs training.optimizer.momentum above 0; or set nesterov to false"
            )
        return self


OptimizerParams = Annotated[AdamWParams | SGDParams, Field(discriminator="name")]
"""The optimiser by its name, with the knobs that it has; what params.yaml leaves out has these defaults."""


class TrainingParams(Section):
    """What all phases of all variants share."""

    batch_size: Positive
    grad_accum_steps: Positive
    optimizer: OptimizerParams
    warmup_ratio: Fraction
    layer_decay: ShareAboveZero
    class_weights: Literal["none", "balanced"] = "none"
    label_smoothing: Fraction
    mixup_alpha: NonNegativeFloat
    patience_epochs: Positive
    batch_norm: Literal["frozen_stats", "train"]


class TrainsPart(Section):
    """What all kinds of phases have."""

    train: TrainedPart

    @property
    def last_blocks(self) -> int | None:
        """How many blocks of the backbone are trained, counted from its output; None stands for all of them."""
        if self.train == "all":
            return None
        return 0 if self.train == "head" else int(self.train.removeprefix("last:"))


class SolvedPhase(TrainsPart):
    """The head alone, as the solution of a convex problem: see `training.head_solver`."""

    train: Literal["head"] = "head"


_LEFT_OUT_IF_NONE = Field(exclude_if=lambda value: value is None)
"""So that phases without the knob are written as they were before there was one."""


class Phase(TrainsPart):
    """Gradient steps: what is trained, for how long, and how fast."""

    epochs: Positive
    lr: PositiveFloat
    head_lr: PositiveFloat | None = None
    views: Annotated[Positive | None, _LEFT_OUT_IF_NONE] = None
    """How many views of each image are computed once below the trained blocks; None: nothing is."""

    @property
    def sees_images(self) -> bool:
        """Whether each epoch runs whole images through the model, and not what was computed of them once."""
        return self.train != "head" and self.views is None


AnyPhase = Phase | SolvedPhase


def _one_or_several(value: Any) -> str:
    return SEVERAL if isinstance(value, list) else ONE


ONE, SEVERAL = "a value", "a list"
"""What pydantic puts behind the place of a number that may be a list."""

_Candidates = Annotated[list[Value], Field(min_length=1), _EACH_ONCE, Tag(SEVERAL)]
PositiveChoices = Annotated[Annotated[Positive, Tag(ONE)] | _Candidates[Positive], Discriminator(_one_or_several)]
RateChoices = Annotated[Annotated[PositiveFloat, Tag(ONE)] | _Candidates[PositiveFloat], Discriminator(_one_or_several)]


class PhaseChoices(TrainsPart):
    """A phase as params.yaml has it: each number may be a list, of which validation chooses.

    A `head` phase without `epochs` and `lr` is solved instead of trained step by step.
    """

    epochs: PositiveChoices | None = None
    lr: RateChoices | None = None
    head_lr: RateChoices | None = None
    views: Annotated[PositiveChoices | None, _LEFT_OUT_IF_NONE] = None

    @model_validator(mode="after")
    def _computes_once_what_lies_below_a_cut(self) -> "PhaseChoices":
        if self.views is not None and self.train in ("head", "all"):
            why = "embed.views is for heads" if self.train == "head" else "nothing stays as it is under all"
            raise ValueError(f"views is for last:N phases ({why}); remove it, or write train: last:2")
        return self

    @model_validator(mode="after")
    def _is_solved_or_has_steps(self) -> "PhaseChoices":
        given = [name for name in ("epochs", "lr", "head_lr") if getattr(self, name) is not None]
        if self.train == "head" and not given:
            return self
        missing = [name for name in ("epochs", "lr") if name not in given]
        if missing:
            also = "; a head phase with none of them is solved" if self.train == "head" else ""
            raise ValueError(f"train: {self.train} needs epochs and lr, and {missing[0]} is missing{also}")
        if self.train == "head" and self.head_lr is not None:
            raise ValueError("head_lr is for phases that train more than the head; remove it")
        return self

    def candidates(self) -> list[AnyPhase]:
        """The phase with each choice of its numbers, the first ones first."""
        if self.epochs is None or self.lr is None:
            return [SolvedPhase()]
        return [
            Phase(train=self.train, epochs=epochs, lr=lr, head_lr=head_lr, views=views)
            for epochs in _as_list(self.epochs)
            for lr in _as_list(self.lr)
            for head_lr in ([None] if self.head_lr is None else _as_list(self.head_lr))
            for views in ([None] if self.views is None else _as_list(self.views))
        ]


def _as_list(value: Value | list[Value]) -> list[Value]:
    return value if isinstance(value, list) else [value]


def list_candidates(phases: Sequence[PhaseChoices]) -> list[tuple[AnyPhase, ...]]:
    """All recipes that a variant's phases stand for: one, unless a number is a list."""
    return list(itertools.product(*(phase.candidates() for phase in phases)))


class ExternalParams(Section):
    """Another archive of labelled images, on which the models are tested as well."""

    path: str
    classes: dict[str, str] = Field(default_factory=dict)
    """Its class -> the class of the models, where the names differ by more than case."""

    @property
    def archive(self) -> Path:
        return Path(self.path)


Corruption = Literal[
    "gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "defocus_blur", "brightness", "contrast",
    "pixelate", "jpeg_compression",
]  # fmt: skip
"""What can be done to test images: see `thaw.data.corruptions`."""


class EvaluateParams(Section):
    """What else the models are tested on."""

    external: dict[ExternalName, ExternalParams]
    corruptions: Annotated[list[Corruption], _EACH_ONCE]


class TrackingParams(Section):
    """Where runs are logged."""

    experiment: Annotated[str, StringConstraints(min_length=1)]


class ReportParams(Section):
    """What counts as a difference."""

    margin_points: PositiveFloat
    """In percentage points of accuracy: within it, two recipes are equivalent."""

    @property
    def margin(self) -> float:
        """The same as a fraction of 1."""
        return self.margin_points / 100


class Params(Section):
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
    variants: Annotated[dict[VariantName, Annotated[list[PhaseChoices], Field(min_length=1)]], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1), _EACH_ONCE]
    evaluate: EvaluateParams
    report: ReportParams
    tracking: TrackingParams

    @model_validator(mode="after")
    def _trains_heads_on_features_of_their_backbone(self) -> "Params":
        for variant, phases in self.variants.items():
            moved = False
            for number, phase in enumerate(phases):
                if phase.train == "head" and moved:
                    raise ValueError(
                        f"variants.{variant}.{number}: a head phase cannot follow one that trains the backbone, since "
                        f"the features were computed before it moved; put it first, or write train: last:1"
                    )
                if phase.train == "head" and phase.epochs is None and self.training.mixup_alpha > 0:
                    raise ValueError(
                        f"variants.{variant}.{number}: a solved head cannot use training.mixup_alpha "
                        f"{self.training.mixup_alpha:g}; give it epochs and lr, or set training.mixup_alpha to 0"
                    )
                moved = moved or phase.train != "head"
        return self

    @field_validator("variants")
    @classmethod
    def _leave_a_name_to_the_summary(cls, variants: dict[str, list[PhaseChoices]]) -> dict[str, list[PhaseChoices]]:
        if "recommended" in variants:
            raise ValueError(
                "none can be called recommended, which in reports/summary.json says which one is; choose another name"
            )
        return variants

    @field_validator("backbone", mode="before")
    @classmethod
    def _has_weights_that_dvc_watches(cls, values: Any) -> Any:
        if _names_weights_file(values):
            raise ValueError(
                f"backbone.weights: expected 'imagenet', 'none' or 'file', got {values['weights']!r}; write "
                f"weights: file and weights_file: {values['weights']}, which DVC watches"
            )
        return values
