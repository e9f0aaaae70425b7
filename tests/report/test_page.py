"""report.page and report.tables: what comparison.html and comparison.md hold, and that no name can break them.

Run with: pytest tests/report/test_page.py
"""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report import report_fixtures
from report.report_fixtures import ALIKE, ONLY_FROZEN, Training, make_params, make_project, summarise, write_pages
from thaw import paths
from thaw.report import page, thumbnails
from thaw.report.build import write_report
from thaw.report.page import describe_source, escape_cell, escape_prose, mark_breaks, mark_code
from thaw.report.results import read_results
from thaw.report.tables import build_tables, format_flops

written = report_fixtures.written

ONE_FROZEN = {"seeds": [0], "variants": ONLY_FROZEN}


def read_pages(root: Path) -> tuple[str, str]:
    """The texts of comparison.md and comparison.html."""
    markdown = (root / paths.COMPARISON_MD).read_text(encoding="utf-8")
    return markdown, (root / paths.COMPARISON_HTML).read_text(encoding="utf-8")


def test_html_needs_nothing_but_itself(written: Path) -> None:
    _, html = read_pages(written)
    assert len(html) < 3_000_000
    assert html.count("<script") == 1
    targets = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert [target for target in targets if not target.startswith(("data:image/", "#"))] == []
    assert {target[1:] for target in targets if target[0] == "#"} <= set(re.findall(r'id="([^"]+)"', html))
    assert "url(" not in html.replace("url(#", "")
    assert "@import" not in html


def test_thumbnails_stay_within_the_size_of_a_page() -> None:
    # The page is to be under 5 MB, of which figures and tables take less than 1 MB.
    duplicates = thumbnails.DUPLICATE_GROUPS_SHOWN * thumbnails.GROUP_MEMBERS_SHOWN
    others = thumbnails.DROPPED_SHOWN + thumbnails.DAMAGED_SHOWN
    most = thumbnails.PREDICTED_IMAGES + thumbnails.CLASS_IMAGES + duplicates + others
    assert most * thumbnails.THUMBNAIL_BYTES * 4 / 3 < 4_000_000
    rng = np.random.default_rng(0)
    side = thumbnails.LARGE_PX
    # Harder than any photo: noise, four pixels wide.
    noise = Image.fromarray(rng.integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8)).resize((side, side))
    uri = thumbnails.Tile(image=noise, title="", note="").data_uri
    assert len(uri) < thumbnails.THUMBNAIL_BYTES * 4 / 3 + 100


def test_the_first_line_says_that_the_sample_is_drawn(written: Path) -> None:
    markdown, html = read_pages(written)
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


def test_what_is_estimated_comes_before_the_decision_and_its_plot(written: Path) -> None:
    for text in read_pages(written):
        order = ["trained anew by this recipe", "Recommended: frozen", "against floating-point operations"]
        start = text.index("</h1>") if "</h1>" in text else 0
        places = [text.index(part, start) for part in order]
        assert places == sorted(places)
        assert places[-1] < text.index("SD between seeds")


def test_both_pages_hold_the_tables_and_the_verdict(written: Path) -> None:
    comparison = json.loads((written / paths.COMPARISON_JSON).read_text())
    markdown, html = read_pages(written)
    markdown = markdown.replace("\\", "")
    for sentence in comparison["verdict"]:
        assert sentence in markdown
        assert sentence.replace("'", "&#39;") in html
    for line in (
        "frozen: 296 of 296 backbone tensors bit-identical to the pretrained weights",
        "two_stage: 254 of 296 backbone tensors moved; 254 are parameters, and 42 are buffers, such as BatchNorm",
        "Operations and time are of training; those of the features, computed once for all runs, stand under Cost.",
        "two_stage: head (solved), then all at 0.0001 (its head at 0.01) for 3 epochs at most",
        "all of them: batch_size 32, grad_accum_steps 1, optimizer adamw (weight_decay 0.01)",
        "Seconds were measured on cpu with 2 threads, features on up to all cores.",
    ):
        assert line in markdown
        assert line in html
    assert "| frozen | 97.9 % |" in markdown
    assert "| frozen | 160 GFLOP | 160 GFLOP | 0 | 2.0 s | 6.0 s | none seen |" in markdown
    assert "| Cat | 20 | 20 | 40 | 2 |" in markdown
    assert "| all | 40 | 40 | 80 | 4 |" in markdown
    assert "<td>97.9 %</td>" in html


