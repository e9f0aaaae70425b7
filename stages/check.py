"""Check params.yaml and what it names before any other stage starts; list the code that each stage runs.

    python stages/check.py

Reads params.yaml, requirements.txt, the archives that `data.path` and `evaluate.external` name, the lists that
`data.labels` and `split.test_list` name, src/thaw/ and stages/. Writes data/code/STAGE.txt.
"""

import sys
from pathlib import Path

from thaw import paths
from thaw.data.labels_csv import check_labels
from thaw.data.split import check_test_list
from thaw.errors import exit_code
from thaw.ingest.sources import check_external, check_source
from thaw.network.backbone_list import check_backbone
from thaw.params_file import load_params
from thaw.utils.code_closure import list_code


def main() -> None:
    """Run the stage."""
    params = load_params()
    check_source(params.data)
    check_labels(params.data)
    check_test_list(params.split)
    check_external(params.evaluate.external)
    check_backbone(params)
    list_code(Path("stages"), paths.CODE_LISTS, package=Path("src/thaw"))


if __name__ == "__main__":
    sys.exit(exit_code(main))
