"""The settings of a run: one frozen dataclass, checked once, and the only place that parses them.

The attribute docstrings are the help texts of the command line, and the words of
``hyperparameters.md``.
"""

import dataclasses
import difflib
import json
import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from innerloop.core.errors import ConfigError

FORMAT_VERSION = 1
"""Version of ``config.json`` and of checkpoints; a file of another version is refused."""


def setting(default: Any, low: float, high: float) -> Any:
    """A number with its default and its inclusive range."""
    return dataclasses.field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class RunConfig:
    """Everything that decides a run's numbers. Complete at birth; saved as ``config.json``."""

    method: str = "fomaml"
    """What is trained: fomaml, maml, mamlpp, transfer, an entry point's name, or module:Class."""
    data: str = "auto"
    """Data set: omniglot, strokes (synthetic, built in), or auto (Omniglot where it is found, else
    strokes)."""
    split: str = "auto"
    """Which classes train and validate: assignment, background-heldout, 1100-100-423 (Omniglot),
    alphabets (strokes); auto is assignment for Omniglot and alphabets for strokes."""
    ways: int = setting(5, 2, 1000)
    """Classes in an episode."""
    shots: int = setting(5, 1, 1000)
    """Support images per class."""
    queries: int = setting(15, 1, 1000)
    """Query images per class."""
    inner_steps: int = setting(5, 0, 1000)
    """Gradient steps on the support set."""
    inner_lr: float = setting(0.4, 0.0, 1000.0)
    """Learning rate of the inner steps (plain gradient descent)."""
    outer_lr: float = setting(0.001, 0.0, 1000.0)
    """Learning rate of the outer optimiser, Adam."""
    meta_steps: int = setting(1000, 1, 10_000_000)
    """Outer steps (the assignment's iterations); transfer's are mini-batches of its pretraining."""
    meta_batch_size: int = setting(4, 1, 10_000)
    """Episodes in an outer step, for methods that train on episodes."""
    batch_size: int = setting(64, 2, 100_000)
    """Images in an outer step, for methods that train on images (transfer's pretraining)."""
    query_batches: int = setting(1, 1, 1000)
    """Training query loss as the mean over this many class-balanced mini-batches; evaluation always
    uses 1."""
    clip_gradient: float = setting(0.0, 0.0, 1e6)
    """Largest norm of the outer gradient; a longer one is scaled down to it; 0 is off. Steadies
    second order."""
    averaging: float = setting(0.98, 0.0, 0.99999)
    """Decay per outer step of the moving average of the weights that is validated and saved; 0 is
    off."""
    rotations: bool = True
    """Turn each class of each training episode, or each training image, by a random multiple of 90
    degrees; never at validation."""
    rotations_as_classes: bool = False
    """Where training images are turned, pretraining tells a character's four rotations apart, as
    classes of their own; otherwise they are one class."""
    multi_step_loss: bool = True
    """MAML++: weigh the query losses after every inner step, early in the run."""
    multi_step_fraction: float = setting(0.1, 0.0, 1.0)
    """MAML++: part of the run in which the weights of the multi-step loss move to the last step."""
    derivative_order_annealing: bool = True
    """MAML++: first order at first, then second."""
    first_order_fraction: float = setting(1 / 3, 0.0, 1.0)
    """MAML++: part of the run that is of first order, with derivative-order annealing."""
    per_step_statistics: bool = True
    """MAML++: running batch-norm statistics for every inner step, for predictions under batch norm
    running."""
    per_step_affine: bool = True
    """MAML++: batch norm's scale and shift for every inner step, learnt in the outer loop alone."""
    learned_rates: Literal["layer", "tensor", "off"] = "layer"
    """MAML++: a learnt inner rate for each inner step and each layer, or each tensor (as the
    authors' code has it)."""
    cosine_annealing: bool = True
    """MAML++: let the outer rate fall along a cosine."""
    outer_lr_floor: float = setting(0.01, 0.0, 1.0)
    """MAML++: where the cosine ends, as a fraction of the outer rate."""
    seed: int = setting(0, 0, 2**31 - 1)
    """Seed of the initial weights and of the training episodes."""
    image_size: int = setting(28, 16, 105)
    """Side of the images in pixels."""
    filters: int = setting(64, 1, 1024)
    """Channels of each of the network's four blocks."""
    downsample: Literal["stride", "max-pool"] = "stride"
    """How a block halves the image: convolutions of stride 2, or 2x2 max pooling."""
    features: Literal["flatten", "mean"] = "mean"
    """What the head sees of the last block: all positions, or their mean."""
    last_relu: bool = True
    """Apply the ReLU of the last block."""
    feature_norm: bool = True
    """Standardise each feature over the batch before the head, so that large inner steps suit
    it."""
    feature_scale: float = setting(1.0, 1e-6, 1e6)
    """Factor on the features before the head."""
    conv_bias: bool = False
    """Give convolutions a bias (batch norm cancels it)."""
    conv_init: Literal["pytorch", "kaiming", "glorot"] = "pytorch"
    """Initial convolution weights: pytorch (uniform, 1 / sqrt(fan in)), kaiming (normal) or glorot
    (uniform)."""
    head_init: Literal["zero", "glorot"] = "zero"
    """Initial weights of the linear head; of transfer also of the new head in every episode."""
    fresh_head: bool = True
    """Start the head of every episode from zero, so that only the inner loop trains it and ways at
    test are free; otherwise its initial weights are meta-learned."""
    validation_every: int = setting(50, 1, 10_000_000)
    """Outer steps between validations."""
    validation_episodes: int = setting(30, 2, 100_000)
    """Fixed episodes of each validation during training."""
    checkpoint_every: int = setting(50, 1, 10_000_000)
    """Outer steps between checkpoints."""
    device: str = "auto"
    """Where to compute: cpu, cuda, mps, or auto (cuda where there is one, else cpu)."""
    threads: int = setting(0, 0, 1024)
    """CPU threads; 0 takes what PyTorch chooses. Bits are reproducible at equal threads only."""
    episodes_per_chunk: int = setting(0, 0, 10_000)
    """Episodes computed at once; 0 chooses by device (1 on a CPU, all on a GPU)."""

    def __post_init__(self):
        """Check types and ranges once; afterwards they are trusted."""
        for spec in dataclasses.fields(self):
            _check(spec, getattr(self, spec.name))
        for name in ("method", "data", "split", "device"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} must not be empty.")
        if self.queries % self.query_batches:
            raise ConfigError(
                f"query_batches={self.query_batches} must divide queries={self.queries}."
            )

    @property
    def learns_rates(self) -> bool:
        """Whether the inner rates are learnt, from ``inner_lr`` on."""
        return self.method == "mamlpp" and self.learned_rates != "off"

    @property
    def inner_rate(self) -> str:
        """The inner rate in words, as what is quoted with a result says it."""
        return rate_in_words(self.inner_lr, learnt=self.learns_rates)

    @property
    def run_name(self) -> str:
        """The run directory's name, for instance ``fomaml-omniglot-5w5s-s0``."""
        method = self.method.rpartition(":")[2].lower()
        return f"{method}-{self.data}-{self.ways}w{self.shots}s-s{self.seed}"

    def replace(self, **changes: Any) -> "RunConfig":
        """A copy with some settings changed, checked again."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> str:
        """JSON with one setting a line and the format's version."""
        return (
            json.dumps({"format_version": FORMAT_VERSION} | dataclasses.asdict(self), indent=2)
            + "\n"
        )

    @classmethod
    def from_json(cls, text: str, *, source: str = "config.json") -> "RunConfig":
        """Read `to_json`'s text back.

        Args:
            text: the JSON.
            source: what error messages call it.

        Raises:
            ConfigError: if it is not JSON, of another version, or a setting is unknown, missing or
                wrong.
        """
        values = read_json_object(text, source)
        version = values.pop("format_version", None)
        if version != FORMAT_VERSION or isinstance(version, bool):
            raise ConfigError(
                f"{source} has format version {_shown(version)} and this innerloop reads "
                f"{FORMAT_VERSION}: use the innerloop that wrote it, or start a new run."
            )
        names = [spec.name for spec in dataclasses.fields(cls)]
        for name in values:
            if name not in names:
                raise ConfigError(
                    f"{source}: there is no setting {_shown(name)}.{did_you_mean(name, names)}"
                )
        if missing := [name for name in names if name not in values and name not in LATER_SETTINGS]:
            raise ConfigError(
                f"{source}: setting {missing[0]!r} is missing; a saved configuration is complete."
            )
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{source}: {error}") from error