def test_a_p_value_of_rounding_alone_is_not_0(written: Path) -> None:
    comparison, results = summarise(written, make_params()), read_results(written, make_params())
    pair = comparison.pairs[0].model_copy(update={"p_value": 0.0})
    table = build_tables(results, comparison.model_copy(update={"pairs": (pair,)}))["pairs"]
    assert table.rows[0][table.columns.index("p")] == "< 0.001"


def test_what_was_tried_is_a_table_with_notes(tmp_path: Path) -> None:
    variants = {"fine_tuned": [{"train": "all", "epochs": 4, "lr": [0.0001, 0.001]}], **ONLY_FROZEN}
    params = make_params(variants=variants)
    trainings = {"fine_tuned-1": Training(winner=1, best=(0, 4), seconds=90.0)}
    make_project(tmp_path, params, mistakes=ALIKE, trainings=trainings)
    write_pages(tmp_path, params)
    markdown, html = read_pages(tmp_path)
    tried = markdown[markdown.index("## What was tried") : markdown.index("## All runs")]
    assert "| fine_tuned | all at 0.0001 for 4 epochs at most | 0.2500 | 0.3000 | 0.2500 | 2 of 3 seeds |" in tried
    assert "| fine_tuned | all at 0.001 for 4 epochs at most | 0.3000 | 0.2500 | 0.3000 | 1 of 3 seeds |" in tried
    assert "| frozen | head (solved) | 0.2500 | 0.2500 | 0.2500 | 3 of 3 seeds |" in tried
    assert "- fine_tuned: the kept epoch is the last of its phase in 1 of 3 seeds" in tried
    assert "- fine_tuned: all at 0.0001 or 0.001 for 4 epochs at most" in tried
    assert "56.7 s (unreliable)" in markdown
    assert "the kept epoch is the last of its phase in 1 of 3 seeds" in html[html.index('id="tried"') :]


def test_a_solved_head_is_kept_at_a_penalty(written: Path) -> None:
    markdown, _ = read_pages(written)
    runs = markdown[markdown.index("## All runs") :]
    assert re.search(r"^\| frozen \| 0 \|.*\| penalty 0\.1, phase 1 \|", runs, flags=re.MULTILINE)
    assert re.search(r"^\| two_stage \| 0 \|.*\| epoch 2, phase 2 \|", runs, flags=re.MULTILINE)


