"""Class names in any script -> fonts that hold their letters, of those installed."""

import functools
from collections.abc import Iterable
from pathlib import Path

import matplotlib
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font

DEJAVU = "DejaVu Sans"
"""Comes with matplotlib: Latin, Greek, Cyrillic and much else look the same on every machine."""
LAST_RESORT = "Last Resort High-Efficiency"
"""Comes with matplotlib, too: a box with the name of the script for any letter that no other font holds."""
FALLBACKS = (
    "Noto Sans", "Noto Sans CJK SC", "Noto Sans SC", "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari",
    "Noto Sans Bengali", "Noto Sans Tamil", "Noto Sans Thai", "Noto Emoji", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei",
    "Microsoft YaHei", "PingFang SC", "Hiragino Sans", "Malgun Gothic", "Lohit Devanagari", "Nirmala UI", "FreeSans",
    "Arial Unicode MS", "Symbola", "Unifont",
)  # fmt: skip
"""Families for other scripts, as Debian, macOS and Windows have them; colour emoji cannot be drawn by matplotlib."""


def list_families() -> list[str]:
    """DejaVu Sans, the installed ones of FALLBACKS, and the last resort: matplotlib takes the first with the letter."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return [DEJAVU, *(name for name in FALLBACKS if name in installed), LAST_RESORT]


def find_uncovered(texts: Iterable[str]) -> list[str]:
    """Those of the texts with a letter that no font of `list_families` but the last resort holds."""
    covered = frozenset[int]().union(*(_covered_by(_find_file(name)) for name in list_families()[:-1]))
    return [text for text in texts if not covered.issuperset(map(ord, text))]


def choose_file(text: str, *, bold: bool = False) -> Path:
    """The font file of the first family that holds all letters of the text; DejaVu Sans if none does."""
    for name in list_families()[:-1]:
        path = _find_file(name, bold=bold)
        if _covered_by(path).issuperset(map(ord, text)):
            return path
    return _find_file(DEJAVU, bold=bold)


@functools.cache
def _find_file(family: str, *, bold: bool = False) -> Path:
    if family == DEJAVU:
        return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    wanted = font_manager.FontProperties(family=family, weight="bold" if bold else "normal")
    return Path(font_manager.findfont(wanted, fallback_to_default=False))


@functools.cache
def _covered_by(path: Path) -> frozenset[int]:
    """Code points that a font has letters for."""
    return frozenset(FT2Font(str(path)).get_charmap())
