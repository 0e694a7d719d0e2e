"""An exported classifier says in another runtime what it says here."""

import dataclasses
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper
from onnxruntime import InferenceSession
from PIL import Image
from sklearn.exceptions import NotFittedError
from torch import nn

import innerloop
from innerloop import FewShotClassifier
from innerloop.classifier import export, export_page, onnx_graph, onnx_model, squares
from innerloop.classifier.backbones import Body, find_backbone
from innerloop.classifier.heads import HEADS
from innerloop.classifier.onnx_network import network
from innerloop.cli.export import run
from innerloop.core.errors import ConfigError, DataError
from innerloop.data.images import resize
from innerloop.networks.batch_norm import batch_norm_layers, keep_running_statistics
from innerloop.networks.build import build_network
from innerloop.networks.plain import plain_network
from innerloop.settings.sections import NetworkSettings
from picturing import COLOURS, KINDS, drawing, photo

LETTERS = [drawing(kind, seed) for kind in KINDS for seed in range(6)]
NAMES = [kind for kind in KINDS for _ in range(6)]
SCENES = [photo(kind, seed) for kind in COLOURS for seed in range(6)]
BROWSER = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
RUNTIME = os.environ.get("ONNXRUNTIME_WEB")
THIN = [
    (1, 1),
    (1, 4000),
    (4000, 1),
    (2, 2),
    (3, 7),
    (224, 224),
    (223, 225),
    (28, 28),
    (4000, 3000),
]


@pytest.fixture(scope="module")
def letters() -> FewShotClassifier:
    return FewShotClassifier("omniglot").fit(LETTERS, NAMES)


@pytest.fixture(scope="module")
def scenes() -> FewShotClassifier:
    return FewShotClassifier("photos").fit(SCENES, [kind for kind in COLOURS for _ in range(6)])


def session(content: bytes) -> InferenceSession:
    return InferenceSession(content, providers=["CPUExecutionProvider"])


def answers(content: bytes, pictures: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    opened = session(content)
    said = [opened.run(None, {"image": pixels}) for pixels in pictures]
    return tuple(np.stack(of) for of in zip(*said, strict=True))


def computing(build: Callable[[onnx_graph.Graph], str], dimensions: int) -> Callable[..., Any]:
    """A function of an image (height, width, 3) that a part of the graph computes."""
    graph = onnx_graph.Graph()
    output = build(graph)
    kind = onnx.TensorProto.UINT8 if dimensions == 3 else onnx.TensorProto.FLOAT
    made = helper.make_graph(
        graph.nodes,
        "part",
        [helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["h", "w", 3])],
        [helper.make_tensor_value_info(output, kind, [None] * dimensions)],
        graph.initializers,
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", onnx_graph.OPSET)],
        ir_version=onnx_graph.IR_VERSION,
    )
    opened = session(model.SerializeToString())
    return lambda pixels: np.asarray(opened.run(None, {"image": pixels})[0])


