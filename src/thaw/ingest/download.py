"""An address -> one file, whole and verified, however often the connection is lost; what may be downloaded at all."""

import hashlib
import ipaddress
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from thaw.errors import DataError
from thaw.paths import DOWNLOADS
from thaw.utils.atomic import new_file, read_json, require_disk_space, write_json
from thaw.utils.hashing import sha256_of
from thaw.utils.progress import progress


def require_safe(url: str) -> None:
    """Let through https, and http to this very machine (for tests and mirrors).

    Raises:
        DataError: `url` is anything else.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        host = ""
    if not host:
        raise DataError(f"{url!r} is not an address; write https://... in params.yaml")
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        raise DataError(f"{without_query(url)} is not an https address, and others are not safe; use https://")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def without_query(url: str) -> str:
    """The address for messages: a query may hold a secret, as in the signed addresses of Kaggle."""
    return url.partition("?")[0]


CHUNK_BYTES = 1 << 20
FIRST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
PASSING_STATUS = (408, 425, 429, 500, 502, 503, 504)
ADVICE = {
    401: "it wants a login, so download it by hand and name the file with data.source: file",
    403: "it does not let you, so download it by hand and name the file with data.source: file",
    404: "there is no such file, so correct the address in params.yaml",
    410: "the file is gone, so correct the address in params.yaml",
}


class Interrupted(Exception):  # noqa: N818 - not an error: the next try may succeed
    """This try has failed for a reason that may pass."""


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file on a server, and what is known of it beforehand."""

    url: str
    size: int | None = None
    sha256: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    key: str | None = None
    """What an unfinished download is found by again, if the address changes from time to time."""

    @property
    def shown(self) -> str:
        return without_query(self.url)


def download_file(
    remote: Remote,
    destination: Path,
    *,
    timeout_s: float,
    attempts: int,
    check: Callable[[Path], None] | None = None,
    partials: Path = DOWNLOADS,
) -> None:
    """Download `remote`; `destination` appears when size, hash and `check` agree, and not before.

    What arrived before a cut or a kill is kept in `partials`, and the next try asks for the rest (RFC 9110, `Range`
    with `If-Range`). It starts over where the file has changed or the server cannot do this.

    Args:
        remote: what to download.
        destination: the final name.
        timeout_s: how long the server may be silent.
        attempts: how many tries in a row may bring nothing new.
        check: raises DataError if the file is not what it has to be; for files without a known hash.
        partials: the folder for unfinished downloads.

    Raises:
        DataError: the address is not safe, the server refuses or stays away, the disk is full, or the file is not
            the expected one (then nothing of it is kept).
    """
    require_safe(remote.url)
    partials.mkdir(parents=True, exist_ok=True)
    partial = partials / hashlib.sha256((remote.key or remote.url).encode()).hexdigest()[:32]
    _fetch_patiently(remote, partial, timeout_s=timeout_s, attempts=attempts)
    try:
        _verify(remote, partial)
        if check is not None:
            check(partial)
    except DataError:
        _forget(partial)
        raise
    with new_file(destination) as temporary:
        shutil.move(partial, temporary)
    _forget(partial)


def wait_before_retry(failures: int) -> None:
    """Sleep longer after each failure: 1 s, 2 s, 4 s, up to a minute."""
    time.sleep(min(FIRST_WAIT_S * 2**failures, LONGEST_WAIT_S))


def _fetch_patiently(remote: Remote, partial: Path, *, timeout_s: float, attempts: int) -> None:
    furthest, failures = _length(partial), 0
    while True:
        try:
            _fetch_rest(remote, partial, timeout_s=timeout_s)
            return
        except Interrupted as interruption:
            reached = _length(partial)
            failures = 0 if reached > furthest else failures + 1
            furthest = max(reached, furthest)
            if failures >= attempts:
                if _read_note(partial)["validator"]:
                    again = f"{reached:,} bytes are kept, and running this again resumes from there"
                else:
                    again = "run this again, which starts over"
                raise DataError(
                    f"the download of {remote.shown} failed {failures} times in a row, last because {interruption}; "
                    f"{again}"
                ) from None
            wait_before_retry(failures)


