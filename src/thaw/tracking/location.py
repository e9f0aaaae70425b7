"""Which MLflow, and where it lies: MLFLOW_TRACKING_URI, or a SQLite file in the project. Imports no mlflow."""

import os
import re
import socket
import ssl
import urllib.error
import urllib.request
from http.client import HTTPException, InvalidURL
from pathlib import Path
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

from thaw.errors import ThawError, one_line

ANSWER_S = 3.0
"""How long a server may take to answer at all."""

_SILENT = f" gives no answer within {ANSWER_S:g} s"
_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_SQLITE = re.compile(r"sqlite:///(?P<kind>file:)?(?P<path>[^?]*)(?P<options>.*)")


class StoreError(ThawError):
    """MLflow cannot be read or written; no training is worth losing for it."""


class Shown(NamedTuple):
    """What MLflow shows."""

    runs: dict[str, str]
    """The cells' names and the ids of their runs."""

    address: str = ""
    """Where a browser finds them side by side."""

    left_out: str = ""
    """Which models it does not show, why, and what to do."""


def project_root() -> Path:
    """The project's folder, also from the temporary copy of it in which `dvc exp run --temp` and `--queue` work."""
    here = Path.cwd()
    for parent in here.parents:
        if parent.parts[-3:] == (".dvc", "tmp", "exps"):
            return parent.parents[2]
    return here


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite file mlflow.db in the project's folder."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    sqlite = _SQLITE.fullmatch(uri)
    return uri if sqlite is None else f"sqlite:///{sqlite['kind'] or ''}{database_of(uri)}{sqlite['options']}"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store, absolute; None for any other store."""
    sqlite = _SQLITE.fullmatch(uri)
    return None if sqlite is None else project_root() / sqlite["path"]


def artifacts_of(uri: str) -> Path | None:
    """Where artifacts belong: beside a SQLite file, wherever MLflow is started; None where a server knows."""
    database = database_of(uri)
    return None if database is None else database.parent / "mlartifacts"


def without_password(text: str) -> str:
    """For people's eyes: an address, or a driver's message that quotes one."""
    text = re.sub(r"(://[^\s:]*):\S*@", r"\1:***@", text)
    return re.sub(r"((?:password|pwd)(?:=|%3D))[^\s&;]*", r"\1***", text, flags=re.IGNORECASE)


def without_user(url: str) -> str:
    """The address of a server, without the name and the password that may stand in it."""
    return re.sub(r"(?<=://)[^\s/?#]*@", "", url)


def require_answer(uri: str) -> None:
    """StoreError where nobody answers at `uri`, found out before seconds go into importing MLflow."""
    failures: list[str] = []
    # In a thread, since nothing else limits a resolver of names that is silent, or a server that sends byte by byte.
    asking = Thread(target=lambda: failures.append(_failure(uri)), daemon=True)
    asking.start()
    asking.join(ANSWER_S)
    failure = failures[0] if failures else _SILENT
    if failure:
        raise StoreError(f"{without_password(uri)}{failure}")


def _failure(uri: str) -> str:
    """Why nobody answers, to be read after the address; nothing if somebody does."""
    try:
        parts = urlsplit(uri)
        kind = parts.scheme.partition("+")[0]
        if kind in ("http", "https"):
            _ask(without_user(uri))
        elif kind in _PORTS and parts.hostname is not None:
            socket.create_connection((parts.hostname, parts.port or _PORTS[kind]), timeout=ANSWER_S).close()
    except TimeoutError:
        return _SILENT
    except OSError as error:
        return f": {error.strerror or one_line(error)}"
    except (ValueError, InvalidURL):
        # Their messages quote the part that they do not understand, which may be half a password.
        return " is no address; in a name or password, write / ? # @ as %2F %3F %23 %40"
    except HTTPException:
        return " is no MLflow: what answers there does not speak HTTP"
    return ""


def _ask(url: str) -> None:
    """Any answer will do, be it that one has to log in.

    Raises:
        OSError: there is none.
        ValueError: it is no URL.
        HTTPException: it is no URL, or no web server.
    """
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_S).close()  # noqa: S310, the user's own URL
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return  # MLflow may have been told which certificates to trust, and says more
        raise (error.reason if isinstance(error.reason, OSError) else ValueError(error.reason)) from None
