"""Unpack the archive, safely.

    python stages/unzip.py

Reads data/raw/archive.
Writes data/pictures/.
"""

import sys

from thaw import layout
from thaw.archive import unpack_archive
from thaw.errors import exit_code
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    unpack_archive(layout.ARCHIVE, layout.PICTURES_FOLDER, limits=params.unzip)


if __name__ == "__main__":
    sys.exit(exit_code(main))
