"""Check params.yaml before any other stage starts, so that a slip in it costs no output.

    python stages/check.py

Reads params.yaml.
Writes data/params.ok, which never changes, so that nothing runs again because of it.
"""

import sys
from pathlib import Path

from thaw.atomic import write_text
from thaw.errors import exit_code
from thaw.params import load_params


def main() -> None:
    """Run the stage."""
    load_params()
    write_text(Path("data/params.ok"), "params.yaml was valid\n")


if __name__ == "__main__":
    sys.exit(exit_code(main))
