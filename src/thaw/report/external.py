"""Results on an external test set -> its part of comparison.json; pure functions."""

from collections.abc import Sequence
from statistics import mean

from thaw.data.manifest import Reason, count_reasons
from thaw.evaluation.significance import RecipeAccuracy, compare_recipes
from thaw.params import Params
from thaw.report.pairs import Interval, PairComparison, Summary, summarise_pair
from thaw.report.results import ExternalResults, ExternalRun


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


def summarise_external(external: ExternalResults, *, params: Params, recommended: str) -> ExternalSummary:
    """Compare the variants on one set.

    Args:
        external: what the stages wrote of it.
        params: the parameters that they ran with.
        recommended: the variant that the test split recommends.
    """
    compared = compare_recipes(
        {name: external.correct(name) for name in params.variants},
        groups=external.groups,
        margin=params.report.margin,
    )
    pairs = tuple(summarise_pair(pair, external.correct) for pair in compared.pairs)
    reasons = count_reasons(external.manifest)
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
            pair.winner for pair in pairs if pair.outcome_of_models == "better" and pair.loser == recommended
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
