"""The grid of the stability study: which trainings there are, and their settings.

README.md says why.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from innerloop.methods.catalogue import settings_of
from innerloop.settings.run import RunConfig

ARMS = {"fomaml": "FO-MAML", "maml": "MAML", "mamlpp": "MAML++"}
"""The three arms, and how figures call them."""

SWITCHES: dict[str, tuple[bool | str, bool | str]] = {
    "multi_step_loss": (True, False),
    "derivative_order_annealing": (True, False),
    "per_step_statistics": (True, False),
    "per_step_affine": (True, False),
    "learned_rates": ("layer", "off"),
    "cosine_annealing": (True, False),
}
"""The six parts of MAML++: each setting on, and off."""

COMMON: dict[str, Any] = dict(
    split="assignment",
    filters=32,
    averaging=0.0,
    meta_batch_size=4,
    threads=1,
    engine="reference",
    precision="float32",
    cuda_graph=False,
    checkpoint_every=50,
    # Whatever a method's own defaults become:
    conv_init="pytorch",
    clip_gradient=0.0,
    outer_lr=0.001,
    outer_lr_floor=0.01,
    feature_scale=1.0,
)
MAP_STEPS, MAP_RATES = (1, 5), (0.01, 0.04, 0.1, 0.4, 1.0)
WORST_CELL = (5, 0.1)
"""S3's (inner steps, inner rate), which the finished S0 chose by the rule of the protocol."""


def arm_name(arm: str) -> str:
    """How tables and figures call an arm: ``MAML plus per step affine``.

    Also one of the map or the ablation.
    """
    for method, name in sorted(ARMS.items(), key=lambda item: -len(item[0])):
        if arm == method or arm.startswith((f"{method}-", f"{method},")):
            rest = arm[len(method) :].replace("_", " ")
            return name + rest.replace("-plus-", " plus ").replace("-minus-", " minus ")
    return arm


@dataclass(frozen=True)
class Cell:
    """One training of the study.

    Attributes:
        part: S0 ... S5.
        arm: a name that is unique within the part; its results are compared at equal seeds.
        seed: of the initial weights and the training episodes.
        config: its settings.
        final_episodes: fixed episodes of an evaluation of the final weights, besides what every
            training has; 0: none.
    """

    part: str
    arm: str
    seed: int
    config: RunConfig
    final_episodes: int = 0

    @property
    def name(self) -> str:
        """What its result file is called."""
        return f"{self.part}-{self.arm}-s{self.seed}"


def cells(part: str) -> list[Cell]:
    """The trainings of a part, all arms of a seed before the next seed.

    Raises:
        ValueError: if there is no such part.
    """
    if part not in PARTS:
        raise ValueError(f"There is no part {part!r}; there are {', '.join(PARTS)}.")
    return list(PARTS[part]())


def _cell(
    part: str, arm: str, seed: int, method: str, *, final_episodes: int = 0, **settings: Any
) -> Cell:
    config = settings_of(method)
    common = {name: value for name, value in COMMON.items() if name in config.flat()}
    config = config.replace(**(common | settings), seed=seed)
    return Cell(part, arm, seed, config, final_episodes)


def _map() -> Iterator[Cell]:
    for seed in range(2):
        for steps in MAP_STEPS:
            for rate in MAP_RATES:
                for method in ARMS:
                    yield _cell(
                        "S0",
                        f"{method}-{steps}x{rate:g}",
                        seed,
                        method,
                        shots=1,
                        inner_steps=steps,
                        inner_lr=rate,
                        meta_steps=150,
                        validation_every=10,
                        validation_episodes=20,
                    )


def _assignment() -> Iterator[Cell]:
    for seed in range(6):
        for method in ARMS:
            yield _cell(
                "S1",
                method,
                seed,
                method,
                meta_steps=1000,
                validation_every=25,
                validation_episodes=25,
            )


def _stress(part: str = "S2", seeds: int = 8, **settings: Any) -> Iterator[Cell]:
    for seed in range(seeds):
        for method in ARMS:
            yield _cell(
                part,
                method,
                seed,
                method,
                shots=1,
                inner_lr=0.04,
                meta_steps=600,
                validation_every=15,
                validation_episodes=30,
                **settings,
            )


def _ablation() -> Iterator[Cell]:
    everything_off = {name: off for name, (_, off) in SWITCHES.items()}
    arms: dict[str, dict[str, Any]] = {"maml": everything_off, "mamlpp": {}}
    arms |= {f"maml-plus-{name}": everything_off | {name: on} for name, (on, _) in SWITCHES.items()}
    arms |= {f"mamlpp-minus-{name}": {name: off} for name, (_, off) in SWITCHES.items()}
    for seed in range(10, 13):  # not the seeds that chose the cell
        for arm, switches in arms.items():
            yield _cell(
                "S3",
                arm,
                seed,
                "mamlpp",
                shots=1,
                inner_steps=WORST_CELL[0],
                inner_lr=WORST_CELL[1],
                meta_steps=300,
                validation_every=10,
                validation_episodes=20,
                **switches,
            )


def _twenty_ways() -> Iterator[Cell]:
    for seed in range(2):
        for method in ARMS:
            yield _cell(
                "S4",
                method,
                seed,
                method,
                ways=20,
                shots=1,
                meta_steps=500,
                validation_every=25,
                validation_episodes=10,
                final_episodes=600,
            )


def _literature() -> Iterator[Cell]:
    return _stress(
        "S5",
        4,
        features="flatten",
        feature_norm=False,
        fresh_head=False,
        conv_init="glorot",
        head_init="glorot",
    )


PARTS = {
    "S0": _map,
    "S1": _assignment,
    "S2": _stress,
    "S3": _ablation,
    "S4": _twenty_ways,
    "S5": _literature,
}
