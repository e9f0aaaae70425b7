"""Which stages may run: after their upstream stages, evaluations before trainings, and not after a failure.

Run with `pytest tests/pipeline/test_schedule.py`.
"""

import pytest

from thaw.pipeline.schedule import Outcome, Schedule, Stage

UPSTREAM = {
    "split": (),
    "train@a": ("split",),
    "train@b": ("split",),
    "evaluate@a": ("train@a", "split"),
    "evaluate@b": ("train@b", "split"),
    "report": ("evaluate@a", "evaluate@b"),
}


def schedule(*changed: str) -> Schedule:
    return Schedule(tuple(Stage(name=name, upstream=up, changed=name in changed) for name, up in UPSTREAM.items()))


def ready(plan: Schedule) -> list[str]:
    return [stage.name for stage in plan.ready()]


def test_nothing_changed_is_nothing_to_do() -> None:
    plan = schedule()
    assert plan.wanted == []
    assert plan.is_over()


def test_a_stage_waits_for_all_before_it_and_evaluations_come_before_trainings() -> None:
    plan = schedule(*UPSTREAM)
    assert ready(plan) == ["split"]
    plan.start("split")
    assert ready(plan) == []
    assert not plan.is_over()
    plan.finish("split", "ran")
    assert ready(plan) == ["train@a", "train@b"]
    plan.start("train@a")
    plan.finish("train@a", "ran")
    assert ready(plan) == ["evaluate@a", "train@b"]
    for name in ("evaluate@a", "train@b", "evaluate@b"):
        assert name in ready(plan)
        plan.start(name)
        plan.finish(name, "ran")
    assert ready(plan) == ["report"]


def test_only_what_changed_and_what_needs_it_is_looked_at() -> None:
    plan = schedule("train@b")
    assert plan.wanted == ["train@b", "evaluate@b", "report"]
    assert ready(plan) == ["train@b"]


@pytest.mark.parametrize("outcome", ["unchanged", "cached"])
def test_what_came_to_nothing_new_is_not_passed_on_and_what_came_from_the_cache_is(outcome: Outcome) -> None:
    plan = schedule("train@b")
    plan.start("train@b")
    plan.finish("train@b", outcome)
    assert ready(plan) == ([] if outcome == "unchanged" else ["evaluate@b"])
    assert plan.is_over() == (outcome == "unchanged")


def test_a_failure_skips_what_needs_it_and_nothing_else() -> None:
    plan = schedule("train@a", "train@b", "report")
    plan.start("train@a")
    plan.finish("train@a", "failed")
    assert plan.names("skipped") == ["evaluate@a", "report"]
    assert ready(plan) == ["train@b"]
