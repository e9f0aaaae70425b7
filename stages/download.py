"""Get the archive of images from where `data.source` says.

    python stages/download.py

Reads the archive that `data.path` names, if `data.source` is `file` (or `cifar10`).
Writes data/raw/archive.
"""

import sys

from thaw import paths
from thaw.errors import exit_code
from thaw.ingest.sources import fetch_archive
from thaw.params_file import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    fetch_archive(paths.ARCHIVE, data=params.data, sample=params.sample)


if __name__ == "__main__":
    sys.exit(exit_code(main))
