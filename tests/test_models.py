import pytest
import torch
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.experiments.experiment import build_learner
from innerloop.methods.catalogue import settings_of
from innerloop.networks.base import HasBlocks, HasMaps, last_of_blocks
from innerloop.networks.batch_norm import (
    BatchNorm2d,
    keep_running_statistics,
    moments,
    unbiased_moments,
)
from innerloop.networks.conv4 import Conv4


def parameter_count(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


def test_the_courses_network_has_113_221_parameters():
    """Three convolutions of 64 x 64 x 9, one of 64 x 9, biases and batch norm of 4 x 64 x 3, a head
    of 5 x 257."""
    learner = build_learner(settings_of("fomaml", "course").replace(device="cpu"), channels=1)

    assert parameter_count(learner) == 3 * 64 * 64 * 9 + 64 * 9 + 4 * 64 * 3 + 5 * 257 == 113_221


def test_the_default_network_has_no_convolution_bias_and_64_features():
    learner = build_learner(settings_of("fomaml", device="cpu"), channels=1)

    assert parameter_count(learner) == 3 * 64 * 64 * 9 + 64 * 9 + 4 * 64 * 2 + 5 * 65


@pytest.mark.parametrize(
    ("downsample", "features", "size"),
    [
        ("stride", "flatten", 256),
        ("stride", "mean", 64),
        ("max-pool", "flatten", 64),
        ("max-pool", "mean", 64),
    ],
)
def test_feature_sizes_at_28_pixels(downsample, features, size):
    model = Conv4(5, downsample=downsample, features=features)

    assert model.feature_size == size
    assert model.embed(torch.rand(3, 1, 28, 28)).shape == (3, size)
    assert model(torch.rand(3, 1, 28, 28)).shape == (3, 5)


@pytest.mark.parametrize(
    ("downsample", "halvings", "side"),
    [("max-pool", 4, 1), ("max-pool", 2, 7), ("stride", 4, 2), ("stride", 3, 4), ("stride", 1, 14)],
)
def test_the_last_blocks_can_leave_maps_as_large_as_they_are(downsample, halvings, side):
    model = Conv4(5, filters=8, downsample=downsample, halvings=halvings, features="flatten")

    assert isinstance(model, HasMaps)
    assert model.map_shape == (8, side, side)
    assert model.maps(torch.rand(3, 1, 28, 28)).shape == (3, 8, side, side)
    assert model.embed(torch.rand(3, 1, 28, 28)).shape == (3, model.feature_size)


def test_flattened_features_without_a_norm_are_the_maps():
    model = Conv4(5, filters=8, features="flatten", feature_norm=False)
    images = torch.rand(3, 1, 28, 28)

    assert torch.equal(model.maps(images).flatten(1), model.embed(images))


def test_colour_images_and_other_sizes():
    assert Conv4(4, channels=3, image_size=84)(torch.rand(2, 3, 84, 84)).shape == (2, 4)


def test_images_that_vanish_are_refused():
    with pytest.raises(ConfigError, match="Images of 8 pixels vanish in four blocks"):
        Conv4(5, image_size=8, downsample="max-pool")


def test_a_zero_head_gives_the_same_logit_to_every_class():
    assert Conv4(5, filters=8)(torch.rand(3, 1, 28, 28)).abs().max() == 0


def test_initial_weights_have_the_deviation_of_their_source():
    """For 3x3 of 64 channels: Kaiming sqrt(2 / (9 * 64)); Glorot's bound sqrt(6 / (2 * 9 * 64));
    PyTorch's 1 / 24."""
    name = "convs.2.weight"
    kaiming = Conv4(5, conv_init="kaiming").get_parameter(name)
    glorot = Conv4(5, conv_init="glorot").get_parameter(name)
    pytorch = Conv4(5, conv_init="pytorch").get_parameter(name)

    assert pytorch.abs().max().item() == pytest.approx(1 / 24, rel=0.01)
    assert kaiming.std().item() == pytest.approx((2 / 576) ** 0.5, rel=0.02)
    assert glorot.abs().max().item() == pytest.approx((6 / 1152) ** 0.5, rel=0.01)


def test_feature_norm_standardises_every_feature_over_the_batch():
    features = Conv4(5, filters=8, feature_norm=True).embed(torch.rand(200, 1, 28, 28))

    assert features.mean(dim=0).abs().max() < 1e-5
    assert features.var(dim=0, correction=0).sub(1).abs().max() < 0.05


def test_batch_norm_equals_pytorchs_own():
    x, ours, theirs = torch.rand(6, 3, 4, 4), BatchNorm2d(3), torch.nn.BatchNorm2d(3)

    assert torch.equal(ours(x), theirs(x))


def test_given_statistics_are_used_and_nothing_is_kept():
    layer = BatchNorm2d(2).double()
    first, second = torch.rand(5, 2, 3, 3).double(), torch.rand(4, 2, 3, 3).double()

    normalised = layer(second, moments(first))

    mean, variance = first.mean(dim=(0, 2, 3)), first.var(dim=(0, 2, 3), correction=0)
    expected = (second - mean[:, None, None]) / (variance + layer.eps).sqrt()[:, None, None]
    assert torch.allclose(normalised, expected, rtol=0, atol=1e-12)
    assert torch.allclose(
        layer(second), F.batch_norm(second, None, None, training=True), rtol=0, atol=1e-12
    )


def test_a_layer_by_its_own_moments_is_the_layer_by_its_batch():
    layer, x = BatchNorm2d(3).double(), torch.rand(6, 3, 4, 4).double()

    assert torch.allclose(layer(x, moments(x)), layer(x), rtol=0, atol=1e-12)


def test_running_statistics_move_under_update_alone_and_as_pytorchs_do():
    ours, theirs = BatchNorm2d(3), torch.nn.BatchNorm2d(3)
    keep_running_statistics(ours)
    x = torch.rand(6, 3, 4, 4)

    ours(x)
    ours(x, moments(x))
    ours(x, "stored")
    assert torch.equal(ours.running().mean, torch.zeros(3))
    assert torch.equal(ours(x, "update"), theirs(x))

    assert torch.equal(ours.running().mean, theirs.running_mean)  # type: ignore[arg-type]
    assert torch.equal(ours.running().variance, theirs.running_var)  # type: ignore[arg-type]
    assert torch.equal(ours(x, "stored"), theirs.eval()(x))


@pytest.mark.parametrize("statistics", ["stored", "update"])
def test_statistics_that_a_layer_does_not_keep_are_refused(statistics):
    with pytest.raises(ConfigError, match="keeps no running statistics"):
        BatchNorm2d(3)(torch.rand(6, 3, 4, 4), statistics)


def test_unbiased_moments_are_those_of_the_sample():
    x = torch.rand(6, 3, 4, 4).double().requires_grad_()

    mean, variance = unbiased_moments(x)

    assert torch.allclose(mean, x.mean(dim=(0, 2, 3)), rtol=0, atol=1e-12)
    assert torch.allclose(variance, x.var(dim=(0, 2, 3)), rtol=0, atol=1e-12)
    assert not variance.requires_grad


@pytest.mark.parametrize("feature_norm", [True, False])
def test_blocks_name_every_submodule_but_the_head_in_order(feature_norm):
    model = Conv4(5, filters=4, feature_norm=feature_norm)

    names = [name for block in model.blocks.values() for name in block]

    leaves = [
        name
        for name, module in model.named_modules()
        if not list(module.children()) and name != "head"
    ]
    assert sorted(names) == sorted(leaves)
    assert isinstance(model, HasBlocks)
    assert all(
        isinstance(model.get_submodule(name), BatchNorm2d)
        for name in last_of_blocks(model).values()
    )


def test_a_network_without_blocks_is_told_what_it_lacks():
    with pytest.raises(ConfigError, match="Linear have no names: give it a method embed"):
        last_of_blocks(torch.nn.Linear(2, 2))


def test_initial_weights_depend_on_the_seed_alone():
    """Also when the global generator was used before, and the global generator is left as it
    was."""
    torch.manual_seed(123)
    one = build_learner(settings_of("fomaml", filters=4, device="cpu"), channels=1)
    after = torch.rand(1)
    torch.manual_seed(123)
    expected_after = torch.rand(1)
    two = build_learner(settings_of("fomaml", filters=4, device="cpu"), channels=1)
    other = build_learner(settings_of("fomaml", filters=4, device="cpu", seed=1), channels=1)

    name = "model.convs.0.weight"
    assert torch.equal(one.state_dict()[name], two.state_dict()[name])
    assert not torch.equal(one.state_dict()[name], other.state_dict()[name])
    assert torch.equal(after, expected_after)
