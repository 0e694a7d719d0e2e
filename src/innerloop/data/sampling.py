"""Episodes sampled from a set of classes, counted rather than drawn."""

from dataclasses import dataclass
from numbers import Integral

import numpy as np
import torch

from innerloop.core.errors import ConfigError
from innerloop.core.seeding import refuse_wrong_stream, stream
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import (
    FewShotDataset,
    LabelledImages,
    refuse_no_dataset,
    refuse_no_flags,
    refuse_wrong_classes,
    refuse_wrong_range,
)
from innerloop.data.rotations import QUARTER_TURNS, refuse_unless_square, turn_in_place
from innerloop.data.warps import drawn_warps, refuse_wrong_warps, warped

NAMED = 5
"""Classes with too few drawings that an error names."""


@dataclass(frozen=True)
class EpisodePlan:
    """What E episodes are made of, before any pixel is touched.

    Attributes:
        classes: (E, ways) int64, of the data set.
        drawings: (E, ways, shots + queries) int64, examples of each class, the support's first.
        turns: (E, ways) int64, quarter turns of each class; drawn also where nothing is turned.
    """

    classes: np.ndarray
    drawings: np.ndarray
    turns: np.ndarray


class EpisodeSampler:
    """Samples episodes from some classes of a data set.

    Episode i is a pure function of (seed, stream, i): the same whatever the batch size, the order
    of asking, the method, or the rank that asks. Within an episode the classes are distinct and
    come in a random order (else a head could memorise which class has which label), and support and
    query share no drawing.

    Args:
        dataset: where the drawings come from.
        classes: indices of the classes to sample from, as ``dataset.class_indices`` gives them.
        ways: classes of an episode.
        shots: support drawings per class.
        queries: query drawings per class.
        seed: seed of the episodes.
        stream_name: which stream of episodes, for instance ``"episodes/train"``.
        rotations: turn each class of each episode by a random multiple of 90 degrees, support and
            query alike. A character and its rotations share their name, so they cannot straddle a
            split.
        warps: strength of the affine warp of each drawing, each by its own; 0 is none. Those of an
            episode are drawn at once: a support drawing's is another with more queries.
        disjoint: no class comes twice: there are then only classes // ways episodes. An interval
            over them is one for new characters; over episodes that share characters it is too small
            for that.
        within_groups: all classes of an episode are of one group, such as an alphabet: what stands
            before the last slash of their names. Every class comes equally often, but those of
            groups with fewer classes than ``ways`` do not come.

    Raises:
        ConfigError: if there are fewer classes or drawings than asked for, or a count is below one;
            or if no group has enough classes, there are none, or no class may come twice within
            one.
    """

    def __init__(
        self,
        dataset: FewShotDataset,
        classes: np.ndarray,
        *,
        ways: int,
        shots: int,
        queries: int,
        seed: int,
        stream_name: str,
        rotations: bool = False,
        warps: float = 0.0,
        disjoint: bool = False,
        within_groups: bool = False,
    ):
        refuse_no_dataset(dataset)
        refuse_wrong_stream(seed, stream_name)
        refuse_no_flags(rotations=rotations, disjoint=disjoint, within_groups=within_groups)
        classes = refuse_wrong_classes(dataset, classes)
        _refuse_impossible(len(classes), ways, shots, queries)
        _refuse_too_few_examples(dataset, classes, shots, queries)
        if rotations:
            refuse_unless_square(dataset)
        refuse_wrong_warps(warps, dataset)
        counts = dataset.counts[classes]
        # Of each class, if it is one number.
        self._examples = int(counts[0]) if counts.min() == counts.max() else 0
        self.dataset = dataset
        self.classes = classes
        self.ways = ways
        self.shots = shots
        self.queries = queries
        self.seed = seed
        self.stream_name = stream_name
        self.rotations = rotations
        self.warps = warps
        self.disjoint = disjoint
        if disjoint and within_groups:
            raise ConfigError("Disjoint episodes are not drawn within groups: leave one out.")
        self._groups = _groups_of(dataset, classes, ways) if within_groups else None

    @property
    def never_drawn(self) -> int:
        """How many classes are in no episode, since their groups have fewer than ``ways``."""
        if self._groups is None:
            return 0
        return len(self.classes) - sum(map(len, self._groups))

    def batch(self, start: int, count: int) -> EpisodeBatch:
        """Episodes ``start`` to ``start + count - 1`` of the stream, shaped as `EpisodeBatch`."""
        plan = self.plan(start, count)
        support = plan.drawings[..., : self.shots]
        query = plan.drawings[..., self.shots :]
        warps = self._warps(start, count) if self.warps else None
        return EpisodeBatch(
            self._labelled(plan, slice(None, self.shots), warps),
            self._labelled(plan, slice(self.shots, None), warps),
            torch.from_numpy(plan.classes),
            torch.from_numpy(support),
            torch.from_numpy(query),
        )

    def plan(self, start: int, count: int) -> EpisodePlan:
        """What episodes ``start`` to ``start + count - 1`` are made of."""
        refuse_wrong_range(start, count)
        if self.disjoint and start + count > (available := len(self.classes) // self.ways):
            raise ConfigError(
                f"{len(self.classes)} classes make {available} disjoint episodes, not "
                f"{start + count}."
            )
        drawn = [self._drawn(index) for index in range(start, start + count)]
        return EpisodePlan(*(np.stack(parts) for parts in zip(*drawn, strict=True)))

    def _drawn(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Classes, drawings and turns of episode ``index``, as `EpisodePlan` has them."""
        random = stream(self.seed, self.stream_name, index)
        if self.disjoint:
            # One order for all episodes, since they share the classes out among them.
            once = stream(self.seed, f"{self.stream_name}/disjoint", 0)
            all_classes = once.permutation(len(self.classes))
            chosen = all_classes[index * self.ways : (index + 1) * self.ways]
        elif self._groups is not None:
            chosen = _within_one(self._groups, self.ways, random)
        else:
            chosen = random.choice(len(self.classes), self.ways, replace=False)
        classes = self.classes[chosen]
        # The whole order is drawn, so that the first shots are the same whatever the queries.
        wanted = self.shots + self.queries
        if self._examples:
            # The same numbers in one call: a GPU takes an episode in less time than five calls do.
            drawings = random.random((self.ways, self._examples)).argsort(axis=1)[:, :wanted]
        else:
            orders = [random.random(count).argsort() for count in self.dataset.counts[classes]]
            drawings = np.stack([order[:wanted] for order in orders])
        # Drawn last, and also where nothing is turned: classes and drawings are then the same.
        turns = random.integers(0, QUARTER_TURNS, self.ways)
        return classes, drawings, turns

    def _warps(self, start: int, count: int) -> np.ndarray:
        """The warp of every drawing, (E, ways, shots + queries, 2, 3)."""
        shape = self.ways, self.shots + self.queries, 2, 3
        of_episodes = [
            drawn_warps(
                stream(self.seed, f"{self.stream_name}/warps", index),
                shape[0] * shape[1],
                self.warps,
            ).reshape(shape)
            for index in range(start, start + count)
        ]
        return np.stack(of_episodes)

    def _labelled(self, plan: EpisodePlan, part: slice, warps: np.ndarray | None) -> LabelledImages:
        """Gather a part of every class's drawings, labelled: (E, ways * n, C, H, W)."""
        drawings = plan.drawings[..., part]
        pixels = self.dataset.pixels(plan.classes[..., None], drawings)
        if self.rotations:
            turn_in_place(pixels, plan.turns)
        episodes, ways, examples = drawings.shape
        # Floats before the division, which is then three times as fast.
        images = torch.from_numpy(pixels).flatten(1, 2).float().div_(255)
        if warps is not None:
            of_images = warps[:, :, part].reshape(-1, 2, 3)
            images = warped(images.flatten(0, 1), of_images).view_as(images)
        labels = torch.arange(ways).repeat_interleave(examples).expand(episodes, -1)
        return LabelledImages(images, labels)


def _groups_of(dataset: FewShotDataset, classes: np.ndarray, ways: int) -> list[np.ndarray]:
    """Places of the classes of each group that has enough of them."""
    names = [dataset.class_names[index].rpartition("/")[0] for index in classes]
    if not any(names):
        raise ConfigError(
            "The classes are in no groups, as in folders of folders, so that no episode can be "
            "within one: leave within_groups out."
        )
    _, groups = np.unique(names, return_inverse=True)
    places = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    large = [of_group for of_group in places if len(of_group) >= ways]
    if not large:
        most = max(map(len, places))
        raise ConfigError(
            f"Cannot sample {ways}-way episodes within a group: the largest has {most} classes. "
            f"Choose ways <= {most}."
        )
    return large


def _within_one(groups: list[np.ndarray], ways: int, random: np.random.Generator) -> np.ndarray:
    """Some classes of one group, which comes the more often the more classes it has."""
    sizes = np.array(list(map(len, groups)))
    group = groups[random.choice(len(groups), p=sizes / sizes.sum())]
    return random.choice(group, ways, replace=False)


def _refuse_impossible(classes: int, ways: int, shots: int, queries: int) -> None:
    """Raise `ConfigError` if there are not enough classes, or a count is below one."""
    for name, count in (("ways", ways), ("shots", shots), ("queries", queries)):
        if isinstance(count, bool) or not isinstance(count, Integral):
            raise ConfigError(f"{name} must be a whole number: got {count!r}.")
        if count < 1:
            raise ConfigError(f"{name} must be at least 1: got {count}.")
    if ways > classes:
        raise ConfigError(
            f"Cannot sample {ways}-way episodes: there are {classes} classes to sample "
            f"from. Choose ways <= {classes}, or a split with more classes."
        )


def _refuse_too_few_examples(
    dataset: FewShotDataset, classes: np.ndarray, shots: int, queries: int
) -> None:
    """Raise `ConfigError` naming the classes that have too few drawings."""
    counts = dataset.counts[classes]
    few = np.flatnonzero(counts < shots + queries)
    if not len(few):
        return
    if dataset.counts.min() == dataset.counts.max():
        most = counts[0]
        remedy = f"Choose shots + queries <= {most}" if most > 1 else "Give at least two of each"
        raise ConfigError(
            f"Cannot sample {shots} shots and {queries} queries per class: data set "
            f"{dataset.name!r} has {most} drawing{'' if most == 1 else 's'} of each. {remedy}."
        )
    rarest = few[counts[few].argsort(kind="stable")]
    named = [
        f"{dataset.class_names[classes[index]]!r} has {counts[index]} drawings"
        for index in rarest[:NAMED]
    ]
    more = f", and {len(few) - NAMED} more have too few" if len(few) > NAMED else ""
    fewest = counts.min()
    remedy = f"Choose shots + queries <= {fewest}" if fewest > 1 else "Add drawings"
    if dataset.counts.max() >= shots + queries:
        remedy += f", or leave such classes out with --fewest-images {shots + queries}"
    raise ConfigError(
        f"Cannot sample {shots} shots and {queries} queries per class, {shots + queries} "
        f"drawings: in data set {dataset.name!r} {', '.join(named)}{more}. {remedy}."
    )
