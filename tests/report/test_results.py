"""report.results: files that contradict each other, or are not there, are one sentence.

Run with: pytest tests/report/test_results.py
"""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from report import report_fixtures
from report.report_fixtures import make_params, make_project
from thaw.errors import DataError
from thaw.report.results import read_results

written = report_fixtures.written

BAD: dict[str, list[tuple[Callable[[str], str], str]]] = {
    "data/predictions/frozen-1.csv": [
        (lambda text: "", "has no column 'path'"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows"),
        (lambda text: text.replace("p_Dog", "p_Wolf"), "has no column 'p_Dog'"),
        (lambda text: text[: text.rindex(",Dog,Dog")] + "\n", "has too few cells in row 80"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "these are not the 80 test images"),
        (lambda text: text.replace("Cat,Cat", "Dog,Cat", 1), "these are not the 80 test images"),
        (lambda text: text.replace("Cat,Cat", "Cat,Wolf", 1), "'Wolf'"),
        (lambda text: text.replace("Cat,Cat", "Cat,Dog", 1), "says test accuracy 0.9875, but"),
        (lambda text: text.replace(",0.7,", ",nan,", 1), "expected a finite number as p_Cat, found 'nan'"),
    ],
    "data/history/two_stage-0.csv": [
        (lambda text: text.replace("true", "false"), "expected one row with best = true, found 0"),
        (lambda text: text.replace("0.25,", "x,", 1), "expected a finite number as val_loss, found 'x'"),
        (
            lambda text: text.replace("true", "false").replace("false", "true", 1),
            "says that epoch 1 of phase 1 was kept, but the model card",
        ),
    ],
    "data/models/two_stage-0/model.json": [
        (lambda text: text.replace('"flops"', '"flips"'), "compute.flops: Field required"),
    ],
    "reports/metrics/fine_tuned-0.json": [
        (lambda text: text.replace("roc_auc", "auc"), "test.roc_auc: Field required"),
        (lambda text: text[:40], "Invalid JSON"),
        (lambda text: text.replace('"Cat"', '"Wolf"'), "has the recall of other classes than data/splits.csv"),
    ],
    "data/splits.csv": [
        (lambda text: text.replace(",test", ",tset", 1), "'tset' is not a split"),
        (lambda text: text.replace("Cat/0.jpg,Cat", "Cat/0.jpg,Dog"), "is not kept as 'Dog' in"),
        (lambda text: text.replace(",test", ",val"), "has no test image"),
    ],
    "data/diagnosis/learning_curve.csv": [
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "expected one row of share 1.0 of fold 4"),
    ],
}

MISSING = [
    "data/clean/manifest.csv",
    "data/splits.csv",
    "data/cost/embed.json",
    "data/cost/frozen-0.json",
    "data/history/frozen-0.csv",
    "data/models/frozen-0/model.json",
    "data/predictions/frozen-0.csv",
    "reports/metrics/frozen-0.json",
]


@pytest.mark.parametrize(("path", "spoil", "message"), [(path, *case) for path, cases in BAD.items() for case in cases])
def test_a_file_that_contradicts_the_others_is_one_sentence(
    written: Path, tmp_path: Path, path: str, spoil: Callable[[str], str], message: str
) -> None:
    shutil.copytree(written, tmp_path / "copy")
    text = (written / path).read_text(encoding="utf-8")
    assert spoil(text) != text
    (tmp_path / "copy" / path).write_text(spoil(text), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_results(tmp_path / "copy", make_params())
    assert message in str(caught.value)
    assert path.removesuffix("/model.json") in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", MISSING)
def test_a_missing_file_is_named(written: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / path).unlink()
    with pytest.raises(DataError, match=re.escape(path)):
        read_results(tmp_path / "copy", make_params())


def test_which_images_are_correct_comes_by_seed(tmp_path: Path) -> None:
    params = make_params(seeds=[0, 1], variants={"frozen": [{"train": "head"}]})
    make_project(tmp_path, params, mistakes={"frozen": [[0, 3], []]})
    correct = read_results(tmp_path, params).correct("frozen")
    assert correct.shape == (2, 80)
    assert (~correct).nonzero()[1].tolist() == [0, 3]


def test_copies_of_a_test_image_share_a_group(written: Path) -> None:
    results = read_results(written, make_params())
    place = dict(zip(results.test_paths, results.test_groups, strict=True))
    assert place["PetImages/Cat/0.jpg"] == place["PetImages/Cat/1.jpg"]
    assert len(set(place.values())) == len(place) - 1


@pytest.mark.parametrize(
    ("change", "knob"),
    [
        ({"training": {"batch_size": 7}}, "training"),
        ({"backbone": {"image_size_px": 64}}, "backbone"),
        ({"clean": {"side_px": 100}}, "clean"),
        ({"split": {"val": "fixed"}}, "split.val"),
        ({"compute": {"threads": 2}}, "compute.threads"),
    ],
)
def test_a_run_with_other_parameters_than_params_yaml_is_refused(
    written: Path, change: dict[str, dict[str, object]], knob: str
) -> None:
    params = make_params()
    ((section, values),) = change.items()
    edited = params.model_copy(update={section: getattr(params, section).model_copy(update=values)})
    with pytest.raises(
        DataError, match=rf"^frozen-0 was trained with another {knob} than params.yaml has, .*train@frozen-0"
    ):
        read_results(written, edited)


def test_features_of_another_number_of_views_than_params_yaml_has_are_refused(written: Path) -> None:
    params = make_params()
    edited = params.model_copy(update={"embed": params.embed.model_copy(update={"views": 7})})
    with pytest.raises(
        DataError, match=r"embed\.json was written with another embed\.views than .* --single-item embed`"
    ):
        read_results(written, edited)
