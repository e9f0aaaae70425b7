"""How often the verdict is wrong: simulate equal and unequal recipes, and ask the project's own functions.

    python tools/simulate_verdict.py --draws 500 [--images 20 50] [--seeds 3 5] [--json FILE]

Three recipes whose expected accuracy is 94 % are tested on n images with S seeds; an image that one model gets wrong is
likely to be got wrong by the others, as on real photos. Prints one row a cell: how often some pair is called better
(false_alarm; with fewer than 3 seeds: these very models, which are equal only where seeds do not differ), how often all
intervals of the differences hold together (coverage), and how often a recipe's own interval does, of that recipe for
which it does least (accuracy_coverage).

Then the first two are worse by `gap_points`, which is the margin, too: how often that is found (power), how often it is
called equivalent (false_equivalent), how often some pair is called better that is not (partial_alarm), and how often
all intervals hold the true differences (partial_coverage).

The model is a probit: image i is got right by the model of recipe r and seed s where a threshold, moved by the seed, is
above the sum of three normal draws, of the image, of recipe and image, and of all three. Their variances are such that
of the images that a model gets wrong, the model of another seed gets 69 % wrong and that of another recipe 46 %; on the
2,002 photos at 96 px these were 64 to 84 % and 45 to 59 %.
"""

import argparse
import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from thaw.evaluation.significance import MIN_SEEDS, compare_recipes

ACCURACY = 0.94
SHARES = (0.75, 0.17, 0.08)
"""Of the variance: image, recipe x image, and what each model has of its own."""
IMAGES = (20, 50, 129, 613, 5000)
SEEDS = (3, 5, 10)
SEED_SDS_POINTS = (
    (0.0, 0.0, 0.0), (0.25, 0.25, 0.25), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0), (0.0, 0.5, 1.0), (0.0, 0.0, 1.0)
)  # fmt: skip
GAP_POINTS = {20: 35.0, 50: 18.0, 129: 8.0, 613: 3.5, 5000: 1.2}
"""Differences that are found in some draws and not in others."""
MARGIN = 0.01


@dataclass(frozen=True, kw_only=True)
class Row:
    """One cell of the simulation."""

    n: int
    seeds: int
    seed_sd_points: tuple[float, ...]
    false_alarm: float
    equivalent: float
    coverage: float
    accuracy_coverage: float
    gap_points: float
    power: float
    false_equivalent: float
    partial_alarm: float
    partial_coverage: float


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="How often the verdict is wrong.")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--images", type=int, nargs="+", choices=IMAGES, default=IMAGES)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print("                                all equal                                     two worse by the gap")
    print(
        "    n  seeds  seed SD, points   false alarm  coverage  accuracy's  equivalent    gap   power  equivalent"
        "  false alarm  coverage"
    )
    rows = []
    for n, seeds, points in itertools.product(arguments.images, arguments.seeds, SEED_SDS_POINTS):
        row = simulate(arguments.draws, n=n, seeds=seeds, seed_sd_points=points)
        rows.append(asdict(row))
        sds = "/".join(f"{sd:g}" for sd in row.seed_sd_points)
        print(
            f"{row.n:5}  {row.seeds:5}  {sds:16}  {row.false_alarm:11.1%}  {row.coverage:8.1%}  "
            f"{row.accuracy_coverage:10.1%}  {row.equivalent:10.1%}  {row.gap_points:5g}  {row.power:6.1%}  "
            f"{row.false_equivalent:10.1%}  {row.partial_alarm:11.1%}  {row.partial_coverage:8.1%}",
            flush=True,
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def simulate(draws: int, *, n: int, seeds: int, seed_sd_points: tuple[float, ...]) -> Row:
    """One cell; the same draws every time."""
    rng = np.random.default_rng([n, seeds, *(round(100 * sd) for sd in seed_sd_points)])
    alarms = covered = equivalent = found = 0.0
    equivalent_at_margin = partial_alarms = partial_covered = 0
    own = np.zeros(3)
    groups = np.arange(n)
    gap = GAP_POINTS[n] / 100
    for _ in range(draws):
        comparison = compare_recipes(
            draw_correct(rng, n=n, seeds=seeds, seed_sd_points=seed_sd_points), groups=groups, margin=MARGIN
        )
        alarms += any(pair.outcome_of_models == "better" for pair in comparison.pairs)
        equivalent += float(np.mean([pair.outcome == "equivalent" for pair in comparison.pairs]))
        covered += all(pair.interval[0] <= 0 <= pair.interval[1] for pair in comparison.pairs)
        intervals = [recipe.interval for recipe in comparison.variants.values()]
        own += [low <= ACCURACY <= high for low, high in intervals]
        better = draw_correct(rng, n=n, seeds=seeds, seed_sd_points=seed_sd_points, worse=(gap, gap, 0.0))
        alike, *apart = compare_recipes(better, groups=groups, margin=gap).pairs
        found += float(np.mean([pair.p_value < 0.05 for pair in apart]))
        equivalent_at_margin += any(pair.outcome == "equivalent" for pair in apart)
        # By their intervals: what lies within the margin is called equivalent, even where it leaves out 0.
        partial_alarms += alike.p_value < 0.05 or any(pair.interval[0] > 0 for pair in apart)
        partial_covered += alike.interval[0] <= 0 <= alike.interval[1] and all(
            pair.interval[0] <= -gap <= pair.interval[1] for pair in apart
        )
    return Row(
        n=n,
        seeds=seeds,
        seed_sd_points=seed_sd_points,
        false_alarm=alarms / draws,
        equivalent=equivalent / draws,
        coverage=covered / draws,
        accuracy_coverage=float(own.min()) / draws,
        gap_points=GAP_POINTS[n],
        power=found / draws if seeds >= MIN_SEEDS else 0.0,
        false_equivalent=equivalent_at_margin / draws,
        partial_alarm=partial_alarms / draws,
        partial_coverage=partial_covered / draws,
    )


def draw_correct(
    rng: np.random.Generator,
    *,
    n: int,
    seeds: int,
    seed_sd_points: tuple[float, ...],
    worse: tuple[float, ...] = (0.0, 0.0, 0.0),
) -> dict[str, NDArray[np.bool_]]:
    """Which images the models get right, shape (S, N) for each of three recipes.

    Args:
        rng: draws everything.
        n: how many images.
        seeds: how many models of each recipe.
        seed_sd_points: for each recipe the standard deviation of a model's expected accuracy, in percentage points.
        worse: for each recipe by how much its expected accuracy is below ACCURACY.
    """
    normal = NormalDist()
    image, recipe_image, own = np.sqrt(SHARES)
    hardness = image * rng.standard_normal(n)
    correct = {}
    for recipe, (sd_points, less) in enumerate(zip(seed_sd_points, worse, strict=True)):
        accuracy = ACCURACY - less
        # How steeply accuracy rises with the threshold turns points into units of the probit's scale.
        shift_sd = sd_points / 100 / normal.pdf(normal.inv_cdf(accuracy))
        # A threshold that itself varies is met less often: moved out, so that the expected accuracy stays.
        threshold = normal.inv_cdf(accuracy) * np.sqrt(1 + shift_sd**2)
        thresholds = threshold + shift_sd * rng.standard_normal((seeds, 1))
        noise = recipe_image * rng.standard_normal(n) + own * rng.standard_normal((seeds, n))
        correct[f"r{recipe}"] = hardness + noise < thresholds
    return correct


if __name__ == "__main__":
    main()
