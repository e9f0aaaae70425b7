"""Downloads from a server that misbehaves: the right bytes or one clear sentence, and never half a file.

Run with `pytest tests/ingest/test_download.py`.
"""

import hashlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from loopback import Reply, Request, Server, serve_file, serving
from thaw.errors import DataError
from thaw.ingest import download
from thaw.ingest.download import Remote, download_file

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _quick_and_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(lambda request: serve_file(request, CONTENT)) as running:
        yield running


@pytest.fixture
def places(tmp_path: Path) -> "Places":
    return Places(tmp_path / "raw" / "archive", tmp_path / "partials")


class Places(NamedTuple):
    """Where the file goes, and where it waits until it is whole."""

    destination: Path
    partials: Path

    def fetch(self, url: str, *, attempts: int = 3, timeout_s: float = 5, pinned: bool = True) -> None:
        remote = Remote(url=url, size=len(CONTENT), sha256=SHA256) if pinned else Remote(url=url)
        download_file(remote, self.destination, timeout_s=timeout_s, attempts=attempts, partials=self.partials)

    def refusal(self, url: str, *, attempts: int = 3, timeout_s: float = 5, pinned: bool = True) -> str:
        """The sentence with which it fails; nothing has got the final name."""
        with pytest.raises(DataError) as caught:
            self.fetch(url, attempts=attempts, timeout_s=timeout_s, pinned=pinned)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert not self.destination.exists()
        assert self.beside() == []
        return sentence

    def beside(self) -> list[str]:
        """What else lies in the folder of the final name."""
        return [path.name for path in self.destination.parent.glob("*") if path != self.destination]

    def waiting(self) -> list[Path]:
        return sorted(self.partials.glob("*"))

    def assert_whole(self) -> None:
        assert self.destination.read_bytes() == CONTENT
        assert self.beside() == []
        assert self.waiting() == []


