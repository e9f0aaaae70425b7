"""Decode every file; say of each whether it is kept and why; pack the kept pictures.

    python stages/clean.py

Reads data/pictures/, or unpacks data/raw/archive again if the folder is not what data/pictures.sha256 says.
Writes data/clean/manifest.csv, data/clean/pictures.zip and data/clean/dropped.zip.
"""

import sys

from thaw import layout
from thaw.clean import clean_pictures
from thaw.errors import exit_code
from thaw.listing import hash_file, restore_folder
from thaw.manifest import read_manifest, summarise
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    restore_folder(layout.PICTURES_FOLDER, archive=layout.ARCHIVE, listing=layout.LISTING, limits=params.unzip)
    clean_pictures(
        layout.PICTURES_FOLDER,
        params=params.clean,
        manifest=layout.MANIFEST,
        pictures=layout.PICTURES,
        dropped=layout.DROPPED,
        archive_sha256=hash_file(layout.ARCHIVE),
    )
    print(summarise(read_manifest(layout.MANIFEST)))


if __name__ == "__main__":
    sys.exit(exit_code(main))
