"""Whether training waits for images: an epoch of an `all` phase against the same steps on tensors in memory.

    python bench/bench_all_phase.py

EfficientNet-Lite0 on real photos; at 96 px a step is short, and decoding takes the largest share.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from photos import LITE0_AT_224_PX, PARAMS, clean_and_split, require_photos, seconds, select_without_features
from thaw.compute.determinism import make_deterministic
from thaw.compute.memory import keep_freed_memory
from thaw.data.features import LabelledImages
from thaw.data.image_zip import ImageZip
from thaw.network.backbones import build_backbone
from thaw.network.classifier import Classifier
from thaw.params import FLOAT32, Phase
from thaw.training.inputs import TrainingData, build_inputs
from thaw.training.loop import set_mode
from thaw.training.optim import build_optimizer

ROUNDS = 3
PHASE = Phase(train="all", epochs=1, lr=0.0001)


def main() -> None:
    """Print the table."""
    require_photos()
    make_deterministic()
    keep_freed_memory()
    print(f"{'all phase, EfficientNet-Lite0':30} {'images/s':>10} {'in memory':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        archive, splits = clean_and_split(Path(scratch))
        with ImageZip(archive) as images:
            for image_size_px, count in ((224, 96), (96, 320)):
                train = select_without_features(splits, "train", count=count)
                waiting, in_memory = measure(train, images, image_size_px=image_size_px)
                print(f"{f'{image_size_px} px':30} {waiting:10.1f} {in_memory:10.1f} {waiting / in_memory:6.2f}")


def measure(train: LabelledImages, images: ImageZip, *, image_size_px: int) -> tuple[float, float]:
    """Images per second of an epoch as `fit` feeds it, and of one whose batches are there already."""
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
    # In turns, so that a busy machine slows both.
    timed_s = [(seconds(lambda: learn(phase_inputs.train(1, 0))), seconds(lambda: learn(ready))) for _ in range(ROUNDS)]
    waiting_s, in_memory_s = (min(column) for column in zip(*timed_s, strict=True))
    return len(train.paths) / waiting_s, len(train.paths) / in_memory_s


if __name__ == "__main__":
    main()
