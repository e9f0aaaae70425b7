"""How the report's figures look, and how they become PNG and SVG: the same bytes for the same figure."""

import io
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from thaw.report.fonts import list_families

DPI = 110
COLORS = ("#2563a8", "#d9822b", "#2f9e6e", "#a4479b", "#b8433e", "#5b6b7a")
"""Of the variants, in their order; told apart with the common colour-vision deficiencies, and in grey by the labels."""
INK, AXIS, GRID, PALE, CELL = "#3c454d", "#8a949e", "#e3e7ea", "#a3acb5", "#ffffff"
"""Of text, axes, grid lines, what is beside the point, and of text on a dark cell. The page's style sheet has another
colour for each in the dark."""
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.6,
    "legend.frameon": False,
    # A class may be called "$100": nothing here is mathematics.
    "text.parse_math": False,
    "text.color": INK,
    # Text remains text, so that the browser's fonts draw it.
    "svg.fonttype": "none",
    "svg.hashsalt": "thaw",
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's own defaults with our changes, whatever a user's matplotlibrc says; undone at the end."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        mpl.rcParams["font.family"] = list_families()
        # It says of the last resort that it has no bold letters.
        logging.getLogger("matplotlib.font_manager").addFilter(_is_of_concern)
        try:
            yield
        finally:
            logging.getLogger("matplotlib.font_manager").removeFilter(_is_of_concern)


def _is_of_concern(record: logging.LogRecord) -> bool:
    return "font weight" not in record.msg


def color_of(place: int) -> str:
    """Of the variant that is the nth in params.yaml, counted from 0."""
    return COLORS[place % len(COLORS)]


def to_png(figure: Figure) -> bytes:
    """A picture on white, for files and Markdown."""
    buffer = io.BytesIO()
    # Without metadata: matplotlib would write its version.
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def to_svg(figure: Figure, name: str) -> Markup:
    """An SVG element to stand in a page, whose fonts and colours (`--figure-...`) it takes.

    Args:
        figure: drawn within `figure_style`.
        name: goes before each id, so that no two figures of a page have the same.
    """
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>|<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"font-family: [^;\"]+;? ?", "", svg)
    linked = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in linked else "", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in _VARIABLES.items():
        svg = svg.replace(f": {color}", f": var({variable})")
    width, height = (float(size) for size in re.findall(r'(?:width|height)="([\d.]+)pt"', svg)[:2])
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r">\s+<", "><", svg).replace("\n", " ")
    style = f"--width: {width * 4 / 3:.0f}px; aspect-ratio: {width:g} / {height:g}"
    return Markup(svg.replace("<svg", f'<svg style="{style}" aria-hidden="true"', 1))  # noqa: S704 (matplotlib escapes)


_VARIABLES = {
    INK: "--figure-ink",
    AXIS: "--figure-axis",
    GRID: "--figure-grid",
    PALE: "--figure-pale",
    CELL: "--figure-cell",
    **{color: f"--variant-{place}" for place, color in enumerate(COLORS)},
}
"""What `to_svg` has instead of a colour."""
