"""A run put together: data, split, episodes and learner, from the settings alone."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from innerloop.core.errors import ConfigError, DataError
from innerloop.core.seeding import EVALUATION_SEED, stream
from innerloop.data import load_dataset
from innerloop.data.images import FewShotDataset, LabelledImages
from innerloop.data.minibatches import ImageSampler
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.splits import Split, find_split
from innerloop.experiments.determinism import be_deterministic
from innerloop.experiments.device_memory import measured_at_once
from innerloop.experiments.machine import device_for, on_this_machine, usable_device
from innerloop.fast_weights.engine import Engine
from innerloop.methods.base import Learner
from innerloop.methods.catalogue import find_card, find_learner, read_config
from innerloop.methods.check import refuse_failing_steps, refuse_faults_in_passes
from innerloop.methods.variants import Variant
from innerloop.networks.build import build_network
from innerloop.networks.usual import usual_torch
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Origin
from innerloop.runs.weights import load_weights, weights_settings
from innerloop.settings.run import RunConfig
from innerloop.settings.sections import NETWORKS

OWN = Variant()
"""Adaptation in the method's own way."""


@dataclass(frozen=True)
class Experiment:
    """Resolved settings with the data they speak of.

    Attributes:
        config: nothing is ``auto`` any more.
        dataset: the images.
        split: which classes are whose.
        engine: what computes, in words.
    """

    config: RunConfig
    dataset: FewShotDataset
    split: Split
    engine: str = "reference"

    @property
    def _trains_on_images(self) -> bool:
        return self.config.own.trains_on == "images"

    def training_sampler(self) -> EpisodeSampler | ImageSampler:
        """The stream of what the method trains on: episodes, or images of all training classes."""
        if self._trains_on_images:
            return self._image_sampler()
        data = self.config.data
        shape = self.config.own.training_shape(self.config)
        seed = self.config.training.seed
        how = {"warps": data.warps, "within_groups": data.within_groups}
        try:
            return self._sampler("train", shape, seed, data.rotations, **how)
        except ConfigError as error:
            if not shape:
                raise
            named = ", ".join(f"{name} {count}" for name, count in shape.items())
            raise ConfigError(f"Of training episodes, with {named}: {error}") from error

    def _image_sampler(self) -> ImageSampler:
        if self.config.data.within_groups:
            raise ConfigError(
                f"within_groups is of training episodes, and {self.config.method} trains on images "
                "of all classes at once: leave it out."
            )
        return ImageSampler(
            self.dataset,
            self.dataset.class_indices(self.split.part("train")),
            seed=self.config.training.seed,
            stream_name="images/train",
            rotations=self.config.data.rotations,
            rotations_as_classes=self.config.data.rotations
            and getattr(self.config.own, "rotations_as_classes", False),
            warps=self.config.data.warps,
        )

    def evaluation_sampler(self, part: str, **shape: int) -> EpisodeSampler:
        """The fixed stream of a part; ``ways``, ``shots``, ``queries`` if other than training's."""
        # Never turned, whatever the training does: accuracy on turned images is another number.
        return self._sampler(part, shape, EVALUATION_SEED, False)

    def disjoint_sampler(self, part: str) -> EpisodeSampler:
        """Episodes of a part in which no class comes twice."""
        return self._sampler(part, {}, EVALUATION_SEED, False, disjoint=True)

    def _sampler(
        self, part: str, shape: dict[str, int], seed: int, rotations: bool, **how: Any
    ) -> EpisodeSampler:
        config = self.config
        counts = {
            "ways": config.episode.ways,
            "shots": config.episode.shots,
            "queries": config.episode.queries,
        } | shape
        return EpisodeSampler(
            self.dataset,
            self.dataset.class_indices(self.split.part(part)),
            **counts,
            seed=seed,
            stream_name=f"episodes/{part}",
            rotations=rotations,
            **how,
        )

    def describe(self) -> str:
        """What will be trained, in a few words."""
        config = self.config
        unit = config.own.batch_in_words
        if self._trains_on_images:
            sampler = self._image_sampler()
            epochs = config.training.meta_steps * config.own.batch / len(sampler)
            unit = f"{config.own.batch} images of {sampler.labels} classes ({epochs:.1f} epochs)"
        never_drawn = self.never_drawn
        return (
            f"{config.method} on {config.data.name}, split {config.data.split}, "
            f"{config.training.meta_steps} outer steps of {unit}; engine: {self.engine}"
            f"{'. ' if never_drawn else ''}{never_drawn}"
        )

    @property
    def never_drawn(self) -> str:
        """How many training classes are in no episode, in a sentence; empty where none."""
        if not self.config.data.within_groups:
            return ""
        sampler = self.training_sampler()
        if not isinstance(sampler, EpisodeSampler) or not sampler.never_drawn:
            return ""
        come, are = ("comes", "it is") if sampler.never_drawn == 1 else ("come", "each is")
        return (
            f"{sampler.never_drawn} of the {len(sampler.classes)} training classes never {come} "
            f"up: {are} in a group of fewer than {sampler.ways} classes."
        )

    def origin(self, variant: Variant = OWN) -> Origin:
        """Whose results these are, with the network adapted in some way."""
        return Origin(
            method=self.config.method,
            training_seed=self.config.training.seed,
            adaptation=variant.describe(),
            inner_lr=variant.rate(self.config),
            learned_rates=self.config.own.learns_rates and variant.describe() == OWN.describe(),
            # Of another head on its features no prediction depends on other images.
            transductive=find_card(self.config.method).transductive and variant.adapts == "own",
            training_rotations=self.config.data.rotations,
            averaging=self.config.training.averaging,
        )

    def refuse_what_does_not_fit(self) -> None:
        """Build once what a training needs, to refuse wrong settings before anything is written."""
        self.training_sampler()
        self.evaluation_sampler("val")
        self.try_network(self.build_learner())

    @usual_torch()
    def try_network(self, learner: Learner) -> None:
        """Pass images of the training through a network of its user's own.

        Raises:
            ConfigError: for what only a pass can tell, see `refuse_faults_in_passes`, and a step,
                see `refuse_failing_steps`.
        """
        if self.config.network.name in NETWORKS:
            return
        device = self.config.machine.device
        batch = self.training_sampler().batch(0, 8 if self._trains_on_images else 1).to(device)
        images = batch.images if isinstance(batch, LabelledImages) else batch.query.images[0]
        refuse_faults_in_passes(learner, images)
        refuse_failing_steps(learner, batch, self.evaluation_sampler("val").batch(0, 1).to(device))

    def gather_statistics(self, learner: Learner, batches: int = 100) -> None:
        """Fill an untrained learner's running statistics, if any, from its first batches.

        Without gradients none would move: see `Learner.meta_loss`.
        """
        if "running" not in learner.batch_norm_modes:
            return
        sampler = self.training_sampler()
        size = self.config.own.batch
        for number in range(batches):
            learner.begin_outer_step(0, self.config.training.meta_steps)
            learner.meta_loss(sampler.batch(number * size, size).to(self.config.machine.device))
            learner.end_outer_step()

    def with_measured_chunks(self) -> "Experiment":
        """The same with as many episodes at once as its GPU's memory holds."""
        if self._trains_on_images:
            return self
        at_once = measured_at_once(self.config, self.build_learner(), self.dataset.image_shape)
        return dataclasses.replace(self, config=self.config.replace(episodes_per_chunk=at_once))

    def build_learner(self) -> Learner:
        """The method with its initial weights."""
        labels = self._image_sampler().labels if self._trains_on_images else 0
        return build_learner(self.config, self.dataset.image_shape[0], training_labels=labels)