LATER_SETTINGS = (
    "clip_gradient",
    "batch_size",
    "rotations_as_classes",
    "multi_step_loss",
    "multi_step_fraction",
    "derivative_order_annealing",
    "first_order_fraction",
    "per_step_statistics",
    "per_step_affine",
    "learned_rates",
    "cosine_annealing",
    "outer_lr_floor",
)
"""Settings younger than the format: a file without them was written when their defaults were the
only way."""

METHOD_SETTINGS: dict[str, dict[str, Any]] = {
    "maml": dict(conv_init="kaiming", clip_gradient=0.3),
    "mamlpp": dict(
        conv_init="kaiming",
        clip_gradient=0.3,
        outer_lr=0.003,
        outer_lr_floor=0.5,
        feature_scale=0.3,
    ),
    "transfer": dict(
        meta_steps=4800, rotations_as_classes=True, validation_every=300, checkpoint_every=300
    ),
}
"""Where a method's defaults differ from those of `RunConfig`: second order spikes early, and needs
other initial weights and clipping; 1000 outer steps are short for a cosine to almost nothing;
learnt rates make the loss small by larger steps instead of better features, unless the features are
scaled down. Chosen on ``background-heldout``, see docs/methods."""

_OF_MAMLPP = (
    "multi_step_loss",
    "multi_step_fraction",
    "derivative_order_annealing",
    "first_order_fraction",
    "per_step_statistics",
    "per_step_affine",
    "learned_rates",
    "cosine_annealing",
    "outer_lr_floor",
)
_OF_IMAGES = ("batch_size", "rotations_as_classes")
_OF_EPISODES = ("meta_batch_size", "query_batches", "fresh_head", "episodes_per_chunk")
UNUSED: dict[str, tuple[str, ...]] = {
    "fomaml": (*_OF_MAMLPP, *_OF_IMAGES),
    "maml": (*_OF_MAMLPP, *_OF_IMAGES),
    "mamlpp": _OF_IMAGES,
    "transfer": (*_OF_MAMLPP, *_OF_EPISODES),
}
"""Settings that do not touch a method's training; tables of hyperparameters show them as "-"."""

