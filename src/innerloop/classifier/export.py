"""A classifier as one ONNX file, which takes a picture of any size and needs no innerloop.

The picture's preparation, the network and the head are all in it::

    session = onnxruntime.InferenceSession("model.onnx")
    p, unknown, similarity = session.run(None, {"image": pixels})

with ``pixels`` an array (height, width, 3) of bytes, in red, green and blue, upright. A grey
picture has three equal channels.
"""

import io
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from innerloop.classifier.backbones import DRAWINGS, PHOTOS, Backbone
from innerloop.classifier.state import State
from innerloop.core.errors import ConfigError, DataError
from innerloop.core.files import expanded, write_atomic

if TYPE_CHECKING:
    from innerloop.classifier.estimator import FewShotClassifier

INSTALL = "pip install 'innerloop[onnx]'"
TOLERANCE = 1e-4
"""Of a probability and of a similarity: the runtime adds a network's products in another order."""
EXAMPLES = 20
"""A classifier's own pictures that are tried before the file is written, at most."""
SIZES = ((1, 1), (3, 50), (64, 64), (90, 200), (333, 222), (480, 640))
"""Heights and widths of the other pictures that are tried."""


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: where it is.
        size: in bytes.
        pictures: how many pictures it was tried with.
        difference: the largest difference of a probability from this package's.
    """

    path: Path
    size: int
    pictures: int
    difference: float

    def __str__(self) -> str:
        within = 10.0 ** math.ceil(math.log10(max(self.difference, 1e-9)))
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB; on {self.pictures} pictures onnxruntime says "
            f"what innerloop says, every probability within {within:.0e}."
        )


def export_onnx(classifier: "FewShotClassifier", path: str | os.PathLike[str]) -> Exported:
    """Write a classifier as one ONNX file, and check before that it says what the classifier says.

    Its input is ``image``, (height, width, 3) uint8 of any height and width. Its outputs are
    ``probabilities`` (ways,) float32, in the order of ``classes_``; ``unknown`` () bool, whether
    the picture is of none of them; and ``similarity`` () float32, the cosine to the nearest
    example. The classes are in its metadata, as JSON.

    Args:
        classifier: a fitted one of pictures, with one of this package's own backbones.
        path: where to; the name ends in ``.onnx``.

    Raises:
        NotFittedError: before `FewShotClassifier.fit`.
        ConfigError: if onnx or onnxruntime is not installed, or the classifier is another one.
        DataError: if the file would say something else than the classifier.
        DiskError: if it cannot be written.
    """
    target = expanded(Path(path))
    if target.suffix.lower() != ".onnx":
        raise ConfigError(f"{target} is to be an ONNX file: give it a name that ends in .onnx.")
    content, pictures, difference = checked_onnx(classifier)
    write_atomic(target, content)
    return Exported(target, len(content), pictures, difference)


def checked_onnx(classifier: "FewShotClassifier") -> tuple[bytes, int, float]:
    """What `export_onnx` writes, on how many pictures it was tried, and the largest difference.

    Raises:
        NotFittedError: before `FewShotClassifier.fit`.
        ConfigError: if onnx or onnxruntime is not installed, or the classifier is another one.
        DataError: if it would say something else than the classifier.
    """
    _refuse_unusable(classifier)
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        raise ConfigError(f"Exporting needs onnx and onnxruntime: {INSTALL}.")
    from innerloop.classifier.onnx_model import onnx_bytes

    content = onnx_bytes(classifier.state, classifier.network)
    return content, *_tried(content, classifier.state, classifier.network)


def _refuse_unusable(classifier: "FewShotClassifier") -> None:
    if classifier.state.scale is not None:
        raise ConfigError(
            "A classifier of vectors cannot be exported: only one of pictures holds all that it "
            "needs."
        )
    name = classifier.network.name
    if classifier.network.module is not None and name not in (PHOTOS, DRAWINGS):
        raise ConfigError(
            f"How the backbone {name} prepares pictures cannot be exported: choose the backbone "
            f"{PHOTOS} or {DRAWINGS}."
        )


def _tried(content: bytes, state: State, backbone: Backbone) -> tuple[int, float]:
    """How many pictures the file was tried with, and the largest difference of a probability.

    Raises:
        DataError: if it says something else than the state.
    """
    from onnxruntime import InferenceSession

    session = InferenceSession(content, providers=["CPUExecutionProvider"])
    names = ["probabilities", "unknown", "similarity"]
    tried = 0
    largest = 0.0
    for pixels in _pictures(state):
        height, width = pixels.shape[:2]
        vector = backbone.vector(pixels, "a picture to try")[None]
        similarity = state.similarities(vector)[0]
        p, unknown, found = map(np.asarray, session.run(names, {"image": pixels}))
        difference = float(np.abs(p - state.probabilities(vector)[0]).max())
        apart = float(np.abs(found - similarity))
        limit = -np.inf if state.threshold is None else state.threshold
        same = bool(unknown) == (similarity < limit) or abs(similarity - limit) <= TOLERANCE
        # Not the other way round: NaN is wrong, too.
        if not (difference <= TOLERANCE and apart <= TOLERANCE and same):
            raise DataError(
                f"The file is not written: on a picture of {width} x {height} pixels onnxruntime's "
                f"probabilities are off by {difference:.1e} and its similarity by {apart:.1e}; "
                f"install other versions of onnx and onnxruntime: {INSTALL}."
            )
        tried += 1
        largest = max(largest, difference)
    return tried, largest


def _pictures(state: State) -> Iterator[np.ndarray]:
    """Pictures (height, width, 3) uint8: small ones of the examples, noise, and dark boxes."""
    thumbnails = [thumbnail for thumbnail in state.kept.thumbnails if thumbnail]
    every = max(1, -(-len(thumbnails) // EXAMPLES))
    for thumbnail in thumbnails[::every]:
        yield np.asarray(Image.open(io.BytesIO(thumbnail)).convert("RGB"))
    generator = np.random.default_rng(0)
    for height, width in SIZES:
        pixels = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        yield pixels
        boxed = np.full_like(pixels, 200)
        boxed[height // 3 : height // 2 + 1, width // 4 : width // 2 + 1] = 30
        yield boxed