def one_after_another(*answers: Callable[[Request], Reply]) -> Callable[[Request], Reply]:
    """Give each answer once, and the last one ever after."""
    left = list(answers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def good(request: Request) -> Reply:
    return serve_file(request, CONTENT)


def cut_at(cut: int | None, *, etag: str | None = '"v1"', changed: str | None = None) -> Callable[[Request], Reply]:
    return lambda request: serve_file(request, CONTENT, etag=etag, changed=changed, cut=cut)


def answering(status: int) -> Callable[[Request], Reply]:
    return lambda _: Reply(status, b"no")


def test_a_sound_download_is_whole_and_leaves_nothing_else(server: Server, places: Places) -> None:
    places.fetch(server.url)
    places.assert_whole()


@pytest.mark.parametrize("seed", range(6))
def test_cuts_at_random_bytes_are_resumed(server: Server, places: Places, seed: int) -> None:
    draw = random.Random(seed)
    server.answer = one_after_another(*(cut_at(draw.randint(0, 90_000)) for _ in range(4)), good)
    places.fetch(server.url, attempts=5)
    places.assert_whole()
    assert all("if-range" in request.headers for request in server.requests if "range" in request.headers)


def test_only_the_rest_is_asked_for(server: Server, places: Places) -> None:
    server.answer = one_after_another(cut_at(123_456), good)
    places.fetch(server.url)
    assert server.requests[1].headers["range"] == "bytes=123456-"
    assert server.requests[1].headers["if-range"] == '"v1"'
    places.assert_whole()


def test_the_date_of_the_last_change_will_do_instead_of_an_etag(server: Server, places: Places) -> None:
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    for etag in (None, 'W/"weak"'):
        server.requests.clear()
        server.answer = one_after_another(cut_at(1000, etag=etag, changed=date), cut_at(None, etag=etag, changed=date))
        places.fetch(server.url)
        assert server.requests[1].headers["if-range"] == date
        places.assert_whole()


def test_nothing_is_resumed_that_cannot_be_recognised(server: Server, places: Places) -> None:
    server.answer = one_after_another(cut_at(1000, etag=None), lambda request: serve_file(request, CONTENT, etag=None))
    places.fetch(server.url)
    assert "range" not in server.requests[1].headers
    places.assert_whole()


def test_a_server_without_ranges_starts_over(server: Server, places: Places) -> None:
    server.answer = one_after_another(
        lambda _: Reply(200, CONTENT[:200_000], {"Content-Length": str(len(CONTENT)), "ETag": '"v1"'}),
        lambda _: Reply(200, CONTENT, {"ETag": '"v1"'}),
    )
    places.fetch(server.url)
    places.assert_whole()


def test_a_file_that_changed_between_two_tries_starts_over(server: Server, places: Places) -> None:
    server.answer = one_after_another(
        lambda request: serve_file(request, OTHER, etag='"old"', cut=100_000),
        lambda request: serve_file(request, CONTENT, etag='"new"'),
    )
    places.fetch(server.url, pinned=False)
    places.assert_whole()


def test_a_server_that_ignores_if_range_does_not_get_two_files_mixed(server: Server, places: Places) -> None:
    def careless(request: Request) -> Reply:
        return serve_file(Request(request.method, request.path, {"range": request.headers.get("range", "")}), CONTENT)

    server.answer = one_after_another(
        lambda request: serve_file(request, OTHER, etag='"old"', cut=100_000), careless, careless
    )
    places.fetch(server.url, pinned=False)
    places.assert_whole()


def test_416_starts_over(server: Server, places: Places) -> None:
    server.answer = one_after_another(cut_at(5000), answering(416), good)
    places.fetch(server.url)
    places.assert_whole()


def test_416_for_a_whole_file_is_final(server: Server, places: Places) -> None:
    server.answer = answering(416)
    assert "416" in places.refusal(server.url)
    assert len(server.requests) == 1


def test_a_wrong_range_is_not_appended(server: Server, places: Places) -> None:
    wrong = Reply(206, CONTENT[7:], {"Content-Range": f"bytes 7-{len(CONTENT) - 1}/{len(CONTENT)}", "ETag": '"v1"'})
    server.answer = one_after_another(cut_at(5000), lambda _: wrong, good)
    places.fetch(server.url)
    places.assert_whole()


def test_a_silent_server_is_given_up_and_what_came_is_kept(server: Server, places: Places) -> None:
    server.answer = one_after_another(
        lambda _: Reply(200, CONTENT[:1000], {"Content-Length": str(len(CONTENT)), "ETag": '"v1"'}, then="stall"),
        lambda _: Reply(206, b"", {"Content-Range": f"bytes 1000-{len(CONTENT) - 1}/{len(CONTENT)}",
                                   "Content-Length": str(len(CONTENT) - 1000)}, then="stall"),
    )  # fmt: skip
    sentence = places.refusal(server.url, timeout_s=0.3, attempts=2)
    assert "silent for 0.3 s" in sentence
    assert "1,000 bytes are kept" in sentence
    server.answer = good
    places.fetch(server.url)
    assert server.requests[-1].headers["range"] == "bytes=1000-"
    places.assert_whole()


def test_where_nothing_can_be_resumed_the_sentence_does_not_promise_it(server: Server, places: Places) -> None:
    server.answer = cut_at(1000, etag=None)
    assert places.refusal(server.url, attempts=2).endswith("; run this again, which starts over")


def test_tries_that_bring_something_do_not_count(server: Server, places: Places) -> None:
    server.answer = cut_at(20_000)
    places.fetch(server.url, attempts=1)
    places.assert_whole()
    assert len(server.requests) == 15


def test_a_server_that_is_not_there_is_given_up(server: Server, places: Places) -> None:
    with serving(good) as gone:
        url = gone.url
    sentence = places.refusal(url, attempts=2)
    assert "2 times in a row" in sentence
    assert "Connection refused" in sentence


@pytest.mark.parametrize(("status", "advice"), [(404, "correct the address"), (403, "by hand"), (401, "login")])
def test_a_refusal_is_final_and_says_what_to_do(server: Server, places: Places, status: int, advice: str) -> None:
    server.answer = answering(status)
    sentence = places.refusal(f"{server.url}/cats.zip?token=secret")
    assert str(status) in sentence
    assert f"{server.url}/cats.zip" in sentence
    assert "secret" not in sentence
    assert advice in sentence
    assert len(server.requests) == 1


def test_a_refusal_in_the_middle_keeps_what_came(server: Server, places: Places) -> None:
    server.answer = one_after_another(cut_at(5000), answering(403))
    assert "403" in places.refusal(server.url)
    server.answer = good
    places.fetch(server.url)
    assert server.requests[-1].headers["range"] == "bytes=5000-"
    places.assert_whole()


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, places: Places, status: int) -> None:
    server.answer = one_after_another(cut_at(5000), answering(status), good)
    places.fetch(server.url)
    places.assert_whole()


def test_waits_double_up_to_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    for failures in (0, 1, 2, 3, 10):
        download.wait_before_retry(failures)
    assert waits == [1, 2, 4, 8, 60]


def test_flipped_bytes_keep_nothing_and_name_both_hashes(server: Server, places: Places) -> None:
    flipped = bytes([CONTENT[0] ^ 1]) + CONTENT[1:]
    server.answer = lambda request: serve_file(request, flipped)
    sentence = places.refusal(server.url)
    assert SHA256 in sentence
    assert hashlib.sha256(flipped).hexdigest() in sentence
    assert places.waiting() == []


def test_another_length_than_the_pinned_one_is_refused_before_the_download(server: Server, places: Places) -> None:
    server.answer = lambda request: serve_file(request, CONTENT + b"more")
    sentence = places.refusal(server.url)
    assert "300,004" in sentence
    assert "300,000" in sentence
    assert places.waiting() == []


def test_a_length_that_promises_more_than_there_is_ends(server: Server, places: Places) -> None:
    def boastful(request: Request) -> Reply:
        reply = serve_file(request, CONTENT)
        if reply.status != 200:
            return reply
        return Reply(200, CONTENT, reply.headers | {"Content-Length": "400000"})

    server.answer = boastful
    assert "3 times in a row" in places.refusal(server.url, pinned=False)


