"""README's pictures: the first screen of the report -> docs/report.png, and the runs in MLflow -> docs/mlflow.png.

Command: `python tools/screenshots.py`, after `make repro`; needs Chromium (on Debian: apt-get install chromium).
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image

from chromium import Tab, open_tab
from local_server import serving
from thaw.params_file import load_params
from thaw.paths import COMPARISON_HTML
from thaw.tracking.in_line import shown_in_line
from thaw.tracking.location import tracking_uri
from thaw.tracking.saved_view import UI

REPORT_PX, MLFLOW_PX = (1200, 720), (1330, 620)
START_S = 120
SETTLE_MS = 2000
COLOURS = 96
"""Of a picture: enough for text and plots, and a third of the bytes."""


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs"), help="the folder; made if there is none")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    with open_tab() as tab:
        tab.resize(*REPORT_PX)
        tab.open(COMPARISON_HTML)
        take(tab, out / "report.png")
        subprocess.run(["thaw", "sync"], check=True)
        shown = shown_in_line(load_params())
        assert shown is not None
        with mlflow_ui() as address:
            tab.resize(*MLFLOW_PX)
            tab.visit(address, wait_s=START_S)
            # Else a first visit opens an assistant over a third of the page.
            tab.run("localStorage['mlflow.assistant.fab.autoOpenedOnFirstLoad_v1'] = true")
            tab.visit(shown.address.replace(UI, address), wait_s=START_S)
            tab.wait_until(f"document.querySelectorAll('.ag-row').length > {len(shown.runs)}", wait_s=START_S)
            for button in ("Hide banner", "Toggle sidebar"):
                tab.run(f"document.querySelector('button[aria-label=\"{button}\"]').click()")
            tab.run(f"new Promise(done => setTimeout(done, {SETTLE_MS}))")
            take(tab, out / "mlflow.png")


@contextmanager
def mlflow_ui() -> Iterator[str]:
    """MLflow's UI on a free port; yields its address."""
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": tracking_uri(), "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1"]
    with serving(command, environment=environment, start_s=START_S, stderr=subprocess.DEVNULL) as server:
        yield server.address


def take(tab: Tab, path: Path) -> None:
    """Write what the window shows with few colours."""
    tab.screenshot(path)
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()
