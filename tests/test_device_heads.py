"""Heads are computed where their features are: on PyTorch's device without values, which refuses
tensors of another one."""

import pytest
import torch

from innerloop.methods.heads import logistic, ridge

THERE = {"dtype": torch.float64, "device": "meta"}


@pytest.mark.parametrize(("examples", "size"), [(6, 9), (9, 6)])
def test_a_ridge_regression_is_where_its_features_are(examples, size):
    features, targets = torch.empty(examples, size, **THERE), torch.empty(examples, 3, **THERE)

    whole = ridge.RidgeInverse.of(features, targets, 0.1)
    changed = whole.changed(features[:2], targets[:2], add=True)
    (block,) = ridge.blocks_of(features, 0.1, [torch.arange(2, device="meta")])

    assert ridge.fit_ridge(features, targets, 0.1).is_meta
    assert changed.weights.is_meta and changed.weights.shape == (size + 1, 3)
    assert block.is_meta and block.shape == (2, 2)


def test_a_large_logistic_regression_comes_back_to_where_its_features_are(monkeypatch):
    """It is solved on the CPU: what is asked of SciPy, and what it gives, is replaced here."""
    asked = []

    class Found:
        x = torch.zeros(3 * 4, dtype=torch.float64).numpy()

    monkeypatch.setattr(logistic, "minimize", lambda *given, **how: asked.append(given) or Found)
    z = torch.ones(5, 4, dtype=torch.float64)

    class Elsewhere(torch.Tensor):
        """A tensor that says it is on another device."""

        device = torch.device("meta")

        def cpu(self, *_: object, **__: object) -> torch.Tensor:
            return self.as_subclass(torch.Tensor)

    solution = logistic._by_lbfgs(z.as_subclass(Elsewhere), torch.eye(5, 3).double(), 0.1)

    assert len(asked) == 1
    assert solution.is_meta
