"""A saved model in other formats says what the model says, without thaw's code, and one that does not is not written.

Run with: pytest tests/network/test_export.py
"""

import json
import shutil
from functools import partial
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from conftest import TINY_BACKBONE, TINY_STORAGE, TINY_TRAINING
from thaw import cli
from thaw.data.decode import encode
from thaw.data.stored_image import StoredImage
from thaw.data.transforms import Preprocessing, centre_view
from thaw.errors import ConfigError, DataError
from thaw.network import export, onnx_export, onnx_graph
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier, SavedModel, load_model, save_model
from thaw.network.deployable import CentreView, ViewClassifier
from thaw.network.export import Exported, Format, export_model
from thaw.network.model_card import BestEpoch, Candidate, Compute, ModelCard, read_model_card
from thaw.network.onnx_export import largest_difference, onnx_model, run_onnx
from thaw.params import BackboneParams, Phase

CLASSES = ("Cat", 'a "quoted", dog\u00e9')
PHASE = Phase(train="all", epochs=1, lr=0.001)


def save_tiny(folder: Path, *, backbone: BackboneParams = TINY_BACKBONE, seed: int = 0) -> Classifier:
    """A saved model whose tensors, BatchNorm's statistics too, are random."""
    folder.mkdir(parents=True)
    model = Classifier(build_backbone(backbone), classes=CLASSES, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor += 0.1 * torch.rand(tensor.shape, generator=generator)
    best = BestEpoch(phase=0, epoch=1)
    card = ModelCard(
        classes=CLASSES,
        variant="tiny",
        seed=seed,
        backbone=backbone,
        storage=TINY_STORAGE,
        val="fixed",
        training=TINY_TRAINING,
        phases=(PHASE,),
        best=best,
        candidates=(Candidate(phases=(PHASE,), val_loss=0.5, val_accuracy=0.5, best=best),),
        compute=Compute(flops=1, images_seen=1),
        trainable_parameters=1,
        temperature=1.5 + seed,
    )
    save_model(folder, model, card=card)
    return model


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one exported architecture, and two models of it."""
    folder = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (0, 1):
            save_tiny(Path(f"model-{seed}"), seed=seed)
        onnx_model(Path("model-0"))
    return folder


@pytest.fixture(autouse=True)
def in_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_the_view_inside_is_pillows_bit_for_bit(interpolation: str) -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        height, width = random.integers(20, 400, 2)
        size_px = int(random.choice([32, 96, 224]))
        preprocessing = Preprocessing(
            image_size_px=size_px,
            resize_px=round(size_px / random.choice([1, 0.95, 0.875, 0.7])),
            interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
        )
        pixels = random.integers(0, 256, (height, width, 3), np.uint8)
        stored = StoredImage(encode(Image.fromarray(pixels), lossless=True), place="test")
        found = CentreView(preprocessing)(torch.from_numpy(pixels)[None])
        assert np.array_equal(found[0].numpy(), centre_view(stored, preprocessing)), (height, width, preprocessing)


def test_a_graph_of_one_model_is_filled_with_another(project: Path) -> None:
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    said = []
    for seed in (0, 1):
        folder = Path(f"model-{seed}")
        filled = onnx_graph.find_onnx(folder)
        assert filled is not None
        onnx.checker.check_model(filled)
        said.extend(run_onnx(filled.SerializeToString(), [views]))
        model = load_model(folder)
        with torch.inference_mode():
            expected = ViewClassifier(model.classifier, temperature=1.5 + seed).eval()(torch.from_numpy(views))
        assert largest_difference(said[-1], expected) < 1e-6
    assert np.abs(said[0][0] - said[1][0]).max() > 1e-3
    assert len(list(Path(".thaw/onnx").glob("network*.onnx"))) == 1


def test_a_graph_is_kept_only_when_it_was_found_to_compute_what_torch_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model-0"
    save_tiny(folder)
    kept = onnx_graph.graph_file(read_model_card(folder))
    exported = kept.read_bytes()
    monkeypatch.chdir(tmp_path)

    def differ(model: onnx.ModelProto, saved: SavedModel) -> float:
        assert not kept.exists(), "a kill would leave a graph that nothing has checked"
        return float("nan")

    monkeypatch.setattr(onnx_export, "_export_architecture", lambda _: exported)
    monkeypatch.setattr(onnx_export, "_difference_from_torch", differ)
    with pytest.raises(DataError, match=r"as ONNX its network, mobilenet_v3_small, computes something else, by nan "):
        onnx_model(folder)
    assert not kept.exists()


FIRST = "backbone.blocks.features_0.0.weight"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({FIRST: torch.zeros(16, 3, 5, 5)}, "1 tensor of another shape"),
        ({FIRST: torch.full((16, 3, 3, 3), torch.nan)}, f"holds NaN or infinite numbers, in {FIRST}"),
        ({"other": torch.zeros(1)}, r"1 tensor too many \(other\)"),
        ({FIRST: None}, "1 of .* tensors missing"),
    ],
)
def test_tensors_that_do_not_fit_are_one_sentence_with_a_graph_and_without(
    tmp_path: Path, change: dict[str, Tensor | None], said: str
) -> None:
    folder = tmp_path / "broken"
    save_tiny(folder)
    state = load_file(folder / "model.safetensors") | change
    save_file({name: tensor for name, tensor in state.items() if tensor is not None}, folder / "model.safetensors")
    messages = set()
    for read in (load_model, onnx_graph.find_onnx):
        with pytest.raises(DataError, match=rf"broken holds no whole model \(model\.safetensors .*{said}") as caught:
            read(folder)
        messages.add(str(caught.value))
    assert len(messages) == 1


def test_tensors_of_half_precision_are_filled_in_as_torch_loads_them(tmp_path: Path) -> None:
    save_tiny(tmp_path / "half")
    state = load_file(tmp_path / "half/model.safetensors")
    half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(half, tmp_path / "half/model.safetensors")
    filled = onnx_graph.find_onnx(tmp_path / "half")
    assert filled is not None
    views = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    network = ViewClassifier(load_model(tmp_path / "half").classifier, temperature=1.5).eval()
    with torch.inference_mode():
        (scores,) = run_onnx(filled.SerializeToString(), [views])
        assert largest_difference(scores, network(torch.from_numpy(views))) < 1e-6


def test_an_exported_onnx_file_needs_nothing_but_onnxruntime(tmp_path: Path) -> None:
    done = export_model(Path("model-1"), kind="onnx", output=tmp_path / "tiny.onnx")
    assert done.difference < 1e-6
    session = onnxruntime.InferenceSession(done.output)
    facts = session.get_modelmeta().custom_metadata_map
    assert json.loads(facts["classes"]) == list(CLASSES)
    assert json.loads(facts["preprocessing"])["view"]["image_size_px"] == 32
    for shape in ((1, 50, 41, 3), (2, 200, 60, 3)):
        images = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
        probabilities, logits = session.run(["probabilities", "logits"], {"images": images})
        assert probabilities.shape == logits.shape == (shape[0], 2)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@pytest.fixture(scope="module")
def pt2(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """One of the models as torch.export writes it, which takes long."""
    return export_model(project / "model-0", kind="pt2", output=tmp_path_factory.mktemp("pt2") / "tiny.pt2")


def test_a_pt2_file_needs_nothing_but_torch(pt2: Exported) -> None:
    assert pt2.difference < 1e-6
    assert list(pt2.output.parent.iterdir()) == [pt2.output]
    facts = {"classes": ""}
    program = torch.export.load(pt2.output, extra_files=facts)
    assert json.loads(facts["classes"]) == list(CLASSES)
    probabilities, _ = program.module()(torch.zeros(2, 70, 90, 3, dtype=torch.uint8))
    assert probabilities.shape == (2, 2)


@pytest.mark.parametrize("name", ["resnet18", "resnet18d"])
def test_weights_load_into_the_librarys_own_network(tmp_path: Path, name: str) -> None:
    backbone = BackboneParams(name=name, weights="none", blocks=None, image_size_px=32)
    save_tiny(tmp_path / "model", backbone=backbone)
    done = export_model(tmp_path / "model", kind="safetensors", output=tmp_path / "tiny.safetensors")
    assert done.difference < 1e-6
    build = torchvision.models.resnet18 if name == "resnet18" else partial(timm.create_model, name)
    network: nn.Module = build(num_classes=2)
    network.load_state_dict(load_file(done.output))
    with safe_open(done.output, "pt") as opened:
        assert json.loads(opened.metadata()["classes"]) == list(CLASSES)


def test_weights_of_a_network_that_is_cut_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mobilenet_v3_small is cut, or has more layers .*; write --format onnx$"):
        export_model(Path("model-0"), kind="safetensors", output=tmp_path / "tiny.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("missing/tiny.onnx", r"missing is no folder; make it, or name another one$"),
        ("model-0", r"model-0 is a folder; name a file in it$"),
        ("model-0/model.json/tiny.onnx", r"model\.json is no folder; "),
        (f"{'x' * 300}.onnx", r"x\.onnx cannot be written \(File name too long\); name another file$"),
    ],
)
def test_an_output_that_cannot_be_written_is_named_before_the_work(
    monkeypatch: pytest.MonkeyPatch, output: str, said: str
) -> None:
    monkeypatch.setattr(export, "load_model", lambda _: pytest.fail("the work has begun"))
    with pytest.raises(ConfigError, match=f"^--output: .*{said}"):
        export_model(Path("model-0"), kind="onnx", output=Path(output))


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_what_differs_by_too_much_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pt2: Exported, kind: Format
) -> None:
    monkeypatch.setattr(export, "_write_pt2", lambda file, *_: shutil.copy(pt2.output, file))
    monkeypatch.setattr(export, "_expect", lambda saved, image: (torch.zeros(1, 2), torch.ones(1, 2)))
    with pytest.raises(DataError, match=rf"tiny is not written: as {kind}, model-0 differs from the model by "):
        export_model(Path("model-0"), kind=kind, output=tmp_path / "tiny")
    assert list(tmp_path.iterdir()) == []


def test_the_command_knows_all_formats() -> None:
    assert get_args(Format) == cli.EXPORT_FORMATS
