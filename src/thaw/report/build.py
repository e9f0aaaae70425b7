"""The files that the stages wrote -> everything under reports/ that people read, and comparison.json for programs."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean

from thaw import paths
from thaw.params import Params
from thaw.report.comparison import Comparison
from thaw.report.figure_style import figure_style, to_png, to_svg
from thaw.report.figures import draw_comparison_figures, draw_run_figures
from thaw.report.image_grids import draw_sheet
from thaw.report.page import build_page, render_html, render_markdown
from thaw.report.results import read_results
from thaw.report.summarise import build_comparison
from thaw.report.thumbnails import Thumbnails, gather_data, gather_predictions
from thaw.report.verdict import write_verdict
from thaw.utils.atomic import new_folder, write_json, write_text
from thaw.utils.progress import progress

SCHEMA = Path("docs/comparison.schema.json")


class ComparisonFile(Comparison):
    """reports/comparison.json: the numbers of a comparison, and what they say.

    Accuracies, differences between them and calibration errors are fractions of 1.
    """

    verdict: tuple[str, ...]
    """Sentences: what is estimated, the advice, and then the evidence."""


def write_schema(path: Path = SCHEMA) -> None:
    """Write the JSON schema of comparison.json."""
    write_json(path, ComparisonFile.model_json_schema(mode="serialization"))


def write_report(root: Path, *, params: Params, run_ids: Mapping[str, str | None]) -> None:
    """Write reports/comparison.json, .md and .html, summary.json, and reports/figures/*.png.

    Reports on the variants and seeds of `params`, whatever else lies in the folders. The same inputs give the same
    bytes. The figures of a run are `{variant}-{seed}-curves.png`, `-confusion.png` and `-images.png`.

    Args:
        root: the project's root; all paths are relative to it.
        params: the parameters that the stages ran with.
        run_ids: "{variant}-{seed}" -> the run's id in MLflow, or None if it was not logged.

    Raises:
        DataError: a file that a stage wrote is missing, or contradicts another one. Nothing is written then.
    """
    results = read_results(root, params)
    comparison = build_comparison(results, params=params, run_ids=run_ids)
    verdict = write_verdict(comparison)
    figures: dict[str, bytes] = {}
    with (
        Thumbnails(root) as thumbnails,
        figure_style(),
        progress("report", total=len(results.runs) + 2, unit="parts") as bar,
    ):
        predictions = {}
        for run in results.runs:
            predictions[run.name] = gather_predictions(thumbnails, results, run)
            for kind, figure in draw_run_figures(results, run).items():
                figures[f"{run.name}-{kind}"] = to_png(figure)
            figures[f"{run.name}-images"] = draw_sheet(predictions[run.name])
            bar.update()
        drawn = draw_comparison_figures(results, comparison)
        figures |= {name: to_png(figure) for name, figure in drawn.items() if not name.endswith("_narrow")}
        charts = {name: to_svg(figure, name) for name, figure in drawn.items()}
        bar.update()
        sheets = gather_data(thumbnails, results, params, label_issues=comparison.diagnosis.tells_wrong_labels)
        figures |= {name: draw_sheet(groups) for name, groups in sheets.items() if any(g.tiles for g in groups)}
        page = build_page(
            results,
            comparison,
            params=params,
            verdict=verdict,
            figures=figures.keys(),
            charts=charts,
            predictions=predictions,
            sheets=sheets,
        )
        html, markdown = render_html(page), render_markdown(page)
        bar.update()
    _write_files(root, figures=figures, html=html, markdown=markdown)
    file = ComparisonFile(**dict(comparison), verdict=verdict.sentences)
    write_json(root / paths.COMPARISON_JSON, file.model_dump(mode="json"))
    write_json(root / paths.SUMMARY, summarise(comparison))


def summarise(comparison: Comparison) -> dict[str, object]:
    """The few numbers that `dvc metrics` and `dvc exp show` show in columns: who wins, accuracy and cost by variant.

    Val accuracy is there for those who change recipes by what they see: the test split is not to choose by.
    """
    return {
        "recommended": comparison.recommended.variant,
        **{
            row.variant: {
                "test_accuracy": row.accuracy_mean,
                "ci95_low": row.accuracy_ci95[0],
                "ci95_high": row.accuracy_ci95[1],
                "val_accuracy": mean(run.val.accuracy for run in comparison.runs if run.variant == row.variant),
                "tflop": row.cost.flops / 1e12,
            }
            for row in comparison.variants
        },
    }


def _write_files(root: Path, *, figures: Mapping[str, bytes], html: str, markdown: str) -> None:
    """Write what people read."""
    with new_folder(root / paths.FIGURES) as folder:
        for name, png in sorted(figures.items()):
            (folder / f"{name}.png").write_bytes(png)
    write_text(root / paths.COMPARISON_HTML, html)
    write_text(root / paths.COMPARISON_MD, markdown)
