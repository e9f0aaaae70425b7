"""How long the work waits for a tracker that says nothing, and what it says then.

Run with: pytest tests/tracking/test_background.py
"""

import sys
from pathlib import Path

import pytest

from thaw.tracking import background


def test_the_warning_names_the_seconds_that_were_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mute = tmp_path / "python"
    mute.write_text("#!/bin/sh\nexec sleep 60\n")
    mute.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(mute))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    # A tracker that is starting gets the longer one of the two.
    monkeypatch.setattr(background, "PATIENCE_S", 0.1)
    monkeypatch.setattr(background, "START_S", 2.0)
    with background.tracked_report() as runs:
        assert dict(runs) == {}
    (warning,) = caplog.messages
    assert " for 2 s); `thaw sync` will" in warning
