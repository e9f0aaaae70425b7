"""thaw's variants of params.yaml on the same images: `frozen`, and `fine_tuned` with one of its rates.

The pipeline tries all rates and lets validation choose, which takes as many times as long; the peers try one.
"""

import os
from collections.abc import Callable

from peers.contest import IMAGE_SIZE_PX, NETWORK, read_task, run_recipe
from photos import PARAMS
from thaw import paths
from thaw.evaluation.evaluate import evaluate_cell
from thaw.evaluation.metrics_json import read_metrics
from thaw.params import AnyPhase, BackboneParams, ComputeParams, list_candidates
from thaw.paths import Cell
from thaw.training.embed import embed_images
from thaw.training.train import train_cell

BACKBONE = BackboneParams(name=NETWORK, weights="imagenet", blocks=None, image_size_px=IMAGE_SIZE_PX)


def main() -> None:
    """Train them."""
    task = read_task()
    os.chdir(task.folder)
    compute = ComputeParams(threads=task.threads)
    frozen, fine_tuned = (list_candidates(PARAMS.variants[name]) for name in ("frozen", "fine_tuned"))
    middle = fine_tuned[len(fine_tuned) // 2]

    def embed() -> None:
        embed_images(
            backbone=BACKBONE,
            embed=PARAMS.embed,
            compute=compute,
            images=paths.IMAGES,
            features=paths.FEATURES,
            weights=paths.BACKBONE,
            cost=paths.EMBED_COST,
        )

    def run(recipe: str, candidates: list[tuple[AnyPhase, ...]], before: Callable[[], None] | None = None) -> None:
        cell = Cell(recipe.split(",")[0], task.seed)

        def train() -> None:
            if before is not None:
                before()
            train_cell(
                cell,
                candidates=candidates,
                backbone=BACKBONE,
                storage=PARAMS.clean.storage,
                # The split is drawn already, for all peers.
                val="fixed",
                training=PARAMS.training,
                compute=compute,
            )

        def test() -> float:
            evaluate_cell(cell, batch_size=PARAMS.embed.batch_size, compute=compute)
            return read_metrics(cell.metrics).test.accuracy

        run_recipe(recipe, train=train, test=test)

    run("frozen", frozen, before=embed)
    run(f"fine_tuned, lr {middle[0].model_dump()['lr']:g}", [middle])


if __name__ == "__main__":
    main()
