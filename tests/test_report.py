"""report/ on small invented projects: the numbers, the words, the page, the figures, and what happens to bad files.

Run with: pytest tests/test_report.py
"""

import csv
import io
import json
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from thaw.atomic import write_json
from thaw.errors import DataError
from thaw.params import Params
from thaw.report import write_report
from thaw.report.compare import compare_runs
from thaw.report.page import describe_source, escape_cell, mark_code
from thaw.report.pictures import natural_key
from thaw.report.read import read_results

ROOT = Path(__file__).resolve().parent.parent
TEN = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


def make_params(**changes: Any) -> Params:
    """params.yaml with some sections changed: `make_params(seeds=[0], data={"source": "microsoft"})`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    for key, change in changes.items():
        values[key] = {**values[key], **change} if isinstance(change, dict) and key != "variants" else change
    return Params.model_validate(values)


def write_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw_picture(number: int, *, side_px: int) -> bytes:
    """A JPEG of two colours that depend on the number."""
    rng = np.random.default_rng(number)
    pixels = np.broadcast_to(rng.integers(0, 255, 3), (side_px, side_px + 8, 3)).astype(np.uint8).copy()
    pixels[side_px // 4 : side_px // 2] = rng.integers(0, 255, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def manifest_row(path: str, **changes: str) -> dict[str, str]:
    return {
        "path": path,
        "label": path.split("/")[-2],
        "bytes": "1000",
        "sha256": "0" * 64,
        "width_px": "72",
        "height_px": "64",
        "mode": "RGB",
        "format": "JPEG",
        "exif_orientation": "1",
        "kept": "true",
        "reason": "",
        "damage": "",
        "pixels_sha256": "1" * 64,
        "duplicate_group": "",
        "duplicate_kind": "",
    } | changes


def make_data(root: Path, classes: Sequence[str], *, per_class: int, side_px: int = 64) -> list[dict[str, str]]:
    """Write manifest, pictures.zip and splits; half of the pictures are test. Returns the rows of the test split."""
    rows = [manifest_row(f"PetImages/{name}/{i}.jpg") for name in classes for i in range(per_class)]
    rows[1] |= {"duplicate_group": rows[0]["path"], "duplicate_kind": "near"}
    rows[0] |= {"duplicate_group": rows[0]["path"], "duplicate_kind": "near"}
    rows[2]["damage"] = "damaged scan"
    conflict = f"PetImages/{classes[0]}/copy.jpg"
    rows += [
        manifest_row(
            f"PetImages/{classes[0]}/empty|.jpg", kept="false", reason="empty file", width_px="", height_px=""
        ),
        manifest_row(
            f"PetImages/{classes[1]}/Thumbs.db", kept="false", reason="not a picture", width_px="", height_px=""
        ),
        *(
            manifest_row(path, kept="false", reason="label conflict", duplicate_group=conflict, duplicate_kind="exact")
            for path in (conflict, f"PetImages/{classes[1]}/copy.jpg")
        ),
    ]
    rows.sort(key=lambda row: row["path"])
    write_rows(root / "data/clean/manifest.csv", rows)
    kept = [row for row in rows if row["kept"] == "true"]
    with zipfile.ZipFile(root / "data/clean/pictures.zip", "w") as archive:
        for number, row in enumerate(kept):
            archive.writestr(row["path"], draw_picture(number, side_px=side_px))
    with zipfile.ZipFile(root / "data/clean/dropped.zip", "w") as archive:
        for row in rows:
            if row["reason"] == "label conflict":
                archive.writestr(row["path"], draw_picture(999, side_px=side_px))
    places = ("test", "train", "test", "val")
    splits = [
        {"path": row["path"], "label": row["label"], "split": places[int(Path(row["path"]).stem) // 2 % 4]}
        for row in kept
    ]
    write_rows(root / "data/splits.csv", splits)
    return [row for row in splits if row["split"] == "test"]


def make_run(
    root: Path, name: str, test: Sequence[dict[str, str]], *, wrong: Sequence[int], phases: Sequence[str], moved: int
) -> None:
    """Write one run that gets all test pictures right, but those at the places `wrong`."""
    classes = sorted({row["label"] for row in test})
    predictions = []
    for place, row in enumerate(test):
        truth = classes.index(row["label"])
        predicted = (truth + 1) % len(classes) if place in wrong else truth
        confidence = 0.7 + 0.25 * (place % 7) / 7
        others = (1 - confidence) / (len(classes) - 1)
        probabilities = {f"p_{c}": confidence if i == predicted else others for i, c in enumerate(classes)}
        predictions.append(
            {"path": row["path"], "label": row["label"], "predicted": classes[predicted], **probabilities}
        )
    write_rows(root / f"data/predictions/{name}.csv", predictions)
    history = [
        {
            "phase": phase,
            "train": train,
            "epoch": epoch,
            "lr": 0.001,
            "train_loss": 0.6 / (epoch + phase),
            "train_accuracy": 1 - 0.4 / (epoch + phase),
            "val_loss": 0.7 / (epoch + phase),
            "val_accuracy": 1 - 0.5 / (epoch + phase),
            "best": "true" if (phase, epoch) == (len(phases) - 1, 4) else "false",
        }
        for phase, train in enumerate(phases)
        for epoch in range(1, 5)
    ]
    write_rows(root / f"data/history/{name}.csv", history)
    accuracy = 1 - len(wrong) / len(test)
    write_json(
        root / f"reports/metrics/{name}.json",
        {
            "test": {"accuracy": accuracy, "log_loss": 0.2, "roc_auc": 0.98, "ece": 0.03},
            "val": {"accuracy": 0.9, "log_loss": 0.25},
            "trainable_parameters": 2562 if moved == 0 else 3373000,
            "backbone_tensors": 296,
            "backbone_tensors_moved": moved,
            "best": {"phase": len(phases) - 1, "epoch": 4},
        },
    )
    write_json(
        root / f"data/cost/{name}.json",
        {
            "started_at_unix_s": 1.7e9,
            "train_seconds": 2.0 if moved == 0 else 40.0,
            "pictures_per_second": 90000.0 if moved == 0 else 55.0,
            "peak_memory_mib": 700.0,
            "device": "cpu",
            "threads": 2,
            "phases": [{"train": train, "epochs": 4, "seconds": 1.0, "pictures_per_second": 1.0} for train in phases],
        },
    )


def make_project(
    root: Path, *, classes: Sequence[str] = ("Cat", "Dog"), per_class: int = 80, mistakes: dict[str, list[list[int]]]
) -> None:
    """Write a whole project; `mistakes` holds for each variant the wrong places of seed 0, 1, ..."""
    test = make_data(root, classes, per_class=per_class)
    phases = {"frozen": ["head"], "fine_tuned": ["all"], "two_stage": ["head", "all"]}
    for variant, seeds in mistakes.items():
        for seed, wrong in enumerate(seeds):
            moved = 0 if variant == "frozen" else 254
            make_run(root, f"{variant}-{seed}", test, wrong=wrong, phases=phases[variant], moved=moved)
    write_json(
        root / "data/cost/embed.json",
        {
            "seconds": 6.0,
            "pictures_per_second": 80.0,
            "pictures": 160,
            "peak_memory_mib": 600.0,
            "device": "cpu",
            "threads": 2,
        },
    )


ONLY_FROZEN = {"frozen": [{"train": "head", "epochs": 1, "lr": 0.1}]}
ALIKE = {"frozen": [[0, 5], [5]], "fine_tuned": [[0, 9], [9, 5]], "two_stage": [[5], [5]]}
RUN_IDS = {f"{variant}-{seed}": f"{variant}0{seed}" for variant in ALIKE for seed in (0, 1)}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two classes, three variants and two seeds, with its report."""
    root = tmp_path_factory.mktemp("project")
    make_project(root, mistakes=ALIKE)
    write_report(root, params=make_params(seeds=[0, 1]), run_ids=RUN_IDS)
    return root


