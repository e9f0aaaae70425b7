"""Numbers -> tables, figures, Markdown, HTML: everything under reports/ that people read."""

from collections.abc import Mapping
from pathlib import Path

from thaw import layout
from thaw.atomic import new_folder, write_json, write_text
from thaw.params import Params
from thaw.progress import progress
from thaw.report.compare import compare_runs
from thaw.report.figures import draw_comparison_figures, draw_run_figures, figure_style
from thaw.report.page import build_page, render_html, render_markdown
from thaw.report.pictures import Album, draw_sheet, gather_data, gather_predictions
from thaw.report.read import read_results


def write_report(root: Path, *, params: Params, run_ids: Mapping[str, str | None]) -> None:
    """Write reports/comparison.json, .md and .html, and reports/figures/*.png.

    Reports on the variants and seeds of `params`, whatever else lies in the folders. The same inputs give the same
    bytes. The figures of a run are `{variant}-{seed}-curves.png`, `-confusion.png` and `-pictures.png`.

    Args:
        root: the project's root; all paths are relative to it.
        params: the parameters that the stages ran with.
        run_ids: "{variant}-{seed}" -> the run's id in MLflow, or None if it was not logged.

    Raises:
        DataError: a file that a stage wrote is missing, or contradicts another one. Nothing is written then.
    """
    results = read_results(root, params)
    comparison = compare_runs(results, params=params, run_ids=run_ids)
    figures: dict[str, bytes] = {}
    with Album(root) as album, figure_style(), progress("report", total=len(results.runs) + 2, unit="parts") as bar:
        predictions = {}
        for run in results.runs:
            predictions[run.name] = gather_predictions(album, results, run)
            for kind, png in draw_run_figures(results, run).items():
                figures[f"{run.name}-{kind}"] = png
            figures[f"{run.name}-pictures"] = draw_sheet(predictions[run.name])
            bar.update()
        figures |= draw_comparison_figures(results, comparison)
        bar.update()
        sheets = gather_data(album, results, params)
        figures |= {name: draw_sheet(groups) for name, groups in sheets.items() if any(g.tiles for g in groups)}
        page = build_page(results, comparison, params=params, figures=figures, predictions=predictions, sheets=sheets)
        html, markdown = render_html(page), render_markdown(page)
        bar.update()
    with new_folder(root / layout.FIGURES) as folder:
        for name, png in sorted(figures.items()):
            (folder / f"{name}.png").write_bytes(png)
    write_text(root / "reports/comparison.html", html)
    write_text(root / "reports/comparison.md", markdown)
    write_json(root / "reports/comparison.json", comparison)
