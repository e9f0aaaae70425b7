"""Divide the kept pictures into train, val and test; duplicates stay together.

    python stages/split.py

Reads data/clean/manifest.csv.
Writes data/splits.csv.
"""

import sys

from thaw import layout
from thaw.errors import exit_code
from thaw.params import load_params
from thaw.split import split_pictures, summarise_splits


def main() -> None:
    """Run the stage."""
    params = load_params()
    split_pictures(layout.MANIFEST, layout.SPLITS, params=params.split)
    print(summarise_splits(layout.SPLITS))


if __name__ == "__main__":
    sys.exit(exit_code(main))
