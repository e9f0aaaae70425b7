"""`Comparison`: the numbers of comparison.json."""

from typing import Literal

from pydantic import Field

from thaw.data.splits_csv import Split
from thaw.evaluation.metrics_json import ScoresOnTest, UncalibratedScores, ValScores
from thaw.network.model_card import BestEpoch
from thaw.params import AnyPhase, BackboneParams, PhaseChoices
from thaw.report.corrupted import CorruptedSummary
from thaw.report.external import ExternalSummary
from thaw.report.pairs import Interval, PairComparison, Summary
from thaw.training.cost_json import EmbedCost

BUSY_RATIO = 1.5
"""Where the slowest seed took more than this times the fastest, the machine was busy with something else, too."""


class DatasetSummary(Summary):
    """What the images are, and what became of the files."""

    source: str
    """`data.source` of params.yaml."""

    understood: str
    """How the files were understood: images, classes, given splits, and what was left aside; one line."""

    classes: tuple[str, ...]
    """Their names, in the order of the predictions' columns."""

    files: int
    """Files in the archive."""

    dropped: int
    """Files that are no sound image."""

    splits: dict[Split, int]
    """Images of each split. With `split.val: per_seed` the sizes of train and val differ by a few between seeds."""

    dropped_by_reason: dict[str, int]
    """Files for each reason, the most frequent first."""

    damaged_but_kept: int
    """Images that are probably damaged and are used all the same."""

    majority_class: str
    """The class with the most test images."""

    majority_class_accuracy: float
    """Test accuracy of the majority-class baseline, as a fraction of 1."""

    class_weights: Literal["none", "balanced"]
    """`training.class_weights` of params.yaml."""


class RunSummary(Summary):
    """One variant, trained with one seed."""

    variant: str
    """Its name in params.yaml."""

    seed: int
    """What its random numbers come from."""

    test: ScoresOnTest
    """Scores on the test split, calibrated; accuracy and ECE as fractions of 1, log loss in nats."""

    temperature: float
    """What the logits are divided by, fitted on val; above 1 the model was too sure of itself."""

    uncalibrated: UncalibratedScores
    """Scores on the test split before that."""

    val: ValScores
    """Scores of the kept epoch on the validation split, likewise."""

    trainable_parameters: int
    """Of the phase that trains most."""

    train_seconds: float
    """Of all candidates, in seconds; those of earlier tries count in a run that was resumed."""

    mlflow_run_id: str | None
    """None if it was not logged."""

    phases: tuple[AnyPhase, ...]
    """The recipe that was chosen on val, of all candidates."""

    best: BestEpoch
    """The epoch whose weights are the model's; in a solved phase, the place on the path of penalties."""

    kept_last_epoch: bool
    """Whether that is the last epoch of its phase, so that more epochs might do better; false in a solved phase."""

    discarded_phases: int
    """Phases after the kept epoch's: they made nothing better on val, and the model is that of the earlier ones."""

    penalty: float | None
    """The one chosen on val for the solved head; None if no phase is solved."""

    penalty_at_edge: bool
    """Whether it is the weakest or the strongest of those tried."""

    backbone_tensors: int
    """Parameters and buffers of the backbone."""

    backbone_tensors_moved: int
    """How many of them differ from the pretrained ones."""

    epochs: int
    """Of the chosen candidate, kept or not; in a solved phase, penalties tried."""

    flops: int
    """Floating-point operations of training and validation, all candidates, without those of the features."""

    images_seen: int
    """Forward and backward passes of whole images, all candidates."""

    images_per_second: float
    """Images seen over training time; 0 if none were seen."""

    peak_memory_mib: float
    """The most memory in use, in MiB."""

    device: str
    """cpu, cuda or mps."""

    threads: int
    """Of torch on the CPU."""


