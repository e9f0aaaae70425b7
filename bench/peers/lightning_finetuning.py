"""Lightning's BackboneFinetuning: first the head, then also the backbone, at a rate that grows.

https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.callbacks.BackboneFinetuning.html

With the documentation's Adam at 0.001 for the head. Its default unfreezes after ten epochs, which four never reach:
here after one, as fastai does. All else is at its default; the images are those of the usual loop.
"""

import logging
import warnings
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import Tensor, nn

from peers.contest import EPOCHS, build_network, read_task, run_recipe
from peers.image_folder import make_loaders, measure_accuracy


class _Model(LightningModule):  # type: ignore[misc]
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.head = network.get_classifier()
        network.reset_classifier(0)
        self.backbone = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self(images), labels)

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        images, labels = batch
        self.log("val_loss", nn.functional.cross_entropy(self(images), labels))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.head.parameters(), lr=0.001)


def main() -> None:
    """Train it."""
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    task = read_task()
    seed_everything(task.seed, verbose=False)
    model, loaders = _Model(build_network(task.folder)), make_loaders(task)
    trainer = Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        callbacks=[BackboneFinetuning(unfreeze_backbone_at_epoch=1)],
        default_root_dir=task.folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    run_recipe(
        "BackboneFinetuning",
        train=lambda: trainer.fit(model, loaders["train"], loaders["val"]),
        test=lambda: measure_accuracy(model, loaders["test"]),
    )


if __name__ == "__main__":
    main()
