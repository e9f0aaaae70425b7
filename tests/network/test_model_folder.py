"""A hostile or broken model folder ends in one sentence, before anything of its size is built.

Run with `pytest tests/network/test_model_folder.py`.
"""

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from conftest import TINY_BACKBONE
from network.test_classifier import build, card
from thaw.errors import DataError
from thaw.network import backbones, classifier
from thaw.network.classifier import load_model, save_model
from thaw.network.model_folder import TENSORS, is_model_folder, require_model_folder
from thaw.params import BackboneParams

CARD = "model.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "model"
    path.mkdir()
    save_model(path, build(), card=card())
    return path


def edit_card(**changes: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        values = json.loads((folder / CARD).read_text())
        (folder / CARD).write_text(json.dumps(values | changes))

    return edit


def replace(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return edit


def write_header(header: object, *, data: bytes = b"") -> Callable[[Path], object]:
    text = json.dumps(header).encode()
    return lambda path: path.write_bytes(struct.pack("<Q", len(text)) + text + data)


HUGE = {"head.weight": {"dtype": "F32", "shape": [2, 10**12], "data_offsets": [0, 8 * 10**12]}}
FLOAT8 = {"head.weight": {"dtype": "F8_E4M3", "shape": [2, 1], "data_offsets": [0, 2]}}

BEFORE_TORCH: dict[str, tuple[Callable[[Path], None], str]] = {
    "classes are no list": (edit_card(classes="Cat"), "classes: "),
    "classes are numbers": (edit_card(classes=[1, 2]), "classes.0: "),
    "a class twice": (edit_card(classes=["Cat", "Cat"]), "expected names of classes, each one once"),
    "no class": (edit_card(classes=[]), "expected names of classes, each one once"),
    "a million classes": (edit_card(classes=[f"{n}" for n in range(10**6)]), r"bytes, and no card has more than"),
    "many classes": (edit_card(classes=[f"{n}" for n in range(10**5)]), "names 100,000 classes, and .* a head for 2"),
    "an unknown key": (edit_card(pixels="BGR"), "pixels: Extra inputs are not permitted"),
    "a temperature of no number": (edit_card(temperature=None), "temperature: "),
    "a temperature of 0": (edit_card(temperature=0), "temperature: Input should be greater than or equal"),
    "a temperature that float32 has not": (edit_card(temperature=1e-50), "temperature: Input should be greater than"),
    "an endless temperature": (edit_card(temperature=1e50), "temperature: Input should be less than or equal"),
    "no JSON": (replace(CARD, lambda path: path.write_bytes(b"\xff{[")), "model.json: Invalid JSON"),
    "deep JSON": (replace(CARD, lambda path: path.write_bytes(b"[" * 10**6)), "model.json: Invalid JSON"),
    "a folder as the card": (replace(CARD, Path.mkdir), "model.json is no file"),
    "a loop of links": (replace(TENSORS, lambda path: path.symlink_to(path.name)), "model.safetensors is no file"),
    "a pipe": (replace(TENSORS, os.mkfifo), "model.safetensors is no file"),
    "a folder as the tensors": (replace(TENSORS, Path.mkdir), "model.safetensors is no file"),
    "no tensors": (replace(TENSORS, lambda path: None), "model.safetensors is missing"),
    "nothing in the file": (replace(TENSORS, Path.touch), "model.safetensors is damaged"),
    "a huge header": (replace(TENSORS, lambda path: path.write_bytes(b"\xff" * 8)), "header of 18,446,744"),
    "a header of no tensors": (replace(TENSORS, write_header({"head.weight": 1})), "model.safetensors is damaged"),
    "terabytes": (replace(TENSORS, write_header(HUGE)), "model.safetensors is damaged"),
    "float8": (replace(TENSORS, write_header(FLOAT8, data=b"00")), "has head.weight as F8_E4M3, which is not read"),
    "no head": (replace(TENSORS, write_header({})), "model.safetensors has no head"),
}


@pytest.mark.parametrize("case", BEFORE_TORCH)
def test_what_a_folder_says_of_itself_is_checked_first(
    folder: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit, said = BEFORE_TORCH[case]
    edit(folder)
    assert is_model_folder(folder)
    monkeypatch.setattr(backbones, "build_backbone", lambda *_, **__: pytest.fail("something was built"))
    for check in (require_model_folder, load_model):
        with pytest.raises(
            DataError, match=rf"model holds no whole model \(.*{said}.*\); name a folder that"
        ) as caught:
            check(folder)
        assert "\n" not in str(caught.value)


def edit_tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = load_file(folder / TENSORS)
        change(state)
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / TENSORS)

    return edit


FIRST = "backbone.blocks.features_0.0.weight"
ANOTHER = BackboneParams(name="resnet18", weights="none", blocks=None, image_size_px=32).model_dump(mode="json")
BEFORE_BUILDING: dict[str, tuple[Callable[[Path], None], str]] = {
    "NaN": (edit_tensors(lambda state: state[FIRST][0].fill_(float("nan"))), f"NaN or infinite numbers, in {FIRST}"),
    "infinite": (edit_tensors(lambda state: state["head.bias"].fill_(float("inf"))), "infinite numbers, in head.bias"),
    "another shape": (
        edit_tensors(lambda state: state.update({FIRST: torch.zeros(16, 3, 5, 5)})),
        rf"1 tensor of another shape, the first is {FIRST}, \(16, 3, 5, 5\) where \(16, 3, 3, 3\) is needed",
    ),
    "a tensor less": (edit_tensors(lambda state: state.pop(FIRST)), f"tensors missing \\({FIRST}\\)"),
    "a tensor more": (edit_tensors(lambda state: state.update(x=torch.zeros(1))), r"1 tensor too many \(x\)"),
    "another network": (
        edit_card(backbone=ANOTHER),
        r"has the tensors of another network than resnet18: \d of 122 names match",
    ),
    "an encoder": (
        edit_card(backbone=ANOTHER | {"name": "mobilenetv5_300m_enc"}),
        "has a classification model 'mobilenetv5_300m_enc'",
    ),
    "no network": (edit_card(backbone=ANOTHER | {"name": "resnet19"}), "resnet19"),
}


@pytest.mark.parametrize("case", BEFORE_BUILDING)
def test_tensors_are_compared_with_a_network_that_has_no_numbers(folder: Path, case: str) -> None:
    edit, said = BEFORE_BUILDING[case]
    edit(folder)
    with pytest.raises(DataError, match=rf"model holds no whole model \(.*{said}.*\); name a folder that") as caught:
        load_model(folder)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from([CARD, TENSORS]), at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_a_changed_byte_ends_in_one_sentence_or_in_a_model(
    folder: Path, name: str, at: float, byte: int, cut: bool
) -> None:
    whole = (folder / name).read_bytes()
    position = int(at * (len(whole) - 1))
    try:
        (folder / name).write_bytes(whole[:position] + (b"" if cut else bytes([byte]) + whole[position + 1 :]))
        require_model_folder(folder)
    except DataError:
        pass
    finally:
        (folder / name).write_bytes(whole)


def test_tables_that_a_network_does_not_save_are_there_after_loading(tmp_path: Path) -> None:
    model = build()
    model.backbone.register_buffer("table", torch.ones(2), persistent=False)
    state = dict(model.state_dict())
    assert not classifier._is_all_in(model, state)
    assert classifier._is_all_in(build(), state)
    assert TINY_BACKBONE.weights == "none"
