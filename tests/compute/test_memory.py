"""Memory: running out of it is one sentence, freed memory is used again, and the peak of a process is its own.

Run with `pytest tests/compute/test_memory.py`.
"""

import json
import resource
import subprocess
import sys

import pytest

from thaw.compute.memory import explain_out_of_memory, process_peak_mib
from thaw.errors import TrainingError

ALLOCATIONS = [
    "torch.ones(2**30)",
    "numpy.ones(2**30)",
    "torch.nn.Conv2d(3, 512, 3)(torch.ones(64, 3, 64, 64))",
    "bytes(2**30)",
    "session.run(None, {'x': numpy.ones(1, 'f'), 'n': numpy.array([2**30])})",
]
# The libraries take seconds to import: that is done once, and each allocation is tried in a fork.
WITH_LITTLE_MEMORY = """
import json, os, resource, sys, tempfile
from pathlib import Path
import numpy, onnx, onnxruntime, torch
from thaw.compute.memory import explain_out_of_memory
from thaw.errors import exit_code

REPEAT = onnx.parser.parse_model(
    '<ir_version: 10, opset_import: ["": 20]> g (float[1] x, int64[1] n) => (float[m] y) { y = Expand(x, n) }'
)

def main():
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(REPEAT.SerializeToString(), options)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**28, used + 2**28))
    with explain_out_of_memory("a batch of 64 images", remedy="set training.batch_size lower"):
        eval(allocation)

for allocation in sys.argv[1:]:
    with tempfile.TemporaryFile("w+") as said:
        if os.fork() == 0:
            os.dup2(said.fileno(), sys.stderr.fileno())
            os._exit(exit_code(main))
        code = os.waitstatus_to_exitcode(os.wait()[1])
        said.seek(0)
        print(json.dumps({allocation: [code, said.read()]}), flush=True)
"""


@pytest.fixture(scope="module")
def tried() -> dict[str, list[object]]:
    """For each allocation in a process that has too little memory for it, the exit code and what was said."""
    output = subprocess.check_output([sys.executable, "-c", WITH_LITTLE_MEMORY, *ALLOCATIONS], text=True)
    return {allocation: found for line in output.splitlines() for allocation, found in json.loads(line).items()}


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_running_out_of_memory_is_one_sentence(tried: dict[str, list[object]], allocation: str) -> None:
    sentence = "error: a batch of 64 images does not fit into the machine's memory; set training.batch_size lower\n"
    assert tried[allocation] == [1, sentence]


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="something else"), explain_out_of_memory("a batch", remedy="set less"):
        raise RuntimeError("something else")


def test_the_cause_is_kept() -> None:
    with pytest.raises(TrainingError) as caught, explain_out_of_memory("a batch", remedy="set less"):
        raise MemoryError
    assert isinstance(caught.value.__cause__, MemoryError)


# 64 MiB at a time: up to 32 MiB glibc adapts by itself.
COUNT_PAGE_FAULTS = """
import os, resource, torch
from thaw.compute.memory import keep_freed_memory

for keep in (False, True):
    if os.fork() == 0:
        if keep:
            keep_freed_memory()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(40):
            torch.ones(2**24)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc alone gives large blocks back at once")
def test_freed_memory_is_used_again() -> None:
    without, with_it = map(int, subprocess.check_output([sys.executable, "-c", COUNT_PAGE_FAULTS]).split())
    pages_of_a_block = 2**24 * 4 // resource.getpagesize()
    assert without - with_it > 20 * pages_of_a_block


def test_the_peak_sees_what_was_held_and_freed() -> None:
    before = process_peak_mib()
    held = b"x" * (200 + round(before)) * 2**20
    del held
    assert process_peak_mib() >= before + 190


def test_the_peak_does_not_count_what_the_parent_held() -> None:
    program = (
        "import subprocess, sys; held = b'x' * (500 << 20); "
        "print(subprocess.run([sys.executable, '-c', 'from thaw.compute.memory import *; print(process_peak_mib())'], "
        "capture_output=True, text=True, check=True).stdout)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 100
