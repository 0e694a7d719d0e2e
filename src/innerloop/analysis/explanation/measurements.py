"""All measurements of an explanation, on two trained networks and the same validation episodes."""

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from innerloop.analysis.explanation.features import Features, frozen_features, head_accuracies
from innerloop.analysis.explanation.formulas import safe_rates
from innerloop.analysis.explanation.representations import change_by_adaptation
from innerloop.analysis.explanation.shifts import SHIFTS, paired_with_the_first, shifted_episodes
from innerloop.core.errors import ConfigError
from innerloop.core.intervals import mean_and_interval, paired_difference
from innerloop.data.episodes import EpisodeBatch
from innerloop.experiments.experiment import Experiment
from innerloop.methods.base import Learner, accuracy
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.methods.parts import Parts
from innerloop.methods.variants import Variant
from innerloop.networks.base import HasBlocks
from innerloop.networks.batch_norm import BatchNormMode

STEP_RATES = (0.004, 0.04, 0.4)
"""Inner rates of the curves over adaptation steps."""
STEPS = (0, 1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 140, 200)
"""Adaptation steps at which those curves are measured."""
RATES = (0.01, 0.04, 0.1, 0.4, 1.0, 2.0)
"""Inner rates of the sensitivity, and among them the best one of what is adapted."""
PARTS: tuple[Parts, ...] = ("head", "head+1", "head+2", "head+3", "all", "body")
"""What is adapted, from the head alone to all of the network, and the body alone."""
SHOTS = (1, 2, 5, 10)
OWN = Variant()
"""Adaptation as the method itself does it."""


@dataclass(frozen=True)
class Subject:
    """A trained run that is explained.

    Attributes:
        name: what tables call it, for instance the method.
        experiment: its data and settings.
        learner: its trained learner, around a network whose blocks have names.
        own_accuracies: (episodes,) accuracy of its own adaptation, from its evaluation.
    """

    name: str
    experiment: Experiment
    learner: Learner
    own_accuracies: np.ndarray

    def renamed(self, name: str) -> "Subject":
        """The same run under another name."""
        return replace(self, name=name)

    @property
    def mode(self) -> BatchNormMode:
        """Its own batch-norm mode."""
        return self.learner.batch_norm_modes[0]

    def adapted(self, variant: Variant = OWN) -> Learner:
        """The learner that adapts its network another way."""
        return variant.of(self.learner, self.experiment.config)

    def accuracies(
        self,
        batches: Iterable[EpisodeBatch],
        variant: Variant = OWN,
        steps: int | None = None,
    ) -> np.ndarray:
        """Query accuracy of each of some episodes, after the run's inner steps."""
        learner, config = self.adapted(variant), self.experiment.config
        found = []
        for batch in batches:
            moved = batch.to(config.machine.device)
            adaptation = learner.adapt(
                moved.support, steps=config.own.adaptation_steps if steps is None else steps
            )
            found.append(query_accuracy(learner, adaptation, moved))
        return np.concatenate(found)


@torch.no_grad()
def query_accuracy(learner: Learner, adaptation: Any, batch: EpisodeBatch) -> np.ndarray:
    """(E,) accuracy on the query set under the learner's own batch norm."""
    return (
        accuracy(learner.predict(adaptation, batch.query.images), batch.query.labels).cpu().numpy()
    )


