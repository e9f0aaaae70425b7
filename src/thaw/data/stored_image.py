"""One image as images.zip stores it, decoded at no more than the size that a view of it needs."""

from typing import Self

import simplejpeg

from thaw.data.decode import Pixels, UndecodableError, decode
from thaw.errors import DataError

SHRINKS = (8, 4, 2)
"""By these libjpeg-turbo can divide both sides while it decodes, for less work than decoding everything; other ratios
that it offers save little. https://libjpeg-turbo.org/Documentation"""


class StoredImage:
    """An upright RGB image in a JPEG or PNG file; each size is decoded once."""

    def __init__(self, data: bytes, *, place: str) -> None:
        """Read the size of the image in `data`, which lies at `place`; DataError if it has none."""
        self._data = data
        self._place = place
        self._decoded: dict[int, Pixels] = {}
        self._shrinks: tuple[int, ...] = ()
        try:
            self.height_px, self.width_px, *_ = simplejpeg.decode_jpeg_header(data)
            self._shrinks = SHRINKS
        except ValueError:
            self.height_px, self.width_px, _ = self.pixels().shape

    @classmethod
    def from_pixels(cls, pixels: Pixels) -> Self:
        """An image that no file holds, shape `(H, W, 3)`, uint8."""
        image = cls.__new__(cls)
        image.height_px, image.width_px, _ = pixels.shape
        image._decoded, image._shrinks = {1: pixels}, ()
        return image

    def pixels(self) -> Pixels:
        """The whole image, shape `(H, W, 3)`; DataError if it is damaged beyond what cleaning keeps."""
        if 1 not in self._decoded:
            try:
                # These images were measured when they were cleaned: only Pillow's own limit is left.
                self._decoded[1] = decode(self._data, max_pixels=2**31)
            except UndecodableError as error:
                raise DataError(f"{self._place}: {error}; run the clean stage again") from None
        return self._decoded[1]

    def shrunk_pixels(self, most: float) -> tuple[Pixels, int]:
        """The image with its sides divided by as much as its format allows, at most by `most`.

        Each pixel is about the mean of a square of pixels of the whole image.

        Returns:
            Shape `(ceil(H / shrink), ceil(W / shrink), 3)`, and `shrink`: 1, 2, 4 or 8.

        Raises:
            DataError: see `pixels`.
        """
        for shrink in self._shrinks:
            if shrink <= most:
                if shrink in self._decoded:
                    return self._decoded[shrink], shrink
                height, width = -(-self.height_px // shrink), -(-self.width_px // shrink)
                try:
                    made = simplejpeg.decode_jpeg(
                        self._data, min_height=height, min_width=width, min_factor=shrink, strict=True
                    )
                except ValueError:
                    # Damaged, but kept in cleaning: `decode` knows what to do.
                    break
                assert made.shape == (height, width, 3), (made.shape, height, width)
                self._decoded[shrink] = made
                return made, shrink
        return self.pixels(), 1
