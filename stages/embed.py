"""Compute the features that the frozen backbone makes of every image.

    python stages/embed.py

Reads data/clean/images.zip.
Writes data/features.safetensors, data/backbone.safetensors and data/cost/embed.json.
"""

import sys

from thaw import paths
from thaw.compute.cores import avoid_spinning
from thaw.errors import exit_code
from thaw.params_file import load_params
from thaw.utils.ranks import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    avoid_spinning(params.compute.threads)
    # Here, since torch takes seconds to import: whoever relaunches, or stops the stage meanwhile, need not wait for it.
    from thaw.training.embed import embed_images

    embed_images(
        backbone=params.backbone,
        embed=params.embed,
        compute=params.compute,
        images=paths.IMAGES,
        features=paths.FEATURES,
        weights=paths.BACKBONE,
        cost=paths.EMBED_COST,
        checkpoints=paths.EMBED_CHECKPOINTS,
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