def explain(
    subjects: tuple[Subject, Subject],
    *,
    episodes: int = 600,
    few_episodes: int = 16,
    say: Callable[[str], None] = lambda sentence: None,
) -> dict[str, Any]:
    """Measure everything that ``explanation.json`` holds.

    Args:
        subjects: two runs of the same data, split, ways, shots and queries.
        episodes: for what frozen features tell; as many as ``own_accuracies`` are of.
        few_episodes: for what adapts whole networks, hundreds of steps long.
        say: told what is being measured.

    Raises:
        ConfigError: if a run cannot be adapted in other ways, or its network's blocks are not
            known.
    """
    for subject in subjects:
        refuse_what_cannot_be_explained(subject.name, subject.learner)
    a, b = subjects
    sampler = a.experiment.evaluation_sampler("val")
    say(f"1/8  Features of {episodes} episodes.")
    features = {
        subject.name: frozen_features(
            subject.learner,
            sampler,
            subject.learner.batch_norm_modes,
            episodes=episodes,
            device=subject.experiment.config.machine.device,
        )
        for subject in subjects
    }
    batches = [sampler.batch(index, 1) for index in range(few_episodes)]
    measured: dict[str, Any] = {
        "subjects": [_described(subject) for subject in subjects],
        "episodes": episodes,
        "few_episodes": few_episodes,
    }
    say("2/8  Two kinds of features under two kinds of heads.")
    measured["own"] = paired(a.own_accuracies, b.own_accuracies)
    measured["table"] = table(subjects, features)
    say("3/8  Disjoint episodes, in which no character comes twice.")
    measured["disjoint"] = disjoint(subjects)
    say(f"4/8  Accuracy against 0 to {max(STEPS)} adaptation steps, {few_episodes} episodes.")
    measured["steps"] = step_curves(subjects, features, batches, say)
    measured["safe_rates"] = {
        subject.name: safe_rates(features[subject.name][subject.mode].support).tolist()
        for subject in subjects
    }
    say("5/8  Head against body, over inner rates.")
    measured["parts"] = {subject.name: parts(subject, batches, say) for subject in subjects}
    say("6/8  Shots.")
    measured["shots"] = {subject.name: shots(subject, 2 * few_episodes) for subject in subjects}
    say("7/8  What adaptation changes in the network.")
    measured["change"] = {subject.name: change(subject, batches) for subject in subjects}
    say("8/8  A ladder of shift.")
    measured["shift"] = ladder(subjects, 3 * few_episodes, say)
    return measured


def refuse_what_cannot_be_explained(name: str, learner: Learner) -> None:
    """Raise `ConfigError` if other heads and other adaptations are not to be had of a learner."""
    if not isinstance(getattr(learner, "model", None), HasBlocks):
        raise ConfigError(
            f"{name} has a network whose blocks are not known: it needs embed, head and blocks, as "
            "Conv4 has them."
        )
    if learner.meta_learned_head:
        raise ConfigError(
            f"{name} has a meta-learned head, and an explanation gives new heads to both networks: "
            "train it with --fresh-head."
        )
    if missing := [parts for parts in PARTS if parts not in learner.adaptable]:
        raise ConfigError(
            f"{name} cannot be adapted in other ways than its own, and an explanation adapts "
            f"{', '.join(missing)}."
        )


def _described(subject: Subject) -> dict[str, Any]:
    config = subject.experiment.config
    return asdict(subject.experiment.origin()) | {
        "name": subject.name,
        "data": config.data.name,
        "data_fingerprint": subject.experiment.dataset.fingerprint,
        "split": subject.experiment.split.name,
        "part": "val",
        "ways": config.episode.ways,
        "shots": config.episode.shots,
        "queries": config.episode.queries,
        "inner_steps": config.own.adaptation_steps,
        "batch_norm": subject.mode,
    }


def measured_mean(accuracies: np.ndarray) -> dict[str, float]:
    """Mean and interval over episodes."""
    mean, half = mean_and_interval(accuracies)
    return {"mean": mean, "ci95": half}