def compare(root: Path, **changes: Any) -> Any:
    params = make_params(**changes)
    return compare_runs(read_results(root, params), params=params, run_ids={})


# comparison.json


def test_comparison_json_has_the_keys_that_tools_read(written: Path) -> None:
    comparison = json.loads((written / "reports/comparison.json").read_text())
    dataset, backbone = comparison["dataset"], comparison["backbone"]
    assert (dataset["source"], dataset["classes"], dataset["files"], dataset["dropped"]) == (
        "sample",
        ["Cat", "Dog"],
        164,
        4,
    )
    assert dataset["splits"] == {"train": 40, "val": 40, "test": 80}
    assert set(backbone) == {"name", "blocks", "weights", "image_size_px"}
    assert [(run["variant"], run["seed"], run["mlflow_run_id"]) for run in comparison["runs"]] == [
        (variant, seed, f"{variant}0{seed}") for variant in ALIKE for seed in (0, 1)
    ]
    first = comparison["runs"][0]
    assert first["test"] == {"accuracy": 0.975, "log_loss": 0.2, "roc_auc": 0.98, "ece": 0.03}
    assert first["val"]["accuracy"] == 0.9
    assert (first["trainable_parameters"], first["train_seconds"]) == (2562, 2.0)
    frozen = comparison["variants"][0]
    assert frozen["accuracy_mean"] == pytest.approx(1 - 1.5 / 80)
    assert frozen["accuracy_ci95"][0] < frozen["accuracy_mean"] < frozen["accuracy_ci95"][1]
    assert [(pair["a"], pair["b"]) for pair in comparison["pairs"]] == [
        ("frozen", "fine_tuned"),
        ("frozen", "two_stage"),
        ("fine_tuned", "two_stage"),
    ]
    assert comparison["pairs"][0]["difference"] == pytest.approx(0.5 / 80)
    assert comparison["pairs"][0]["p_value"] == 1


