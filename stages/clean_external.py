"""Clean an external test set as `clean` does; leave out copies of training images.

    python stages/clean_external.py NAME

Reads the archive that `evaluate.external.NAME.path` names, data/clean/manifest.csv and fingerprints.safetensors, and
data/splits.csv.
Writes data/clean/external/NAME/manifest.csv and images.zip.
"""

import sys

from thaw import paths
from thaw.data.external import clean_external, read_training_images
from thaw.data.manifest import read_manifest, summarise
from thaw.data.splits_csv import read_splits
from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.paths import parse_external_set


def main() -> None:
    """Run the stage."""
    params = load_params()
    external, splits = parse_external_set(sys.argv[1:], params), read_splits(paths.SPLITS)
    clean_external(
        params.evaluate.external[external.name].archive,
        unzip=params.unzip,
        clean=params.clean,
        known=splits.classes,
        mapping=params.evaluate.external[external.name].classes,
        named_by=f"evaluate.external.{external}.classes",
        trained_on=read_training_images(paths.MANIFEST, paths.FINGERPRINTS, splits=splits),
        manifest=external.manifest,
        images=external.images,
        scratch=paths.EXTERNAL_SCRATCH,
    )
    print(summarise(read_manifest(external.manifest), manifest=external.manifest))


if __name__ == "__main__":
    sys.exit(exit_code(main))
