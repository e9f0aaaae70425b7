"""Numbers, lists and places as they stand in sentences, and when two names are one."""

import unicodedata
from collections.abc import Iterable, Sequence

MINUS = "\N{MINUS SIGN}"


def fold_case(name: str) -> str:
    """What two spellings have in common that differ in upper and lower case, or in their Unicode form, alone."""
    return unicodedata.normalize("NFC", name.casefold())


def points(fraction: float) -> str:
    """0.0123 -> "1.2": percent or percentage points, with a real minus sign and none before zero."""
    text = f"{100 * fraction:.1f}"
    return "0.0" if text == "-0.0" else text.replace("-", MINUS)


def count(n: int, one: str, many: str | None = None) -> str:
    """`count(2, "seed")` -> "2 seeds"."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def enumerate_words(parts: Sequence[str], *, last: str = "and") -> str:
    """`["x", "y", "z"]` -> "x, y and z"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def name_some(names: Sequence[str], *, most: int = 3, separator: str = ", ") -> str:
    """`["a", "b", "c", "d", "e"]` -> "a, b, c and 2 more"."""
    more = len(names) - most
    return separator.join(names[:most]) + (f" and {more:,} more" if more > 0 else "")


def dotted(parts: Iterable[str | int]) -> str:
    """`("variants", "frozen", 0, "lr")` -> `variants.frozen.0.lr`."""
    return ".".join(str(part) for part in parts)
