"""What in a user's own network would break meta-learning, tried out on images.

The meta-gradient of two inner steps is taken on the path that every training takes, and compared
with plain autograd on copies of the network that hold the weights of each step.
"""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.core.errors import ConfigError, InnerloopError, first_line
from innerloop.data.episodes import EpisodeBatch
from innerloop.fast_weights.copies import changed_buffer
from innerloop.fast_weights.functional import expand
from innerloop.fast_weights.network import Network, refuse_wrong_outputs
from innerloop.methods.base import Learner
from innerloop.methods.maml.learner import MAML
from innerloop.methods.meta_gradients import (
    STEPS,
    Kind,
    by_copies,
    by_learner,
    difference,
    episodes_of,
    noise,
    rate_of,
)
from innerloop.networks.checks import faults, norms_by_batch_alone, remarks

_AT_ONCE = (
    "Episodes at once, as on a GPU, fail under torch.vmap: {why}. Leave out .item(), branches on "
    "values, random numbers and layers that vmap does not know, or stay on a CPU."
)
_TWICE = (
    "Derivatives of second order fail: {why}. Use operations that can be differentiated twice "
    "(attention: within torch.nn.attention.sdpa_kernel(SDPBackend.MATH)), or first_order=True."
)
KINDS = (
    Kind("of first order", True, False, "Two inner steps fail: {why}."),
    Kind("of second order", False, False, _TWICE),
    Kind("of first order with the episodes at once", True, True, _AT_ONCE),
    Kind("of second order with the episodes at once", False, True, _AT_ONCE),
)
TOLERANCE = 1e-2
"""Largest relative error of a gradient: in float32 a rectifier's kink can turn on rounding."""


def check_model(model: nn.Module, images: Tensor) -> list[str]:
    """Tell what in a network would break meta-learning, and the remedy; the network stays as it is.

    Args:
        model: any module that maps images to logits.
        images: a batch (n, channels, height, width) that it can take.

    Returns:
        One sentence for each problem; an empty list if there is none. Looked for are what learners
        refuse by themselves: other ways to run (compiled, in parallel), values that are no finite
        float32 or float64, running batch-norm statistics, active dropout. Then frozen parameters,
        hooks, and batch norm without a ``support`` mode. Then what only a pass can tell: changed
        buffers and parameters, random numbers, parameters without influence, and whether the
        meta-gradient of two inner steps, of first and second order, in a loop and by `torch.vmap`
        as on a GPU, is that of a copy that holds the weights.
    """
    if not isinstance(images, Tensor) or images.ndim < 2 or 0 in images.shape:
        got = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise ConfigError(f"A check needs a batch of images (n, channels, ...): got {got}.")
    if found := faults(model):
        return found
    try:
        Network(model)
        trial = copy.deepcopy(model)
    except InnerloopError as error:
        return [*remarks(model), str(error)]
    before = _state(trial)
    # What it warns of is found by its effect, and nothing of the caller's is drawn.
    with warnings.catch_warnings(), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        found, unused = _in_one_pass(trial, images)
        trained = sum(weight.requires_grad for weight in trial.parameters())
        # Where nothing has influence, inner steps fail for that reason.
        if not found and (len(unused) < trained or not trained):
            found = _in_two_steps(trial, images)
        found += unused
        if not _is_same(_state(trial), before):
            found.append(
                "A forward pass changes the network's own parameters, or its train and eval modes: "
                "compute with them, and leave them as they are."
            )
    return remarks(model) + found


def refuse_faults_in_passes(learner: Learner, images: Tensor) -> None:
    """Raise `ConfigError` for what passes of a learner's network tell and nothing else does.

    A network that fails, draws random numbers, changes its buffers, computes with other weights
    than its own, or sees other images where only `innerloop.BatchNorm2d` may. It is a part of
    `check_model`, of what the learner uses of the network, and takes three passes.

    Args:
        learner: stays as it is.
        images: at least two, (n, channels, height, width).
    """
    model = getattr(learner, "model", None)
    if not isinstance(model, nn.Module):  # a stranger's method may keep its network elsewhere
        return
    weight = next(model.parameters(), images)
    if weight.dtype != images.dtype:
        raise ConfigError(
            f"The network's weights are {weight.dtype}, and images are {images.dtype}: let its "
            "factory return it as float()."
        )
    method = learner.network_method
    Network(model, method)
    trial = copy.deepcopy(model)
    with warnings.catch_warnings(), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        found, _ = _in_one_pass(trial, images, method)
        found = found or _of_a_lone_image(trial, images, method)
    if found:
        raise ConfigError(found[0])


