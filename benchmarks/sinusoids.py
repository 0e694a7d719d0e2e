"""The sinusoids of the MAML paper (Finn et al., 2017, section 5.1), by every method that fits.

    python benchmarks/sinusoids.py FOLDER

Takes waves, network and methods from `docs/regression.md`, trains with the page's long setting, and
adapts to 600 waves that were never trained on, the same for every method. FOLDER takes the
checkpoints: typed again, the command goes on where it was. Errors are means of squares over 100
points of a wave. The inner rate is 0.01, but for the pretrained network the best of `RATES` on
waves of a stream of its own, after 10 steps. Results go to `results/sinusoids.json`, figures to
`docs/figures/`; `--draw` makes these alone.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pages import executed
from torch import Tensor

from innerloop import Learner, __version__, meta_train
from innerloop.core.files import json_text, write_atomic
from innerloop.core.intervals import mean_and_interval, paired_difference
from innerloop.experiments.environment import processor
from innerloop.report.figures.style import (
    AFTER,
    BEFORE,
    GREY,
    PALETTE,
    SUPPORT,
    WRONG,
    legend,
    panels,
    pictures_of,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "sinusoids.json"
FIGURES = ROOT / "docs" / "figures"
WAVES = 600
SHOTS = (5, 10, 20)
STEPS = 10
"""Inner steps that errors are measured after, from 0 on."""
DEFINING = (1, 2, 4, 6)
"""Blocks of the page that define, and train nothing."""
RATES = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
JOINTLY = "pretrained"
SHOWN = ("MAML", JOINTLY)
"""Methods in the figure of a wave."""


def best_rate(page: dict[str, Any], learner: Learner, shots: int) -> float:
    """The inner rate with the least error after 10 steps, on waves that are nobody else's."""
    waves = page["Waves"]("waves/rates", shots=shots, queries=100).batch(0, 100)
    after = {
        rate: float(page["errors"](learner.adapting(rate=rate), waves)[-1].mean()) for rate in RATES
    }
    # One that diverges is not a number, and no minimum.
    return min(after, key=lambda rate: np.nan_to_num(after[rate], nan=np.inf))


@torch.no_grad()
def curves(page: dict[str, Any], learner: Learner, shots: int, wave: int) -> dict[str, Any]:
    """What the network says of a wave after 0, 1 and 10 steps; ``y`` by the number of steps."""
    support = page["Waves"]("waves/test", shots=shots).batch(wave, 1).support
    x = torch.linspace(-5, 5, 101)[None, :, None]
    said: dict[str, list[float]] = {}
    for steps, adapted in enumerate(learner.trajectory(support, steps=10)):
        if steps in (0, 1, 10):
            said[str(steps)] = learner.predict(adapted, x)[0, :, 0].tolist()
    return {"points": [support.images.flatten().tolist(), support.labels.flatten().tolist()]} | {
        "x": x.flatten().tolist(),
        "y": said,
    }


def in_short(errors: Tensor) -> dict[str, Any]:
    """Errors (steps + 1, waves) as means with intervals, after each number of steps.

    ``worse`` is the share of waves with a larger error than before any step.
    """
    means = [mean_and_interval(row) for row in errors.double().numpy()]
    return {
        "error": [mean for mean, _ in means],
        "ci95": [half for _, half in means],
        "worse": (errors > errors[0]).double().mean(dim=1).tolist(),
    }


def measured(folder: Path) -> dict[str, Any]:
    """Train and measure every method of the page."""
    page = executed(ROOT / "docs" / "regression.md", DEFINING)
    setting = page["LONG"]
    methods: dict[str, Any] = {}
    of_each: dict[tuple[str, int], Tensor] = {}
    wave = first_high_wave(page)
    for method, made in page["METHODS"].items():
        learner = made()

        def tell(step: int, metrics: dict[str, float], method: str = method) -> None:
            if step % 500 == 0:
                print(f"{method}: step {step}, outer loss {metrics['loss']:.3f}", flush=True)

        place = folder / method.lower()
        meta_train(
            learner,
            page["POINTS"].get(method, page["train"]),
            **setting,
            checkpoints=place,
            checkpoint_every=500,
            on_step=tell,
        )
        rows = {}
        for shots in SHOTS:
            rate = best_rate(page, learner, shots) if method == JOINTLY else None
            adapting = learner.adapting(rate=rate)
            waves = page["Waves"]("waves/test", shots=shots, queries=100).batch(0, WAVES)
            errors = page["errors"](adapting, waves, STEPS)
            of_each[method, shots] = errors
            rows[str(shots)] = {"inner_lr": rate or 0.01} | in_short(errors)
            rows[str(shots)] |= {"wave": curves(page, adapting, shots, int(wave["number"]))}
            print(method, shots, rate, np.round(rows[str(shots)]["error"], 3), flush=True)
        methods[method] = rows
    return {
        "what": "squared error on 100 points of a wave, mean over waves",
        "command": "python benchmarks/sinusoids.py FOLDER",
        "training": setting,
        "waves": WAVES,
        "wave": wave,
        "machine": processor(),
        "versions": {"innerloop": __version__, "torch": torch.__version__},
        "methods": methods,
        "one step of MAML minus the best of pretrained": {
            str(shots): against_the_best(of_each["MAML", shots], of_each[JOINTLY, shots])
            for shots in SHOTS
        },
    }