def test_small_differences_are_called_noise_and_the_cheap_variant_recommended(written: Path) -> None:
    verdict = json.loads((written / "reports/comparison.json").read_text())["verdict"]
    assert verdict[0].startswith(
        "Recommended: frozen; it is the cheapest, and no other variant is better beyond noise."
    )
    # Two seconds of training and six of embedding, against 40 and 46.
    assert "fine_tuned takes 5.0 times as long as frozen and two_stage takes 5.8 times as long as frozen" in verdict[0]
    assert sum("cannot be told from noise" in sentence for sentence in verdict) == 4
    assert any(
        re.match(r"The test split has 80 pictures: a gap under about [0-9.]+ to [0-9.]+ points", s) for s in verdict
    )
    assert any("standard deviation over 2 seeds" in sentence for sentence in verdict)


def test_a_difference_beyond_noise_is_real_and_worth_its_cost(tmp_path: Path) -> None:
    make_project(tmp_path, mistakes={"frozen": [list(range(14))], "fine_tuned": [[0]], "two_stage": [[0, 1]]})
    comparison = compare(tmp_path, seeds=[0])
    assert [pair["verdict"] for pair in comparison["pairs"]] == ["real", "real", "noise"]
    assert comparison["pairs"][0]["p_value"] == pytest.approx(2 / 2**13)
    assert comparison["pairs"][0]["p_value_holm"] == pytest.approx(3 * 2 / 2**13)
    assert comparison["recommended"]["variant"] == "fine_tuned"
    verdict = comparison["verdict"]
    assert "it is better than frozen beyond noise" in verdict[0]
    assert (
        "fine_tuned takes 5.0 times as long as frozen and two_stage takes 1.1 times as long as fine_tuned" in verdict[0]
    )
    assert re.match(r"fine_tuned is 16\.2 points above frozen .*: real\.$", verdict[1])
    assert any("trained with one seed" in sentence for sentence in verdict)


def test_a_real_difference_on_which_the_seeds_disagree_says_so(tmp_path: Path) -> None:
    mistakes = {"frozen": [list(range(30)), [40], list(range(30))], "fine_tuned": [[], [41, 42], []]}
    make_project(tmp_path, mistakes=mistakes)
    variants = {name: [{"train": "head", "epochs": 1, "lr": 0.1}] for name in mistakes}
    comparison = compare(tmp_path, seeds=[0, 1, 2], variants=variants)
    assert "only 2 of 3 seeds agree" in comparison["verdict"][1]


