"""Whether training waits for pictures: an epoch of an `all` phase against the same steps on tensors in memory.

    python bench/bench_all_phase.py

EfficientNet-Lite0 on real photos; at 96 px a step is short, and decoding takes the largest share.
"""

import tempfile
from collections.abc import Iterable
from pathlib import Path

from torch import Tensor, nn

from photos import LITE0_AT_224_PX, PARAMS, clean_and_split, require_photos, seconds, select_without_features
from thaw.backbones import build_backbone
from thaw.dataset import LabelledPictures
from thaw.device import keep_freed_memory, make_deterministic
from thaw.feed import make_feed
from thaw.images import PicturesFile
from thaw.model import Classifier
from thaw.params import FLOAT32, Phase
from thaw.recipe import build_optimizer, set_mode

ROUNDS = 3
PHASE = Phase(train="all", epochs=1, lr=0.0001)


def main() -> None:
    """Print the table."""
    require_photos()
    make_deterministic()
    keep_freed_memory()
    print(f"{'all phase, EfficientNet-Lite0':30} {'pictures/s':>10} {'in memory':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory() as scratch:
        archive, assignment = clean_and_split(Path(scratch))
        with PicturesFile(archive) as pictures:
            for image_size_px, count in ((224, 96), (96, 320)):
                train = select_without_features(assignment, "train", count=count)
                waiting, in_memory = measure(train, pictures, image_size_px=image_size_px)
                print(f"{f'{image_size_px} px':30} {waiting:10.1f} {in_memory:10.1f} {waiting / in_memory:6.2f}")


def measure(train: LabelledPictures, pictures: PicturesFile, *, image_size_px: int) -> tuple[float, float]:
    """Pictures per second of an epoch as `fit` feeds it, and of one whose batches are there already."""
    params = LITE0_AT_224_PX.model_copy(update={"image_size_px": image_size_px})
    model = Classifier(build_backbone(params), classes=("Cat", "Dog"), seed=0)
    optimizer = build_optimizer(model, PHASE, PARAMS.training)
    set_mode(model, PHASE, PARAMS.training)
    feed = make_feed(
        model,
        PHASE,
        number=0,
        train=train,
        val=train,
        pictures=pictures,
        params=PARAMS.training,
        compute=FLOAT32,
        seed=0,
    )
    ready = list(feed.train(1, 0))

    def learn(batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        for inputs, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            nn.functional.cross_entropy(feed.forward(inputs), labels).backward()
            optimizer.step()

    learn(ready[:1])
    # In turns, so that a busy machine slows both.
    timed_s = [(seconds(lambda: learn(feed.train(1, 0))), seconds(lambda: learn(ready))) for _ in range(ROUNDS)]
    waiting_s, in_memory_s = (min(column) for column in zip(*timed_s, strict=True))
    return len(train.paths) / waiting_s, len(train.paths) / in_memory_s


if __name__ == "__main__":
    main()
