"""The text of CI's report, and the comment that carries it to a pull request.

Run with: pytest tests/ci/test_ci_comment.py
"""

import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

import ci_comment
from ci_comment import LIMIT, MARK, clean
from ci_report import PipelineRun, describe_run, diff_table, draw_accuracies


class GitHub:
    """As much of GitHub's interface as comments need."""

    def __init__(self) -> None:
        self.pulls = [{"number": 7, "head": {"sha": "new"}}, {"number": 8, "head": {"sha": "other"}}]
        self.comments: list[dict[str, Any]] = [
            {"id": number, "user": {"login": "someone"}, "body": f"{MARK} said by someone"} for number in range(120)
        ]
        self.asked: list[str] = []

    def answer(self, method: str, address: str, body: Any) -> Any:
        parts = urlsplit(address)
        query = parse_qs(parts.query)
        path = parts.path.removeprefix("/repos/owner/project/")
        if (method, path) == ("GET", "pulls"):
            self.asked += query["head"]
            return self.pulls
        if (method, path) == ("GET", "issues/7/comments"):
            first = 100 * (int(query["page"][0]) - 1)
            return self.comments[first : first + 100]
        if (method, path) == ("POST", "issues/7/comments"):
            self.comments.append({"id": len(self.comments), "user": {"login": "github-actions[bot]"}, **body})
            return self.comments[-1]
        assert method == "PATCH"
        self.comments[int(path.removeprefix("issues/comments/"))].update(body)
        return {}


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GitHub]:
    github = GitHub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            assert self.headers["Authorization"] == "Bearer secret"
            length = int(self.headers.get("Content-Length", "0"))
            body = json.loads(self.rfile.read(length)) if length else None
            content = json.dumps(github.answer(self.command, self.path, body)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = _answer  # noqa: N815, as http.server calls them

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    values = {
        "GITHUB_TOKEN": "secret",
        "GITHUB_API_URL": f"http://127.0.0.1:{server.server_port}",
        "GITHUB_REPOSITORY": "owner/project",
        "HEAD_OWNER": "someone",
        "HEAD_BRANCH": "a/branch&state=closed",
        "HEAD_SHA": "new",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["ci_comment.py", str(tmp_path / "ci.md")])
    (tmp_path / "ci.md").write_text("## thaw\n", encoding="utf-8")
    yield github
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_first_report_is_written_and_later_ones_replace_it(github: GitHub, tmp_path: Path) -> None:
    ci_comment.main()
    (tmp_path / "ci.md").write_text("## another\n", encoding="utf-8")
    ci_comment.main()
    # Someone's comment that begins like ours is theirs.
    assert [comment["body"] for comment in github.comments[120:]] == [f"{MARK}\n## another\n\n"]
    assert all(comment["body"].endswith("said by someone") for comment in github.comments[:120])
    assert github.asked == ["someone:a/branch&state=closed"] * 2


def test_a_run_of_an_older_commit_says_nothing(github: GitHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEAD_SHA", "old")
    ci_comment.main()
    assert len(github.comments) == 120


def test_a_link_is_not_followed(github: GitHub, tmp_path: Path) -> None:
    (tmp_path / "ci.md").unlink()
    (tmp_path / "ci.md").symlink_to("/proc/self/environ")
    with pytest.raises(SystemExit, match="is a link"):
        ci_comment.main()
    assert len(github.comments) == 120


def test_a_strangers_text_is_only_read() -> None:
    text = clean("<img src=x> @everyone ![](https://x.example/track.png) \x1b[31m<!-- hidden -->" + "é" * 100_000)
    assert text.startswith(f"{MARK}\n")
    for forbidden in ("<img", "@everyone", "![", "\x1b", "<!-- hidden"):
        assert forbidden not in text.removeprefix(MARK)
    assert len(text) < LIMIT + 100
    assert "| a | 0.1 |\n\n```text\n|--o--|\n```" in clean("| a | 0.1 |\n\n```text\n|--o--|\n```")


def test_a_table_of_what_differs() -> None:
    before, after = (
        {"a": {"rate": [0.1, 0.2]}, "same": 1, "gone": "x"},
        {"a": {"rate": [0.1, 0.3]}, "same": 1, "b|": None},
    )
    table = diff_table(before, after, with_change=True, only_changes=True).splitlines()
    assert table[2:] == ["| a.rate.1 | 0.2 | 0.3 | +0.1 |", "| b\\| | — | None |  |", "| gone | x | — |  |"]
    assert diff_table(after, after, with_change=False, only_changes=True) == ""


def test_the_plot_has_interval_mean_and_base() -> None:
    row = {"ci95_low": 0.8, "test_accuracy": 0.9, "ci95_high": 1.0}
    plot = draw_accuracies({"recommended": "x", "x": row, "y": row}, {"x": row | {"test_accuracy": 0.8}, "y": row})
    lines = plot.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["x", "x", "y"]
    assert lines[0].endswith("|  90.0%")
    assert lines[1].startswith("x (base)  o---")
    assert lines[3].split() == ["80.0%", "100.0%"]
    assert draw_accuracies({"recommended": "x"}, {}) == ""


def test_a_run_that_failed_or_did_too_much_says_so() -> None:
    done = PipelineRun(stages=3, ran=("a",), exit_status=0, ran_again=("a",), seconds=1.0)
    assert not done.succeeded
    assert "Asked for again, a ran again" in describe_run(done)
    failed = PipelineRun(stages=3, ran=("a",), exit_status=2, ran_again=None, seconds=1.0)
    assert describe_run(failed).startswith("**Failed:** 1 of 3 stages had begun (a).")
