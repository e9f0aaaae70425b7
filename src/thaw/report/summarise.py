"""Results -> `Comparison`; pure functions."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev

import numpy as np

from thaw.data.manifest import count_reasons, describe_images
from thaw.data.splits_csv import SPLITS
from thaw.diagnosis.extrapolation import extrapolate_gain
from thaw.diagnosis.learning_curve_csv import CurvePoint
from thaw.evaluation.significance import RecipeAccuracy, compare_recipes
from thaw.params import Params, PhaseChoices
from thaw.report.comparison import (
    BUSY_RATIO,
    CandidateSummary,
    Comparison,
    CurveSummary,
    DatasetSummary,
    DiagnosisSummary,
    GainSummary,
    Recommendation,
    RunSummary,
    VariantCost,
    VariantSummary,
)
from thaw.report.corrupted import summarise_corrupted
from thaw.report.external import summarise_external
from thaw.report.pairs import PairComparison, find_steps, summarise_pair
from thaw.report.results import Results, Run
from thaw.training.cost_json import EmbedCost
from thaw.training.notes import list_edges, note_training


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
            summarise_external(external, params=params, recommended=recommended.variant)
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


def _summarise_dataset(results: Results, params: Params) -> DatasetSummary:
    reasons = count_reasons(results.manifest)
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
        backbone_parameter_tensors=runs[0].metrics.backbone_parameter_tensors,
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
    """Other variants -> the seeds with which both are one model: their kept weights went through the same phases."""
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
    evidence. Of those that are equivalent to where it ends, and than which none is better, the cheapest is taken. With
    too few seeds to speak of recipes all this is said of these very models, one of which will be used.
    """
    flops = {variant.variant: variant.cost.flops for variant in variants}
    seconds = {variant.variant: variant.cost.one_run_seconds for variant in variants}
    better_than: dict[str, list[str]] = {name: [] for name in flops}
    equivalent_to: dict[str, list[str]] = {name: [] for name in flops}
    for pair in pairs:
        if pair.outcome_of_models == "better":
            better_than[pair.loser].append(pair.winner)
        elif pair.outcome_of_models == "equivalent":
            equivalent_to[pair.a].append(pair.b)
            equivalent_to[pair.b].append(pair.a)
    cheapest, steps = min(flops, key=flops.__getitem__), find_steps(pairs, flops)
    best = steps[-1].winner if steps else cheapest
    chosen = min([best, *(name for name in equivalent_to[best] if not better_than[name])], key=flops.__getitem__)
    return Recommendation(
        variant=chosen,
        cheapest=cheapest,
        best=best,
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
