"""The support vector machine of many classes: its optimality conditions, scikit-learn's two, and
derivatives by differences and through a long projected descent."""

import numpy as np
import pytest
import torch
from sklearn.svm import SVC, LinearSVC
from torch import Tensor
from torch.nn import functional as F

from innerloop.core.errors import NonFiniteError
from innerloop.methods.heads.svm import fit_svm, solve_dual

COST = 0.1


def problem(ways: int, shots: int, features: int = 24, size: float = 1.0) -> tuple[Tensor, Tensor]:
    """Features without negative numbers, as a rectifier leaves them, and their labels."""
    generator = torch.Generator().manual_seed(100 * ways + shots)
    labels = torch.arange(ways).repeat_interleave(shots)
    centres = 1.5 * torch.randn(ways, features, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(labels), features, generator=generator, dtype=torch.float64)
    return size * (centres[labels] + noise).relu(), labels


def one_hot(labels: Tensor, ways: int) -> Tensor:
    return F.one_hot(labels, ways).double()


def wrong(gram: Tensor, targets: Tensor, dual: Tensor) -> float:
    """How far a point is from the optimality conditions, with the best multipliers that it has."""
    slope = gram @ dual - targets
    multipliers = slope.max(dim=1, keepdim=True).values - slope
    slack = targets - dual
    return max(
        float(value.abs().max()) for value in (dual.sum(1), slack.clamp(max=0), slack * multipliers)
    )


@pytest.mark.parametrize("size", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [2, 5, 20])
def test_the_solution_meets_the_optimality_conditions(ways, shots, size):
    x, labels = problem(ways, shots, size=size)
    gram, targets = COST * x @ x.T, one_hot(labels, ways)

    dual = solve_dual(gram, targets)

    assert wrong(gram, targets, dual) <= 1e-8
    assert wrong(gram, targets, 0.999 * dual) > 1e-5
    assert torch.allclose(fit_svm(x, labels, ways, COST), COST * x.T @ dual, atol=1e-12)


@pytest.mark.parametrize("cost", [0.02, COST, 5.0])
@pytest.mark.parametrize("shots", [1, 5])
@pytest.mark.parametrize("ways", [3, 5, 20])
def test_it_is_scikit_learns_of_crammer_and_singer(ways, shots, cost):
    x, labels = problem(ways, shots)
    others = torch.randn(30, x.shape[1], generator=torch.Generator().manual_seed(1)).double()
    theirs = LinearSVC(
        multi_class="crammer_singer", fit_intercept=False, C=cost, tol=1e-12, max_iter=10_000_000
    ).fit(x.numpy(), labels.numpy())

    found = others @ fit_svm(x, labels, ways, cost)

    # Liblinear's scores are known up to what all classes share, which no decision depends on.
    expected = theirs.decision_function(others.numpy())
    expected = expected - expected.mean(1, keepdims=True)
    assert np.abs(found.numpy() - expected).max() < 1e-6


@pytest.mark.parametrize("cost", [0.02, COST, 5.0])
@pytest.mark.parametrize("shots", [1, 5])
def test_of_two_classes_it_is_the_usual_one_without_a_bias(shots, cost):
    """Where every example comes with its negative of the other class there is no bias, and each of
    the two stands for half of the cost. Between the scores of two classes lie twice the margins:
    C there is 2 C here."""
    x, labels = problem(2, shots)
    others = torch.randn(30, x.shape[1], generator=torch.Generator().manual_seed(1)).double()
    theirs = SVC(kernel="linear", C=2 * cost / 2, tol=1e-12)
    theirs.fit(torch.cat([x, -x]).numpy(), torch.cat([labels, 1 - labels]).numpy())

    scores = others @ fit_svm(x, labels, 2, cost)

    found = (scores[:, 1] - scores[:, 0]).numpy()
    assert np.abs(found - theirs.decision_function(others.numpy())).max() < 1e-6
    assert np.abs(found).max() > 0.01


def by_projected_descent(x: Tensor, labels: Tensor, ways: int, steps: int) -> Tensor:
    """W by steps of 1 / L on the dual, each followed by the nearest allowed point; unrolled."""
    targets = one_hot(labels, ways)
    gram = COST * x @ x.T
    rate = 1 / torch.linalg.eigvalsh(gram.detach()).max()
    slack = torch.full_like(targets, 1 / ways)
    for _ in range(steps):
        slack = on_simplex(slack + rate * (gram @ (targets - slack) - targets))
    return COST * x.T @ (targets - slack)


def on_simplex(rows: Tensor) -> Tensor:
    """The nearest point to each row whose numbers are not negative and sum to one."""
    falling = rows.sort(dim=1, descending=True).values
    counts = torch.arange(1, rows.shape[1] + 1)
    cuts = (falling.cumsum(1) - 1) / counts
    chosen = (falling > cuts).sum(1, keepdim=True) - 1
    return (rows - cuts.gather(1, chosen)).clamp(min=0)


