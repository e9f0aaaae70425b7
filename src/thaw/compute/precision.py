"""In which precision a network computes, and whether torch.compile writes its code."""

import os
import shutil
import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from thaw.errors import ConfigError
from thaw.params import ComputeParams


def in_precision(
    forward: Callable[[Tensor], Tensor], compute: ComputeParams, device: torch.device
) -> Callable[[Tensor], Tensor]:
    """`forward`, computed in `compute.precision` where torch.autocast holds that safe; the result is float32.

    bfloat16 has float32's range, so gradients need no scaling (https://docs.pytorch.org/docs/stable/amp.html).
    """
    if compute.precision == "float32":
        return forward

    def in_bfloat16(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            made = forward(inputs)
        return made.float()

    return in_bfloat16


def compiled(module: nn.Module, **options: bool) -> Callable[[Tensor], Tensor]:
    """`module` in code that torch.compile writes for it at its first call, and again for each other shape.

    Args:
        module: stays as it is.
        options: inductor's (https://docs.pytorch.org/docs/stable/generated/torch.compile.html).

    Raises:
        ConfigError: there is no compiler for that code.
    """
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise ConfigError(
            f"compute.compile: needs a C++ compiler, and there is no {compiler}; install it, name another one in the "
            "environment variable CXX, or set compute.compile to false"
        )
    # What was compiled before counts against a limit, behind which nothing is compiled and nothing said: each phase
    # starts again, as it would after a kill, and the limit is an error.
    torch.compiler.reset()
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    made: Callable[[Tensor], Tensor] = torch.compile(module, dynamic=False, options=dict(options))
    return made
