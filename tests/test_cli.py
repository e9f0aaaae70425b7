"""What `thaw` says of arguments that are missing or wrong: one sentence, with a command that is right.

Run with `pytest tests/test_cli.py`.
"""

import subprocess
import sys

import pytest

from conftest import ROOT
from thaw import cli


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("predict", "thaw predict: the following arguments are required: PATH; for instance: thaw predict my_cat.jpg"),
        ("inspect", "the following arguments are required: ARCHIVE; for instance: thaw inspect ../my_images.zip"),
        ("export", "the following arguments are required: MODEL; for instance: thaw export data/models/frozen-0"),
        ("evaluate", "are required: MODEL, --data; for instance: thaw evaluate data/models/frozen-0 --data ../other"),
        ("", "thaw: the following arguments are required: COMMAND; `thaw --help` lists the commands"),
        ("predit", "thaw: argument COMMAND: invalid choice: 'predit' (choose from "),
        (
            "show --blocks",
            "thaw: unrecognized arguments: --blocks; `thaw --help` lists the commands, and `thaw COMMAND",
        ),
        ("predict a.jpg --fromat csv b.jpg", "thaw: unrecognized arguments: --fromat csv b.jpg; `thaw --help` lists"),
        ("repro --jobs many", "thaw repro: argument --jobs: invalid int value: 'many'; `thaw --help` lists"),
    ],
)
def test_missing_or_wrong_arguments_are_one_sentence(
    arguments: str, sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["thaw", *arguments.split()])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("error: thaw")
    assert sentence in said
    assert said.count("\n") == 1


def test_make_ui_says_a_line_before_it_starts_what_takes_seconds() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "--assume-old=.venv/ready", "ui"]
    first, second, *_ = subprocess.check_output(command, cwd=ROOT, text=True).splitlines()
    assert first.startswith("echo ")
    assert second == "thaw sync || true"
