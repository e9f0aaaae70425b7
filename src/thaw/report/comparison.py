"""Results -> `Comparison`, the numbers of comparison.json; pure functions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Literal

import numpy as np
from pydantic import Field

from thaw.data.manifest import Reason, Row, describe_images
from thaw.data.splits_csv import SPLITS, Split
from thaw.diagnosis.extrapolation import extrapolate_gain
from thaw.diagnosis.learning_curve_csv import CurvePoint
from thaw.evaluation.metrics_json import ScoresOnTest, UncalibratedScores, ValScores
from thaw.evaluation.significance import RecipeAccuracy, compare_recipes
from thaw.network.model_card import BestEpoch
from thaw.params import AnyPhase, BackboneParams, Params, PhaseChoices
from thaw.report.corrupted import CorruptedSummary, summarise_corrupted
from thaw.report.pairs import Interval, PairComparison, Summary, summarise_pair
from thaw.report.results import ExternalResults, ExternalRun, Results, Run
from thaw.training.cost_json import EmbedCost
from thaw.training.notes import list_edges, note_training

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
    """Training images per second."""

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
    """Training images per second."""

    peak_memory_mib: float
    """The most of all seeds, in MiB."""

    measured_on: str
    """Device and threads that the seconds were measured on."""


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

    reason: Literal["only", "cheapest", "better", "equivalent"]
    """only: there is no other. cheapest: none is better. better: than the cheapest, or than one that is. equivalent: to
    such a better one, and cheaper."""

    flops_ratio_of_others: dict[str, float]
    """Floating-point operations of the other variants over those of the recommended one."""

    seconds_ratio_of_others: dict[str, float]
    """Their seconds over those of the recommended one, as the clock had it."""


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
    """Of the heads that say so, on images that they did not see, as a fraction of 1: a weak head contradicts right
    labels."""


class ExternalVariantSummary(Summary):
    """A recipe on an external test set: all that its seeds say together."""

    variant: str
    """Its name in params.yaml."""

    accuracy_mean: float
    """Accuracy, mean over seeds, as a fraction of 1."""

    accuracy_ci95: Interval
    """95 % interval of the expected accuracy of a model trained anew, on new images from the source of this set."""

    seed_sd: float | None
    """Standard deviation between seeds of the accuracy itself, the chance of the images removed."""

    accuracy_min: float
    """Of the worst seed."""

    accuracy_max: float
    """Of the best seed."""

    log_loss_mean: float
    """In nats."""

    roc_auc_mean: float
    """Area under the ROC curve; of more than two classes, the mean of one class against the rest."""

    ece_mean: float
    """Expected calibration error, as a fraction of 1."""


class ExternalSummary(Summary):
    """An external test set: what it is, and the recipes on it. The recommendation does not go by it."""

    name: str
    """Its name in `evaluate.external` of params.yaml."""

    files: int
    """Files in the archive."""

    images: int
    """Images that the models are tested on."""

    copies_of_training_images: int
    """Images that are left out, since the models were trained on them, exactly or nearly."""

    dropped_by_reason: dict[str, int]
    """Files that are left out, for each reason, the most frequent first."""

    variants: tuple[ExternalVariantSummary, ...]
    """In the order of params.yaml."""

    pairs: tuple[PairComparison, ...]
    """All of them; the intervals hold together on this set, not over several sets."""

    better_than_recommended: tuple[str, ...]
    """The variants that are better here than the one that is recommended by the test split."""


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
    models on other images, and every outcome is inconclusive."""

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


