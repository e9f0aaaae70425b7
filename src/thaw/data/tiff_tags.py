"""The tags of a TIFF that say how its samples are to be read: what Pillow guesses where they are missing or damaged.

See TIFF 6.0, sections 2 (the list of tags), 4 (strips) and 15 (tiles).
"""

import struct
from collections.abc import Mapping
from math import ceil
from typing import Any

_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES = 256, 257, 258, 262, 273, 277, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES = 322, 323, 324, 325
_LAST_TYPE = 18
"""Of the types that values have: 1 to 13, and 16 to 18 of BigTIFF."""


def lacks_tags(tags: Mapping[int, Any], data: bytes) -> bool:
    """Whether Pillow guesses how the samples are to be read: whether 0 is white, for one."""
    found = {tag: value for tag, value in tags.items() if value != ()}
    return (
        not isinstance(found.get(_PHOTOMETRIC), int)
        or _BITS not in found
        or not found.get(_SAMPLES, 1)
        or not found.keys() & {_STRIP_BYTES, _TILE_BYTES}
        or _has_unknown_types(data)
    )


def require_all_strips(tags: Mapping[int, Any]) -> None:
    """Raise ValueError if the list of strips or tiles ends before the image does; Pillow leaves the rest black."""
    width, height = tags[_WIDTH], tags[_HEIGHT]
    if _STRIPS in tags:
        found, needed = len(tags[_STRIPS]), ceil(height / (tags.get(_ROWS) or height))
    else:
        found = len(tags[_TILES])
        needed = ceil(width / tags[_TILE_WIDTH]) * ceil(height / tags[_TILE_HEIGHT])
    if found < needed:
        raise ValueError(f"{found} strips of {needed}")


def _has_unknown_types(data: bytes) -> bool:
    """Whether a tag of the first image (of a file below 4 GiB) has a value of a type that does not exist."""
    order = "<" if data.startswith(b"II") else ">"
    if struct.unpack_from(f"{order}H", data, 2)[0] != 42:
        return False
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    types = [struct.unpack_from(f"{order}H", data, start + 4 + 12 * i)[0] for i in range(count)]
    return not all(1 <= kind <= _LAST_TYPE for kind in types)
