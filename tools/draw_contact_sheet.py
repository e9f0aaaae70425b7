"""Images of the drawn sample side by side -> docs/sample.jpg, for README; cats and dogs take turns in the columns.

Command: `python tools/draw_contact_sheet.py`.
"""

import argparse
from pathlib import Path

from PIL import Image

from thaw.sample.archive import LABELS, draw_image

COLUMNS, ROWS, SIDE_PX, SEED = 8, 4, 128, 0


def main() -> None:
    """Write the JPEG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/sample.jpg"))
    out = parser.parse_args().out
    sheet = Image.new("RGB", (COLUMNS * SIDE_PX, ROWS * SIDE_PX))
    for row in range(ROWS):
        for column in range(COLUMNS):
            image = draw_image(LABELS[column % 2], (row * COLUMNS + column) // 2, seed=SEED)
            short = min(image.size)
            left, top = (image.width - short) // 2, (image.height - short) // 2
            tile = image.resize((SIDE_PX, SIDE_PX), box=(left, top, left + short, top + short))
            sheet.paste(tile, (column * SIDE_PX, row * SIDE_PX))
    sheet.save(out, "JPEG", quality=80)
    print(f"{out}: {out.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
