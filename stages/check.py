"""Check params.yaml and the archive that it names before any other stage starts; list the code that each stage runs.

    python stages/check.py

Reads params.yaml, the archive that `data.path` names, src/thaw/ and stages/.
Writes data/code/STAGE.txt.
"""

import sys
from pathlib import Path

from thaw.code import list_code
from thaw.errors import exit_code
from thaw.params import load_params
from thaw.sources import check_source


def main() -> None:
    """Run the stage."""
    check_source(load_params().data)
    list_code(Path("stages"), Path("data/code"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