@usual_torch()
def build_learner(config: RunConfig, channels: int, *, training_labels: int = 0) -> Learner:
    """The method of a run around its network, with initial weights from the run's seed.

    Args:
        config: the settings.
        channels: channels of the data set's images.
        training_labels: how many classes a method that trains on images tells apart.
    """
    method = find_learner(config.method)
    # PyTorch's initialisers take their numbers from the global generator: seeded here, restored
    # after.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(config.training.seed, "initial weights").integers(2**63)))
        outputs = config.episode.ways if config.own.trains_on == "episodes" else training_labels
        model = build_network(
            config.network, outputs, channels=channels, image_size=config.data.image_size
        )
        # Drawn on the CPU and then moved, so that every device starts from the same weights.
        learner = method.from_config(config, model).to(config.machine.device)
    learner.engine = config.machine.engine
    learner.precision = config.machine.precision
    return learner


@usual_torch()
def prepare(
    config: RunConfig,
    *,
    data_dir: Path | None = None,
    dataset: FewShotDataset | None = None,
    device: str | None = None,
    engine: Engine | None = None,
    say: Callable[[str], None] = print,
) -> Experiment:
    """Resolve what is ``auto``, load the data, and make the machine ready.

    Args:
        config: the settings asked for.
        data_dir: where Omniglot's archives are, or now a run's folder of pictures.
        dataset: the images, if they are loaded already.
        device: where to compute, if not where the settings say.
        engine: what computes, if not what the settings say.
        say: told in sentences what a user should know.

    Raises:
        ConfigError: if settings do not fit the data or the device.
        DataError: if the data set is missing or damaged.
    """
    place = usable_device(device or config.machine.device)
    if config.machine.deterministic and place != "cpu":
        be_deterministic()
    if dataset is None:
        dataset = load_dataset(
            config.data.name,
            size=config.data.image_size,
            data_dir=data_dir,
            folder=config.data.folder,
            fewest_images=config.data.fewest_images,
            say=say,
        )
    split = find_split(config.data.split, dataset)
    resolved, words = on_this_machine(
        config.replace(data=dataset.name, folder=dataset.folder, split=split.name, device=place),
        dataset.image_shape[0],
        engine or config.machine.engine,
        say,
    )
    experiment = Experiment(resolved, dataset, split, words)
    if place.startswith("cuda") and not config.machine.episodes_per_chunk:
        return experiment.with_measured_chunks()
    return experiment


