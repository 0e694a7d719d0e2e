import copy

import pytest
import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError
from innerloop.methods.check import check_model
from innerloop.methods.maml.learner import MAML
from innerloop.networks.conv4 import Conv4

IMAGES = torch.rand(4, 1, 28, 28)


class Counting(nn.Module):
    """Counts its calls in a buffer, and has a parameter that nothing uses."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(784, 5)
        self.spare = nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor

    def forward(self, images: Tensor) -> Tensor:
        self.calls.add_(1)
        return self.linear(images.flatten(1))


def linear(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear(784, 5))


@pytest.mark.parametrize("head_init", ["zero", "glorot"])
def test_nothing_is_found_in_our_own_network(head_init):
    assert check_model(Conv4(5, head_init=head_init), IMAGES) == []


def test_running_statistics_are_found():
    (finding,) = check_model(nn.Sequential(nn.BatchNorm2d(1), linear()), IMAGES)

    assert "Layer '0' keeps running batch-norm statistics" in finding
    assert "track_running_stats=False" in finding


def test_batch_norm_without_a_support_mode_is_found():
    (finding,) = check_model(
        nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), linear()), IMAGES
    )

    assert "batch_norm='support' are not possible" in finding


def test_changed_buffers_and_unused_parameters_are_found_and_the_model_is_left_alone():
    model = Counting()
    before = copy.deepcopy(model.state_dict())

    findings = check_model(model, IMAGES)

    assert len(findings) == 2
    assert "Buffer 'calls' is changed by a forward pass" in findings[0]
    assert "Parameter 'spare' has no influence on the output" in findings[1]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_frozen_parameters_are_found():
    model = linear()
    model[1].weight.requires_grad_(False)

    (finding,) = check_model(model, IMAGES)

    assert "Parameter '1.weight' is frozen" in finding


def test_active_dropout_is_found_and_inactive_is_not():
    (finding,) = check_model(linear(nn.Dropout(0.5)), IMAGES)

    assert "Layer '1' is dropout" in finding
    assert check_model(linear(nn.Dropout(0.0)), IMAGES) == []
    assert check_model(linear(nn.Dropout(0.5)).eval(), IMAGES) == []


def test_maml_refuses_running_statistics():
    with pytest.raises(
        ConfigError,
        match=r"Layer '0' keeps running batch-norm statistics.*use innerloop\.BatchNorm2d",
    ):
        MAML(nn.Sequential(nn.BatchNorm2d(1), linear()))


def test_maml_refuses_a_fresh_head_that_is_not_there():
    with pytest.raises(ConfigError, match="no parameters under 'classifier'"):
        MAML(Conv4(5), fresh_head="classifier")
