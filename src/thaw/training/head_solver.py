"""The best linear head on given features: multinomial logistic regression, solved instead of trained.

The problem is convex: for each penalty there is one best head, and no seed, learning rate or number of epochs has a say
in it. What is minimised, over weights W of shape `(C, D)` on standardised features z and a bias of shape `(C,)`, with
row weights r that sum to 1, is

    sum_i r_i * cross_entropy(W z_i + bias, label_i) + penalty / 2 * ||W||^2

by L-BFGS (Liu and Nocedal, Mathematical Programming 1989). The penalty is the one whose head has the lowest log loss on
the validation rows, out of a path from strong to weak in which each fit starts where the one before it ended (Friedman,
Hastie and Tibshirani, Journal of Statistical Software 2010). Kornblith, Shlens and Le (CVPR 2019) compare networks by
such heads, with such a path.

It is scikit-learn's `LogisticRegression(C=1 / (N * penalty))` on `StandardScaler`'s features, where N is the sum of the
row weights that it is given. For two classes scikit-learn has one vector v in the place of W's rows -v/2 and v/2, and
penalises it twice as much: there, `C=2 / (N * penalty)` is the same problem.

Sums are in float64: near the optimum the rounding of a float32 loss can mislead the line search, which then took five
times the evaluations in a trial. The features stay float32 and as they are; a block of rows at a time is converted, and
W is standardised in their place. So there is never a second copy of them.
"""

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from thaw.errors import DataError, DivergedError

PENALTIES = tuple(10.0 ** (-step / 2) for step in range(10))
"""From 1 to 0.00003, two in each power of ten."""
LIMITS = (1e-7, 1e3)
"""How weak and how strong a penalty may become where the best one is at an end of the path."""
TOLERANCE = 1e-4
"""How far the weights may be from the best ones, relative to their norm."""
ITERATIONS = 2000
"""The most for one penalty."""
WORSE_IN_A_ROW = 2
"""After so many penalties with a higher validation loss than the best one, no weaker one is tried."""

_ONE_THREAD_BELOW = 10**8
"""N x D x C: below it several threads save seconds at most, and on a busy machine, where they wait for each other
thousands of times, a path took thirty times as long with two. Above it, bytes depend on the number of threads."""

_BLOCK_BYTES = 2**22
"""Of features in float64: what a processor's cache holds while they are used twice."""
_HISTORY = 20
"""Steps from which L-BFGS estimates the curvature."""


@dataclass(frozen=True, kw_only=True)
class PenaltyFit:
    """What one penalty came to."""

    penalty: float

    train_loss: float
    """Mean cross-entropy of the training rows by their weights, in nats, without the penalty."""

    train_accuracy: float
    """The share of the training rows that it gets right."""

    val_log_loss: float
    """Likewise of the validation rows."""

    val_accuracy: float

    iterations: int

    evaluations: int
    """Of loss and gradient: those of the line searches count."""

    converged: bool
    """Whether the weights are as close to the best ones as was asked for."""


@dataclass(frozen=True, kw_only=True)
class SolvedHead:
    """The head of the best penalty, as an `nn.Linear(D, C)` holds it, and how it was found."""

    weight: NDArray[np.float32]
    """Shape `(C, D)`, for features that are not standardised; sums to 0 over the classes."""

    bias: NDArray[np.float32]
    """Shape `(C,)`; sums to 0."""

    path: tuple[PenaltyFit, ...]
    """All penalties that were tried, from strong to weak."""

    chosen: int
    """The place in `path` of the lowest validation log loss; of equal ones, of the strongest penalty."""


