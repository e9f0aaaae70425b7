"""backbone_list.csv: the names and the block counts of all backbones, without loading a library; writer beside reader.

torch, torchvision and timm take seconds to load, and a spelling mistake in params.yaml should be found before. The list
is made by `python -c "from thaw.network.registry import update_backbone_list as f; f()"` once the libraries are
others; a test compares it with them.
"""

import csv
import difflib
import io
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from thaw.errors import ConfigError
from thaw.params import BackboneParams, Params
from thaw.utils.atomic import write_text

LIST = Path(__file__).with_suffix(".csv")
_COLUMNS = ("name", "blocks", "tags")
_SUGGESTED = ("tf_efficientnet_lite0", "resnet18", "mobilenet_v3_small")
"""Where no name is near."""


def write_backbone_list(rows: Iterable[tuple[str, int, Iterable[str]]], *, path: Path = LIST) -> None:
    """Write a row (name, number of blocks, tags of timm's other weights) a network."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for name, blocks, tags in rows:
        writer.writerow((name, blocks, " ".join(tags)))
    write_text(path, text.getvalue())


def read_backbone_list(*, path: Path = LIST) -> dict[str, int]:
    """Name -> number of blocks; also for names with a tag, `resnet50d.ra2_in1k`."""
    blocks: dict[str, int] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = (row["name"], *(f"{row['name']}.{tag}" for tag in row["tags"].split()))
            blocks |= dict.fromkeys(names, int(row["blocks"]))
    return blocks


def check_backbone(params: Params) -> None:
    """Make sure that there is such a backbone, and that it has the blocks that are kept and trained.

    Raises:
        ConfigError: it is not so, or `backbone.weights_file` is not there.
    """
    blocks = _count_kept(params.backbone, read_backbone_list())
    for variant, phases in params.variants.items():
        for number, phase in enumerate(phases):
            if phase.last_blocks is not None and phase.last_blocks > blocks:
                of = params.backbone.name + ("" if params.backbone.blocks is None else ", as backbone.blocks cuts it,")
                raise ConfigError(
                    f"variants.{variant}.{number}.train: {phase.train} asks for more blocks than {of} has; "
                    f"write last:{blocks} or less, or all"
                )
    if params.backbone.file is not None:
        require_weights_file(params.backbone.file)


def require_weights_file(file: Path) -> None:
    """Raise ConfigError unless there is such a file."""
    try:
        why = "" if stat.S_ISREG(file.stat().st_mode) else "is not a file"
    except (FileNotFoundError, NotADirectoryError):
        why = "is not a file"
    except OSError as error:
        why = f"cannot be read ({error.strerror})"
    if why:
        raise ConfigError(f"backbone.weights_file: {file} {why}; name one, or write weights: imagenet or none")


def _count_kept(params: BackboneParams, known: Mapping[str, int]) -> int:
    """How many blocks the backbone has after `backbone.blocks`."""
    if params.name not in known:
        raise unknown_backbone(params.name, known)
    blocks = known[params.name]
    if params.blocks is None:
        return blocks
    if params.blocks > blocks:
        has = "is one block and cannot be cut: write null" if blocks == 1 else f"has {blocks} blocks"
        raise ConfigError(f"backbone.blocks: {params.name} {has}, got {params.blocks}")
    return params.blocks


def unknown_backbone(name: str, names: Iterable[str]) -> ConfigError:
    """The sentence for a name that is none of `names`; it suggests the nearest."""
    nearest = difflib.get_close_matches(name, sorted(names), n=3) or _SUGGESTED
    return ConfigError(
        f"backbone.name: neither torchvision nor timm has a classification model {name!r}; did you mean "
        f"{' or '.join(nearest)}? (`thaw backbones` lists all)"
    )
