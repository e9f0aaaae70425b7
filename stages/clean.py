"""Decode every file; say of each whether it is kept and why; pack the kept pictures.

    python stages/clean.py

Reads data/pictures/ (or unpacks data/raw/archive again, if it is gone) and data/pictures.sha256.
Writes data/clean/manifest.csv, data/clean/pictures.zip and data/clean/dropped.zip.
"""

import sys

from thaw import layout
from thaw.archive import unpack_if_missing
from thaw.clean import clean_pictures
from thaw.errors import exit_code
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    unpack_if_missing(layout.ARCHIVE, layout.PICTURES_FOLDER, limits=params.unzip)
    clean_pictures(
        layout.PICTURES_FOLDER,
        listing=layout.LISTING,
        params=params.clean,
        manifest=layout.MANIFEST,
        pictures=layout.PICTURES,
        dropped=layout.DROPPED,
        archive_sha256=params.data.archive_sha256,
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
