"""The protocol of the family's benchmark: what every method gets, written before the first run."""

from typing import Any

from innerloop.methods.catalogue import settings_of
from innerloop.settings.run import RunConfig

SHAPES = {"5w1s": (5, 1), "5w5s": (5, 5), "20w1s": (20, 1), "20w5s": (20, 5)}
"""Ways and shots of the four settings; 15 queries a class."""
SEEDS = {"5w1s": [0, 1], "5w5s": [0, 1], "20w1s": [0, 1], "20w5s": [0]}
"""Training seeds of each setting."""
BUDGET = 800_000
"""Image passes of a training, in every setting: what FO-MAML takes in 1000 outer steps of 5-way
5-shot. An image that goes forward and backward once is one pass, whatever order of derivatives it
serves; the cards count them (``image_passes``)."""
TRIAL_SHAPE = "5w5s"
TRIAL_BUDGET = 200_000
TRIAL_EPISODES = 300
"""Of the held-out alphabets, after a trial."""
VALIDATIONS = 10
"""Of a training, at equal distances: learning curves have so many points. Trials have one."""
EPISODES = 600
"""Of the test classes; 200 of the validation classes, after a training."""
VALIDATION_EPISODES = 200
UNTRAINED = ("5w5s", 0)
"""Setting and seed of the networks whose initial weights are evaluated too."""
LONGER = 1000
"""Outer steps in the setting of `UNTRAINED`: methods whose budget has fewer are trained for so many
once more, beside the benchmark."""
BESIDE = f"{UNTRAINED[0]}-{LONGER}"
"""What stands for a setting in the names of these trainings."""
OTHER_SCALES = {"maml": 0.3, "mamlpp": 1.0}
"""The features' scale of each of the two is the other's, once more in 20-way, beside the benchmark:
their best trials, of 5-way 5-shot, had different ones."""
SCALED = {shape: f"{shape}-scale" for shape in ("20w1s", "20w5s")}
"""What stands for each setting in the names of these trainings; their seed is 0."""
OUTER_RATES = [0.001, 0.003]

KAIMING: dict[str, Any] = {"conv_init": "kaiming", "clip_gradient": 0.3}
PYTORCH: dict[str, Any] = {"conv_init": "pytorch", "clip_gradient": 0.0}
NETWORK: dict[str, Any] = {"downsample": "stride", "filters": 64}
"""The same body for all: four convolutions of 64 filters, which stride, but for the last of
RelationNet's (``halvings``). What of it the head sees is among the trials."""
STANDARDISED: dict[str, Any] = {"features": "mean", "feature_norm": True}
FLAT: dict[str, Any] = {"features": "flatten", "feature_norm": False}
"""What the head sees: the standardised mean over the positions, or all positions as they are."""

GRADIENT = [of | {"feature_scale": 1.0} for of in (PYTORCH, KAIMING)]
GRADIENT += [KAIMING | {"feature_scale": 0.3}]
METRIC = [FLAT, STANDARDISED | {"feature_scale": 0.3}, FLAT | {"training_ways": 20}]
PRETRAINED = [STANDARDISED, STANDARDISED | {"conv_init": "kaiming"}, FLAT]
TRIALS: dict[str, list[dict[str, Any]]] = {
    "maml": GRADIENT,
    "fomaml": GRADIENT,
    "mamlpp": GRADIENT,
    "anil": GRADIENT,
    "boil": [KAIMING, KAIMING | {"inner_lr": 0.1}, PYTORCH],
    "metasgd": [KAIMING, PYTORCH, KAIMING | {"inner_steps": 5, "inner_lr": 0.1}],
    "reptile": [PYTORCH, KAIMING, PYTORCH | {"inner_lr": 0.1, "eval_inner_steps": 20}],
    "imaml": [KAIMING, KAIMING | {"proximal": 2.0}, KAIMING | {"inner_steps": 10}],
    "protomaml": [
        KAIMING | {"feature_scale": 0.3, "inner_lr": 0.1},
        KAIMING | {"feature_scale": 0.3, "inner_lr": 0.4},
        PYTORCH | {"feature_scale": 0.3, "inner_lr": 0.1},
    ],
    "protonet": METRIC,
    "matchingnet": [FLAT, STANDARDISED, FLAT | {"full_context": True}],
    "relationnet": [{"halvings": 2}, {"halvings": 3}, {"halvings": 2, "training_ways": 20}],
    "r2d2": METRIC,
    "metaoptnet": [FLAT, STANDARDISED | {"feature_scale": 0.3}, FLAT | {"solver": "ridge"}],
    "transfer": PRETRAINED,
    "baselinepp": PRETRAINED,
    "simpleshot": PRETRAINED,
    "tim": PRETRAINED,
}
"""Three starts of every method, each with both outer rates: six trials. Two thirds of what is tried
is the same for a whole kind of method; the third is what its paper leaves open or varies."""


def steps_of(config: RunConfig, passes: int) -> int:
    """Outer steps whose image passes come nearest to so many; at least one."""
    low, high = 1, 2
    while config.own.image_passes(config.replace(meta_steps=high), high) < passes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = config.own.image_passes(config.replace(meta_steps=middle), middle) <= passes
        low, high = (middle, high) if fits else (low, middle)
    return low


def fixed(shape: str) -> dict[str, Any]:
    """What all trainings of a shape have alike."""
    ways, shots = SHAPES[shape]
    return NETWORK | {"ways": ways, "shots": shots, "validation_episodes": 30}


def length(method: str, shape: str, budget: int, changes: dict[str, Any]) -> int:
    """Outer steps that a method takes for its budget, with some settings."""
    common: dict[str, Any] = fixed(shape) | changes
    return steps_of(settings_of(method, **common), budget)


def validations(steps: int, number: int) -> dict[str, int]:
    """When a training of so many outer steps is validated and saved."""
    every = max(1, steps // number)
    return {"validation_every": every, "checkpoint_every": every}