def refuse_failing_steps(learner: Learner, batch: Any, episode: EpisodeBatch) -> None:
    """Raise `ConfigError` if a learner fails with its network in training or in adaptation.

    Args:
        learner: stays as it is.
        batch: what it is trained on, for one outer step.
        episode: what is adapted to, one inner step, and predicted.
    """
    trial = copy.deepcopy(learner)
    try:
        with warnings.catch_warnings(), torch.enable_grad(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            trial.begin_outer_step(0, 1)
            trial.meta_loss(batch)
            trial.end_outer_step()
            trial.predict(trial.adapt(episode.support, steps=1), episode.query.images)
    except InnerloopError:
        raise
    except Exception as error:  # whatever a user's own network leads to
        raise ConfigError(
            f"{type(learner).__name__} fails with this network: {_why(error)}. What embed returns "
            "is features (n, features) of the weights' type, as many as its head takes."
        ) from error


def _in_one_pass(
    trial: nn.Module, images: Tensor, method: str = "forward"
) -> tuple[list[str], list[str]]:
    """What one forward and backward pass tells: faults, and parameters that have no influence."""
    compute = getattr(trial, method)
    buffers = {name: buffer.clone() for name, buffer in trial.named_buffers()}
    try:
        # Of copies, here and below: a network may change its input in place.
        outputs = compute(images.clone())
        refuse_wrong_outputs(outputs, images)
        again = compute(images.clone())
        unused = _without_influence(trial, outputs)
    except InnerloopError as error:
        return [str(error)], []
    except Exception as error:  # whatever a user's own network raises
        return [
            f"The network fails on images of shape {tuple(images.shape)}, {images.dtype}: "
            f"{_why(error)}."
        ], []
    if not bool(outputs.isfinite().all()):
        return ["The output for these images holds NaN or infinity: let it be finite."], []
    changed = [
        name for name, buffer in trial.named_buffers() if not torch.equal(buffer, buffers[name])
    ]
    found = [changed_buffer(name) for name in changed]
    if not changed and not torch.equal(outputs, again):
        found.append(
            "The output for the same images changes from pass to pass, by random numbers or by "
            "state that is kept: leave them out, or call model.eval()."
        )
    return found + _with_other_weights(trial, outputs), unused


def _with_other_weights(trial: nn.Module, outputs: Tensor) -> list[str]:
    """Whether the output depends on weights that are none of the network's parameters."""
    own = {id(weight) for weight in trial.parameters()}
    seen = set()
    nodes = [outputs.grad_fn]
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and id(leaf) not in own:
            return [
                f"The output depends on a tensor of shape {tuple(leaf.shape)} that is none of the "
                "network's parameters, so neither loop changes it: register it as one, and let no "
                "function hold another network's."
            ]
        nodes += [following for following, _ in node.next_functions]
    return []


def _without_influence(trial: nn.Module, outputs: Tensor) -> list[str]:
    named = {name: weight for name, weight in trial.named_parameters() if weight.requires_grad}
    # A random projection: a plain sum would hide weights that batch norm or softmax cancels.
    objective = (outputs * noise(outputs)).sum()
    gradients = (
        torch.autograd.grad(objective, list(named.values()), allow_unused=True)
        if named and objective.requires_grad
        else [None] * len(named)
    )
    return [
        f"Parameter {name!r} has no influence on the output for these images, so they teach it "
        "nothing: remove it, or use it, outside of detach, no_grad and activation checkpointing."
        for name, gradient in zip(named, gradients, strict=True)
        if gradient is None
    ]


def _in_two_steps(trial: nn.Module, images: Tensor) -> list[str]:
    """What the meta-gradients of two inner steps tell, and predictions of a lone image."""
    try:
        MAML(trial)
    except InnerloopError as error:
        return [str(error)]
    batch = episodes_of(trial, images)
    rate = None
    for kind in KINDS:
        try:
            rate = rate or rate_of(trial, batch)
            gradients = by_learner(trial, batch, rate, kind)
            expected = by_copies(trial, batch, rate, kind.first_order)
        except Exception as error:  # whatever a user's own network raises
            # The first that fails says it: the kinds after it ask for more.
            return [kind.fails.format(why=_why(error))]
        error = difference(gradients, expected)
        # Also where it is no number.
        if not error <= TOLERANCE:
            return [
                f"The meta-gradient of {STEPS} inner steps, {kind.name}, is wrong by "
                f"{error:.0%} of that of a copy which holds the weights: the network computes "
                "with others than it is given. Let forward use its own parameters alone, not a "
                "function or a cache that holds some."
            ]
    return _of_a_lone_image(trial, images)


def _of_a_lone_image(trial: nn.Module, images: Tensor, method: str = "forward") -> list[str]:
    if norms_by_batch_alone(trial):  # there is no support mode, which is said elsewhere
        return []
    weights = expand(dict(trial.named_parameters()), 1)
    network = Network(trial, method)
    try:
        with torch.no_grad():
            lone, among = (
                network.call_by_support(weights, images[None], images[None, :count])[:, :1]
                for count in (1, len(images))
            )
    except InnerloopError as error:
        return [f"A lone image cannot be predicted: {_why(error)}."]
    if torch.allclose(lone, among, rtol=TOLERANCE, atol=TOLERANCE * float(among.abs().max())):
        return []
    return [
        "Under batch_norm='support' the output for an image depends on the other images: let only "
        "innerloop.BatchNorm2d layers look at the batch."
    ]


def _state(model: nn.Module) -> tuple[dict[str, bool], dict[str, Tensor]]:
    """Modes, and copies of the parameters."""
    modes = {name: module.training for name, module in model.named_modules()}
    return modes, {name: weight.detach().clone() for name, weight in model.named_parameters()}


def _is_same(
    state: tuple[dict[str, bool], dict[str, Tensor]],
    before: tuple[dict[str, bool], dict[str, Tensor]],
) -> bool:
    return state[0] == before[0] and all(
        torch.equal(value, before[1][name]) for name, value in state[1].items()
    )


def _why(error: BaseException) -> str:
    """What went wrong, in a line."""
    # Of a sentence of ours that wraps the network's own words, those words.
    return first_line(error.__cause__ or error).partition(". ")[0]
