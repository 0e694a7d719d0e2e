"""A frozen network as nodes of an ONNX graph, from what `torch.export` finds it to compute.

Only what the networks of this package are made of is known here. PyTorch's own exporter knows every
operator, but needs one more package, and writes into the file where the source code lies.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.fx.node import map_arg

from innerloop.classifier.onnx_graph import Graph, Value
from innerloop.core.errors import ConfigError


def network(
    graph: Graph,
    prepared: str,
    module: nn.Module,
    shape: Sequence[int],
    weights: Mapping[str, Value],
) -> str:
    """The module's output for one picture, (1, features) float32.

    Args:
        graph: gets the nodes.
        prepared: what the module takes, (1, channels, height, width) float32.
        module: a network in evaluation mode.
        shape: of ``prepared``.
        weights: parameters that are in the graph already, by name.

    Raises:
        ConfigError: if it computes what is not known here.
    """
    program = torch.export.export(module, (torch.zeros(*shape),))
    signature = program.graph_signature
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    values: dict[str, Any] = {str(name): prepared for name in signature.user_inputs}
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names:
            name = names[node.name]
            known = weights.get(name)
            values[node.name] = (
                program.state_dict[name].detach().numpy() if known is None else known
            )
        elif node.op == "call_function":
            arguments = map_arg(node.args, lambda of: values[of.name])
            options = map_arg(node.kwargs, lambda of: values[of.name])
            values[node.name] = _operator(str(node.target))(graph, *arguments, **options)
    (output,) = signature.user_outputs
    return values[str(output)]


def _operator(name: str) -> Callable[..., str]:
    # A trailing underscore: in place, which is the same where nothing else reads the input.
    plain = name.split(".")[1].rstrip("_")
    if plain not in OPERATORS:
        raise ConfigError(
            f"The backbone computes {name}, which innerloop cannot write as ONNX: choose the "
            "backbone photos or omniglot."
        )
    return OPERATORS[plain]


# Parameters are named and ordered as PyTorch's operators have them.


def _convolution(
    graph: Graph,
    input: Value,
    weight: Value,
    bias: Value | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    groups: int = 1,
) -> str:
    return graph.add(
        "Conv",
        input,
        weight,
        bias,
        strides=stride,
        pads=[*padding, *padding],
        dilations=dilation,
        group=groups,
    )


def _batch_norm(
    graph: Graph,
    input: Value,
    weight: Value | None,
    bias: Value | None,
    mean: np.ndarray,
    variance: Value,
    training: bool,
    momentum: float,
    epsilon: float,
    *_: Any,
) -> str:
    scale = np.ones_like(mean) if weight is None else weight
    shift = np.zeros_like(mean) if bias is None else bias
    return graph.add("BatchNormalization", input, scale, shift, mean, variance, epsilon=epsilon)


def _max_pool(
    graph: Graph,
    input: Value,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    ceil_mode: bool = False,
) -> str:
    return graph.add(
        "MaxPool",
        input,
        kernel_shape=kernel_size,
        strides=stride or kernel_size,
        pads=[*padding, *padding],
        dilations=dilation,
        ceil_mode=int(ceil_mode),
    )


def _mean(graph: Graph, input: Value, axes: Sequence[int], keepdim: bool = False) -> str:
    return graph.add("ReduceMean", input, np.array(axes), keepdims=int(keepdim))


def _padding(
    graph: Graph,
    input: Value,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> str:
    # PyTorch begins with the last axis; of images those are two of four.
    left, right, top, bottom = pad
    pads = np.array([0, 0, top, left, 0, 0, bottom, right])
    return graph.add("Pad", input, pads, np.float32(value or 0), mode=mode)


def _number(value: Value | float) -> Value:
    return value if isinstance(value, str | np.ndarray) else np.float32(value)


def _elementwise(kind: str) -> Callable[..., str]:
    return lambda graph, input, other: graph.add(kind, input, _number(other))


OPERATORS: dict[str, Callable[..., str]] = {
    "conv2d": _convolution,
    "batch_norm": _batch_norm,
    "relu": lambda graph, input: graph.add("Relu", input),
    "leaky_relu": lambda graph, input, slope=0.01: graph.add("LeakyRelu", input, alpha=slope),
    "max_pool2d": _max_pool,
    "relu6": lambda graph, input: graph.add("Clip", input, np.float32(0), np.float32(6)),
    "pad": _padding,
    "mean": _mean,
    "flatten": lambda graph, input, axis, *_: graph.add("Flatten", input, axis=axis),
    "unsqueeze": lambda graph, input, axis: graph.add("Unsqueeze", input, np.array([axis])),
    "add": _elementwise("Add"),
    "sub": _elementwise("Sub"),
    "mul": _elementwise("Mul"),
}
"""PyTorch's name of an operator -> what adds it to a graph."""