def test_markdown_tables_are_whole_and_links_lead_somewhere(written: Path) -> None:
    markdown, _ = read_pages(written)
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", markdown)
    assert len(links) > 8
    assert all((written / "reports" / link).is_file() for link in links)
    for block in re.findall(r"(?:^\|.*\n)+", markdown, flags=re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block
        assert re.match(r"^\|:--\|", block.splitlines()[1])
    assert "\n\n\n" not in markdown
    assert not re.search(r" $", markdown, flags=re.MULTILINE)
    assert not re.search(r"[^\n]\n#", markdown)


def test_misclassified_images_are_marked(written: Path) -> None:
    _, html = read_pages(written)
    predictions = html[html.index('id="images"') : html.index('id="data"')]
    frozen = predictions[: predictions.index("run frozen-0")]
    # Both misclassified images of frozen-0 are among the first ones, and again among the most confident.
    assert frozen.count('class="wrong"') == 4
    assert frozen.count('class="correct"') == 30
    assert "frozen: all 2 misclassified images" in frozen


def test_no_image_is_said_to_be_in_a_val_split_that_each_seed_draws_anew(tmp_path: Path) -> None:
    for val, note in (("per_seed", "<span>train or val</span>"), ("fixed", "<span>val</span>")):
        params = make_params(**ONE_FROZEN, split={"val": val})
        make_project(tmp_path, params, per_class=12, mistakes={"frozen": [[0]]})
        write_pages(tmp_path, params)
        markdown, html = read_pages(tmp_path)
        assert note in html
        assert ("to validate (drawn anew with each seed)" in markdown) == (val == "per_seed")


def test_images_in_no_split_are_counted_as_such(tmp_path: Path) -> None:
    params = make_params(**ONE_FROZEN)
    make_project(tmp_path, params, per_class=12, mistakes={"frozen": [[0]]})
    splits = (tmp_path / paths.SPLITS).read_text(encoding="utf-8")
    # Cat/2 and Cat/3 are in train; a given test list leaves out what would leak.
    without = re.sub(r"PetImages/Cat/3\.jpg,.*\n", "", splits)
    assert without != splits
    (tmp_path / paths.SPLITS).write_text(without, encoding="utf-8")
    write_pages(tmp_path, params)
    markdown, _ = read_pages(tmp_path)
    assert "| class | train | val | test | no split | dropped |" in markdown
    assert "| Cat | 3 | 2 | 6 | 1 | 2 |" in markdown


def test_of_many_classes_those_with_the_fewest_training_images_are_listed(tmp_path: Path) -> None:
    params = make_params(**ONE_FROZEN)
    names = [f"class {number:02}" for number in range(30)]
    make_project(tmp_path, params, classes=names, per_class=8, mistakes={"frozen": [[0]]})
    splits = (tmp_path / paths.SPLITS).read_text(encoding="utf-8")
    (tmp_path / paths.SPLITS).write_text(re.sub(r"PetImages/class 29/3\.jpg,.*\n", "", splits), encoding="utf-8")
    write_pages(tmp_path, params)
    markdown, _ = read_pages(tmp_path)
    rows = re.findall(
        r"^\| (class \d\d|the .* others.*?|all) \| (\d+) \| (\d+) \| (\d+) \| \d \| \d \|$", markdown, re.MULTILINE
    )
    assert len(rows) == 22
    assert ("class 29", "1", "2", "4") in rows
    assert rows[-2] == ("the 10 others, with as many train images or more", "20", "20", "40")
    assert rows[-1] == ("all", "59", "60", "120")


def test_names_from_archives_cannot_break_the_page() -> None:
    assert escape_cell("a|b*<c>_[d]") == "a\\|b\\*\\<c\\>\\_\\[d\\]"
    assert escape_cell("two_stage") == "two_stage"
    assert mark_code("`x` <b>") == "<code>x</code> &lt;b&gt;"
    assert mark_breaks("two_stage") == "two_stage"
    assert mark_breaks("a/<b>_Albatross_") == "a/&lt;b&gt;_<wbr>Albatross_"
    assert escape_prose("`x_`: <b>, ` and _c") == "`x_`: \\<b\\>, \\` and \\_c"


def test_code_in_a_sentence_is_code_on_both_pages(tmp_path: Path) -> None:
    params = make_params(**ONE_FROZEN)
    make_project(tmp_path, params, per_class=8, mistakes={"frozen": [[0]]})
    write_report(tmp_path, params=params, run_ids={})
    markdown, html = read_pages(tmp_path)
    assert "2 seeds to `seeds` in params.yaml" in markdown
    assert "2 seeds to <code>seeds</code> in params.yaml" in html


def test_a_hostile_class_name_is_escaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "find_uncovered", list)  # as if no font had their letters
    params = make_params(**ONE_FROZEN)
    make_project(tmp_path, params, classes=("<script>x", "a|$b_c$"), per_class=8, mistakes={"frozen": [[0]]})
    write_report(tmp_path, params=params, run_ids={})
    markdown, html = read_pages(tmp_path)
    assert "<script>x" not in html
    assert "| a\\|$b_c$ |" in markdown
    assert "no font for the letters of \\<script\\>x and a\\|$b_c$;" in markdown


def test_operations_have_the_unit_that_suits_them() -> None:
    assert [format_flops(flops) for flops in (12, 3.4e6, 1.2345e9, 9.994e11, 1e12, 5.5e18)] == [
        "12 FLOP",
        "3.4 MFLOP",
        "1.23 GFLOP",
        "999 GFLOP",
        "1 TFLOP",
        "5,500 PFLOP",
    ]
