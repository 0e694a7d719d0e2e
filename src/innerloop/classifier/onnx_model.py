"""A classifier as one ONNX model: the picture's preparation, the network and the head."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from innerloop.classifier.backbones import DRAWING_SIDE, DRAWINGS, PHOTO_SIDE, PHOTOS, Backbone
from innerloop.classifier.onnx_graph import IR_VERSION, OPSET, Graph, drawing, photo
from innerloop.classifier.onnx_network import network
from innerloop.classifier.state import State
from innerloop.core.errors import ConfigError
from innerloop.core.files import json_text
from innerloop.core.version import __version__

DESCRIPTION = """A few-shot classifier of pictures, made by innerloop.
Input: image, uint8 (height, width, 3), red, green and blue, upright, of any size; a grey picture
has three equal channels.
Outputs: probabilities, float32 (ways,), in the order of the classes in the metadata; unknown, bool
(), whether the picture is of none of them; similarity, float32 (), the cosine to the nearest
example, which is unknown below the threshold."""
NEVER = -2.0
"""A threshold that no cosine is below."""


def onnx_bytes(state: State, backbone: Backbone) -> bytes:
    """The content of the file that `innerloop.classifier.export.export_onnx` writes.

    Args:
        state: what was fitted.
        backbone: ``photos``, or a network of drawings.

    Raises:
        ConfigError: if something in the network cannot be written as ONNX.
    """
    if backbone.module is None:
        raise ConfigError(
            f"The backbone {backbone.name} is a function, which cannot be exported: choose the "
            f"backbone {PHOTOS} or {DRAWINGS}."
        )
    weight, bias = (of.float().numpy() for of in state.head.affine())
    graph = Graph()
    if backbone.name == PHOTOS:
        shape = (1, 3, PHOTO_SIDE, PHOTO_SIDE)
        prepared = photo(graph, "image", PHOTO_SIDE)
    else:
        shape = (1, 1, DRAWING_SIDE, DRAWING_SIDE)
        prepared = drawing(graph, "image", DRAWING_SIDE)
    features = network(graph, prepared, backbone.module, shape, _compact(graph, backbone))
    direction = _direction(graph, features)
    _probabilities(graph, direction, weight, bias, state.temperature)
    _similarity(graph, direction, state)
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["height", "width", 3])
    answers = [
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [len(state.classes)]),
        helper.make_tensor_value_info("unknown", TensorProto.BOOL, []),
        helper.make_tensor_value_info("similarity", TensorProto.FLOAT, []),
    ]
    made = helper.make_graph(graph.nodes, "classifier", [image], answers, graph.initializers)
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="innerloop",
        producer_version=__version__,
        doc_string=DESCRIPTION,
    )
    helper.set_model_props(model, _metadata(state, backbone))
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _metadata(state: State, backbone: Backbone) -> dict[str, str]:
    texts = {
        "innerloop": __version__,
        "classes": json_text(state.classes.tolist()),
        "backbone": backbone.name,
        "head": state.head.kind,
        "temperature": repr(state.temperature),
        "threshold": json_text(state.threshold),
    }
    if licence := licence_of(backbone):
        texts["weights_licence"] = licence
    return texts


def licence_of(backbone: Backbone) -> str:
    """Whose a backbone's weights are, where they are not this package's own."""
    if backbone.name != PHOTOS:
        return ""
    import innerloop_photos

    notice = innerloop_photos.WEIGHTS.with_name("NOTICE").read_text(encoding="utf-8")
    return f"Apache-2.0\n\n{notice}"


def _compact(graph: Graph, backbone: Backbone) -> dict[str, str]:
    """Weights of the photo backbone that are integers times a scale, as its file has them.

    That is half of the bytes; a runtime multiplies them when it loads the file.
    """
    if backbone.name != PHOTOS or backbone.module is None:
        return {}
    import innerloop_photos
    from safetensors.numpy import load

    stored = load(innerloop_photos.WEIGHTS.read_bytes())
    used = {name: tensor.numpy() for name, tensor in backbone.module.state_dict().items()}
    weights = {}
    for scale in (name for name in stored if name.endswith(".scale")):
        name = scale.removesuffix("scale") + "weight"
        factor = stored[scale][:, None, None, None]
        if np.array_equal(stored[name] * factor, used[name]):
            integers = graph.cast(stored[name], np.float32)
            weights[name] = graph.add("Mul", integers, factor)
    return weights


def _direction(graph: Graph, features: str) -> str:
    """(F, 1) float64 of length one, of a network's features (1, F) float32."""
    column = graph.add("Reshape", graph.cast(features, np.float64), np.array([-1, 1]))
    return _of_length_one(graph, column, 0)


def _probabilities(
    graph: Graph, direction: str, weight: np.ndarray, bias: np.ndarray, temperature: float
) -> None:
    """As `State.probabilities`."""
    products = graph.add("MatMul", graph.cast(weight, np.float64), direction)
    scores = graph.sum(graph.add("Reshape", products, np.array([-1])), bias.astype(np.float64))
    logits = graph.add("Div", scores, np.float64(temperature))
    graph.cast(graph.add("Softmax", logits, axis=0), np.float32, name="probabilities")


def _similarity(graph: Graph, direction: str, state: State) -> None:
    """As `State.similarities`, and whether that is below the threshold."""
    codes = graph.cast(state.kept.codes, np.float64)
    cosines = graph.add("MatMul", _of_length_one(graph, codes, 1), direction)
    nearest = graph.add("ReduceMax", cosines, keepdims=0)
    graph.cast(nearest, np.float32, name="similarity")
    threshold = NEVER if state.threshold is None else state.threshold
    graph.add("Less", nearest, np.float64(threshold), name="unknown")


def _of_length_one(graph: Graph, values: str, axis: int) -> str:
    squares = graph.add("Mul", values, values)
    length = graph.add("Sqrt", graph.add("ReduceSum", squares, np.array([axis])))
    # As PyTorch does, so that a vector of zeros stays one.
    return graph.add("Div", values, graph.add("Max", length, np.float64(1e-12)))
