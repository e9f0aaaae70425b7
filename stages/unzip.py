"""Unpack the archive, safely.

    python stages/unzip.py

Reads data/raw/archive.
Writes data/pictures/, which DVC leaves alone, and data/pictures.sha256, which it watches.
"""

import sys

from thaw import layout
from thaw.archive import unpack_archive
from thaw.errors import exit_code
from thaw.listing import write_listing
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    unpack_archive(layout.ARCHIVE, layout.PICTURES_FOLDER, limits=params.unzip)
    write_listing(layout.PICTURES_FOLDER, layout.LISTING)


if __name__ == "__main__":
    sys.exit(exit_code(main))