def against_the_best(maml: Tensor, pretrained: Tensor) -> dict[str, Any]:
    """MAML after one step minus the pretrained network after its best number of steps."""
    steps = int(pretrained.mean(dim=1).argmin())
    apart = paired_difference(maml[1].double().numpy(), pretrained[steps].double().numpy())
    return {"steps": steps, "mean": apart.mean, "ci95": apart.ci95}


def first_high_wave(page: dict[str, Any]) -> dict[str, float]:
    """The first test wave whose amplitude is at least 3: a flat one shows little."""
    number = 0
    while page["test"].wave(number)[0] < 3:
        number += 1
    amplitude, phase = page["test"].wave(number)
    return {"number": number, "amplitude": amplitude, "phase": phase}


def draw(result: dict[str, Any]) -> None:
    """Write both figures."""
    for name, figure in (("sinusoids", wave_figure), ("sinusoids-steps", steps_figure)):
        files = pictures_of(lambda figure=figure: figure(result), name)
        write_atomic(FIGURES / f"{name}.png", files[f"{name}.png"])


def wave_figure(result: dict[str, Any]) -> Figure:
    """A wave, its points, and what two networks say of it."""
    number = result["wave"]["number"]
    figure, drawn = panels(
        "One wave, adapted to from 5 and from 10 points",
        f"test wave {number}, the first of amplitude 3 or more; "
        f"{result['training']['meta_steps']:,} outer steps",
        2,
        rows=2,
        width=8.6,
        height=6.0,
        share_y=True,
    )
    places = [(shots, method) for shots in ("5", "10") for method in SHOWN]
    for axes, (shots, method) in zip(drawn, places, strict=True):
        row = result["methods"][method][shots]
        draw_wave(axes, row["wave"], result["wave"])
        axes.set_title(f"{method}, {shots} points, inner rate {row['inner_lr']:g}", fontsize=9)
    handles, labels = drawn[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def draw_wave(axes: Axes, said: dict[str, Any], wave: dict[str, float]) -> None:
    """The wave, the points, and the network before, after one and after ten steps."""
    x = np.array(said["x"])
    true = wave["amplitude"] * np.sin(x - wave["phase"])
    axes.plot(x, true, color=WRONG, lw=1.5, label="true wave")
    for steps, name, colour, style in (
        ("0", "before", GREY, ":"),
        ("1", "after 1 step", BEFORE, "--"),
        ("10", "after 10 steps", AFTER, "-"),
    ):
        axes.plot(x, said["y"][steps], color=colour, ls=style, lw=1.5, label=name)
    axes.plot(*said["points"], "^", color=SUPPORT, ms=6, label="points")


def steps_figure(result: dict[str, Any]) -> Figure:
    """Error after each number of inner steps, of every method."""
    figure, (axes,) = panels(
        "Error on new waves after each inner step",
        f"10 points of a wave; mean of {result['waves']} waves with its 95 % interval",
        1,
    )
    for colour, (method, rows) in zip(PALETTE, result["methods"].items(), strict=False):
        error, half = (np.array(rows["10"][name]) for name in ("error", "ci95"))
        steps = np.arange(len(error))
        axes.fill_between(steps, error - half, error + half, color=colour, alpha=0.2, lw=0)
        axes.plot(steps, error, color=colour, label=f"{method}, at {rows['10']['inner_lr']:g}")
    axes.set_yscale("log")
    axes.set_xlabel("inner steps")
    axes.set_ylabel("squared error")
    legend(axes, fontsize=8)
    return figure


def main() -> None:
    """Measure and draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs/sinusoids"))
    parser.add_argument("--draw", action="store_true", help="only draw what was measured")
    options = parser.parse_args()
    if not options.draw:
        torch.set_num_threads(1)
        result = measured(options.folder)
        write_atomic(RESULTS, json_text(result, indent=1) + "\n")
    draw(json.loads(RESULTS.read_text("utf-8")))


if __name__ == "__main__":
    main()