def test_its_derivative_is_that_of_a_long_projected_descent():
    x, labels = problem(3, 2, features=12)
    factors = torch.randn(12, 3, generator=torch.Generator().manual_seed(2)).double()
    gradients = []
    for fit in (
        fit_svm(x.requires_grad_(), labels, 3, COST),
        by_projected_descent(x, labels, 3, 3000),
    ):
        gradients.append(torch.autograd.grad((fit * factors).sum(), x)[0])

    assert (gradients[0] - gradients[1]).abs().max() < 1e-9
    assert gradients[1].abs().max() > 1e-2


@pytest.mark.parametrize(
    ("ways", "shots", "size"), [(2, 5, 1.0), (5, 1, 1.0), (5, 5, 0.3), (5, 5, 3.0)]
)
def test_its_derivative_is_that_of_differences(ways, shots, size):
    """With more examples than features and with fewer, and with all, some and no bounds reached."""
    x, labels = problem(ways, shots, size=size)
    factors = torch.randn(x.shape[1], ways, generator=torch.Generator().manual_seed(2)).double()

    def value(at: Tensor) -> Tensor:
        return (fit_svm(at, labels, ways, COST) * factors).sum()

    (gradient,) = torch.autograd.grad(value(x.requires_grad_()), x)

    with torch.no_grad():
        for seed in range(5):
            way = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).double()
            step = 1e-5 * way
            difference = (value(x + step) - value(x - step)) / 2e-5
            assert difference.item() == pytest.approx((gradient * way).sum().item(), rel=1e-6)


def duplicates(x: Tensor, labels: Tensor) -> Tensor:
    return x[labels * 5]


def conflicts(x: Tensor, labels: Tensor) -> Tensor:
    """Every second example is the same picture, under every label."""
    return torch.where(torch.arange(len(x))[:, None] % 2 == 0, x[0], x)


DEGENERATE = {
    "equal examples of a class": duplicates,
    "equal examples of all classes": conflicts,
    "one picture": lambda x, labels: x[:1].expand_as(x),
    "no features": lambda x, labels: 0 * x,
    "all at their bounds": lambda x, labels: 1e-3 * x,
    "huge": lambda x, labels: 1e4 * x,
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_degenerate_problems_have_finite_solutions_and_gradients(name):
    x, labels = problem(5, 5)
    x = DEGENERATE[name](x, labels).clone().requires_grad_()

    found = fit_svm(x, labels, 5, COST)

    (gradient,) = torch.autograd.grad(found.square().sum(), x)
    assert bool(found.isfinite().all()) and bool(gradient.isfinite().all())
    gram = (COST * x @ x.T).detach()
    assert wrong(gram, one_hot(labels, 5), solve_dual(gram, one_hot(labels, 5))) <= 1e-8


@pytest.mark.parametrize("size", [1e2, 1e3, 1e4])
@pytest.mark.parametrize("shots", [1, 5])
def test_one_picture_under_two_labels_is_no_obstacle_however_long_its_features_are(shots, size):
    """The conditions are met as far as sums of such numbers can be computed."""
    x, labels = problem(5, shots, size=size)
    x[-1] = x[0]
    gram, targets = COST * x @ x.T, one_hot(labels, 5)

    dual = solve_dual(gram, targets)

    assert dual.abs().max() > 0.1  # not as small as where all can be told apart
    assert wrong(gram, targets, dual) <= 1e-11 + 1e-13 * gram.max()
    (gradient,) = torch.autograd.grad(
        fit_svm(x.requires_grad_(), labels, 5, COST).square().sum(), x
    )
    assert bool(gradient.isfinite().all())


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_one_picture_under_all_labels_has_no_scores(size):
    """Rows of A sum to zero, and by symmetry so do its columns: W'x is zero for every class."""
    x, labels = problem(5, 1, size=size)
    x = x[:1].expand_as(x)

    assert (x @ fit_svm(x, labels, 5, COST)).abs().max() < 1e-6


def test_at_small_cost_every_example_is_at_its_bound():
    """Then W is C times the class's sum less the others' share of it, whatever the geometry."""
    x, labels = problem(2, 5)
    cost = 1e-4
    signs = one_hot(labels, 2) - one_hot(1 - labels, 2)

    assert torch.allclose(fit_svm(x, labels, 2, cost), cost * x.T @ signs, atol=1e-9)


def test_what_has_no_solution_is_a_sentence():
    x, labels = problem(5, 1)
    x[0, 0] = torch.nan

    with pytest.raises(
        NonFiniteError, match="features are not finite, or of lengths too different"
    ):
        fit_svm(x, labels, 5, COST)
