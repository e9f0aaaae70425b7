"""A web server on this machine that a test starts, and that misbehaves as the test tells it to."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Without the host, also where the client takes the server for a proxy and asks in absolute form."""
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes = b""


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    """A Content-Length that tells the truth is added unless there is one, or a Transfer-Encoding."""
    then: str = "close"
    """What follows the body: `close`, or `stall` until the test ends."""


Answer = Callable[[Request], Reply]


@dataclass
class Server:
    port: int
    answer: Answer
    """May be replaced at any time."""
    requests: list[Request] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def serve_file(
    request: Request, content: bytes, *, etag: str | None = '"v1"', changed: str | None = None, cut: int | None = None
) -> Reply:
    """Answer as a good server does (RFC 9110), but close the connection after `cut` bytes of the body."""
    headers = {"Accept-Ranges": "bytes"}
    if etag is not None:
        headers["ETag"] = etag
    if changed is not None:
        headers["Last-Modified"] = changed
    wanted = re.fullmatch(r"bytes=(\d+)-", request.headers.get("range", ""))
    if wanted is None or request.headers.get("if-range") not in (None, etag, changed):
        return Reply(200, content[:cut], headers | {"Content-Length": str(len(content))})
    start = int(wanted[1])
    if start >= len(content):
        return Reply(416, b"", headers | {"Content-Range": f"bytes */{len(content)}"})
    rest = content[start:]
    headers |= {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}", "Content-Length": str(len(rest))}
    return Reply(206, rest[:cut], headers)


@contextmanager
def serving(answer: Answer) -> Iterator[Server]:
    """Run a server as long as the block lasts."""
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            parts = urlsplit(self.path)
            path = f"{parts.path}?{parts.query}" if parts.query else parts.path
            request = Request(self.command, path, {name.lower(): value for name, value in self.headers.items()}, body)
            server.requests.append(request)
            self._send(server.answer(request))

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815

        def _send(self, reply: Reply) -> None:
            self.send_response(reply.status)
            headers = {"Connection": "close", **reply.headers}
            if "Transfer-Encoding" not in headers:
                headers.setdefault("Content-Length", str(len(reply.body)))
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(BrokenPipeError, ConnectionResetError):  # the client may have had enough
                self.wfile.write(reply.body)
                self.wfile.flush()
            if reply.then == "stall":
                ended.wait()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        server = Server(http.server_address[1], answer)
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            ended.set()
            http.shutdown()
            thread.join()
