"""The first screen of the report -> docs/report.png, for README; needs Chromium (on Debian: apt-get install chromium).

Command: `python tools/screenshot_report.py`, after `make repro`. Others: `--report FILE --out FILE --width 390 --dark`.
"""

import argparse
from pathlib import Path

from chromium import open_tab

HEIGHT_PX = 720


def main() -> None:
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=Path("reports/comparison.html"))
    parser.add_argument("--out", type=Path, default=Path("docs/report.png"))
    parser.add_argument("--width", type=int, default=1200, help="of the window, in pixels")
    parser.add_argument("--dark", action="store_true")
    args = parser.parse_args()
    with open_tab() as tab:
        tab.resize(args.width, HEIGHT_PX, scheme="dark" if args.dark else "light")
        tab.open(args.report)
        tab.screenshot(args.out)
    print(f"{args.out}: {args.out.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
