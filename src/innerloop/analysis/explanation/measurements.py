"""All measurements of an explanation, on two trained networks and the same validation episodes."""

from collections.abc import Callable

from innerloop.analysis.explanation.features import frozen_features
from innerloop.analysis.explanation.formulas import safe_rates
from innerloop.analysis.explanation.ladder import ladder
from innerloop.analysis.explanation.parts import PARTS, part_rows, shots_rows
from innerloop.analysis.explanation.representations import mean_change
from innerloop.analysis.explanation.results import Explanation
from innerloop.analysis.explanation.rows import DisjointMeans, PairedMeans
from innerloop.analysis.explanation.steps import STEPS, step_curves
from innerloop.analysis.explanation.subjects import Subjects
from innerloop.analysis.explanation.table import FeaturesByRun, head_table
from innerloop.core.errors import ConfigError
from innerloop.data.sampling import EpisodeSampler
from innerloop.methods.base import Learner
from innerloop.methods.heads.frozen import FrozenFeatures
from innerloop.networks.base import HasBlocks


def explain(
    subjects: Subjects,
    *,
    episodes: int = 600,
    few_episodes: int = 16,
    say: Callable[[str], None] = lambda sentence: None,
) -> Explanation:
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
        refuse_what_cannot_be_explained(
            subject.name, subject.learner, takes_steps=subject.takes_steps
        )
    a, b = subjects
    sampler = a.experiment.evaluation_sampler("val")
    say(f"1/8  Features of {episodes} episodes.")
    features = _features(subjects, sampler, episodes)
    batches = [sampler.batch(index, 1) for index in range(few_episodes)]
    say("2/8  Two kinds of features under two kinds of heads.")
    own = PairedMeans.of(a.own_accuracies, b.own_accuracies)
    table = head_table(subjects, features)
    say("3/8  Disjoint episodes, in which no character comes twice.")
    apart = disjoint(subjects)
    say(f"4/8  Accuracy against 0 to {max(STEPS)} adaptation steps, {few_episodes} episodes.")
    curves = step_curves(subjects, features, batches, say)
    rates = {
        subject.name: tuple(safe_rates(features[subject.name][subject.mode].support).tolist())
        for subject in subjects
    }
    say("5/8  Head against body, over inner rates.")
    parts = {subject.name: part_rows(subject, batches, say) for subject in subjects}
    say("6/8  Shots.")
    shots = {subject.name: shots_rows(subject, 2 * few_episodes) for subject in subjects}
    say("7/8  What adaptation changes in the network.")
    change = {subject.name: mean_change(subject, batches) for subject in subjects}
    say("8/8  A ladder of shift.")
    return Explanation(
        subjects=(a.row, b.row),
        episodes=episodes,
        few_episodes=few_episodes,
        own=own,
        table=table,
        disjoint=apart,
        steps=curves,
        safe_rates=rates,
        parts=parts,
        shots=shots,
        change=change,
        shift=ladder(subjects, 3 * few_episodes, say),
    )


def refuse_what_cannot_be_explained(name: str, learner: Learner, *, takes_steps: bool) -> None:
    """Raise `ConfigError` if other heads and other adaptations are not to be had of a run.

    Args:
        name: what the run is called.
        learner: its trained one.
        takes_steps: whether it takes inner steps of a rate.
    """
    if not isinstance(getattr(learner, "model", None), HasBlocks):
        raise ConfigError(
            f"{name} has a network whose blocks are not known: it needs embed, head and blocks, as "
            "Conv4 has them."
        )
    if missing := [parts for parts in PARTS if parts not in learner.adaptable]:
        raise ConfigError(
            f"{name} cannot be adapted in other ways than its own, and an explanation adapts "
            f"{', '.join(missing)}."
        )
    # Of the methods that come here every head can be a fresh one.
    if learner.meta_learned_head:
        raise ConfigError(
            f"{name} has a meta-learned head, and an explanation gives new heads to both networks: "
            "train it with --fresh-head."
        )
    if not takes_steps and not isinstance(learner, FrozenFeatures):
        raise ConfigError(
            f"{name} takes no inner steps of a rate, nor finds a head on frozen features, and an "
            "explanation varies one or the other: compare its accuracy alone, with innerloop "
            "compare."
        )


def _features(subjects: Subjects, sampler: EpisodeSampler, episodes: int) -> FeaturesByRun:
    """Frozen features of the first episodes under each run's network."""
    return {
        subject.name: frozen_features(
            subject.learner,
            sampler,
            subject.learner.batch_norm_modes,
            episodes=episodes,
            device=subject.experiment.config.machine.device,
        )
        for subject in subjects
    }


def disjoint(subjects: Subjects) -> DisjointMeans:
    """Both runs on episodes that share no character."""
    sampler = subjects[0].experiment.disjoint_sampler("val")
    count = len(sampler.classes) // sampler.ways
    a, b = (
        subject.accuracies(sampler.batch(index, 1) for index in range(count))
        for subject in subjects
    )
    means = PairedMeans.of(a, b)
    return DisjointMeans(episodes=count, a=means.a, b=means.b, difference=means.difference)
