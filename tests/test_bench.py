"""`make bench` runs each benchmark without arguments, and one that lacks its data does not end it.

Run with: pytest tests/test_bench.py
"""

import runpy
import sys
from pathlib import Path

import pytest

import photos
import vary_photos
from conftest import ROOT


@pytest.mark.parametrize("script", sorted((ROOT / "bench").glob("bench_*.py")), ids=lambda path: path.stem)
def test_a_benchmark_without_its_data_says_so_in_one_sentence(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in (photos, vary_photos):
        monkeypatch.setattr(module, "PHOTOS", tmp_path / "missing.zip")
    monkeypatch.setattr(sys, "argv", [str(script)])
    monkeypatch.chdir(tmp_path)
    code: object = None
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        code = end.code
    assert not code
    said = capsys.readouterr().out
    assert said.startswith(f"{script.stem}: skipped, since ")
    assert said.count("\n") == 1