@usual_torch()
def open_run(
    run: RunDirectory,
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    engine: Engine = "auto",
    untrained: bool = False,
    say: Callable[[str], None] = print,
) -> tuple[Experiment, Learner]:
    """The experiment and trained learner of a finished run; or the learner with initial weights.

    ``device`` is where to compute, see `device_for`; ``engine`` is what computes, whatever the run
    was trained with.

    Raises:
        ConfigError: if the run is unfinished, or the data set or the classes of its split are
            others than it was trained on.
        DataError: if its weights are damaged.
    """
    run.refuse_unfinished()
    if not untrained:
        _refuse_weights_of_another_run(run)
    if run.remark:
        say(run.remark)
    place = device_for(run, device, say)
    # As many threads as there are here: those of its training matter for its bits alone.
    config = run.config.replace(threads=0)
    if place == "cpu" or place != config.machine.device:
        config = config.replace(episodes_per_chunk=0)
    if not place.startswith("cuda"):
        config = config.replace(precision="auto")
    experiment = prepare(config, data_dir=data_dir, device=place, engine=engine, say=say)
    if experiment.dataset.fingerprint != run.environment.data_fingerprint:
        raise ConfigError(f"{run.path} was trained on another data set: data_fingerprint differs.")
    refuse_other_classes(run, experiment)
    learner = experiment.build_learner()
    if untrained:
        experiment.gather_statistics(learner)
    else:
        load_trained(learner, run.weights_path)
    experiment.try_network(learner)
    return experiment, learner


def refuse_other_classes(run: RunDirectory, experiment: Experiment) -> None:
    """Raise `ConfigError` if the run's split had other classes, so that some were trained on."""
    recorded = run.environment.split_digest
    if recorded not in ("-", experiment.split.digest):
        raise ConfigError(
            f"{run.path} was trained on another list of classes than split "
            f"{experiment.split.name!r} has now: split_digest differs. Use the version of "
            "innerloop that trained it, or train it again."
        )


def load_trained(learner: Learner, weights: Path) -> None:
    """Give a learner its trained weights; what only its training used may be missing.

    Raises:
        DataError: if they are damaged, or another network's or method's.
    """
    state = learner.state_dict()
    spare = [name for name in state if name.startswith(learner.training_only)]
    learner.load_state_dict(state | load_weights(weights, state, spare=spare))


def _refuse_weights_of_another_run(run: RunDirectory) -> None:
    """Raise `DataError` where the weights name another method or other settings than the run's.

    Those of the machine may differ: a run of a GPU is evaluated on a CPU too.
    """
    named = weights_settings(run.weights_path)
    if named is None:  # of a file that says nothing, there is nothing to hold against the run
        return
    method, text = named
    own = run.config
    if method != own.method:
        raise DataError(
            f"{run.weights_path} holds the weights of {method}, and the run is one of {own.method}."
        )
    theirs = read_config(text, source=f"the settings in {run.weights_path}")
    machine = own.machine.flat()
    for name, value in theirs.flat().items():
        if name not in machine and value != own.flat()[name]:
            raise DataError(
                f"{run.weights_path} holds weights of another training: {name!r} was {value!r}, "
                f"and in the run's config.json it is {own.flat()[name]!r}."
            )
