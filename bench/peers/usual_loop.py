"""The loop that most people write, after PyTorch's tutorial on transfer learning: ImageFolder, and the best epoch kept.

https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html

frozen: requires_grad=False, and a new head on augmented images. fine-tuned: the same with everything trained. As in the
tutorial, the network is in training mode, so BatchNorm's statistics move also where nothing else does. Instead of the
tutorial's SGD with batches of 4: Adam at 0.001 (its default) for a head and at 0.0001 for all, batches of 32.
"""

import copy

import torch
from torch import nn

from peers.contest import EPOCHS, Task, build_network, read_task, run_recipe
from peers.image_folder import Loaders, make_loaders, measure_accuracy


def main() -> None:
    """Train both recipes."""
    task = read_task()
    for recipe, freeze, lr in (("frozen", True, 0.001), ("fine-tuned", False, 0.0001)):
        _run(task, recipe, freeze=freeze, lr=lr)


def _run(task: Task, recipe: str, *, freeze: bool, lr: float) -> None:
    torch.manual_seed(task.seed)
    network, loaders = build_network(task.folder), make_loaders(task)
    if freeze:
        for name, parameter in network.named_parameters():
            parameter.requires_grad = name.startswith("classifier.")
    run_recipe(
        recipe,
        train=lambda: train(network, loaders, lr=lr),
        test=lambda: measure_accuracy(network, loaders["test"]),
    )


def train(network: nn.Module, loaders: Loaders, *, lr: float) -> None:
    """Train what is trainable; leave the weights of the epoch with the best validation accuracy."""
    optimizer = torch.optim.Adam([tensor for tensor in network.parameters() if tensor.requires_grad], lr=lr)
    best_accuracy, best_state = -1.0, network.state_dict()
    for _ in range(EPOCHS):
        network.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        accuracy = measure_accuracy(network, loaders["val"])
        if accuracy > best_accuracy:
            best_accuracy, best_state = accuracy, copy.deepcopy(network.state_dict())
    network.load_state_dict(best_state)


if __name__ == "__main__":
    main()
