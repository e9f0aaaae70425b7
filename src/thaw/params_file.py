"""params.yaml, read and checked; what is wrong with it, in the words of who wrote it."""

import difflib
import logging
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from thaw.errors import ConfigError
from thaw.params import NO_FILE, ONE, SEVERAL, AdamWParams, Params, PhaseChoices, Section
from thaw.utils.words import dotted

log = logging.getLogger(__name__)


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check all parameters; a key under the name of an earlier release is read, with a warning.

    The file is YAML 1.2, read as DVC reads it: `1e-5` is a number, as DVC writes it for `-S lr=0.00001`.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds an unknown key or a wrong value. The message
            names each culprit by its dotted path: `variants.frozen.0.lr: expected a number, got 'high'`.
    """
    try:
        values = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist here; run this from the project's root") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if isinstance(values, dict):
        _rename_old_keys(values, file=path)
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        complaints = "; ".join(_describe(detail) for detail in error.errors())
        raise ConfigError(f"{path}: {complaints}") from None


_RENAMED = {
    "sample.pictures_per_class": "sample.images_per_class",
    "clean.near_duplicate_bits": "clean.max_hamming_distance",
    "training.accumulate_batches": "training.grad_accum_steps",
    "training.optimizer": "training.optimizer.name",
    "training.weight_decay": "training.optimizer.weight_decay",
    "training.momentum": "training.optimizer.momentum",
    "training.nesterov": "training.optimizer.nesterov",
    "training.warm_up_share": "training.warmup_ratio",
    "training.block_lr_decay": "training.layer_decay",
}
"""Keys of the last release and their names in this one; read for one release more. Later rows build on earlier ones."""


def _rename_old_keys(values: dict[str, Any], *, file: Path) -> None:
    """Move what stands under an old name to the new one, in place, and log a line for each.

    Raises:
        ConfigError: a key is there under both names.
    """
    for old, new in _RENAMED.items():
        section, old_key = old.split(".")
        place = values.get(section)
        if not isinstance(place, dict) or old_key not in place or isinstance(place[old_key], dict):
            continue  # a `training.optimizer` with keys is today's
        value = place.pop(old_key)
        *parents, new_key = new.split(".")[1:]
        for parent in parents:
            place = place.setdefault(parent, {})
        if new_key in place:
            raise ConfigError(f"{file}: {old} is now called {new}, and both are set: remove {old}")
        if place.get("name") == "adamw" and new_key not in AdamWParams.model_fields:
            log.warning("%s: %s applies to sgd alone, where it is now called %s: remove it", file, old, new)
            continue
        place[new_key] = value
        log.warning("%s: %s is now called %s: rename it; the old name goes with the next release", file, old, new)


_EXPECTED = {
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "list_type": "a list",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
    "dict_type": "keys with values",
    "literal_error": "one of {expected}",
    "union_tag_invalid": "one of {expected_tags}",
    "greater_than": "a number above {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number below {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "too_short": "at least one entry",
    "string_too_short": "text that is not empty",
    "string_pattern_mismatch": "text that matches {pattern}",
    "finite_number": "a finite number",
    "not_distinct": "each value once",
    "trained_part": "one of 'head', 'all' and 'last:N', with the number of blocks for N",
    "bool_type": "true or false",
}
"""pydantic's kinds of error (https://docs.pydantic.dev/latest/errors/validation_errors/) in the words of a user."""


def _describe(detail: Any) -> str:
    """One pydantic error as `dotted.path: what was expected, what came`."""
    place, kind, context, value = _place(detail), detail["type"], detail.get("ctx", {}), detail["input"]
    expected = _EXPECTED.get(kind, "").format_map(context)
    if kind.startswith("union_tag"):
        key = context["discriminator"].strip("'")
        place, kind = (*place, key), "missing" if kind == "union_tag_not_found" else kind
        value = value.get(key)
    where = dotted(place) or "params"
    if kind == "missing":
        return f"{where}: this key is missing"
    if kind == "extra_forbidden":
        return f"{where}: {_explain_unknown(place, detail['loc'])}"
    if kind == "value_error":
        # The validators of `variants` cannot know where they are.
        return f"{where}: {context['error']}" if place[:1] == ("variants",) else str(context["error"])
    if not expected:
        return f"{where}: {detail['msg']}, got {value!r}"
    return f"{where}: expected {expected}, got {value!r}{_hint(place, detail)}"


_UNIONS = (("data",), ("training", "optimizer"))
"""Where params.yaml has one of several classes; pydantic puts the name of the class behind it."""


def _place(detail: Any) -> tuple[str | int, ...]:
    """Where in params.yaml an error is: pydantic's place without what stands in no file."""
    place = tuple(part for part in detail["loc"] if part not in ("[key]", ONE, SEVERAL))
    for union in _UNIONS:
        if place[: len(union)] == union:
            place = union + place[len(union) + 1 :]
    return place


def _explain_unknown(place: tuple[str | int, ...], loc: tuple[str | int, ...]) -> str:
    """What is wrong with a key that does not exist here, and what may have been meant."""
    *parents, key = place
    knobs = list(_list_knobs(Params))
    if place in knobs:  # so another class of the union has it
        union, chosen = dotted(parents), loc[len(parents)]
        return f"{chosen} has no such knob; remove it, or choose another {union}.name"
    own = (
        PhaseChoices.model_fields
        if "variants" in parents
        else [knob[-1] for knob in knobs if list(knob[:-1]) == parents]
    )
    near = difflib.get_close_matches(str(key), own, n=1) or [dotted(knob) for knob in knobs if knob[-1] == key]
    remedy = f"did you mean {near[0]}?" if near else "remove it or correct its spelling"
    return f"there is no such parameter; {remedy}"


def _list_knobs(section: type[Section], *path: str) -> Iterator[tuple[str, ...]]:
    """The place of each key in params.yaml, but of those inside `variants`, whose names are the user's."""
    for name, field in section.model_fields.items():
        yield *path, name
        if get_origin(field.annotation) is not dict:
            for inner in (field.annotation, *get_args(field.annotation)):
                if isinstance(inner, type) and issubclass(inner, Section):
                    yield from _list_knobs(inner, *path, name)


_HINTS: dict[tuple[str | int, ...], str] = {
    ("seeds",): "; write whole numbers in brackets: seeds: [0, 1, 2]",
    ("variants",): "; write a name for each, and its phases below it: variants: {frozen: [{train: head}]}",
    ("evaluate", "external"): "; write {} for none",
    ("evaluate", "corruptions"): "; write [] for none",
    ("data", "path"): f"; write {NO_FILE} for none",
    ("data", "labels"): f"; write {NO_FILE} for none",
    ("split", "test_list"): f"; write {NO_FILE} for none",
    ("backbone", "weights_file"): f"; write {NO_FILE} for none",
}
"""How to write what is of the wrong kind: a list, a file that is not there."""


def _hint(place: tuple[str | int, ...], detail: Any) -> str:
    """How to write what has the wrong type."""
    kind, value = detail["type"], detail["input"]
    if place in _HINTS and kind in ("list_type", "dict_type", "string_type"):
        return _HINTS[place]
    if kind == "list_type" and place[:1] == ("variants",):
        return f"; write its phases as a list: {place[1]}: [{{train: head}}]"
    if kind not in ("float_type", "int_type") or not isinstance(value, str):
        return ""
    try:
        return "; write it without quotes" if Decimal(value).is_finite() else ""
    except InvalidOperation:
        return ""
