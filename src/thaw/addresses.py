"""Which addresses may be downloaded from, and how they are shown."""

import ipaddress
from urllib.parse import urlsplit

from thaw.errors import DataError


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
