"""Decode every file; say of each whether it is kept and why; pack the kept images.

    python stages/clean.py

Reads data/images/, or unpacks data/raw/archive again if the folder is not what data/images.sha256 says;
data/images.odd.csv, and the table of labels that data.labels names.
Writes data/clean/manifest.csv, data/clean/images.zip and data/clean/dropped.zip.
"""

import sys

from thaw import paths
from thaw.data.clean import clean_images
from thaw.data.manifest import describe_images, read_manifest, summarise
from thaw.errors import exit_code
from thaw.ingest.checksums import restore_folder
from thaw.ingest.odd_entries import read_odd_entries
from thaw.ingest.sources import name_source
from thaw.params import load_params
from thaw.utils.hashing import sha256_of


def main() -> None:
    """Run the stage."""
    params = load_params()
    name = name_source(params.data)
    restore_folder(
        paths.IMAGES_FOLDER, archive=paths.ARCHIVE, checksums=paths.CHECKSUMS, limits=params.unzip, name=name
    )
    clean_images(
        paths.IMAGES_FOLDER,
        params=params.clean,
        manifest=paths.MANIFEST,
        images=paths.IMAGES,
        dropped=paths.DROPPED,
        archive_sha256=sha256_of(paths.ARCHIVE),
        layout=params.data,
        odd=read_odd_entries(paths.ODD_ENTRIES),
        name=name,
    )
    rows = read_manifest(paths.MANIFEST)
    print(summarise(rows), describe_images(rows), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