def build_comparison(results: Results, *, params: Params, run_ids: Mapping[str, str | None]) -> Comparison:
    """Summarise and compare.

    Args:
        results: what the stages wrote.
        params: the parameters that they ran with.
        run_ids: "{variant}-{seed}" -> the run's id in MLflow; None, or no entry, if it was not logged.
    """
    compared = compare_recipes(
        {name: results.correct(name) for name in params.variants},
        groups=results.test_groups,
        margin=params.report.margin,
    )
    variants = tuple(
        _summarise_variant(name, compared.variants[name], results=results, phases=phases)
        for name, phases in params.variants.items()
    )
    pairs = tuple(summarise_pair(pair, results.correct) for pair in compared.pairs)
    recommended = recommend_variant(variants, pairs)
    return Comparison(
        dataset=_summarise_dataset(results, params),
        backbone=params.backbone,
        seeds=tuple(params.seeds),
        margin=params.report.margin,
        speaks_of_recipes=compared.speaks_of_recipes,
        recommended=recommended,
        variants=variants,
        pairs=pairs,
        runs=tuple(_summarise_run(run, run_ids.get(run.name)) for run in results.runs),
        embed=results.embed,
        external=tuple(
            _summarise_external(external, params=params, recommended=recommended.variant)
            for external in results.external
        ),
        corrupted=summarise_corrupted(results, margin=params.report.margin),
        diagnosis=_summarise_diagnosis(results, params),
    )


def _summarise_diagnosis(results: Results, params: Params) -> DiagnosisSummary:
    images = round(params.split.train_fraction * Counter(results.splits.values())["train"])
    shares = sorted({point.share for point in results.learning_curve})
    gain = extrapolate_gain(results.learning_curve, images=images)
    return DiagnosisSummary(
        learning_curve=tuple(
            _summarise_share([point for point in results.learning_curve if point.share == share]) for share in shares
        ),
        twice_the_images=None
        if gain is None
        else GainSummary(
            images=gain.images,
            accuracy_gain=gain.difference,
            accuracy_gain_ci95=gain.interval,
            floor=gain.law.floor,
            scale=gain.law.scale,
            exponent=gain.law.exponent,
        ),
        labels_checked=len(results.checked_labels),
        labels_contradicted=sum(row.rank is not None for row in results.checked_labels),
        out_of_fold_accuracy=mean(row.label == row.likely_label for row in results.checked_labels),
    )


def _summarise_share(points: Sequence[CurvePoint]) -> CurveSummary:
    return CurveSummary(
        images=float(mean(point.images for point in points)),
        accuracy=sum(point.correct for point in points) / sum(point.tested for point in points),
        fold_accuracies=tuple(point.correct / point.tested for point in points),
    )


def _summarise_external(external: ExternalResults, *, params: Params, recommended: str) -> ExternalSummary:
    compared = compare_recipes(
        {name: external.correct(name) for name in params.variants},
        groups=external.groups,
        margin=params.report.margin,
    )
    pairs = tuple(summarise_pair(pair, external.correct) for pair in compared.pairs)
    reasons = _count_reasons(external.manifest)
    return ExternalSummary(
        name=external.name,
        files=len(external.manifest),
        images=len(external.labels),
        copies_of_training_images=reasons.get(Reason.TRAINED_ON, 0),
        dropped_by_reason=reasons,
        variants=tuple(
            _summarise_external_variant(name, compared.variants[name], external.runs_of(name))
            for name in params.variants
        ),
        pairs=pairs,
        better_than_recommended=tuple(
            pair.winner for pair in pairs if pair.outcome == "better" and pair.loser == recommended
        ),
    )


def _summarise_external_variant(
    name: str, accuracy: RecipeAccuracy, runs: Sequence[ExternalRun]
) -> ExternalVariantSummary:
    scores = [run.scores for run in runs]
    return ExternalVariantSummary(
        variant=name,
        accuracy_mean=accuracy.accuracy,
        accuracy_ci95=accuracy.interval,
        seed_sd=accuracy.seed_sd,
        accuracy_min=min(score.accuracy for score in scores),
        accuracy_max=max(score.accuracy for score in scores),
        log_loss_mean=mean(score.log_loss for score in scores),
        roc_auc_mean=mean(score.roc_auc for score in scores),
        ece_mean=mean(score.ece for score in scores),
    )


