"""fastai's `fine_tune`, as its documentation has it for photos of pets.

https://docs.fast.ai/tutorial.pets.html

Images are shrunk to about twice the view, then cut and augmented in batches of 64, the default; the head is fastai's
own, of two layers. fine_tune(3) is one epoch of the head, and three of everything at rates that fall towards the input:
four in all. All else is at its default.
"""

import fastai.callback.all  # noqa: F401  (gives Learner the methods fine_tune and no_bar)
from fastai.data.transforms import get_image_files
from fastai.metrics import accuracy
from fastai.torch_core import set_seed
from fastai.vision.augment import Resize, aug_transforms
from fastai.vision.data import ImageDataLoaders
from fastai.vision.learner import vision_learner

from peers.contest import EPOCHS, IMAGE_SIZE_PX, NETWORK, pretrained_from, read_task, run_recipe


def main() -> None:
    """Train it."""
    task = read_task()
    set_seed(task.seed)
    images = task.folder / "images"
    loaders = ImageDataLoaders.from_folder(
        images,
        train="train",
        valid="val",
        # The documentation's 460 and 224 px.
        item_tfms=Resize(IMAGE_SIZE_PX * 460 // 224),
        batch_tfms=aug_transforms(size=IMAGE_SIZE_PX, min_scale=0.75),
        num_workers=task.threads,
    )
    learner = vision_learner(loaders, NETWORK, metrics=accuracy, path=task.folder, **pretrained_from(task.folder))

    def train() -> None:
        with learner.no_bar(), learner.no_logging():
            learner.fine_tune(EPOCHS - 1)

    def test() -> float:
        with learner.no_bar(), learner.no_logging():
            loader = loaders.test_dl(get_image_files(images / "test"), with_labels=True)
            return float(learner.validate(dl=loader)[1])

    run_recipe("fine_tune", train=train, test=test)


if __name__ == "__main__":
    main()
