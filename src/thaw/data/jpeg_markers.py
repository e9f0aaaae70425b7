"""What the header of a JPEG holds, by its markers (ITU-T T.81, annex B; JFIF is T.871)."""

_PLAIN = {
    0xC0, 0xC1, 0xC2,  # frames: baseline, extended and progressive
    0xC4, 0xDB, 0xDD,  # tables
    0xE0,  # JFIF: the density, and perhaps a thumbnail
    0xFE,  # a comment
}  # fmt: skip
_SCAN = 0xDA


def has_plain_header(data: bytes) -> bool:
    """Whether `data` starts as a JPEG that says nothing about orientation, further frames or unusual colours.

    All that could say so (EXIF, XMP, MPO, Adobe's) stands in other application segments than JFIF's.
    """
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker == _SCAN:
            return True
        if marker not in _PLAIN:
            return False
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return False
