"""Unpack the archive, safely.

    python stages/unzip.py

Reads data/raw/archive.
Writes data/images/, which DVC leaves alone, data/images.sha256, which it watches, and data/images.odd.csv.
"""

import sys

from thaw import paths
from thaw.errors import exit_code
from thaw.ingest.checksums import write_checksums
from thaw.ingest.odd_entries import write_odd_entries
from thaw.ingest.sources import name_source
from thaw.ingest.unpack import unpack_archive
from thaw.params_file import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    name = name_source(params.data)
    files = unpack_archive(paths.ARCHIVE, paths.IMAGES_FOLDER, limits=params.unzip, name=name)
    assert files.sha256 is not None  # it was just written
    write_odd_entries(paths.ODD_ENTRIES, files.odd)
    write_checksums(paths.CHECKSUMS, files.sha256)


if __name__ == "__main__":
    sys.exit(exit_code(main))
