"""What a reader of a result has to know of its training: recipes that ended early, at an edge, or for nothing.

The report, `thaw show` and the last lines of a training say it in the same words.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from thaw.errors import DataError
from thaw.network.model_card import Candidate, ModelCard, read_model_card
from thaw.params import AnyPhase, Params, Phase, PhaseChoices, SolvedPhase, list_candidates
from thaw.paths import all_cells
from thaw.training.history_csv import History, read_history
from thaw.utils.words import count, enumerate_words, points


@dataclass(frozen=True, kw_only=True)
class Training:
    """One run of a variant, after its training."""

    card: ModelCard
    history: History

    @property
    def kept_last_epoch(self) -> bool:
        """Whether the kept epoch is the last of its phase, so that more might do better; false in a solved phase."""
        best = self.card.best
        last = max(epoch.epoch for epoch in self.history.epochs if epoch.phase == best.phase)
        return isinstance(self.card.phases[best.phase], Phase) and best.epoch == last

    @property
    def discarded_phases(self) -> tuple[int, ...]:
        """Phases, counted from 0, that made nothing better on val: the model is that of the earlier ones."""
        return tuple(range(self.card.best.phase + 1, len(self.card.phases)))

    @property
    def edges(self) -> tuple[str, ...]:
        """Numbers of the chosen candidate that are the lowest or the highest tried; see `list_edges`."""
        card = self.card
        won = [candidate for candidate in card.candidates if self.has_won(candidate)]
        return list_edges(won[0].phases, [candidate.phases for candidate in card.candidates]) if won else ()

    def has_won(self, candidate: Candidate) -> bool:
        """Whether val chose this one; not where several are one model, since the phase that differs was discarded."""
        equals = [other for other in self.card.candidates if other.val_loss == candidate.val_loss]
        return candidate.phases == self.card.phases and len(equals) == 1


def read_trainings(variant: str, params: Params) -> list[Training]:
    """The trainings of a variant by the present recipe that are done, a seed each; none of another release."""
    candidates = list_candidates(params.variants[variant])
    cells = [cell for cell in all_cells(params) if cell.variant == variant]
    trainings = []
    for cell in cells:
        with suppress(DataError):
            trainings.append(Training(card=read_model_card(cell.model), history=read_history(cell.history)))
    return [run for run in trainings if [candidate.phases for candidate in run.card.candidates] == candidates]


def note_training(
    variant: str, runs: Sequence[Training], *, same_model_as: Mapping[str, Sequence[int]] | None = None
) -> list[str]:
    """Sentences on the training of one variant; none if there are no runs.

    Args:
        variant: its name.
        runs: a seed each.
        same_model_as: other variants -> the seeds with which both are one model.
    """
    return [
        *_note_diverged(variant, runs),
        *_note_last_epoch(variant, runs),
        *_note_discarded(variant, runs, same_model_as or {}),
        *_note_edges(variant, runs),
        *_note_penalties(variant, runs),
        *_note_unconverged(variant, runs),
    ]


def describe_training(run: Training) -> str:
    """`fine_tuned-0: all at 0.0003 for 4 epochs at most; kept epoch 3 of phase 1, val loss 0.1880, accuracy 92.1 %`."""
    card, kept = run.card, run.history.epochs[run.history.best]
    chosen = f", chosen from {len(card.candidates)} candidates" if len(card.candidates) > 1 else ""
    what = f"penalty {kept.penalty:.3g}" if kept.penalty is not None else f"epoch {kept.epoch}"
    return (
        f"{card.variant}-{card.seed}: {describe_phases(card.phases)}{chosen}; kept {what} of phase {kept.phase + 1}, "
        f"val loss {kept.val_loss:.4f}, accuracy {points(kept.val_accuracy)} %"
    )


def _in_seeds(affected: int, runs: Sequence[Training]) -> str:
    """` in 2 of 3 seeds`; nothing of a single run."""
    return "" if len(runs) == 1 else f" in {affected} of {count(len(runs), 'seed')}"


def _note_diverged(variant: str, runs: Sequence[Training]) -> list[str]:
    lost = [[candidate.phases for candidate in run.card.candidates if candidate.val_loss is None] for run in runs]
    notes = []
    for phases in dict.fromkeys(itertools.chain(*lost)):
        affected = sum(phases in of_run for of_run in lost)
        where = _in_seeds(affected, runs)
        notes.append(f"{variant}: {describe_phases(phases)} was left out{where}: its loss did not stay finite.")
    return notes


def _note_last_epoch(variant: str, runs: Sequence[Training]) -> list[str]:
    affected = sum(run.kept_last_epoch for run in runs)
    if not affected:
        return []
    return [
        f"{variant}: the kept epoch is the last of its phase{_in_seeds(affected, runs)}; more epochs may do better."
    ]


def _note_discarded(variant: str, runs: Sequence[Training], same_model_as: Mapping[str, Sequence[int]]) -> list[str]:
    affected = [run for run in runs if run.discarded_phases]
    if not affected:
        return []
    lost = sorted({phase + 1 for run in affected for phase in run.discarded_phases})
    which = f"phase{'s' * (len(lost) > 1)} {enumerate_words([str(phase) for phase in lost])}"
    text = (
        f"{variant}: {which} made nothing better on val and {'was' if len(lost) == 1 else 'were'} discarded"
        f"{_in_seeds(len(affected), runs)}; the model is that of the earlier phases"
    )
    for other, seeds in same_model_as.items():
        named = f"seed{'s' * (len(seeds) > 1)} {enumerate_words([str(seed) for seed in seeds])}"
        text += f"; with {named} {variant} is {other}"
    return [f"{text}."]


def _note_edges(variant: str, runs: Sequence[Training]) -> list[str]:
    edges = Counter(edge for run in runs for edge in run.edges)
    return [
        f"{variant}: a candidate at the edge of its list won{_in_seeds(affected, runs)} ({edge}); a longer list may do "
        "better."
        for edge, affected in sorted(edges.items())
    ]


def _note_penalties(variant: str, runs: Sequence[Training]) -> list[str]:
    chosen = sorted({run.history.penalty for run in runs if run.history.penalty is not None})
    if not chosen:
        return []
    text = f"{variant}: the penalty of the solved head, chosen on val, is {name_choices(chosen)}"
    at_edge = sum(run.history.penalty_at_edge for run in runs)
    if at_edge:
        text += f"; it is at the end of its path{_in_seeds(at_edge, runs)}: one beyond may do better"
    return [f"{text}."]


def _note_unconverged(variant: str, runs: Sequence[Training]) -> list[str]:
    affected = sum(any(epoch.converged is False for epoch in run.history.penalties) for run in runs)
    if not affected:
        return []
    return [
        f"{variant}: the solver of the head ended before it was as close to the best head as is asked for"
        f"{_in_seeds(affected, runs)}: its coefficients are approximate."
    ]


def list_edges(phases: Sequence[AnyPhase], all_phases: Sequence[Sequence[AnyPhase]]) -> tuple[str, ...]:
    """Which numbers of `phases` are the lowest or the highest that any candidate has at that place."""
    edges = []
    for place, phase in enumerate(phases):
        for knob, value in phase.model_dump(exclude={"train"}, exclude_none=True).items():
            values = {getattr(candidate[place], knob) for candidate in all_phases}
            if len(values) > 1 and value in (min(values), max(values)):
                which = "lowest" if value == min(values) else "highest"
                edges.append(f"phase {place + 1}: {knob} {value:g}, the {which} tried")
    return tuple(edges)


def describe_phases(phases: Sequence[AnyPhase | PhaseChoices]) -> str:
    """`head (solved), then all at 0.0001 or 0.001 for 4 epochs at most`."""
    return ", then ".join(_describe_phase(phase) for phase in phases)


def _describe_phase(phase: AnyPhase | PhaseChoices) -> str:
    if isinstance(phase, SolvedPhase) or phase.lr is None or phase.epochs is None:
        return f"{phase.train} (solved)"
    head = "" if phase.head_lr is None else f" (its head at {name_choices(phase.head_lr)})"
    one = phase.epochs in (1, [1])
    views = "" if phase.views is None else f" on cached views ({name_choices(phase.views)} an image)"
    return (
        f"{phase.train}{views} at {name_choices(phase.lr)}{head} for {name_choices(phase.epochs)} "
        f"epoch{'s' * (not one)} at most"
    )


def name_choices(value: float | Sequence[float]) -> str:
    """`[0.1, 0.2]` -> `0.1 or 0.2`."""
    choices = value if isinstance(value, Sequence) else [value]
    return enumerate_words([f"{choice:.3g}" for choice in choices], last="or")