def _fetch_rest(remote: Remote, partial: Path, *, timeout_s: float) -> None:
    """One try: ask for what is missing of `partial`, and append it.

    Raises:
        Interrupted: something is still missing.
    """
    known = _read_note(partial)
    offset = _length(partial) if known["validator"] else 0
    if offset and offset == known["size"]:
        return  # killed between the last byte and the final name
    headers = {"Accept-Encoding": "identity", **remote.headers}
    if offset:
        headers |= {"Range": f"bytes={offset}-", "If-Range": known["validator"]}
    with (
        _told_apart(remote, timeout_s),
        requests.get(
            remote.url, headers=headers, stream=True, timeout=timeout_s, hooks={"response": _refuse_unsafe_redirect}
        ) as response,
    ):
        if offset and response.status_code in (206, 416) and not _continues(response, offset=offset, known=known):
            _forget(partial)
            raise Interrupted("what had arrived does not fit the file that the server has now")
        _require_success(remote, response)
        if response.status_code == 200:
            offset = 0  # the server knows no ranges, or the file has changed
        size = known["size"] if offset else _stated_size(response)
        if remote.size is not None and size is not None and size != remote.size:
            _forget(partial)
            raise DataError(
                f"{remote.shown} has {size:,} bytes, but {remote.size:,} were expected: it is another file than "
                "the one pinned in params.yaml; correct the address or the pin"
            )
        if not offset:
            _forget(partial)
            write_json(_note(partial), {"validator": _validator(response), "size": size})
        _receive(response, partial, offset=offset, size=size or remote.size)


def _receive(response: requests.Response, partial: Path, *, offset: int, size: int | None) -> None:
    if size is not None:
        require_disk_space(partial.parent, size - offset)
    with (
        progress("download", total=size, unit="B", done=offset) as bar,
        partial.open("ab" if offset else "wb") as file,
    ):
        # Not iter_content: it would unpack what the server calls gzip, and drop what came before a cut.
        while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
            file.write(chunk)
            file.flush()  # so that a kill loses nothing
            bar.update(len(chunk))
    if size is not None and _length(partial) < size:
        raise Interrupted(f"the connection was cut at {_length(partial):,} of {size:,} bytes")


def _continues(response: requests.Response, *, offset: int, known: Mapping[str, Any]) -> bool:
    """Whether the answer is the rest of the very file whose first `offset` bytes are here."""
    stated = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return (
        response.status_code == 206
        and stated is not None
        and int(stated[1]) == offset
        and stated[2] in ("*", str(known["size"]))
        and _validator(response) in (None, known["validator"])
    )


def _require_success(remote: Remote, response: requests.Response) -> None:
    status = response.status_code
    if status in PASSING_STATUS:
        raise Interrupted(f"the server answered {status} {response.reason}")
    if status not in (200, 206):
        advice = ADVICE.get(status, "check the address in params.yaml")
        raise DataError(f"the server answered {status} {response.reason} for {remote.shown}: {advice}")


def _stated_size(response: requests.Response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _validator(response: requests.Response) -> str | None:
    """What `If-Range` may name: a strong ETag, or else the date of the last change."""
    etag = response.headers.get("ETag", "")
    return etag if etag.startswith('"') else response.headers.get("Last-Modified")


def _verify(remote: Remote, partial: Path) -> None:
    if remote.size is not None and _length(partial) != remote.size:
        raise DataError(
            f"{remote.shown} sent {_length(partial):,} bytes, but {remote.size:,} were expected; nothing was kept"
        )
    if remote.sha256 is None:
        return
    found = sha256_of(partial)
    if found != remote.sha256:
        raise DataError(
            f"{remote.shown} has the SHA-256 {found}, but {remote.sha256} was expected; nothing was kept: try again, "
            "and if it stays so, correct the hash in params.yaml"
        )


@contextmanager
def _told_apart(remote: Remote, timeout_s: float) -> Iterator[None]:
    """Sort failures into those that may pass (Interrupted) and those that will not (DataError)."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        raise DataError(f"the certificate of {remote.shown} is not valid ({_root_cause(error)})") from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise Interrupted(f"the server was silent for {timeout_s:g} s") from None
    except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError, urllib3.exceptions.HTTPError) as error:
        raise Interrupted(f"the connection failed ({_root_cause(error)})") from None
    except requests.RequestException as error:
        raise DataError(f"{remote.shown} cannot be downloaded ({error}); check the address in params.yaml") from None
    except OSError as error:
        raise DataError(
            f"the download of {remote.shown} cannot be written ({error.strerror}); make room for it"
        ) from None


def _root_cause(error: BaseException) -> str:
    """The first link of a chain of exceptions: what the network itself said."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return getattr(error, "strerror", None) or str(error)


def _refuse_unsafe_redirect(response: requests.Response, *_: object, **__: object) -> None:
    if response.is_redirect:
        target = urljoin(response.url, response.headers["location"])
        try:
            require_safe(target)
        except DataError:
            response.close()
            raise


def _note(partial: Path) -> Path:
    return partial.with_suffix(".json")


def _read_note(partial: Path) -> Mapping[str, Any]:
    """What the server said of the file when the download began."""
    if not partial.exists() or not _note(partial).exists():
        return {"validator": None, "size": None}
    note: Mapping[str, Any] = read_json(_note(partial))
    return note


def _forget(partial: Path) -> None:
    # The bytes go first: a kill in between must not leave old bytes with a new note.
    partial.unlink(missing_ok=True)
    _note(partial).unlink(missing_ok=True)


def _length(partial: Path) -> int:
    return partial.stat().st_size if partial.exists() else 0