def noise(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    return generator.integers(0, 256, (height, width, 3), dtype=np.uint8)


def blots(generator: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A ground of one colour and up to three boxes, or none."""
    pixels = np.full((height, width, 3), generator.integers(0, 256), np.uint8)
    for _ in range(generator.integers(0, 4)):
        top, left = generator.integers(0, height), generator.integers(0, width)
        bottom, right = top + generator.integers(1, 50), left + generator.integers(1, 50)
        pixels[top:bottom, left:right] = generator.integers(0, 256, 3)
    return pixels


def varied(kind: str, count: int) -> list[np.ndarray]:
    """Pictures of all sizes and shapes, in colour: drawings or photos, a tenth of them noise."""
    generator = np.random.default_rng(1)
    pictures = []
    for place in range(count):
        side = int(generator.integers(60, 500))
        made = drawing(KINDS[place % 3], 50 + place, side)
        if kind == "photos":
            made = photo(list(COLOURS)[place % 3], 50 + place, side)
        if place % 2:
            made = made.resize((int(generator.integers(1, 600)), int(generator.integers(1, 600))))
        pixels = np.asarray(made.convert("RGB"))
        pictures.append(noise(generator, *pixels.shape[:2]) if place % 10 == 9 else pixels)
    return pictures


# The preparation


@pytest.mark.parametrize("size", [28, 224])
def test_the_graph_resizes_as_pillow_does_to_the_bit(size):
    resized = computing(lambda graph: onnx_graph.resized(graph, "image", size), 3)
    generator = np.random.default_rng(size)
    sides = [1, 2, 3, 27, 28, 29, 223, 224, 225, 448, 4000, *generator.integers(1, 500, 150)]
    lines = generator.integers(1, 4100, 60)

    for height, width in [*zip(sides, sides, strict=True), *((line, 1) for line in lines)]:
        pixels = noise(generator, height, width)
        assert np.array_equal(resized(pixels), resize(pixels, size)), (height, width)


@pytest.mark.parametrize(
    ("kind", "size"), [("photo", 224), ("drawing", 28)], ids=["photo", "drawing"]
)
def test_the_graph_prepares_pictures_as_the_classifier_does_to_the_bit(kind, size):
    build, expected = getattr(onnx_graph, kind), getattr(squares, kind)
    prepared = computing(lambda graph: build(graph, "image", size), 4)
    generator = np.random.default_rng(0)
    sizes = [*THIN, *(tuple(generator.integers(1, 300, 2).tolist()) for _ in range(200))]

    for place, (height, width) in enumerate(sizes):
        pixels = (noise if place % 4 == 0 else blots)(generator, height, width)
        assert np.array_equal(prepared(pixels)[0], expected(pixels, size)), (height, width)


def test_a_sheet_of_one_colour_is_prepared_too():
    prepared = computing(lambda graph: onnx_graph.drawing(graph, "image", 28), 4)
    empty = np.full((40, 60, 3), 255, np.uint8)

    assert not prepared(empty).any()


# The whole


@pytest.mark.parametrize("head", HEADS)
def test_the_file_says_what_the_classifier_says(head: Any, tmp_path):
    classifier = FewShotClassifier("omniglot", head=head).fit(LETTERS, NAMES)
    pictures = varied("omniglot", 20)
    written = export.export_onnx(classifier, tmp_path / "model.onnx")
    p, unknown, similarity = answers(written.path.read_bytes(), pictures)

    assert np.abs(p - classifier.predict_proba(pictures)).max() < 1e-5
    assert np.array_equal(unknown, classifier.is_unknown(pictures))
    assert np.abs(similarity - classifier.similarity(pictures)).max() < 1e-5
    assert written.pictures == len(LETTERS) + 2 * len(export.SIZES)
    assert "onnxruntime says what innerloop says" in str(written)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["omniglot", "photos"])
def test_two_hundred_pictures_of_all_sizes_have_the_same_answers(kind, request):
    classifier = request.getfixturevalue("letters" if kind == "omniglot" else "scenes")
    pictures = varied(kind, 200)
    p, unknown, _ = answers(onnx_model.onnx_bytes(classifier.state, classifier.network), pictures)
    expected = classifier.predict_proba(pictures)

    assert np.abs(p - expected).max() < 1e-5
    assert np.array_equal(p.argmax(1), expected.argmax(1))
    assert np.array_equal(unknown, classifier.is_unknown(pictures))
    assert 0 < unknown.sum() < 200


def test_photos_take_seven_megabytes_and_bring_the_notice_of_their_weights(scenes, tmp_path):
    written = export.export_onnx(scenes, tmp_path / "model.onnx")
    pictures = varied("photos", 4)
    p, unknown, _ = answers(written.path.read_bytes(), pictures)
    properties = {of.key: of.value for of in onnx.load(written.path).metadata_props}

    assert written.size < 7.2e6
    assert np.abs(p - scenes.predict_proba(pictures)).max() < 1e-5
    assert np.array_equal(unknown, scenes.is_unknown(pictures))
    assert properties["weights_licence"].startswith("Apache-2.0")
    assert "Mingxing Tan" in properties["weights_licence"]


def test_the_file_stands_by_itself_and_says_what_it_is(letters, tmp_path):
    written = export.export_onnx(letters, tmp_path / "model.onnx")
    content = written.path.read_bytes()
    model = onnx.load(written.path)
    properties = {of.key: of.value for of in model.metadata_props}
    onnx.checker.check_model(model, full_check=True)

    assert list(tmp_path.iterdir()) == [written.path]
    assert {node.domain for node in model.graph.node} == {""}
    assert not model.functions
    assert [(of.domain, of.version) for of in model.opset_import] == [("", onnx_graph.OPSET)]
    assert [of.name for of in model.graph.input] == ["image"]
    assert [of.name for of in model.graph.output] == ["probabilities", "unknown", "similarity"]
    assert "uint8 (height, width, 3)" in model.doc_string
    assert json.loads(properties["classes"]) == list(KINDS)
    assert properties["innerloop"] == innerloop.__version__
    assert float(properties["threshold"]) == letters.threshold_
    assert float(properties["temperature"]) == letters.temperature_
    assert str(Path(innerloop.__file__).parent).encode() not in content


def test_a_loaded_classifier_gives_the_same_bytes(letters, tmp_path):
    letters.save(tmp_path / "letters.innerloop")
    loaded = FewShotClassifier.load(tmp_path / "letters.innerloop")
    export.export_onnx(letters, tmp_path / "one.onnx")
    export.export_onnx(loaded, tmp_path / "other.onnx")

    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "other.onnx").read_bytes()


def test_classes_that_are_numbers_stay_numbers_and_without_a_threshold_all_is_known():
    labels = [KINDS.index(kind) for kind in NAMES]
    classifier = FewShotClassifier("omniglot", unknown=None).fit(LETTERS, labels)
    content = onnx_model.onnx_bytes(classifier.state, classifier.network)
    properties = {of.key: of.value for of in onnx.load_from_string(content).metadata_props}

    assert json.loads(properties["classes"]) == [0, 1, 2]
    assert json.loads(properties["threshold"]) is None
    assert not answers(content, varied("omniglot", 10))[1].any()


# What is refused


def with_state(classifier: FewShotClassifier, **changes: Any) -> FewShotClassifier:
    copy = FewShotClassifier("omniglot")
    vars(copy).update(vars(classifier))
    copy._state = dataclasses.replace(classifier.state, **changes)
    return copy


def with_network(classifier: FewShotClassifier, **changes: Any) -> FewShotClassifier:
    copy = with_state(classifier)
    copy._network = dataclasses.replace(classifier.network, **changes)
    return copy


@pytest.mark.parametrize("name", ["conv4", "resnet12"])
@pytest.mark.parametrize("features", ["flatten", "mean"])
def test_the_networks_of_this_package_are_written_as_they_compute(name, features):
    halves = "max-pool" if name == "conv4" else "stride"
    settings = NetworkSettings(
        name=name, filters=4, halvings=3, features=features, downsample=halves
    )
    model = build_network(settings, 5, channels=1, image_size=28)
    keep_running_statistics(model)
    for layer in batch_norm_layers(model).values():
        layer.running().mean.normal_()
        layer.running().variance.uniform_(0.5, 2)
    module = Body(plain_network(model, {}, "stored", {"head": nn.Identity()})).eval()
    graph = onnx_graph.Graph()
    output = network(graph, "image", module, (1, 1, 28, 28), {})
    made = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, (1, 1, 28, 28))],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, [1, None])],
        graph.initializers,
    )
    opset = helper.make_opsetid("", onnx_graph.OPSET)
    content = helper.make_model(made, opset_imports=[opset], ir_version=onnx_graph.IR_VERSION)
    images = torch.rand(5, 1, 1, 28, 28)

    opened = session(content.SerializeToString())
    found = np.stack([np.asarray(opened.run(None, {"image": of.numpy()})) for of in images])[
        :, 0, 0
    ]

    expected = torch.cat([module(image) for image in images]).detach().numpy()
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


def test_what_cannot_be_exported_is_refused_in_a_sentence(letters, tmp_path):
    def brightness(pixels: np.ndarray) -> np.ndarray:
        return np.array([pixels.mean(), pixels.std(), 1.0])

    vectors = FewShotClassifier(None).fit(np.eye(4), ["a", "a", "b", "b"])
    function = FewShotClassifier(brightness).fit(LETTERS, NAMES)
    sine = type("Sine", (torch.nn.Module,), {"forward": lambda self, x: x.sin().flatten(1)})()
    for classifier, sentence in (
        (vectors, "A classifier of vectors cannot be exported"),
        (function, "The backbone brightness is a function"),
        (with_network(letters, name="timm:resnet18"), "timm:resnet18 prepares pictures"),
        (with_network(letters, module=sine), r"computes aten\.sin\.default"),
    ):
        with pytest.raises(ConfigError, match=sentence):
            export.export_onnx(classifier, tmp_path / "model.onnx")
    with pytest.raises(NotFittedError):
        export.export_onnx(FewShotClassifier(), tmp_path / "model.onnx")
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        export.export_onnx(letters, tmp_path / "model.pt")
    assert list(tmp_path.iterdir()) == []


def test_without_the_packages_it_says_how_to_get_them(letters, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "find_spec", lambda name: None)

    with pytest.raises(ConfigError, match=r"pip install 'innerloop\[onnx\]'"):
        export.export_onnx(letters, tmp_path / "model.onnx")


@pytest.mark.parametrize("change", [{"temperature": 9.0}, {"threshold": -1.0}], ids=str)
def test_a_file_that_says_something_else_is_not_written(letters, tmp_path, monkeypatch, change):
    other = dataclasses.replace(letters.state, **change)
    content = onnx_model.onnx_bytes(other, letters.network)
    monkeypatch.setattr(onnx_model, "onnx_bytes", lambda *_: content)

    with pytest.raises(DataError, match="The file is not written"):
        export.export_onnx(letters, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_those_of_the_package_are_written_as_they_are(scenes):
    backbone = find_backbone("photos")
    assert backbone.module is not None
    weight = backbone.module.get_parameter("last.weight").data
    weight.mul_(1.5)
    content = onnx_model.onnx_bytes(scenes.state, backbone)
    pixels = np.asarray(SCENES[0])
    p, _, _ = answers(content, [pixels])

    expected = scenes.state.probabilities(backbone.vector(pixels, "it")[None])
    assert np.abs(p - expected).max() < 1e-5


# The command


def test_the_command_writes_the_file_and_says_how_near_it_is(letters, tmp_path, capsys):
    letters.save(tmp_path / "letters")
    target = tmp_path / "model.onnx"
    assert run([str(tmp_path / "letters"), str(target), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)

    assert said["file"] == str(target)
    assert said["bytes"] == target.stat().st_size
    assert said["difference"] < 1e-5
    with pytest.raises(ConfigError, match=r"must end in \.onnx or in \.html"):
        run([str(tmp_path / "letters"), str(tmp_path / "model.pt")])
    with pytest.raises(ConfigError, match="npm install onnxruntime-web"):
        run([str(tmp_path / "letters"), str(tmp_path / "page.html")])
    with pytest.raises(ConfigError, match=f"holds no {export_page.GLUE}"):
        run([str(tmp_path / "letters"), str(tmp_path / "page.html"), "--runtime", str(tmp_path)])


# The page


def test_a_page_holds_everything_and_refers_to_nothing_outside(letters, tmp_path):
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist" / export_page.GLUE).write_text("export const env = {};")
    (tmp_path / "dist" / export_page.WASM).write_bytes(b"\0asm")
    renamed = with_state(letters).rename("ring", "</script><b>")
    written = export_page.export_page(renamed, tmp_path / "page.html", tmp_path)
    page = written.path.read_text(encoding="utf-8")

    assert written.size == written.path.stat().st_size < 3e6
    assert "default-src 'none'" in page
    assert "http:" not in page and "https:" not in page
    assert "</script><b>" not in page
    assert page.count("</script>") == 4


@pytest.fixture
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.skipif(
    BROWSER is None or RUNTIME is None,
    reason="no Chromium, or ONNXRUNTIME_WEB does not name a folder of onnxruntime-web",
)
@pytest.mark.parametrize("kind", ["omniglot", "photos"])
def test_a_page_classifies_in_a_browser_without_a_network(kind, browser, request, tmp_path):
    from axe_playwright_python.sync_playwright import Axe

    classifier = request.getfixturevalue("letters" if kind == "omniglot" else "scenes")
    written = export_page.export_page(classifier, tmp_path / "page.html", RUNTIME)
    made = [*(varied(kind, 3)), np.asarray(LETTERS[0].convert("RGB"))]
    files = [tmp_path / f"{place}.png" for place in range(len(made))]
    for pixels, file in zip(made, files, strict=True):
        Image.fromarray(pixels).save(file)
    broken = tmp_path / "broken.png"
    broken.write_bytes(files[0].read_bytes()[:60])
    wrong: list[str] = []
    context = browser.new_context(offline=True, viewport={"width": 360, "height": 800})
    page = context.new_page()
    page.on("console", lambda message: wrong.append(message.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda one: wrong.extend([one.url] * one.url.startswith("http")))
    page.goto(written.path.as_uri())
    page.get_by_text("Ready.").wait_for(timeout=60_000)
    page.set_input_files("#files", [str(file) for file in [*files, broken]])
    page.get_by_text("5 of 5 done.").wait_for(timeout=60_000)
    shown = page.locator("#answers h2").all_inner_texts()[::-1]
    page.screenshot(path=tmp_path / "page.png", full_page=True)

    p, unknown = classifier.predict_proba(files), classifier.is_unknown(files)
    assert shown.pop() == "cannot be read"
    for row, none, heading in zip(p, unknown, shown, strict=True):
        name = classifier.classes_[row.argmax()]
        sure = f"{name}, {round(100 * row.max())} %"
        at = f"none of these (if it were one, {name} at {round(100 * row.max())} %)"
        assert heading == (at if none else sure)
    assert wrong == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = Axe().run(page).response["violations"]
    assert [one["id"] for one in found if one["impact"] in ("serious", "critical")] == []
    context.close()
