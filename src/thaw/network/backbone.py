"""What a backbone is, and backbone.safetensors, which holds one without the code that could run it; writer and reader.

torchvision and timm take as long to import as torch. Who trains a head on features needs a backbone's tensors, to save
them with the head, and no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor, nn

from thaw.data.transforms import Preprocessing
from thaw.errors import DataError
from thaw.params import BackboneParams
from thaw.utils.atomic import new_file
from thaw.utils.records import Record, open_tensors


@dataclass(frozen=True, kw_only=True)
class Block:
    """A piece of a backbone: what `backbone.blocks` counts, and the unit in which a backbone is unfrozen."""

    name: str

    parameters: tuple[str, ...]
    """As in `Backbone.module.named_parameters()`; empty for a block without any, such as a ReLU of a VGG."""


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A feature extractor and all that its users have to know about it."""

    name: str

    module: nn.Module
    """Images, shape `(B, 3, S, S)`, float32, normalised -> features, shape `(B, width)`, float32."""

    blocks: tuple[Block, ...]
    """From input to output; each parameter is in exactly one. A network that cannot be cut is one block."""

    width: int
    """How many features an image has."""

    preprocessing: Preprocessing


class _About(Record):
    """What backbone.safetensors says besides the tensors."""

    params: BackboneParams
    blocks: tuple[Block, ...]
    width: int
    preprocessing: Preprocessing


def write_backbone(path: Path, backbone: Backbone, *, params: BackboneParams) -> None:
    """Write the parameters and buffers of a backbone that was built from `params`."""
    about = _About(params=params, blocks=backbone.blocks, width=backbone.width, preprocessing=backbone.preprocessing)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in backbone.module.state_dict().items()}
    with new_file(path) as temporary:
        # One entry: safetensors writes several in an order that differs from run to run.
        save_file(tensors, temporary, metadata={"about": about.model_dump_json()})


def read_backbone(path: Path, *, params: BackboneParams) -> Backbone:
    """Read what `write_backbone` wrote: a backbone with all its tensors, whose module cannot be called.

    Raises:
        DataError: the file is missing or damaged, or holds a backbone that was not built from `params`.
    """
    with open_tensors(path, framework="pt", stage="embed") as file:
        about = _About.model_validate_json(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
    if about.params != params:
        raise DataError(f"{path} is not what `backbone` in params.yaml says; run `dvc repro`")
    parameters = {name for block in about.blocks for name in block.parameters}
    return Backbone(
        name=params.name,
        module=_hold(tensors, parameters=parameters),
        blocks=about.blocks,
        width=about.width,
        preprocessing=about.preprocessing,
    )


def _hold(tensors: Mapping[str, Tensor], *, parameters: set[str]) -> nn.Module:
    """A module without a `forward` that has these parameters and buffers, under their dotted names."""
    root = nn.Module()
    for name, tensor in tensors.items():
        *path, last = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module.get_submodule(part)
        if name in parameters:
            module.register_parameter(last, nn.Parameter(tensor))
        else:
            module.register_buffer(last, tensor)
    return root.eval()