class CandidateSummary(Summary):
    """One of the recipes that a variant's lists in params.yaml stand for."""

    phases: tuple[AnyPhase, ...]
    """Its phases."""

    val_losses: tuple[float | None, ...]
    """Of its best epoch, in nats, for each seed; None where its loss did not stay finite."""

    val_accuracies: tuple[float | None, ...]
    """Of its best epoch, as fractions of 1, for each seed; likewise."""

    seeds_won: int
    """With so many seeds it had the lowest val loss and became the model."""

    at_edge: tuple[str, ...]
    """The numbers that are the lowest or the highest of their list, as `phase 1: lr 0.01`."""


class VariantCost(Summary):
    """What one run of a variant costs: means over its seeds, with all candidates."""

    flops: float
    """Floating-point operations of one run, features included: what the recommendation goes by."""

    flops_training: float
    """Of it, training and validation."""

    flops_embed: int
    """Of it, the features of all images; 0 if the variant needs none."""

    images_seen: float
    """Forward and backward passes of whole images; a head that is trained on features sees none."""

    train_seconds_mean: float
    """Training time per seed, in seconds."""

    train_seconds_min: float
    """Of the fastest seed."""

    train_seconds_max: float
    """Of the slowest seed."""

    seconds_unreliable: bool
    """Whether the slowest seed took more than 1.5 times the fastest: the machine was busy."""

    embed_seconds: float
    """Computing the features, once for all runs; 0 if the variant needs none."""

    one_run_seconds: float
    """Training time per seed and features together."""

    images_per_second_mean: float
    """Images seen over training time; 0 if none were seen."""

    peak_memory_mib: float
    """The most of all seeds, in MiB."""

    measured_on: str
    """Device and threads that its trainings were measured on."""


class VariantSummary(Summary):
    """A recipe: all that its seeds say together."""

    variant: str
    """Its name in params.yaml."""

    accuracy_mean: float
    """Test accuracy, mean over seeds, as a fraction of 1."""

    accuracy_ci95: Interval
    """95 % interval of the expected accuracy of a model trained anew, on new images; see `speaks_of_recipes`."""

    accuracy_std: float | None
    """Standard deviation of the test accuracy over seeds, as found; None with one seed."""

    seed_sd: float | None
    """Standard deviation between seeds of the accuracy itself, the chance of the test images removed."""

    accuracy_min: float
    """Of the worst seed."""

    accuracy_max: float
    """Of the best seed."""

    balanced_accuracy_mean: float
    """The mean recall of the classes, mean over seeds, as a fraction of 1."""

    recall_mean: dict[str, float]
    """For each class the share of its test images that is classified correctly, mean over seeds."""

    log_loss_mean: float
    """In nats, calibrated."""

    roc_auc_mean: float
    """Area under the ROC curve; of more than two classes, the mean of one class against the rest."""

    ece_mean: float
    """Expected calibration error, calibrated, as a fraction of 1."""

    uncalibrated_log_loss_mean: float
    """In nats, before temperature scaling."""

    uncalibrated_ece_mean: float
    """Expected calibration error before temperature scaling, as a fraction of 1."""

    trainable_parameters: int
    """The most of all seeds, of the phase that trains most."""

    backbone_tensors: int
    """Parameters and buffers of the backbone."""

    backbone_parameter_tensors: int
    """How many of them are parameters; the others are buffers, such as BatchNorm's statistics."""

    backbone_tensors_moved: int
    """The most of all seeds."""

    phases: tuple[PhaseChoices, ...]
    """As in params.yaml; a number may be a list, of which val chooses."""

    candidates: tuple[CandidateSummary, ...]
    """All recipes that were tried, in the order of params.yaml."""

    same_model_as: dict[str, tuple[int, ...]]
    """Other variants -> seeds with which both went through the same phases and say the same of every test image."""

    training_notes: tuple[str, ...]
    """Sentences on recipes that ended early, at the edge of a list, or for nothing."""

    cost: VariantCost
    """What one run costs."""


