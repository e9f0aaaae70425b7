"""ZIP files that have the same bytes in every run and on every platform."""

import zipfile

EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a ZIP file can state."""


def add_stored(archive: zipfile.ZipFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    """Add a member without compression, with one fixed time and the permissions `mode`."""
    member = zipfile.ZipInfo(name, EPOCH)
    member.create_system = 3  # Unix, also where this runs on something else
    member.external_attr = mode << 16
    archive.writestr(member, content)
