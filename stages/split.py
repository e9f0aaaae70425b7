"""Divide the kept images into train, val and test; duplicates stay together.

    python stages/split.py

Reads data/clean/manifest.csv.
Writes data/splits.csv.
"""

import sys

from thaw import paths
from thaw.data.split import split_images
from thaw.data.splits_csv import summarise_splits
from thaw.errors import exit_code
from thaw.params_file import load_params


def main() -> None:
    """Run the stage."""
    params = load_params()
    split_images(paths.MANIFEST, paths.SPLITS, params=params.split)
    print(summarise_splits(paths.SPLITS))


if __name__ == "__main__":
    sys.exit(exit_code(main))