_PUBLISHED: dict[str, Any] = dict(
    outer_lr=0.001, outer_lr_floor=0.01, clip_gradient=0.0, feature_scale=1.0
)
PRESETS: dict[str, dict[str, Any]] = {
    "course": dict(
        meta_batch_size=20,
        batch_size=25,
        query_batches=3,
        rotations=False,
        averaging=0.0,
        clip_gradient=0.0,
        outer_lr=0.001,
        outer_lr_floor=0.01,
        features="flatten",
        feature_norm=False,
        feature_scale=1.0,
        conv_bias=True,
        conv_init="glorot",
        head_init="glorot",
        fresh_head=False,
        validation_episodes=100,
    ),
    "paper": dict(
        derivative_order_annealing=True,
        per_step_statistics=True,
        learned_rates="layer",
        **_PUBLISHED,
    ),
    "authors-code": dict(
        derivative_order_annealing=False,
        per_step_statistics=False,
        learned_rates="tensor",
        **_PUBLISHED,
    ),
}
"""Named sets of settings. ``course``: the network and batches of the assignment's own code.
``paper`` and ``authors-code``: MAML++ where its paper and its authors' code differ, and without
what is ours for short trainings (`METHOD_SETTINGS`)."""


def rate_in_words(inner_lr: float, *, learnt: bool) -> str:
    """An inner rate as results are quoted with it: a number, or what learnt rates started from."""
    return f"rates learnt from {inner_lr:g} on" if learnt else f"{inner_lr:g}"


def settings_of(method: str, preset: str | None = None) -> RunConfig:
    """A method's default settings, or those that a preset makes of them."""
    if preset is not None and preset not in PRESETS:
        raise ConfigError(f"There is no preset {preset!r}.{did_you_mean(preset, list(PRESETS))}")
    changes = METHOD_SETTINGS.get(method, {}) | (PRESETS[preset] if preset else {})
    return RunConfig(method=method).replace(**changes)


def load_config(path: Path) -> RunConfig:
    """Read a ``config.json``.

    Raises:
        ConfigError: if it cannot be read or is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"Cannot read the configuration {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"The configuration {path} is not JSON: it is not even UTF-8 text."
        ) from error
    return RunConfig.from_json(text, source=str(path))


def read_json_object(text: str, source: str) -> dict[str, Any]:
    """Parse a JSON object, refusing anything else with a sentence."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not JSON: {error}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold one JSON object, not a {type(values).__name__}.")
    return values


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON as other programs read it: a number that is not finite becomes null."""
    return json.dumps(_finite(value), indent=indent, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def did_you_mean(name: str, names: Sequence[str]) -> str:
    """To append to an error: the most similar name, or all of them."""
    return nearest(name, names) or f" There are: {', '.join(names)}."


def nearest(name: str, names: Sequence[str]) -> str:
    """Asks in an error whether the most similar name is meant, or nothing where none is similar."""
    near = difflib.get_close_matches(name.lower(), names, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def _check(spec: dataclasses.Field, value: Any) -> None:
    """Refuse a value of the wrong type or out of range."""
    if get_origin(spec.type) is Literal:
        if value not in (choices := get_args(spec.type)):
            hint = did_you_mean(value, list(choices)) if isinstance(value, str) else ""
            raise ConfigError(
                f"{spec.name} must be one of {', '.join(choices)}: got {_shown(value)}.{hint}"
            )
        return
    accepted = {int: int, float: (int, float), bool: bool, str: str}[spec.type]  # type: ignore[index]
    if not isinstance(value, accepted) or (isinstance(value, bool) and spec.type is not bool):
        raise ConfigError(f"{spec.name} must be {_article(spec.type)}: got {_shown(value)}.")
    if "range" in spec.metadata:
        low, high = spec.metadata["range"]
        if not (isinstance(value, int) or math.isfinite(value)) or not low <= value <= high:
            raise ConfigError(
                f"{spec.name} must be between {low:,} and {high:,}: got {_shown(value)}."
            )


def _shown(value: Any) -> str:
    """A value as an error shows it: cut short, however long or deep it is."""
    return reprlib.repr(value)


def _article(kind: Any) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[kind]