def _count_reasons(manifest: Iterable[Row]) -> dict[str, int]:
    """Files that are not kept, for each reason, the most frequent first."""
    reasons = Counter(row.reason for row in manifest if not row.kept)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _summarise_dataset(results: Results, params: Params) -> DatasetSummary:
    reasons = _count_reasons(results.manifest)
    splits = Counter(results.splits.values())
    label, most_frequent = Counter(sorted(results.test_labels.tolist())).most_common(1)[0]
    return DatasetSummary(
        source=params.data.source,
        understood=describe_images(results.manifest, given=results.given_splits),
        classes=results.classes,
        files=len(results.manifest),
        dropped=sum(reasons.values()),
        splits={split: splits[split] for split in SPLITS},
        dropped_by_reason=reasons,
        damaged_but_kept=sum(row.kept and row.damage != "" for row in results.manifest),
        majority_class=results.classes[label],
        majority_class_accuracy=most_frequent / len(results.test_labels),
        class_weights=params.training.class_weights,
    )


def _summarise_run(run: Run, run_id: str | None) -> RunSummary:
    return RunSummary(
        variant=run.variant,
        seed=run.seed,
        test=run.metrics.test,
        temperature=run.card.temperature,
        uncalibrated=run.metrics.uncalibrated,
        val=run.metrics.val,
        trainable_parameters=run.metrics.trainable_parameters,
        train_seconds=run.cost.train_seconds,
        mlflow_run_id=run_id,
        phases=run.card.phases,
        best=run.card.best,
        kept_last_epoch=run.training.kept_last_epoch,
        discarded_phases=len(run.training.discarded_phases),
        penalty=run.history.penalty,
        penalty_at_edge=run.history.penalty_at_edge,
        backbone_tensors=run.metrics.backbone_tensors,
        backbone_tensors_moved=run.metrics.backbone_tensors_moved,
        epochs=len(run.history.epochs),
        flops=run.card.compute.flops,
        images_seen=run.card.compute.images_seen,
        images_per_second=run.cost.images_per_second,
        peak_memory_mib=run.cost.peak_memory_mib,
        device=run.cost.device,
        threads=run.cost.threads,
    )


def _summarise_variant(
    name: str, accuracy: RecipeAccuracy, *, results: Results, phases: Sequence[PhaseChoices]
) -> VariantSummary:
    runs = results.runs_of(name)
    tests = [run.metrics.test for run in runs]
    same_model_as = _find_same_models(name, results)
    return VariantSummary(
        variant=name,
        accuracy_mean=accuracy.accuracy,
        accuracy_ci95=accuracy.interval,
        accuracy_std=stdev(test.accuracy for test in tests) if len(runs) > 1 else None,
        seed_sd=accuracy.seed_sd,
        accuracy_min=min(test.accuracy for test in tests),
        accuracy_max=max(test.accuracy for test in tests),
        balanced_accuracy_mean=mean(test.balanced_accuracy for test in tests),
        recall_mean={label: mean(run.metrics.recall[label] for run in runs) for label in results.classes},
        log_loss_mean=mean(test.log_loss for test in tests),
        roc_auc_mean=mean(test.roc_auc for test in tests),
        ece_mean=mean(test.ece for test in tests),
        uncalibrated_log_loss_mean=mean(run.metrics.uncalibrated.log_loss for run in runs),
        uncalibrated_ece_mean=mean(run.metrics.uncalibrated.ece for run in runs),
        trainable_parameters=max(run.metrics.trainable_parameters for run in runs),
        backbone_tensors=runs[0].metrics.backbone_tensors,
        backbone_tensors_moved=max(run.metrics.backbone_tensors_moved for run in runs),
        phases=tuple(phases),
        candidates=_summarise_candidates(runs),
        same_model_as=same_model_as,
        training_notes=tuple(note_training(name, [run.training for run in runs], same_model_as=same_model_as)),
        cost=_summarise_cost(runs, results.embed),
    )


def _summarise_candidates(runs: Sequence[Run]) -> tuple[CandidateSummary, ...]:
    """The candidates of a variant, which are the same for all of its seeds."""
    tried = [run.card.candidates for run in runs]
    return tuple(
        CandidateSummary(
            phases=of_seeds[0].phases,
            val_losses=tuple(candidate.val_loss for candidate in of_seeds),
            val_accuracies=tuple(candidate.val_accuracy for candidate in of_seeds),
            seeds_won=sum(run.training.has_won(candidate) for candidate, run in zip(of_seeds, runs, strict=True)),
            at_edge=list_edges(of_seeds[0].phases, [candidate.phases for candidate in tried[0]]),
        )
        for of_seeds in zip(*tried, strict=True)
    )


