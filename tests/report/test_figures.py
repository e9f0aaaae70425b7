"""report.figures, sheets and tiles: the images of the report.

Run with: pytest tests/report/test_figures.py
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report import report_fixtures
from report.report_fixtures import ALIKE, RUN_IDS, Training, make_params, make_project, summarise
from thaw import paths
from thaw.report.confusion import count_confusion
from thaw.report.figure_style import figure_style, to_png, to_svg
from thaw.report.figures import draw_accuracy_against_cost, draw_curves, draw_run_figures
from thaw.report.results import read_results
from thaw.report.thumbnails import natural_key

written = report_fixtures.written


def test_figures_are_png_files_with_the_names_that_mlflow_looks_for(written: Path) -> None:
    of_runs = {f"{name}-{kind}.png" for name in RUN_IDS for kind in ("curves", "confusion", "images")}
    of_all = {"accuracy_against_cost.png", "curves.png", "confusion.png", "calibration.png", "sizes.png", "classes.png"}
    of_all |= {"learning_curve.png", "label_issues.png"}
    of_data = {"duplicates.png", "damaged.png", "dropped.png"}
    figures = sorted((written / paths.FIGURES).iterdir())
    assert {path.name for path in figures} == of_runs | of_all | of_data
    for path in figures:
        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert min(image.size) > 100


def test_test_images_come_in_the_order_of_their_numbers() -> None:
    found = ["Pets/Dog/10.jpg", "Pets/Cat/2.jpg", "Pets/Cat/10.jpg", "Pets/Dog/2.jpg", "Pets/Cat/x.jpg"]
    assert sorted(found, key=natural_key) == [
        "Pets/Cat/2.jpg",
        "Pets/Dog/2.jpg",
        "Pets/Cat/10.jpg",
        "Pets/Dog/10.jpg",
        "Pets/Cat/x.jpg",
    ]


def test_a_confusion_matrix_counts_all_seeds(written: Path) -> None:
    results = read_results(written, make_params())
    counts = count_confusion(results.runs_of("frozen"), results)
    assert counts.sum() == 3 * 80
    assert counts.trace() == 3 * 80 - 5


@pytest.mark.parametrize("variants", [1, 2, 3])
def test_accuracy_against_cost_has_room_for_any_number_of_variants(written: Path, variants: int) -> None:
    params = make_params()
    comparison, results = summarise(written, params), read_results(written, params)
    fewer = comparison.model_copy(update={"variants": comparison.variants[:variants]})
    with figure_style():
        png = to_png(draw_accuracy_against_cost(fewer, results.runs))
    with Image.open(io.BytesIO(png)) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    colors = {tuple(color) for color in np.unique(pixels, axis=0).tolist()}
    # Each variant has a colour of its own.
    expected = {(0x25, 0x63, 0xA8), (0xD9, 0x82, 0x2B), (0x2F, 0x9E, 0x6E)}
    assert len(expected & colors) == variants


def test_curves_of_a_discarded_phase_and_of_solved_heads_are_drawn(tmp_path: Path) -> None:
    params = make_params()
    make_project(tmp_path, params, mistakes=ALIKE, trainings={"two_stage-0": Training(best=(0, 3))})
    results = read_results(tmp_path, params)
    (discarding,) = [run for run in results.runs if run.name == "two_stage-0"]
    made = []
    with figure_style():
        for _ in range(2):
            figures = [draw_curves(results, list(params.variants)), *draw_run_figures(results, discarding).values()]
            made.append([(to_png(figure), to_svg(figure, "curves")) for figure in figures])
    assert made[0] == made[1]


@pytest.mark.parametrize("narrow", [0.5, 0.08, 0.02])
def test_percentages_on_axes_are_true_and_legends_lie_beside_the_lines(tmp_path: Path, narrow: float) -> None:
    params = make_params()
    make_project(tmp_path, params, mistakes=ALIKE)
    results = read_results(tmp_path, params)
    with figure_style():
        figure = draw_curves(results, ["frozen"])
        losses, accuracies = figure.axes[:2]
        low, high = losses.get_ylim()
        first, last = losses.get_xlim()
        # One loss alone, which rises to where legends use to be.
        for line in list(losses.lines):
            line.remove()
        losses.plot([first, last], [low, high])
        accuracies.set_ylim(1 - narrow, 1)
        figure.canvas.draw()
        legend = losses.get_legend()
        assert legend is not None
        points = losses.transData.transform(np.linspace((first, low), (last, high), 50))
        assert not any(legend.get_window_extent().contains(x, y) for x, y in points)
        shown = [float(label.get_text().removesuffix(" %")) for label in accuracies.get_yticklabels()]
        assert shown == pytest.approx(100 * accuracies.get_yticks())
