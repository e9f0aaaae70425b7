"""Whether training waits for images: an epoch of an `all` phase against the same steps on tensors in memory.

    python bench/bench_all_phase.py

EfficientNet-Lite0 on real photos, one thread for the network and one to decode; at 96 px a step is short, and decoding
takes the largest share. The last column compares processor seconds: what is left where no core is to spare.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from photos import (
    LITE0_AT_224_PX,
    PARAMS,
    clean_and_split,
    compare_with_network_alone,
    require_photos,
    select_without_features,
    share_cores,
)
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.features import LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, Phase
from thaw.training.inputs import TrainingData, build_inputs
from thaw.training.optim import build_optimizer, set_mode

ROUNDS = 3
PHASE = Phase(train="all", epochs=1, lr=0.0001)


def main() -> None:
    """Print the table."""
    require_photos()
    share_cores()
    make_deterministic()
    keep_freed_memory()
    print(f"{'all phase, EfficientNet-Lite0':30} {'images/s':>10} {'in memory':>10} {'ratio':>6} {'no spare core':>14}")
    with tempfile.TemporaryDirectory() as scratch:
        archive, splits = clean_and_split(Path(scratch))
        with ImageZip(archive) as images:
            for image_size_px, count in ((224, 96), (96, 320)):
                train = select_without_features(splits, "train", count=count)
                waiting_s, ready_s, ratio, no_spare = measure(train, images, image_size_px=image_size_px)
                speeds = f"{count / waiting_s:10.1f} {count / ready_s:10.1f}"
                print(f"{f'{image_size_px} px':30} {speeds} {ratio:6.2f} {no_spare:14.2f}", flush=True)


def measure(train: LabelledImages, images: ImageZip, *, image_size_px: int) -> list[float]:
    """An epoch as `fit` feeds it, and one whose batches are there already: see `compare_with_network_alone`."""
    params = LITE0_AT_224_PX.model_copy(update={"image_size_px": image_size_px})
    model = Classifier(build_backbone(params), classes=("Cat", "Dog"), seed=0)
    optimizer = build_optimizer(model, PHASE, PARAMS.training)
    set_mode(model, PHASE, PARAMS.training)
    phase_inputs = build_inputs(
        model,
        PHASE,
        number=0,
        data=TrainingData(train=train, val=train, images=images),
        params=PARAMS.training,
        compute=FLOAT32,
        seed=0,
    )
    ready = list(phase_inputs.train(1, 0))

    def learn(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        for inputs, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(phase_inputs.forward(inputs), labels).backward()
            optimizer.step()

    learn(ready[:1])
    return compare_with_network_alone(lambda: learn(phase_inputs.train(1, 0)), lambda: learn(ready), rounds=ROUNDS)


if __name__ == "__main__":
    main()