def paired(a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """Both means and their paired difference, the first minus the second."""
    return {
        "a": measured_mean(a),
        "b": measured_mean(b),
        "difference": paired_difference(a, b).to_json(),
    }


def table(
    subjects: tuple[Subject, Subject], features: dict[str, dict[BatchNormMode, Features]]
) -> dict[str, Any]:
    """Part a: each network's frozen features under each head; the gap between the runs taken apart.

    With M(f, h) the accuracy of features f under head h, own the runs' own adaptation, and K steps
    against a converged head, the gap is an exact sum, episode by episode::

        own_a − own_b =
            [M(a, converged) − M(b, converged)]                                     features
            + [M(a, steps) − M(a, converged)] − [M(b, steps) − M(b, converged)]     head's steps
            + [own_a − M(a, steps)] − [own_b − M(b, steps)]                        body's adaptation
    """
    cells, accuracies = [], {}
    for subject in subjects:
        config = subject.experiment.config
        for mode, of_mode in features[subject.name].items():
            for head in ("gradient", "logistic", "cosine"):
                steps = config.own.adaptation_steps if head == "gradient" else 1
                found = head_accuracies(
                    of_mode,
                    head=head,
                    head_init=config.network.head_init,
                    inner_lr=config.own.adaptation_rate,
                    at=(steps,),
                )[steps]
                accuracies[subject.name, mode, head] = found
                cells.append(
                    {"features": subject.name, "batch_norm": mode, "head": head}
                    | measured_mean(found)
                )
    a, b = subjects

    def at(subject: Subject, head: str) -> np.ndarray:
        return accuracies[subject.name, subject.mode, head]

    gaps = {
        "features": at(a, "logistic") - at(b, "logistic"),
        "features, by cosine prototypes": at(a, "cosine") - at(b, "cosine"),
        "the head's steps": (at(a, "gradient") - at(a, "logistic"))
        - (at(b, "gradient") - at(b, "logistic")),
        "the body's adaptation": (a.own_accuracies - at(a, "gradient"))
        - (b.own_accuracies - at(b, "gradient")),
        "all": a.own_accuracies - b.own_accuracies,
    }
    parts = {
        name: paired_difference(gap, np.zeros_like(gap)).to_json() for name, gap in gaps.items()
    }
    return {"cells": cells, "gap": parts}


def disjoint(subjects: tuple[Subject, Subject]) -> dict[str, Any]:
    """Both runs on episodes that share no character."""
    sampler = subjects[0].experiment.disjoint_sampler("val")
    count = len(sampler.classes) // sampler.ways
    found = [
        subject.accuracies(sampler.batch(index, 1) for index in range(count))
        for subject in subjects
    ]
    return {"episodes": count} | paired(*found)


def step_curves(
    subjects: tuple[Subject, Subject],
    features: dict[str, dict[BatchNormMode, Features]],
    batches: list[EpisodeBatch],
    say: Callable[[str], None] = lambda sentence: None,
) -> list[dict[str, Any]]:
    """Part a': accuracy after 0 ... 200 steps at each rate: own adaptation, and the head alone.

    The head alone is measured on all episodes, the own adaptation of a whole network on a few;
    there the paired difference of the runs is given at every step.
    """
    curves = []
    for rate in STEP_RATES:
        own: dict[str, np.ndarray] = {}
        for subject in subjects:
            of_mode = features[subject.name][subject.mode]
            heads = head_accuracies(
                of_mode,
                head_init=subject.experiment.config.network.head_init,
                inner_lr=rate,
                at=STEPS,
            )
            say(f"  {subject.name} at {rate:g}")
            learner = subject.adapted(Variant(inner_lr=rate))
            moved = [batch.to(subject.experiment.config.machine.device) for batch in batches]
            own[subject.name] = np.stack([_trajectory(learner, batch) for batch in moved])
            for adapted, found in (
                ("head", np.stack([heads[step] for step in STEPS], 1)),
                ("own", own[subject.name]),
            ):
                means = [measured_mean(column) for column in found.T]
                curves.append(
                    {
                        "name": subject.name,
                        "adapted": adapted,
                        "rate": rate,
                        "steps": STEPS,
                        "episodes": len(found),
                        "accuracy": [value["mean"] for value in means],
                        "ci95": [value["ci95"] for value in means],
                    }
                )
        differences = [
            paired_difference(*pair)
            for pair in zip(*(own[s.name].T for s in subjects), strict=True)
        ]
        curves.append(
            {"rate": rate, "steps": STEPS, "own_difference": [d.to_json() for d in differences]}
        )
    return curves


def _trajectory(learner: Learner, batch: EpisodeBatch) -> np.ndarray:
    """Query accuracy of one episode at `STEPS`."""
    states = learner.trajectory(batch.support, steps=max(STEPS))
    return np.array(
        [
            query_accuracy(learner, state, batch)[0]
            for step, state in enumerate(states)
            if step in STEPS
        ]
    )


def parts(
    subject: Subject,
    batches: list[EpisodeBatch],
    say: Callable[[str], None] = lambda sentence: None,
) -> list[dict[str, Any]]:
    """Parts b and e: accuracy by what is adapted and at which rate; ``own`` is the method's way."""
    rows = []
    for adapts in PARTS:
        say(f"  {subject.name}, adapting {adapts}")
        for rate in RATES:
            found = subject.accuracies(batches, Variant(adapts=adapts, inner_lr=rate))
            rows.append({"adapts": adapts, "rate": rate} | measured_mean(found))
    own = [row | {"adapts": "own"} for row in rows if row["adapts"] == subject.learner.own_parts]
    return own + rows


def shots(subject: Subject, episodes: int) -> list[dict[str, Any]]:
    """Part e: accuracy by shots, 10 queries a class in every row, on the same classes."""
    rows = []
    for count in SHOTS:
        try:
            sampler = subject.experiment.evaluation_sampler("val", shots=count, queries=10)
        except ConfigError:  # fewer drawings than that
            continue
        found = subject.accuracies(sampler.batch(index, 1) for index in range(episodes))
        rows.append({"shots": count} | measured_mean(found))
    return rows


def change(subject: Subject, batches: list[EpisodeBatch]) -> dict[str, dict[str, float | None]]:
    """Parts c and d: what adaptation changes, in means over episodes; None where undefined."""
    config = subject.experiment.config
    found = [
        change_by_adaptation(
            subject.adapted(), batch.to(config.machine.device), steps=config.own.adaptation_steps
        )
        for batch in batches
    ]
    return {
        quantity: {
            name: _mean([one[quantity][name] for one in found]) for name in found[0][quantity]
        }
        for quantity in found[0]
    }


def _mean(values: list[float]) -> float | None:
    finite = [value for value in values if math.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def ladder(
    subjects: tuple[Subject, Subject], episodes: int, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Part g: each run's accuracy by ladder step, and change from the first where drawings pair.

    A run with stored batch-norm statistics is measured with those of each batch too
    (``batch_statistics``): stored ones are the first thing that a shift of the pixels breaks.
    """
    sampler = subjects[0].experiment.evaluation_sampler("val")
    rows, first = [], {}
    for shift in SHIFTS:
        try:
            batches = list(shifted_episodes(shift, sampler, episodes))
        except ImportError:
            say(
                "Digits are left out: they come with scikit-learn, pip install "
                "'innerloop[sklearn]'."
            )
            continue
        except ConfigError as error:
            say(f"{shift.capitalize()} is left out: {error}")
            continue
        found = {subject.name: subject.accuracies(batches) for subject in subjects}
        first = first or found
        row: dict[str, Any] = {
            "shift": shift,
            "episodes": episodes,
            "paired_with_first": paired_with_the_first(shift),
        }
        for subject in subjects:
            row[subject.name] = measured_mean(found[subject.name])
            if subject.mode == "running":
                row[subject.name]["batch_statistics"] = measured_mean(
                    _by_batch_statistics(subject, batches)
                )
            if paired_with_the_first(shift):
                row[subject.name]["change"] = paired_difference(
                    found[subject.name], first[subject.name]
                ).to_json()
        row["difference"] = paired_difference(
            *(found[subject.name] for subject in subjects)
        ).to_json()
        rows.append(row)
    return rows


def _by_batch_statistics(subject: Subject, batches: list[EpisodeBatch]) -> np.ndarray:
    """Accuracy of a new head on a run's frozen features, normalised by support and by query set."""
    config = subject.experiment.config
    learner = FrozenFeatures(
        subject.learner.model,  # type: ignore[arg-type]
        batch_norm_modes=("transductive",),
        head_init=config.network.head_init,
        inner_lr=config.own.adaptation_rate,
    )
    moved = [batch.to(config.machine.device) for batch in batches]
    return np.concatenate(
        [
            query_accuracy(
                learner, learner.adapt(batch.support, steps=config.own.adaptation_steps), batch
            )
            for batch in moved
        ]
    )
