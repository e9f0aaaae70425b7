"""Compute the features that the frozen backbone makes of every picture.

    python stages/embed.py

Reads data/clean/pictures.zip.
Writes data/features.safetensors and data/cost/embed.json.
"""

import sys

from thaw import layout
from thaw.errors import exit_code
from thaw.params import load_params
from thaw.processes import relaunch


def main() -> None:
    """Run the stage."""
    relaunch()
    params = load_params()
    # Here, since torch takes seconds to import: whoever relaunches, or stops the stage meanwhile, need not wait for it.
    from thaw.embed import embed_pictures

    embed_pictures(
        backbone=params.backbone,
        batch_size=params.embed.batch_size,
        views=params.embed.views,
        compute=params.compute,
        pictures=layout.PICTURES,
        features=layout.FEATURES,
        cost=layout.EMBED_COST,
        checkpoints=layout.EMBED_CHECKPOINTS,
    )


if __name__ == "__main__":
    sys.exit(exit_code(main))