def solve_head(
    train_features: NDArray[np.float32],
    train_labels: NDArray[np.int64],
    *,
    val_features: NDArray[np.float32],
    val_labels: NDArray[np.int64],
    classes: int,
    row_weights: NDArray[np.float64] | None = None,
    val_row_weights: NDArray[np.float64] | None = None,
    label_smoothing: float = 0.0,
    penalties: Sequence[float] = PENALTIES,
    limits: tuple[float, float] = LIMITS,
    tolerance: float = TOLERANCE,
    on_progress: Callable[[PenaltyFit], object] | None = None,
) -> SolvedHead:
    """Solve the head for each penalty of a path, and choose the one that does best on the validation rows.

    The same input gives the same bytes on one machine with one number of threads; little work is done by one, of
    however many. A feature that is the same in all training rows gets the weight 0.

    Args:
        train_features: shape `(N, D)`, float32. K views of an image are K rows, each with a weight of 1/K.
        train_labels: shape `(N,)`, int64, in [0, C).
        val_features: shape `(M, D)`, float32.
        val_labels: shape `(M,)`, int64, in [0, C).
        classes: C, at least 2.
        row_weights: shape `(N,)`, float64, above 0: how much a training row counts, in the loss and in the mean and the
            deviation by which features are standardised. Only their ratios matter. None: all count alike.
        val_row_weights: shape `(M,)`, float64, above 0: how much a validation row counts in the log loss by which the
            penalty is chosen; accuracies are never weighted. None: all count alike.
        label_smoothing: the share of a training row's target that is spread over all classes, in [0, 1) (Szegedy et
            al., CVPR 2016).
        penalties: falling, above 0. The path ends early where the validation loss has risen.
        limits: the weakest and the strongest penalty to which the path goes on, in its own steps, as long as the best
            one is at its end. A path of one penalty does not go on.
        tolerance: how far the weights may be from the best ones, relative to their norm.
        on_progress: is told of each fit once it is made, in the order in which they are made.

    Raises:
        DataError: a class has no training row.
        DivergedError: a feature is not finite.
    """
    assert len(penalties) > 0
    assert all(strong > weak > 0 for strong, weak in itertools.pairwise(penalties)), penalties
    _require_finite(train_features, "training")
    _require_finite(val_features, "validation")
    train = _gather(train_features, train_labels, classes=classes, weights=row_weights)
    val = _gather(val_features, val_labels, classes=classes, weights=val_row_weights)
    told = on_progress or (lambda _: None)
    fits: list[PenaltyFit] = []
    solutions: list[Tensor] = []
    with _threads_for(train_features.size * classes):
        problem = _pose(train, classes=classes, smoothing=label_smoothing)
        solution = problem.without_features()
        while (penalty := _next_weaker(fits, penalties, weakest=limits[0])) is not None:
            made, solution = _fit(problem, penalty, val=val, start=solution, tolerance=tolerance)
            told(made)
            fits.append(made)
            solutions.append(solution)
        solution = solutions[0]
        while (penalty := _next_stronger(fits, penalties, strongest=limits[1])) is not None:
            made, solution = _fit(problem, penalty, val=val, start=solution, tolerance=tolerance)
            told(made)
            fits.insert(0, made)
            solutions.insert(0, solution)
    chosen = _best(fits)
    weight, bias = problem.unstandardise(solutions[chosen])
    # What is added to the logits of all classes changes no probability. The penalty has a say in it for the weights,
    # which sum to 0 but for the tolerance; for the bias nothing has.
    return SolvedHead(
        weight=(weight - weight.mean(dim=0)).float().numpy(),
        bias=(bias - bias.mean()).float().numpy(),
        path=tuple(fits),
        chosen=chosen,
    )


