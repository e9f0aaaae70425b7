"""A page in a headless Chromium, driven through its DevTools protocol over two pipes: no package is needed.

Protocol: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

WAIT_S = 10


def find_chromium() -> str | None:
    """The browser's program, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Tab:
    """One page of a browser; a context manager."""

    def __init__(self, program: str) -> None:
        """Start `program` with an empty profile."""
        self._profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        profile = f"--user-data-dir={self._profile.name}"
        options = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            # It looks at pages of this machine, and has nothing to ask of others.
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--remote-debugging-pipe",
            profile,
        ]
        self._process = subprocess.Popen(
            # The protocol's pipes are the file descriptors 3 and 4; sh itself does not know numbers above 9.
            ["bash", "-c", f'exec "$@" 3<&{to_browser} 4>&{from_browser}', "bash", program, *options, "about:blank"],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._received = self._messages()
        self._last_id = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []
        """What the page did, oldest first."""
        try:
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
            self._session = {"sessionId": session}
            for domain in ("Page", "Runtime", "Network", "Log"):
                self.call(f"{domain}.enable")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the browser."""
        self._process.terminate()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)
        self._profile.cleanup()

    def _messages(self) -> Iterator[dict[str, Any]]:
        """All that the browser says: JSON, a zero byte after each."""
        rest = b""
        while select.select([self._read], [], [], WAIT_S)[0] and (chunk := os.read(self._read, 1 << 16)):
            *whole, rest = (rest + chunk).split(b"\0")
            yield from map(json.loads, whole)

    def call(self, method: str, **params: object) -> dict[str, Any]:
        """Call a method of the protocol and return its result; RuntimeError if the browser refuses or ends."""
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        for received in self._received:
            if received.get("id") == self._last_id:
                if "error" in received:
                    raise RuntimeError(f"{method}: {received['error']}")
                result: dict[str, Any] = received["result"]
                return result
            self.events.append(received)
        raise RuntimeError(f"{method}: the browser ended, or says nothing")

    def resize(self, width_px: int, height_px: int, *, scheme: str = "light", media: str = "") -> None:
        """Make the window so large, and tell the page to be `light` or `dark`; `media` may be `print`."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width_px, height=height_px, deviceScaleFactor=1, mobile=False
        )
        self.call(
            "Emulation.setEmulatedMedia", media=media, features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    def open(self, page: Path, fragment: str = "") -> None:
        """Load a file, with `#fragment`, and wait until all of it is there."""
        self.visit(page.resolve().as_uri() + (f"#{fragment}" if fragment else ""))

    def visit(self, address: str, *, wait_s: float = WAIT_S) -> None:
        """Load a page, and wait until all of it is there."""
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=address)
        self.wait_until("location.href !== 'about:blank' && document.readyState === 'complete'", wait_s=wait_s)

    def wait_until(self, condition: str, *, wait_s: float = WAIT_S) -> None:
        """Wait until a script says true; RuntimeError if it does not.

        By asking again and again, not by a promise, which is never kept where scripts are switched off.
        """
        until_s = time.monotonic() + wait_s
        while not self.run(condition):
            if time.monotonic() > until_s:
                raise RuntimeError(f"not within {wait_s:g} s: {condition}")
            time.sleep(0.02)

    def run(self, script: str) -> Any:
        """Evaluate an expression, and wait if it is a promise; RuntimeError with the page's message if it throws."""
        result = self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, timeout=1000 * WAIT_S
        )
        if "exceptionDetails" in result:
            raise RuntimeError(str(result["exceptionDetails"].get("exception", {}).get("description")))
        return result["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, such as `Escape`, `Enter` or `ArrowRight`."""
        codes = {"Escape": 27, "Enter": 13, "ArrowLeft": 37, "ArrowRight": 39, "Tab": 9}
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=codes[key], **text)

    def screenshot(self, path: Path, *, whole_page: bool = False) -> None:
        """Write a PNG of the window, or of the page from top to bottom."""
        data = self.call("Page.captureScreenshot", captureBeyondViewport=whole_page, **self._clip(whole_page))["data"]
        path.write_bytes(base64.b64decode(data))

    def _clip(self, whole_page: bool) -> dict[str, object]:
        if not whole_page:
            return {}
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}


@contextmanager
def open_tab() -> Iterator[Tab]:
    """A tab of the browser that `find_chromium` finds; RuntimeError if there is none."""
    program = find_chromium()
    if program is None:
        raise RuntimeError("there is no Chromium; on Debian: apt-get install chromium")
    with Tab(program) as tab:
        yield tab
