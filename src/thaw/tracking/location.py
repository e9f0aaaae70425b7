"""Which MLflow, and where it lies: MLFLOW_TRACKING_URI, or a SQLite file in the project. Imports no mlflow."""

import os
import socket
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from thaw.errors import ThawError, one_line

ANSWER_S = 3.0
"""How long a server may take to answer at all."""

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


class StoreError(ThawError):
    """MLflow cannot be read or written; no training is worth losing for it."""


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
    database = database_of(uri)
    return uri if database is None else f"sqlite:///{database}"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store, absolute; None for any other store."""
    if not uri.startswith("sqlite:///"):
        return None
    return project_root() / uri.removeprefix("sqlite:///").partition("?")[0]


def artifacts_of(uri: str) -> Path | None:
    """Where artifacts belong: beside a SQLite file, wherever MLflow is started; None where a server knows."""
    database = database_of(uri)
    return None if database is None else database.parent / "mlartifacts"


def without_password(uri: str) -> str:
    """For people's eyes."""
    parts = urlsplit(uri)
    if parts.password is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":***@")))


def require_answer(uri: str) -> None:
    """StoreError where nobody answers at `uri`, found out before seconds go into importing MLflow."""
    parts = urlsplit(uri)
    kind = parts.scheme.partition("+")[0]
    try:
        if kind in ("http", "https"):
            _ask(uri)
        elif kind in _PORTS and parts.hostname is not None:
            socket.create_connection((parts.hostname, parts.port or _PORTS[kind]), timeout=ANSWER_S).close()
    except TimeoutError:
        raise StoreError(f"{without_password(uri)} gives no answer within {ANSWER_S:g} s") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{without_password(uri)}: {one_line(error)}") from None


def _ask(url: str) -> None:
    """Any answer will do, be it that one has to log in; so will a certificate that MLflow itself may be told to trust.

    Raises:
        OSError: there is none.
    """
    try:
        urllib.request.urlopen(f"{url.rstrip('/')}/health", timeout=ANSWER_S).close()  # noqa: S310, the user's own URL
    except urllib.error.HTTPError as answer:
        answer.close()
    except urllib.error.URLError as error:
        if isinstance(error.reason, (TimeoutError, ConnectionError, socket.gaierror)):
            raise error.reason from None