class Recommendation(Summary):
    """Which variant to take."""

    variant: str
    """The recommended one."""

    cheapest: str
    """The one with the fewest floating-point operations."""

    best: str
    """Where the steps from the cheapest one to a better one, and on from there, end."""

    reason: Literal["only", "cheapest", "better", "equivalent"]
    """only: there is no other. cheapest: none is better. better: than the cheapest, or than one that is. equivalent: to
    such a better one, `best`, and cheaper."""

    flops_ratio_of_others: dict[str, float]
    """Floating-point operations of the other variants over those of the recommended one."""

    seconds_ratio_of_others: dict[str, float]
    """Their seconds over those of the recommended one, as the clock had it."""


MIN_HEAD_ACCURACY = 0.9
"""Out of fold. A weaker head contradicts right labels: one that is correct on 73 %, 44 of 400 of them."""


class CurveSummary(Summary):
    """Heads solved on a share of the images, each tested on the fold that it did not see."""

    images: float
    """Training images, mean over folds."""

    accuracy: float
    """As a fraction of 1, of all folds together."""

    fold_accuracies: tuple[float, ...]
    """Of each fold."""


class GainSummary(Summary):
    """What twice the training images would bring a solved head, extrapolated."""

    images: int
    """Training images that are doubled: those of `dataset.splits`."""

    accuracy_gain: float
    """As a fraction of 1."""

    accuracy_gain_ci95: Interval
    """95 % interval."""

    floor: float
    """The error rate is taken to be floor + scale * images ** -exponent."""

    scale: float
    """See `floor`."""

    exponent: float
    """See `floor`."""


class DiagnosisSummary(Summary):
    """What would help more, found out on features and without the test split."""

    learning_curve: tuple[CurveSummary, ...]
    """By rising number of training images."""

    twice_the_images: GainSummary | None
    """None where there are too few images to say."""

    labels_checked: int
    """Images that are not test."""

    labels_contradicted: int
    """So many of them have another label by confident learning; data/diagnosis/label_issues.csv names them."""

    out_of_fold_accuracy: float
    """Of the heads that say so, on images that they were not fitted to, though their penalty was chosen on them, as a
    fraction of 1: a weak head contradicts right labels."""

    @property
    def tells_wrong_labels(self) -> bool:
        """Whether the heads are good enough to tell a wrong label from an error of their own."""
        return self.out_of_fold_accuracy >= MIN_HEAD_ACCURACY


class Comparison(Summary):
    """All numbers of the report."""

    dataset: DatasetSummary
    """The images."""

    backbone: BackboneParams
    """The pretrained network."""

    seeds: tuple[int, ...]
    """With which each variant was trained."""

    margin: float
    """Differences in accuracy within it do not matter, as a fraction of 1."""

    speaks_of_recipes: bool
    """Whether there are enough seeds to speak of models trained anew. If not, intervals and p-values are of these very
    models on other images, `outcome` is inconclusive everywhere, and the recommendation goes by `outcome_of_models`."""

    recommended: Recommendation
    """The variant to take, and why."""

    variants: tuple[VariantSummary, ...]
    """In the order of params.yaml."""

    pairs: tuple[PairComparison, ...]
    """All of them."""

    runs: tuple[RunSummary, ...]
    """Variants in the order of params.yaml, and in each the seeds in theirs."""

    embed: EmbedCost
    """What the features cost, once for all runs."""

    diagnosis: DiagnosisSummary
    """What would help more."""

    external: tuple[ExternalSummary, ...]
    """The external test sets, in the order of params.yaml."""

    corrupted: CorruptedSummary | None = Field(default=None, exclude_if=lambda summary: summary is None)
    """The test split under corruptions; not there if `evaluate.corruptions` names none."""

    @property
    def measured_on(self) -> str:
        """What all seconds are of: `embed` computes several batches at once, a training one on so many threads."""
        trained = " and ".join(sorted({row.cost.measured_on for row in self.variants}))
        side_by_side = self.embed.device == "cpu" and any(row.cost.embed_seconds for row in self.variants)
        return f"{trained}{', features on up to all cores' * side_by_side}"
