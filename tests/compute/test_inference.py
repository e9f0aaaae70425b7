"""Batches at once: results in order, in inference mode, each by as many threads as params.yaml says.

Run with `pytest tests/compute/test_inference.py`.
"""

import threading
from collections.abc import Iterator

import pytest
import torch

from thaw.compute.determinism import make_deterministic
from thaw.compute.inference import infer_in_order
from thaw.params import FLOAT32, ComputeParams

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def four_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("thaw.compute.inference.count_own_cores", lambda: 4)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "at_once"), [(1, 4), (2, 2), (3, 1), (9, 1)])
def test_as_many_batches_at_once_as_there_are_cores_for(threads: int, at_once: int) -> None:
    compute = ComputeParams(threads=threads)
    make_deterministic(compute)
    together = threading.Barrier(at_once)
    alone = threading.Event()

    def infer(number: int) -> tuple[int, int, bool]:
        if number > 0:
            assert alone.is_set(), "the first batch is not done"
            together.wait(timeout=60)  # for as many others as there are workers
        alone.set()
        return number, torch.get_num_threads(), torch.is_inference_mode_enabled()

    count = 1 + 3 * at_once
    assert list(infer_in_order(infer, range(count), compute=compute, device=CPU)) == [
        (number, threads, True) for number in range(count)
    ]


@pytest.mark.parametrize(("compute", "device"), [(FLOAT32, torch.device("cuda")), (ComputeParams(compile=True), CPU)])
def test_a_gpu_and_compiled_code_get_one_batch_at_a_time(compute: ComputeParams, device: torch.device) -> None:
    names = set(infer_in_order(lambda _: threading.get_ident(), range(20), compute=compute, device=device))
    assert len(names) == 1


def test_an_error_in_a_batch_reaches_the_caller_and_ends_the_rest() -> None:
    begun = []

    def infer(number: int) -> int:
        begun.append(number)
        if number == 2:
            raise MemoryError
        return number

    with pytest.raises(MemoryError):
        list(infer_in_order(infer, range(100), compute=FLOAT32, device=CPU))
    assert len(begun) < 10


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_is_that_of_the_parameters_and_not_of_the_machine(threads: int) -> None:
    torch.set_num_threads(3)
    make_deterministic(ComputeParams(threads=threads))
    assert torch.get_num_threads() == threads
