"""Which stages may run now: those whose upstream stages are all done. Nothing here knows DVC or processes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["ran", "cached", "unchanged", "failed", "skipped"]
"""Of a stage: its command ran; DVC's run cache had its results; it was as it had to be; its command failed; an upstream
stage failed, or the run was stopped."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of dvc.yaml, one for each cell of a matrix."""

    name: str

    upstream: tuple[str, ...]
    """The names of the stages whose outputs it reads."""

    changed: bool
    """Whether DVC would run it as things stand, before any other stage has run."""


@dataclass
class Schedule:
    """What has become of each stage, and which come next."""

    stages: tuple[Stage, ...]
    """In the order in which they are wanted, all else being equal."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    """Of those that are done."""

    running: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Count as done what neither is stale nor can become it."""
        self._depths = _measure_depths(self.stages)
        self._settle()
        self.wanted = [stage.name for stage in self.stages if stage.name not in self.outcomes]

    def ready(self) -> list[Stage]:
        """The stages that may start now: those behind most others first, so that a cell is evaluated once trained."""
        waiting = [stage for stage in self.stages if stage.name not in self.outcomes | dict.fromkeys(self.running)]
        free = [stage for stage in waiting if all(name in self.outcomes for name in stage.upstream)]
        return sorted(free, key=lambda stage: -self._depths[stage.name])

    def start(self, name: str) -> None:
        """Note that a stage runs."""
        self.running.add(name)

    def finish(self, name: str, outcome: Outcome) -> None:
        """Note what has become of a stage; what needs a failed one is skipped."""
        self.running.discard(name)
        self.outcomes[name] = outcome
        self._settle()

    def is_over(self) -> bool:
        """Whether nothing runs and nothing can."""
        return not self.running and not self.ready()

    def names(self, *outcomes: Outcome) -> list[str]:
        """The stages with one of these outcomes, in the order of the stages."""
        return [name for name in self.wanted if self.outcomes.get(name) in outcomes]

    def _settle(self) -> None:
        settled = True
        while settled:
            settled = False
            for stage in self.stages:
                if stage.name in self.outcomes or stage.name in self.running:
                    continue
                before = [self.outcomes.get(name) for name in stage.upstream]
                if "failed" in before or "skipped" in before:
                    self.outcomes[stage.name] = "skipped"
                    settled = True
                elif not stage.changed and all(outcome == "unchanged" for outcome in before):
                    self.outcomes[stage.name] = "unchanged"
                    settled = True


def _measure_depths(stages: Iterable[Stage]) -> dict[str, int]:
    """How many stages lie before each, on the longest way."""
    upstream = {stage.name: stage.upstream for stage in stages}
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            depths[name] = 1 + max((depth(before) for before in upstream[name]), default=-1)
        return depths[name]

    return {name: depth(name) for name in upstream}