def test_variants_that_are_no_better_than_guessing_are_called_out(tmp_path: Path) -> None:
    make_project(tmp_path, mistakes={"frozen": [list(range(0, 80, 2))]})
    comparison = compare(tmp_path, seeds=[0], variants=ONLY_FROZEN)
    assert comparison["pairs"] == []
    assert comparison["verdict"][0] == "Only frozen was trained: there is nothing to compare it with."
    assert any("frozen cannot be told from that" in sentence for sentence in comparison["verdict"])


def test_only_the_runs_of_params_are_reported(tmp_path: Path, written: Path) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy/reports/figures/gone-7-curves.png").write_bytes(b"of a variant that is no more")
    params = make_params(seeds=[1], variants={"two_stage": [{"train": "all", "epochs": 3, "lr": 0.1}]})
    write_report(tmp_path / "copy", params=params, run_ids={})
    comparison = json.loads((tmp_path / "copy/reports/comparison.json").read_text())
    assert [(run["variant"], run["seed"], run["mlflow_run_id"]) for run in comparison["runs"]] == [
        ("two_stage", 1, None)
    ]
    names = {path.name for path in (tmp_path / "copy/reports/figures").iterdir()}
    assert {name for name in names if "-" in name} == {
        f"two_stage-1-{k}.png" for k in ("curves", "confusion", "pictures")
    }


# The page


def test_html_needs_nothing_but_itself(written: Path) -> None:
    html = (written / "reports/comparison.html").read_text(encoding="utf-8")
    assert len(html) < 3_000_000
    assert "<script" not in html
    targets = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert [target for target in targets if not target.startswith(("data:image/", "#"))] == []
    assert {target[1:] for target in targets if target[0] == "#"} <= set(re.findall(r'id="([^"]+)"', html))
    assert "url(" not in html
    assert "@import" not in html


def test_the_first_line_says_that_the_sample_is_drawn(written: Path) -> None:
    markdown = (written / "reports/comparison.md").read_text(encoding="utf-8")
    html = (written / "reports/comparison.html").read_text(encoding="utf-8")
    for text in (markdown.splitlines()[0], html[html.index("<body>") :].splitlines()[1]):
        assert "drawn by this project" in text
        assert "say nothing about real photos" in text
        assert "dvc exp run -S data.source=microsoft" in text


@pytest.mark.parametrize("source", ["microsoft", "kaggle", "cifar10", "file", "url"])
def test_the_first_line_names_other_sources(source: str) -> None:
    data = {"source": source, "path": "here/photos.zip", "url": "https://example.org/a.zip"}
    line = describe_source(make_params(data=data))
    assert f"`data.source: {source}`" in line
    assert "drawn" not in line


def test_both_pages_hold_the_tables_and_the_verdict(written: Path) -> None:
    comparison = json.loads((written / "reports/comparison.json").read_text())
    markdown = (written / "reports/comparison.md").read_text(encoding="utf-8").replace("\\", "")
    html = (written / "reports/comparison.html").read_text(encoding="utf-8")
    for sentence in comparison["verdict"]:
        assert sentence in markdown
        assert sentence.replace("'", "&#39;") in html
    for line in (
        "frozen: 296 of 296 backbone tensors bit-identical to the pretrained weights",
        "two_stage: 254 of 296 backbone tensors moved",
        "two_stage: head at 0.001 for 30 epochs at most, then all at 0.0001 for 3 epochs at most",
        "all of them: batch_size 32, accumulate_batches 1, optimizer adamw",
    ):
        assert line in markdown
        assert line in html
    assert "| frozen | 98.1 % |" in markdown
    assert "| Cat | 20 | 20 | 40 | 2 |" in markdown
    assert "| all | 40 | 40 | 80 | 4 |" in markdown
    assert "<td>98.1 %</td>" in html


def test_markdown_tables_are_whole_and_links_lead_somewhere(written: Path) -> None:
    markdown = (written / "reports/comparison.md").read_text(encoding="utf-8")
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert len(links) > 8
    assert all((written / "reports" / link).is_file() for link in links)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert re.match(r"^\|:--\|", block.splitlines()[1])
    assert "\n\n\n" not in markdown
    assert not re.search(r" $", markdown, flags=re.MULTILINE)