@contextmanager
def _threads_for(work: int) -> Iterator[None]:
    """One thread for little work, as many as torch has for more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if work < _ONE_THREAD_BELOW else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def count_solver_flops(solved: SolvedHead, *, rows: int, val_rows: int) -> int:
    """The floating-point operations of the products of features and weights: logits and gradient in each evaluation."""
    classes, width = solved.weight.shape
    evaluations = sum(fit.evaluations for fit in solved.path)
    return 2 * int(width * classes) * (2 * rows * evaluations + (rows + val_rows) * len(solved.path))


def _best(fits: Sequence[PenaltyFit]) -> int:
    return min(range(len(fits)), key=lambda place: fits[place].val_log_loss)


def _next_weaker(fits: Sequence[PenaltyFit], penalties: Sequence[float], *, weakest: float) -> float | None:
    """The penalty to try after those of `fits`, or None if the path ends there."""
    if not fits:
        return penalties[0]
    worse_in_a_row = len(fits) - 1 - _best(fits)
    if worse_in_a_row >= WORSE_IN_A_ROW:
        return None
    if len(fits) < len(penalties):
        return penalties[len(fits)]
    if worse_in_a_row > 0 or len(penalties) == 1:
        return None
    beyond = fits[-1].penalty * penalties[-1] / penalties[-2]
    return beyond if beyond >= weakest else None


def _next_stronger(fits: Sequence[PenaltyFit], penalties: Sequence[float], *, strongest: float) -> float | None:
    """The penalty to try before those of `fits`, or None if the path begins there."""
    if _best(fits) > 0 or len(penalties) == 1:
        return None
    beyond = fits[0].penalty * penalties[0] / penalties[1]
    return beyond if beyond <= strongest else None


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """One split, without a copy of it."""

    features: Tensor
    """Shape `(N, D)`, float32."""

    labels: Tensor
    """Shape `(N,)`, int64."""

    weights: Tensor
    """Shape `(N,)`, float64; sums to 1."""

    def blocks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Features in float64, labels and weights of some rows at a time."""
        size = max(1, _BLOCK_BYTES // (8 * self.features.shape[1]))
        for start in range(0, len(self.labels), size):
            rows = slice(start, start + size)
            yield self.features[rows].double(), self.labels[rows], self.weights[rows]


@dataclass(frozen=True, kw_only=True)
class _Problem:
    """What is minimised. A solution, shape `(C, D + 1)`, is weights on standardised features and a scaled bias."""

    rows: _Rows

    classes: int

    smoothing: float

    mean: Tensor
    """Of each feature, shape `(D,)`, float64."""

    deviation: Tensor
    """Of each feature, shape `(D,)`, float64; infinite for a constant one, whose gradient and weight so are 0."""

    bias_scale: float
    """What the bias in a solution is multiplied by, so that it is found as fast as the weights.

    All D features of a row can act together, the bias is alone: unscaled, that of a rare class is what is found last.
    The fourth root of D took the fewest iterations on 1,280 features (30 instead of 83 for 12 unbalanced classes), and
    a third more on 32.
    """

    def without_features(self) -> Tensor:
        """The best solution whose weights are all 0: it knows the shares of the classes."""
        shares = torch.zeros(self.classes, dtype=torch.float64).index_add_(0, self.rows.labels, self.rows.weights)
        solution = torch.zeros(self.classes, len(self.mean) + 1, dtype=torch.float64)
        solution[:, -1] = (shares * (1 - self.smoothing) + self.smoothing / self.classes).log() / self.bias_scale
        return solution

    def unstandardise(self, solution: Tensor) -> tuple[Tensor, Tensor]:
        """The same head for features as they are: shapes `(C, D)` and `(C,)`, float64."""
        weight = solution[:, :-1] / self.deviation
        return weight, solution[:, -1] * self.bias_scale - weight @ self.mean

    def loss_and_gradient(self, solution: Tensor, penalty: float) -> tuple[float, Tensor]:
        """What is minimised, and its gradient, shape `(C, D + 1)`, in one pass over the rows."""
        weight, bias = self.unstandardise(solution)
        loss = penalty / 2 * solution[:, :-1].square().sum()
        gradient = torch.zeros_like(solution)
        of_weight, of_bias = gradient[:, :-1], gradient[:, -1]
        for features, labels, weights in self.rows.blocks():
            log_p = torch.addmm(bias, features, weight.T).log_softmax(dim=1)  # (B, C)
            target = nn.functional.one_hot(labels, self.classes) * (1 - self.smoothing) + self.smoothing / self.classes
            loss -= weights @ (target * log_p).sum(dim=1)
            residual = weights[:, None] * (log_p.exp() - target)  # (B, C)
            of_weight.addmm_(residual.T, features)
            of_bias += residual.sum(dim=0)
        # That was for features as they are: by the chain rule through `unstandardise`.
        of_weight -= torch.outer(of_bias, self.mean)
        of_weight /= self.deviation
        of_weight += penalty * solution[:, :-1]
        of_bias *= self.bias_scale
        return float(loss), gradient


def _require_finite(features: NDArray[np.float32], split: str) -> None:
    # What is not finite stays so in a sum, and float32 cannot overflow one in float64.
    sound = np.isfinite(features.sum(axis=1, dtype=np.float64))
    if not sound.all():
        raise DivergedError(
            f"the features of {np.count_nonzero(~sound)} of {len(sound)} {split} rows are not finite, of row "
            f"{np.argmin(sound)} for one; set compute.precision to float32, or choose another backbone"
        )


def _gather(
    features: NDArray[np.float32], labels: NDArray[np.int64], *, classes: int, weights: NDArray[np.float64] | None
) -> _Rows:
    assert features.dtype == np.float32
    assert len(features) == len(labels) > 0
    assert 0 <= labels.min() <= labels.max() < classes
    shares = np.ones(len(labels)) if weights is None else weights
    assert shares.shape == labels.shape
    assert shares.min() > 0
    return _Rows(
        features=torch.from_numpy(features),
        labels=torch.from_numpy(labels),
        weights=torch.from_numpy(shares / shares.sum()),
    )


def _pose(rows: _Rows, *, classes: int, smoothing: float) -> _Problem:
    counts = torch.bincount(rows.labels, minlength=classes)
    if not counts.all():
        # Its bias would go down for ever: no bias is the best one.
        raise DataError(
            f"class {int(counts.argmin())} of 0 to {classes - 1} has no training image; add some, or remove the class"
        )
    mean, variance = torch.zeros(2, rows.features.shape[1], dtype=torch.float64)
    for features, _, weights in rows.blocks():
        mean += weights @ features
    # A second pass, since the mean of squares less the square of the mean cancels.
    for features, _, weights in rows.blocks():
        variance += weights @ (features - mean).square()
    deviation = variance.sqrt()
    # A feature that varies by less than float32 resolves is constant: standardised, it would be nothing but rounding.
    deviation[deviation <= torch.finfo(torch.float32).eps * rows.features.abs().amax(dim=0)] = math.inf
    return _Problem(
        rows=rows,
        classes=classes,
        smoothing=smoothing,
        mean=mean,
        deviation=deviation,
        bias_scale=len(mean) ** 0.25,
    )


def _fit(
    problem: _Problem, penalty: float, *, val: _Rows, start: Tensor, tolerance: float
) -> tuple[PenaltyFit, Tensor]:
    """Solve for one penalty, and see how the solution does."""
    solution, search = _minimise(problem, penalty, start=start, tolerance=tolerance)
    head = problem.unstandardise(solution)
    train_loss, train_accuracy = _score(problem.rows, head)
    val_log_loss, val_accuracy = _score(val, head)
    made = PenaltyFit(
        penalty=penalty,
        train_loss=train_loss,
        train_accuracy=train_accuracy,
        val_log_loss=val_log_loss,
        val_accuracy=val_accuracy,
        iterations=search.iterations,
        evaluations=search.evaluations,
        converged=search.converged,
    )
    return made, solution


@dataclass(kw_only=True)
class _Search:
    """How one minimisation went."""

    iterations: int = 0
    evaluations: int = 0
    converged: bool = False


class _CloseEnoughError(Exception):
    """Ends the search: the point evaluated last is a solution."""


class _LBFGS(torch.optim.LBFGS):
    """torch's own, which would import torch's compiler, 1.3 s, to except a method from what is compiled."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)


def _minimise(problem: _Problem, penalty: float, *, start: Tensor, tolerance: float) -> tuple[Tensor, _Search]:
    """The best solution for one penalty, and how it was found.

    The penalty makes the loss strongly convex in the weights: whatever the features are, the weights are no farther
    from the best ones than the norm of the gradient over the penalty. (In practice they were up to four times closer.)
    SciPy's L-BFGS-B needs as many iterations, but its BLAS has threads of its own, which stand in the way of torch's:
    where both had two, it took five times the seconds.
    """
    solution, search = start.clone(), _Search()
    optimizer: torch.optim.LBFGS = _LBFGS(
        [solution],
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        # Its own conditions know nothing of the penalty.
        tolerance_grad=0.0,
        tolerance_change=0.0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> float:
        search.evaluations += 1
        loss, solution.grad = problem.loss_and_gradient(solution, penalty)
        norm = solution[:, :-1].norm()
        # The last term lets weights pass that are 0, as they are where all features are constant.
        if solution.grad.norm() <= penalty * tolerance * norm + torch.finfo(torch.float64).eps:
            raise _CloseEnoughError
        return loss

    try:
        optimizer.step(evaluate)
    except _CloseEnoughError:
        search.converged = True
    search.iterations = int(optimizer.state[solution].get("n_iter", 0))
    return solution, search


def _score(rows: _Rows, head: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """The mean cross-entropy of a head in nats, by the weights of the rows, and its accuracy."""
    weight, bias = head
    loss, correct = 0.0, 0
    for features, labels, weights in rows.blocks():
        log_p = torch.addmm(bias, features, weight.T).log_softmax(dim=1)  # (B, C)
        loss -= float(weights @ log_p.gather(1, labels[:, None])[:, 0])
        correct += int((log_p.argmax(dim=1) == labels).sum())
    return loss, correct / len(rows.labels)
