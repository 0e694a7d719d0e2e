"""A classifier as one HTML page, which classifies pictures in a browser without a network.

The runtime is Microsoft's ONNX Runtime for browsers. It is 14 MB, or 4 MB packed, and so no part of
this package: a person names the folder where npm put it.
"""

import base64
import gzip
import os
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from innerloop.classifier.export import Exported, checked_onnx
from innerloop.core.errors import ConfigError
from innerloop.core.files import expanded, json_text, write_atomic
from innerloop.core.texts import printable
from innerloop.core.version import __version__
from innerloop.data.pictures import MAX_PIXELS

if TYPE_CHECKING:
    from innerloop.classifier.estimator import FewShotClassifier

GLUE = "ort.wasm.bundle.min.mjs"
WASM = "ort-wasm-simd-threaded.wasm"
GET = (
    "get it with `npm install onnxruntime-web` and name the folder node_modules/onnxruntime-web "
    "(--runtime)"
)
TRIAL = (40, 60)
"""Height and width of the picture that the page tries first."""
NAMED = 12
"""Classes that the page lists above, at most."""


def export_page(
    classifier: "FewShotClassifier",
    path: str | os.PathLike[str],
    runtime: str | os.PathLike[str] | None,
) -> Exported:
    """Write a classifier as one HTML file that works offline, opened from the disk.

    Before it takes pictures, the page checks one that it draws itself against this package.

    Args:
        classifier: as `export_onnx` takes it.
        path: where to.
        runtime: the folder of the npm package onnxruntime-web, or the ``dist`` in it.

    Raises:
        NotFittedError: before `FewShotClassifier.fit`.
        ConfigError: if there is no runtime in the folder, or as `export_onnx` does.
        DataError: if the file would say something else than the classifier.
        DiskError: if it cannot be written.
    """
    glue, wasm = _runtime(runtime)
    content, pictures, difference = checked_onnx(classifier)
    page = _page(classifier, _packed(content), _packed(glue), _packed(wasm)).encode()
    target = expanded(Path(path))
    write_atomic(target, page)
    return Exported(target, len(page), pictures, difference)


def _runtime(folder: str | os.PathLike[str] | None) -> tuple[bytes, bytes]:
    if folder is None:
        raise ConfigError(f"A page needs the runtime onnxruntime-web: {GET}.")
    places = [expanded(Path(folder)), expanded(Path(folder)) / "dist"]
    for place in places:
        if (place / GLUE).is_file() and (place / WASM).is_file():
            try:
                return (place / GLUE).read_bytes(), (place / WASM).read_bytes()
            except OSError as error:
                raise ConfigError(f"Cannot read {place} ({error.strerror}): {GET}.") from error
    raise ConfigError(f"{folder} holds no {GLUE} with {WASM}: {GET}.")


def _packed(content: bytes) -> str:
    """Gzip in base 64; the same for the same content."""
    return base64.b64encode(gzip.compress(content, 9, mtime=0)).decode()


def _page(classifier: "FewShotClassifier", model: str, glue: str, wasm: str) -> str:
    from jinja2 import Environment, StrictUndefined

    from innerloop.classifier.onnx_model import licence_of

    environment = Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    source = resources.files("innerloop.classifier").joinpath("browser.html.j2")
    classes = [printable(str(name)) for name in classifier.state.classes.tolist()]
    others = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
    settings = {"classes": classes, "trial": _trial(classifier)}
    return environment.from_string(source.read_text(encoding="utf-8")).render(
        title=f"A classifier of {len(classes)} classes",
        subtitle=", ".join(classes[:NAMED]) + others,
        settings=json_text(settings),
        version=__version__,
        licence=licence_of(classifier.network),
        most_pixels=MAX_PIXELS,
        model=model,
        glue=glue,
        wasm=wasm,
    )


def _trial(classifier: "FewShotClassifier") -> dict[str, object]:
    """A picture that the page can draw by a formula, and its probabilities."""
    height, width = TRIAL
    place = np.arange(height * width * 3)
    pixels = ((7 * place * place + 13 * place) % 251).astype(np.uint8).reshape(height, width, 3)
    vector = classifier.network.vector(pixels, "the page's own picture")
    p = classifier.state.probabilities(vector[None])[0]
    return {"height": height, "width": width, "probabilities": p.tolist()}