def test_a_length_that_promises_less_than_there_is_fails_the_hash(server: Server, places: Places) -> None:
    server.answer = lambda _: Reply(200, CONTENT, {"Content-Length": "1000"})
    download_file(Remote(url=server.url), places.destination, timeout_s=5, attempts=1, partials=places.partials)
    assert places.destination.read_bytes() == CONTENT[:1000]  # nothing is pinned, so nothing can be compared
    places.destination.unlink()
    with pytest.raises(DataError, match=SHA256):
        download_file(
            Remote(url=server.url, sha256=SHA256), places.destination, timeout_s=5, attempts=1, partials=places.partials
        )
    assert not places.destination.exists()


def test_a_server_that_states_no_length_is_read_to_the_end(server: Server, places: Places) -> None:
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(CONTENT), CONTENT)
    server.answer = lambda _: Reply(200, chunked, {"Transfer-Encoding": "chunked"})
    places.fetch(server.url)
    places.assert_whole()


def test_a_cut_in_chunks_is_noticed(server: Server, places: Places) -> None:
    chunked = b"%x\r\n%s" % (len(CONTENT), CONTENT[:1000])
    server.answer = lambda _: Reply(200, chunked, {"Transfer-Encoding": "chunked"})
    assert "connection failed" in places.refusal(server.url, pinned=False, attempts=2)


def test_what_a_server_calls_gzip_keeps_its_bytes(server: Server, places: Places) -> None:
    server.answer = lambda _: Reply(200, CONTENT, {"Content-Encoding": "gzip"})
    places.fetch(server.url)
    assert server.requests[0].headers["accept-encoding"] == "identity"
    places.assert_whole()


def test_a_redirect_on_this_machine_is_followed(server: Server, places: Places) -> None:
    server.answer = lambda request: Reply(302, b"", {"Location": "/file"}) if request.path == "/" else good(request)
    places.fetch(f"{server.url}/")
    places.assert_whole()


@pytest.mark.parametrize("target", ["http://example.com/cats.zip", "ftp://example.com/cats.zip", "http://10.0.0.1/"])
def test_a_redirect_to_an_unsafe_address_is_refused(server: Server, places: Places, target: str) -> None:
    server.answer = lambda _: Reply(302, b"", {"Location": target})
    assert f"{target} is not an https address" in places.refusal(server.url)


def test_a_circle_of_redirects_ends(server: Server, places: Places) -> None:
    server.answer = lambda _: Reply(302, b"", {"Location": "/again"})
    assert "redirects" in places.refusal(server.url)


@pytest.mark.parametrize(
    "url", ["http://example.com/x.zip", "file:///etc/passwd", "cats.zip", "https://", "http://[::1"]
)
def test_an_unsafe_or_senseless_address_is_refused_unasked(places: Places, url: str) -> None:
    assert "address" in places.refusal(url)


def test_a_full_disk_is_noticed_first(server: Server, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 999, 999))
    sentence = places.refusal(server.url)
    assert "999 bytes free" in sentence
    assert "300,000 are needed" in sentence


def test_a_failed_check_keeps_nothing(server: Server, places: Places) -> None:
    def refuse(path: Path) -> None:
        assert path.read_bytes() == CONTENT
        raise DataError("no archive")

    with pytest.raises(DataError, match="no archive"):
        download_file(
            Remote(url=server.url), places.destination, timeout_s=5, attempts=1, check=refuse, partials=places.partials
        )
    assert places.waiting() == []
    assert not places.destination.exists()


def test_an_earlier_file_survives_a_failure(server: Server, places: Places) -> None:
    places.destination.parent.mkdir()
    places.destination.write_bytes(b"earlier")
    server.answer = answering(404)
    with pytest.raises(DataError):
        places.fetch(server.url)
    assert places.destination.read_bytes() == b"earlier"


def test_kill_9_in_the_middle_and_again_gives_the_same_bytes(server: Server, places: Places) -> None:
    server.answer = lambda _: Reply(
        200, CONTENT[:150_000], {"Content-Length": str(len(CONTENT)), "ETag": '"v1"'}, then="stall"
    )
    code = (
        "import sys; from pathlib import Path; from thaw.ingest.download import Remote, download_file; "
        "_, url, destination, partials = sys.argv; "
        "download_file(Remote(url=url), Path(destination), timeout_s=60, attempts=1, partials=Path(partials))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, server.url, str(places.destination), str(places.partials)],
        stderr=subprocess.PIPE,
    ) as victim:
        while victim.poll() is None and sum(path.stat().st_size for path in places.waiting()) < 150_000:
            time.sleep(0.01)
        victim.kill()
        victim.wait()
    assert victim.returncode == -signal.SIGKILL
    assert not places.destination.exists()
    server.answer = good
    places.fetch(server.url)
    assert server.requests[-1].headers["range"] == "bytes=150000-"
    places.assert_whole()


def test_killed_between_the_last_byte_and_the_final_name(server: Server, places: Places) -> None:
    server.answer = one_after_another(cut_at(1000), answering(404))
    places.refusal(server.url)
    (partial,) = (path for path in places.waiting() if path.suffix != ".json")
    partial.write_bytes(CONTENT)
    server.requests.clear()
    places.fetch(server.url)
    assert server.requests == []
    places.assert_whole()
