"""Decode every file; say of each whether it is kept and why; pack the kept images.

    python stages/clean.py

Reads data/images/, or unpacks data/raw/archive again if the folder is not what data/images.sha256 says;
data/images.odd.csv, and the table of labels that data.labels names.
Writes data/clean/manifest.csv, images.zip, dropped.zip and fingerprints.safetensors.
"""

import sys
from functools import partial

from thaw import paths
from thaw.data.clean import clean_images
from thaw.data.known_archives import hash_if_known
from thaw.data.manifest import describe_images, read_manifest, summarise
from thaw.errors import exit_code
from thaw.ingest.checksums import read_checksums, read_or_restore
from thaw.ingest.odd_entries import read_odd_entries
from thaw.ingest.sources import name_source
from thaw.ingest.unpack import Unpacked
from thaw.params_file import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    files = Unpacked(
        folder=paths.IMAGES_FOLDER,
        name=name_source(params.data),
        odd=read_odd_entries(paths.ODD_ENTRIES),
        sha256=read_checksums(paths.CHECKSUMS),
    )
    clean = partial(
        clean_images,
        params=params.clean,
        manifest=paths.MANIFEST,
        images=paths.IMAGES,
        dropped=paths.DROPPED,
        fingerprints=paths.FINGERPRINTS,
        archive_sha256=hash_if_known(paths.ARCHIVE),
        layout=params.data,
    )
    read_or_restore(files, clean, archive=paths.ARCHIVE, limits=params.unzip)
    rows = read_manifest(paths.MANIFEST)
    print(summarise(rows), describe_images(rows), sep="\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