def _find_same_models(name: str, results: Results) -> dict[str, tuple[int, ...]]:
    """Other variants -> the seeds with which both are one model, since a later phase was discarded."""
    same: dict[str, list[int]] = {}
    for own in results.runs_of(name):
        for other in results.runs:
            if (
                other.variant != name
                and other.seed == own.seed
                and other.trained_phases == own.trained_phases
                and np.array_equal(other.probabilities, own.probabilities)
            ):
                same.setdefault(other.variant, []).append(own.seed)
    return {variant: tuple(seeds) for variant, seeds in same.items()}


def _summarise_cost(runs: Sequence[Run], embed: EmbedCost) -> VariantCost:
    """The cost of one run; features are counted once, and only where a phase uses them."""
    uses_features = any(phase.train == "head" for run in runs for phase in run.card.phases)
    flops_training = mean(run.card.compute.flops for run in runs)
    flops_embed = embed.flops if uses_features else 0
    seconds = [run.cost.train_seconds for run in runs]
    embed_seconds = embed.seconds if uses_features else 0.0
    return VariantCost(
        flops=float(flops_training + flops_embed),
        flops_training=float(flops_training),
        flops_embed=flops_embed,
        images_seen=float(mean(run.card.compute.images_seen for run in runs)),
        train_seconds_mean=mean(seconds),
        train_seconds_min=min(seconds),
        train_seconds_max=max(seconds),
        seconds_unreliable=max(seconds) > BUSY_RATIO * min(seconds),
        embed_seconds=embed_seconds,
        one_run_seconds=mean(seconds) + embed_seconds,
        images_per_second_mean=mean(run.cost.images_per_second for run in runs),
        peak_memory_mib=max(run.cost.peak_memory_mib for run in runs),
        measured_on=_name_machines(runs),
    )


def _name_machines(runs: Iterable[Run]) -> str:
    """`cpu with 2 threads`; several, if the seeds ran on several."""
    machines = {(run.cost.device, run.cost.threads) for run in runs}
    return " and ".join(f"{device} with {threads} thread{'s' * (threads != 1)}" for device, threads in sorted(machines))


def recommend_variant(variants: Sequence[VariantSummary], pairs: Sequence[PairComparison]) -> Recommendation:
    """The cheapest variant by floating-point operations, unless another one is better; by equivalence the cheaper.

    Each step from the cheapest one goes to the cheapest of the better ones, so it ends; and none is taken without
    evidence. Of those that are equivalent to where it ends, and than which none is better, the cheapest is taken.
    """
    flops = {variant.variant: variant.cost.flops for variant in variants}
    seconds = {variant.variant: variant.cost.one_run_seconds for variant in variants}
    better_than: dict[str, list[str]] = {name: [] for name in flops}
    equivalent_to: dict[str, list[str]] = {name: [] for name in flops}
    for pair in pairs:
        if pair.outcome == "better":
            better_than[pair.loser].append(pair.winner)
        elif pair.outcome == "equivalent":
            equivalent_to[pair.a].append(pair.b)
            equivalent_to[pair.b].append(pair.a)
    best = cheapest = min(flops, key=flops.__getitem__)
    while better_than[best]:
        best = min(better_than[best], key=flops.__getitem__)
    chosen = min([best, *(name for name in equivalent_to[best] if not better_than[name])], key=flops.__getitem__)
    return Recommendation(
        variant=chosen,
        cheapest=cheapest,
        reason="only"
        if len(flops) == 1
        else "cheapest"
        if chosen == cheapest
        else "better"
        if chosen == best
        else "equivalent",
        flops_ratio_of_others={name: flops[name] / flops[chosen] for name in flops if name != chosen},
        seconds_ratio_of_others={name: seconds[name] / seconds[chosen] for name in seconds if name != chosen},
    )
