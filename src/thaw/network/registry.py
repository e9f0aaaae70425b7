"""Which backbones there are: for each name its library, size, native input, and where its ImageNet weights are."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlparse

import timm
import torch
import torchvision

from thaw.network.backbone_list import write_backbone_list
from thaw.network.backbones import backbone_names, count_blocks, library_of
from thaw.network.weights import BUNDLED, find_in_hub_cache
from thaw.utils.progress import progress

WeightsLocation = Literal["bundled", "cached", "download", "none"]
"""Of ImageNet weights: in a Python package, in the library's cache, on the library's server, or nowhere."""


@dataclass(frozen=True, kw_only=True)
class RegistryEntry:
    """What is known of one backbone."""

    name: str

    origin: Literal["torchvision", "timm"]

    parameters: int
    """With the classifier of its weights, which the pipeline replaces."""

    input_size_px: int
    """The side of the images that it was made for; most networks can see others too."""

    weights: WeightsLocation


def update_backbone_list() -> None:
    """List all backbones anew in `backbone_list.csv`, for installed libraries; takes a quarter of an hour."""
    tags: dict[str, list[str]] = {}
    for full_name in backbone_names():
        name, _, tag = full_name.partition(".")
        tags.setdefault(name, []).extend([tag] if tag else [])
    with progress("list backbones", total=len(tags), unit="networks") as bar:
        rows = []
        for name in sorted(tags):
            rows.append((name, count_blocks(name), tags[name]))
            bar.update()
    write_backbone_list(rows)


def look_up(name: str) -> RegistryEntry:
    """What is known of a backbone, found without a network and without computing a weight.

    Raises:
        ConfigError: there is no such backbone.
    """
    library = library_of(name)
    return RegistryEntry(
        name=name,
        origin=library,
        parameters=_count_parameters(name),
        input_size_px=_input_size_px(name),
        weights=find_weights(name),
    )


def find_weights(name: str) -> WeightsLocation:
    """Where the ImageNet weights of a backbone are; looks only at this machine."""
    if name == BUNDLED:
        return "bundled"
    if library_of(name) == "torchvision":
        return _in_torch_hub(torchvision.models.get_model_weights(name)["DEFAULT"].url)
    config = timm.get_pretrained_cfg(name)
    if not config.has_weights:
        return "none"
    if not config.hf_hub_id:
        return _in_torch_hub(config.url)
    return "cached" if find_in_hub_cache(name) else "download"


def _in_torch_hub(url: str) -> WeightsLocation:
    """Where `torch.hub.load_state_dict_from_url` keeps the file of an address."""
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    return "cached" if file.is_file() else "download"


def _count_parameters(name: str) -> int:
    if library_of(name) == "torchvision":
        return int(torchvision.models.get_model_weights(name)["DEFAULT"].meta["num_params"])
    # Tensors on the meta device have shapes and no numbers: even the largest network takes a second.
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in timm.create_model(name).parameters())


def _input_size_px(name: str) -> int:
    if library_of(name) == "torchvision":
        return int(torchvision.models.get_model_weights(name)["DEFAULT"].transforms().crop_size[0])
    return int(timm.get_pretrained_cfg(name).input_size[-1])
