"""Training episodes may be of other ways and shots than those that are evaluated."""

import pytest
import torch

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch, EpisodeSampler
from innerloop.data.images import FewShotDataset
from innerloop.data.splits import find_split
from innerloop.experiments.experiment import Experiment
from innerloop.methods.catalogue import settings_of


def experiment(drawings: FewShotDataset, **settings: int) -> Experiment:
    config = settings_of("protonet", data="strokes", ways=2, shots=1, queries=3, image_size=28)
    return Experiment(config.replace(**settings), drawings, find_split("auto", drawings))


def training_episode(made: Experiment) -> EpisodeBatch:
    sampler = made.training_sampler()
    assert isinstance(sampler, EpisodeSampler)
    return sampler.batch(0, 1)


def test_training_has_its_own_ways_and_shots_and_evaluation_those_of_the_episodes(drawings):
    made = experiment(drawings, training_ways=4, training_shots=5)

    trained = training_episode(made)
    evaluated = made.evaluation_sampler("val").batch(0, 1)

    assert trained.support_drawings.shape == (1, 4, 5)
    assert trained.query_drawings.shape == (1, 4, 3)
    assert evaluated.support_drawings.shape == (1, 2, 1)
    assert made.config.own.image_passes(made.config, 10) == 10 * 4 * 4 * (5 + 3)


def test_by_default_training_has_the_shape_of_the_episodes(drawings):
    made = experiment(drawings)

    trained = training_episode(made)

    assert torch.equal(trained.support.labels, torch.tensor([[0, 1]]))
    assert made.config.own.image_passes(made.config, 10) == 10 * 4 * 2 * (1 + 3)


def test_more_shots_than_there_are_drawings_is_a_sentence(drawings):
    with pytest.raises(ConfigError, match="20"):
        experiment(drawings, training_shots=18).training_sampler()


def test_training_episodes_within_groups_are_of_one_alphabet_each(drawings):
    def alphabets(made: Experiment) -> set[int]:
        sampler = made.training_sampler()
        assert isinstance(sampler, EpisodeSampler)
        named = [
            {drawings.class_names[index].partition("/")[0] for index in row}
            for row in sampler.batch(0, 20).classes
        ]
        return set(map(len, named))

    assert alphabets(experiment(drawings, within_groups=True)) == {1}
    assert alphabets(experiment(drawings)) == {1, 2}


def test_a_method_that_trains_on_images_has_no_episodes_within_groups(drawings):
    config = settings_of("transfer", data="strokes", within_groups=True, ways=2, image_size=28)

    with pytest.raises(ConfigError, match="transfer trains on images of all classes at once"):
        Experiment(config, drawings, find_split("auto", drawings)).training_sampler()
