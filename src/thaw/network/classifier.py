"""A backbone and a head: what is trainable, and how a model is saved and loaded."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from thaw.errors import ConfigError, DataError
from thaw.network.backbone import Backbone
from thaw.network.model_card import ModelCard, write_model_card
from thaw.network.model_folder import (
    TENSORS,
    check_model_folder,
    refuse_model_folder,
    require_finite,
    require_tensors,
    require_variances,
)
from thaw.network.weights_file import first_not_finite
from thaw.params import TrainsPart
from thaw.utils.atomic import PERMISSIONS


class Classifier(nn.Module):
    """Images, shape `(B, 3, S, S)` -> logits, shape `(B, classes)`."""

    def __init__(self, backbone: Backbone, *, classes: Sequence[str], seed: int) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.head = nn.Linear(backbone.width, len(classes))
        self.preprocessing = backbone.preprocessing
        self.blocks = backbone.blocks
        self.classes = tuple(classes)
        # A generator of its own: variants of one seed start from the same head, whatever else draws numbers.
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            bound = backbone.width**-0.5
            self.head.weight.uniform_(-bound, bound, generator=generator)
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


def set_trainable(model: Classifier, *, last_blocks: int | None) -> list[tuple[str, nn.Parameter]]:
    """Decide for every parameter whether it is trained, and return the trained ones with their names.

    The head always is; of the backbone, the last so many blocks are, or all of them where `last_blocks` is None. A
    parameter that is not trained loses its gradient too: AdamW moves a weight that still has one.
    """
    groups = layer_groups(model) if last_blocks is None else layer_groups(model)[: 1 + last_blocks]
    unfrozen = set(chain.from_iterable(groups))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in unfrozen)
        parameter.grad = None
    return [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]


def layer_groups(model: Classifier) -> list[tuple[str, ...]]:
    """The names of all parameters: the head's, then those of each block of the backbone, from output to input."""
    head = tuple(f"head.{name}" for name, _ in model.head.named_parameters())
    return [head, *(tuple(f"backbone.{name}" for name in block.parameters) for block in reversed(model.blocks))]


def require_blocks(model: Classifier, phase: TrainsPart, *, place: str) -> None:
    """Raise ConfigError, which begins with the parameter `place`, if a phase trains more blocks than there are."""
    if phase.last_blocks is not None and phase.last_blocks > len(model.blocks):
        names = ", ".join(block.name for block in model.blocks)
        raise ConfigError(
            f"{place}: {phase.train} asks for more blocks than the backbone has, {len(model.blocks)} from input to "
            f"output: {names}; write last:{len(model.blocks)} or less, or all"
        )


def count_parameters(parameters: Iterator[nn.Parameter]) -> int:
    """How many numbers are in them."""
    return sum(parameter.numel() for parameter in parameters)


@dataclass(frozen=True, kw_only=True)
class SavedModel:
    """A model as it lies on disk: `model.safetensors` and, in `model.json`, all that is needed to use it alone."""

    classifier: Classifier
    card: ModelCard


def save_model(folder: Path, model: Classifier, *, card: ModelCard) -> None:
    """Write the tensors and then the card, into a folder that exists."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / TENSORS)
    (folder / TENSORS).chmod(PERMISSIONS)
    write_model_card(folder, card)


def load_model(folder: Path, *, backbone: Backbone | None = None) -> SavedModel:
    """Load what `save_model` wrote, in eval mode, on the CPU.

    A folder that holds anything else is refused by what it says of itself, before its tensors are read or anything of
    their size is built.

    Args:
        folder: of the model.
        backbone: like the model's own; it is changed in place. None: one is built.

    Raises:
        DataError: there is no such model, or its tensors do not fit its description.
    """
    try:
        card, shapes = check_model_folder(folder)
        if backbone is not None:
            classifier = Classifier(backbone, classes=card.classes, seed=0)
        else:
            classifier = _build_empty(card) or _build(card)
        needed = {name: tuple(tensor.shape) for name, tensor in classifier.state_dict().items()}
        require_tensors(shapes, needed, network=card.backbone.name)
        state = load_file(folder / TENSORS)
        require_finite(first_not_finite(state))
        require_variances(state)
        if classifier.head.weight.is_meta:
            classifier = classifier.to_empty(device="cpu") if _is_all_in(classifier, state) else _build(card)
        classifier.load_state_dict(state)
    except (OSError, ValueError, RuntimeError, SafetensorError, DataError, ConfigError) as error:
        raise refuse_model_folder(folder, error) from None
    return SavedModel(classifier=classifier.eval(), card=card)


def _build(card: ModelCard) -> Classifier:
    # Here: torchvision and timm take as long to import as torch, and a head on features needs neither.
    from thaw.network.backbones import build_backbone

    params = card.backbone.model_copy(update={"weights": "none"})
    return Classifier(build_backbone(params, blank=True), classes=card.classes, seed=0)


def _build_empty(card: ModelCard) -> Classifier | None:
    """The model on the meta device, with shapes and without numbers: of no size, and in no time.

    None if that cannot be: some networks look at their numbers while they are built, and what is wrong with a card is
    better said by those.
    """
    try:
        with torch.device("meta"):
            return _build(card)
    except (RuntimeError, TypeError, ValueError, ConfigError):
        return None


def _is_all_in(model: Classifier, state: Mapping[str, Tensor]) -> bool:
    """Whether a state dict has all numbers of a model: some networks have tables that they compute and do not save."""
    tables = (name for name, _ in model.named_buffers() if name not in state)
    loose = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
    return next(tables, None) is None and next(loose, None) is None


def backbone_tensors_moved(model: Classifier, pretrained: Backbone) -> int:
    """How many tensors of the backbone, parameters and buffers, differ by a bit from the pretrained ones."""
    ours, theirs = model.backbone.state_dict(), pretrained.module.state_dict()
    assert ours.keys() == theirs.keys()
    return sum(not torch.equal(_bits(ours[name]), _bits(theirs[name])) for name in ours)


def _bits(tensor: Tensor) -> Tensor:
    """The bytes of a tensor: -0.0 differs from 0.0 here, and NaN equals itself."""
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8)


def module_sha256(module: nn.Module) -> str:
    """One hash over names and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(_bits(tensor).numpy().tobytes())
    return digest.hexdigest()
