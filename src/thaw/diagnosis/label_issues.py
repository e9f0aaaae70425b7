"""Out-of-fold probabilities -> which labels are probably wrong: confident learning, by the library cleanlab.

Northcutt, Jiang and Chuang (Journal of Artificial Intelligence Research 2021): an image counts as one of another class
where the probability of that class is at least as high as it is on average for images that are labelled so. How many do
is the estimate of how many labels are wrong, and those with the least probable labels are taken for them.
"""

from collections.abc import Sequence

import numpy as np
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from thaw.diagnosis.label_issues_csv import CheckedLabel


def check_labels(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64], *, paths: Sequence[str], classes: Sequence[str]
) -> list[CheckedLabel]:
    """What heads that did not see an image say of its label, in the order of `paths`.

    Of cleanlab's ways to take the estimated number of issues, that by the margin between the label's probability and
    the highest other one named the fewest right labels among planted wrong ones.

    Args:
        probabilities: shape `(N, C)`, out of fold.
        labels: shape `(N,)`, in [0, C), each class at least once.
        paths: N images.
        classes: C names.
    """
    issues = find_label_issues(labels, probabilities, filter_by="low_normalized_margin", n_jobs=1)
    own = probabilities[np.arange(len(labels)), labels]
    likely = probabilities.argmax(axis=1)
    margin = own - probabilities.max(axis=1)
    found = sorted(np.flatnonzero(issues & (likely != labels)).tolist(), key=lambda i: (margin[i], paths[i]))
    rank = {i: place for place, i in enumerate(found, start=1)}
    return [
        CheckedLabel(
            path=path,
            label=classes[labels[i]],
            likely_label=classes[likely[i]],
            p_label=float(own[i]),
            p_likely_label=float(probabilities[i, likely[i]]),
            rank=rank.get(i),
        )
        for i, path in enumerate(paths)
    ]