def test_wrong_predictions_are_marked(written: Path) -> None:
    html = (written / "reports/comparison.html").read_text(encoding="utf-8")
    predictions = html[html.index('<h2 id="pictures">') : html.index('<h2 id="data">')]
    frozen = predictions[: predictions.index("run frozen-0")]
    # Both mistakes of frozen-0 are among the first pictures, and again among the worst.
    assert frozen.count('class="wrong"') == 4
    assert frozen.count('class="right"') == 30
    assert "frozen: all 2 mistakes" in frozen


def test_pictures_in_no_split_are_counted_as_such(tmp_path: Path) -> None:
    make_project(tmp_path, per_class=12, mistakes={"frozen": [[0]]})
    splits = (tmp_path / "data/splits.csv").read_text(encoding="utf-8")
    # Cat/2 and Cat/3 are in train; a given test list leaves out what would leak.
    (tmp_path / "data/splits.csv").write_text(splits.replace("PetImages/Cat/3.jpg,Cat,train\n", ""), encoding="utf-8")
    write_report(tmp_path, params=make_params(seeds=[0], variants=ONLY_FROZEN), run_ids={})
    markdown = (tmp_path / "reports/comparison.md").read_text(encoding="utf-8")
    assert "| class | train | val | test | no split | dropped |" in markdown
    assert "| Cat | 3 | 2 | 6 | 1 | 2 |" in markdown


def test_names_from_archives_cannot_break_the_page() -> None:
    assert escape_cell("a|b*<c>_[d]") == "a\\|b\\*\\<c\\>\\_\\[d\\]"
    assert escape_cell("two_stage") == "two_stage"
    assert mark_code("`x` <b>") == "<code>x</code> &lt;b&gt;"


def test_a_hostile_class_name_is_escaped(tmp_path: Path) -> None:
    names = ("<script>x", "a|$b_c$")
    make_project(tmp_path, classes=names, per_class=8, mistakes={"frozen": [[0]]})
    write_report(tmp_path, params=make_params(seeds=[0], variants=ONLY_FROZEN), run_ids={})
    assert "<script>" not in (tmp_path / "reports/comparison.html").read_text(encoding="utf-8")
    assert "| a\\|$b_c$ |" in (tmp_path / "reports/comparison.md").read_text(encoding="utf-8")


def test_ten_classes_and_tiny_pictures(tmp_path: Path) -> None:
    make_project(tmp_path, classes=TEN, per_class=8, mistakes={"frozen": [[1, 2, 17]]})
    params = make_params(seeds=[0], variants=ONLY_FROZEN, data={"source": "cifar10"}, backbone={"blocks": 5})
    write_report(tmp_path, params=params, run_ids={})
    comparison = json.loads((tmp_path / "reports/comparison.json").read_text())
    assert comparison["dataset"]["classes"] == list(TEN)
    assert comparison["backbone"]["blocks"] == 5
    html = (tmp_path / "reports/comparison.html").read_text(encoding="utf-8")
    assert "its first 5 blocks" in html
    assert "All of the pictures are smaller than that and are enlarged (the median short side is 64 px)" in html


# Figures


def test_figures_are_png_files_with_the_names_that_mlflow_looks_for(written: Path) -> None:
    folder = written / "reports/figures"
    of_runs = {f"{name}-{kind}.png" for name in RUN_IDS for kind in ("curves", "confusion", "pictures")}
    of_all = {f"{name}.png" for name in ("accuracy", "curves", "confusion", "reliability", "sizes", "classes")}
    of_data = {"duplicates.png", "damaged.png", "dropped.png"}
    assert {path.name for path in folder.iterdir()} == of_runs | of_all | of_data
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 100


def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
    params = make_params(seeds=[0], variants=ONLY_FROZEN)
    for name in ("one", "two"):
        make_project(tmp_path / name, per_class=12, mistakes={"frozen": [[0]]})
        write_report(tmp_path / name, params=params, run_ids={})
    one, two = (
        {
            p.relative_to(tmp_path / name): p.read_bytes()
            for p in (tmp_path / name / "reports").rglob("*")
            if p.is_file()
        }
        for name in ("one", "two")
    )
    assert len(one) > 10
    assert one == two


