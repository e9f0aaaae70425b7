"""A training in the tests' own process, which gets a signal after so many steps."""

import os
import signal
from collections.abc import Callable

import pytest
from torch.optim.lr_scheduler import LambdaLR


def terminate_after_steps(monkeypatch: pytest.MonkeyPatch, number: int | None) -> Callable[[], int]:
    """Let the schedule's step with this number, counted over all trainings from now on, send SIGTERM to this process.

    A schedule steps once when it is made, and then after each step of the optimiser. `None` sends nothing.

    Returns:
        A function that says how many steps were taken.
    """
    steps, step = 0, LambdaLR.step

    def counted_step(self: LambdaLR) -> None:
        nonlocal steps
        step(self)
        steps += 1
        if steps == number:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(LambdaLR, "step", counted_step)
    return lambda: steps
