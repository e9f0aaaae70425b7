"""What processes that work together tell each other; where there is one process alone, all of this does nothing.

Gradients are summed by one plain all-reduce after the backward pass, rather than by DistributedDataParallel: that
averages over processes, which is wrong when they hold unequal numbers of images, and wraps the model, which changes
the names in its state dict. Here each process weights its loss by its share of the images, so that the sum is the
gradient of the whole batch, to rounding.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed, nn

from thaw.compute.device import choose_device
from thaw.errors import ConfigError, DataError, TrainingError
from thaw.utils.ranks import rank, world_size

PATIENCE = timedelta(hours=6)
"""How long processes wait for each other: while the first one solves a head, say."""

Value = TypeVar("Value")
Rows = TypeVar("Rows", NDArray[np.float32], NDArray[np.float64])


@contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes that torchrun has started, if any, for the block: over NCCL on GPUs, else over gloo.

    Blocks can be nested, but not follow each other: torchrun's store keeps the addresses of the first.
    """
    if world_size() == 1:
        yield
        return
    is_outermost = not distributed.is_initialized()
    if is_outermost:
        if torch.cuda.is_available():
            torch.cuda.set_device(_own_gpu())
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    yield
    # Nobody continues before the first process has written its files.
    with _loss_explained():
        distributed.barrier()
    # Not after an error: it would wait for the others, who may wait for this one.
    if is_outermost:
        distributed.destroy_process_group()


def _own_gpu() -> int:
    """The number of this process's GPU; ConfigError if the machine has fewer."""
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise ConfigError(
            f"there are more processes on this machine than its {count} GPUs; start {count}, or set "
            "CUDA_VISIBLE_DEVICES to nothing to compute on the processors"
        )
    return number


def require_same_inputs(facts_sha256: str) -> None:
    """Raise DataError in each process whose hash of its inputs is not the first process's."""
    if broadcast(facts_sha256) != facts_sha256:
        raise DataError(
            f"the inputs of process {rank()} are not those of the first process; run `dvc pull` on its "
            "machine, at the same commit"
        )


def all_reduce_sum(numbers: Sequence[float]) -> list[float]:
    """The sums over all processes, in float64, the same in each."""
    if world_size() == 1:
        return list(numbers)
    sums = torch.tensor(numbers, dtype=torch.float64, device=choose_device())
    _all_reduce(sums)
    return [float(number) for number in sums.tolist()]


def all_reduce_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes; one that is missing counts as zero."""
    if world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in trained]
    _replace(grads, _summed(grads))
    for parameter, grad in zip(trained, grads, strict=True):
        parameter.grad = grad


def average_batch_norm_statistics(module: nn.Module) -> None:
    """Replace the statistics that BatchNorm layers in training mode have gathered in each process by their mean."""
    if world_size() == 1:
        return
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    buffers = [buffer for norm in norms for buffer in norm.buffers() if buffer.is_floating_point()]
    if buffers:
        _replace(buffers, _summed(buffers) / world_size())


def all_reduce_rows(rows: Rows) -> Rows:
    """Give every process all rows, of which each process has computed some, and left the others zero.

    The bits are summed as whole numbers, since a sum of floats would turn -0.0 into 0.0.
    """
    if world_size() == 1:
        return rows
    bits = torch.from_numpy(rows.view(f"i{rows.itemsize}")).to(choose_device())
    _all_reduce(bits)
    return bits.cpu().numpy().view(rows.dtype)


def broadcast(value: Value) -> Value:
    """The first process's value, in every process."""
    if world_size() == 1:
        return value
    values = [value]
    with _loss_explained():
        distributed.broadcast_object_list(values)
    return values[0]


def _summed(tensors: Sequence[Tensor]) -> Tensor:
    """All numbers of several tensors, summed over all processes, in one row."""
    row = torch.cat([tensor.flatten() for tensor in tensors])
    _all_reduce(row)
    return row


def _all_reduce(tensor: Tensor) -> None:
    """Replace `tensor` by the sum of all processes' tensors."""
    with _loss_explained():
        distributed.all_reduce(tensor)


@contextmanager
def _loss_explained() -> Iterator[None]:
    """Raise TrainingError where the block finds out that another process is gone."""
    try:
        yield
    except RuntimeError as error:
        # gloo raises plain RuntimeErrors, which begin with the file that they come from.
        if not isinstance(error, distributed.DistError) and "gloo" not in str(error):
            raise
        raise TrainingError(
            "another process of this run has ended: see its own message; run the same command to resume"
        ) from error


def _replace(tensors: Sequence[Tensor], row: Tensor) -> None:
    """Copy the numbers of `row` into `tensors`, in order."""
    parts = row.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view_as(tensor))
