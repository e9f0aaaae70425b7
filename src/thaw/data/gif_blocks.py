"""What a GIF must hold before its first frame, and what Pillow goes on without: it skips what is no block.

See https://www.w3.org/Graphics/GIF/spec-gif89a.txt, sections 15 to 26.
"""

_EXTENSION, _FRAME = 0x21, 0x2C
_HEADER_BYTES = 13
_FRAME_BYTES = 10
_MAX_CODE_BITS = 8
_HAS_COLOURS = 0x80


def require_first_frame(data: bytes) -> None:
    """Walk to the pixels of the first frame of a GIF.

    Raises:
        ValueError: something else than a block comes first, or no table says which colours the
            frame's numbers mean, or there are none.
        IndexError: the file ends before.
    """
    flags = data[10]
    offset = _HEADER_BYTES + _size_of_colours(flags)
    while data[offset] == _EXTENSION:
        offset += 2
        while data[offset]:
            offset += 1 + data[offset]
        offset += 1
    if data[offset] != _FRAME:
        raise ValueError(f"no block starts with {data[offset]:#04x}")
    own_flags = data[offset + _FRAME_BYTES - 1]
    if not (flags | own_flags) & _HAS_COLOURS:
        raise ValueError("there is no table of colours")
    offset += _FRAME_BYTES + _size_of_colours(own_flags)
    code_bits, first_bytes = data[offset : offset + 2]
    if not 1 <= code_bits <= _MAX_CODE_BITS or not first_bytes:
        raise ValueError("the frame holds no pixels")


def _size_of_colours(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & _HAS_COLOURS else 0