def test_dropped_pictures_that_decode_are_shown(tmp_path: Path) -> None:
    make_project(tmp_path, per_class=12, mistakes={"frozen": [[0]]})
    write_report(tmp_path, params=make_params(seeds=[0], variants=ONLY_FROZEN), run_ids={})
    assert (tmp_path / "reports/figures/dropped.png").is_file()
    assert "Dropped, though they decode" in (tmp_path / "reports/comparison.html").read_text(encoding="utf-8")


def test_test_pictures_come_in_the_order_of_their_numbers() -> None:
    paths = ["Pets/Dog/10.jpg", "Pets/Cat/2.jpg", "Pets/Cat/10.jpg", "Pets/Dog/2.jpg", "Pets/Cat/x.jpg"]
    assert sorted(paths, key=natural_key) == [
        "Pets/Cat/2.jpg",
        "Pets/Dog/2.jpg",
        "Pets/Cat/10.jpg",
        "Pets/Dog/10.jpg",
        "Pets/Cat/x.jpg",
    ]


# Bad files


BAD = {
    "data/predictions/frozen-1.csv": [
        (lambda text: "", "has no column 'path'"),
        (lambda text: text.splitlines()[0] + "\n", "has no rows"),
        (lambda text: text.replace("p_Dog", "p_Wolf"), "has no column 'p_Dog'"),
        (lambda text: "\n".join(text.splitlines()[:-1]) + "\n", "these are not the 80 test pictures"),
        (lambda text: text.replace("Cat,Cat", "Dog,Cat", 1), "these are not the 80 test pictures"),
        (lambda text: text.replace("Cat,Cat", "Cat,Wolf", 1), "'Wolf' is predicted"),
        (lambda text: text.replace("Cat,Cat", "Cat,Dog", 1), "says test accuracy 0.9875, but"),
        (lambda text: text.replace(",0.7,", ",nan,", 1), "expected a finite number as p_Cat, found 'nan'"),
    ],
    "data/history/two_stage-0.csv": [
        (lambda text: text.replace("true", "false"), "expected one row with best = true, found 0"),
        (lambda text: text.replace("0.35", "x"), "expected a finite number as val_loss, found 'x'"),
    ],
    "reports/metrics/fine_tuned-0.json": [
        (lambda text: text.replace("roc_auc", "auc"), "test.roc_auc: Field required"),
        (lambda text: text[:40], "Invalid JSON"),
    ],
    "data/splits.csv": [
        (lambda text: text.replace(",test", ",tset", 1), "'tset' is not a split"),
        (lambda text: text.replace("Cat/0.jpg,Cat", "Cat/0.jpg,Dog"), "is not kept as 'Dog' in"),
        (lambda text: text.replace(",test", ",val"), "has no test picture"),
    ],
}


@pytest.mark.parametrize(("path", "spoil", "message"), [(path, *case) for path, cases in BAD.items() for case in cases])
def test_a_file_that_contradicts_the_others_is_one_sentence(
    written: Path, tmp_path: Path, path: str, spoil: Any, message: str
) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / path).write_text(spoil((written / path).read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_results(tmp_path / "copy", make_params(seeds=[0, 1]))
    assert message in str(caught.value)
    assert path in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "data/clean/manifest.csv",
        "data/clean/pictures.zip",
        "data/splits.csv",
        "data/cost/embed.json",
        "data/cost/frozen-0.json",
        "data/history/frozen-0.csv",
        "data/predictions/frozen-0.csv",
        "reports/metrics/frozen-0.json",
    ],
)
def test_a_missing_file_is_one_sentence_and_leaves_the_old_report(written: Path, tmp_path: Path, path: str) -> None:
    shutil.copytree(written, tmp_path / "copy")
    (tmp_path / "copy" / path).unlink()
    with pytest.raises(DataError, match=re.escape(path)):
        write_report(tmp_path / "copy", params=make_params(seeds=[0, 1]), run_ids={})
    for kept in ("comparison.html", "comparison.md", "comparison.json", "figures/accuracy.png"):
        assert (tmp_path / "copy/reports" / kept).read_bytes() == (written / "reports" / kept).read_bytes()
