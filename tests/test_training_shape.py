"""Training episodes may be of other ways and shots than those that are evaluated."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from innerloop.core.errors import ConfigError
from innerloop.data.episodes import EpisodeBatch
from innerloop.data.images import FewShotDataset
from innerloop.data.sampling import EpisodeSampler
from innerloop.data.splits import Split, find_split
from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import Experiment
from innerloop.methods.catalogue import settings_of
from innerloop.report.model_card import model_card
from innerloop.runs.directory import RunDirectory


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


def within_alphabets(*sizes: int, within_groups: bool = True, **settings: int) -> Experiment:
    """Training on alphabets of so many characters; one more of 7 is to validate on."""
    names = [
        f"{group}/{number}" for group, size in enumerate((*sizes, 7)) for number in range(size)
    ]
    images = np.zeros((len(names), 4, 1, 28, 28), np.uint8)
    data = FewShotDataset("alphabets", images, tuple(names))
    parts = {"train": tuple(names[:-7]), "val": tuple(names[-7:])}
    config = settings_of("protonet", data="strokes", shots=1, queries=3, image_size=28, ways=5)
    config = config.replace(within_groups=within_groups, **settings)
    return Experiment(config, data, Split("groups", parts))


def card_of(made: Experiment, folder: Path) -> str:
    """The model card of a run of it."""
    run = RunDirectory.create(made.config, environment(made), folder / "run")
    run.weights_path.write_bytes(save({"weights": np.zeros(1)}))
    return model_card(run)


@pytest.mark.parametrize(
    ("sizes", "settings", "sentence"),
    [
        (
            (3, 5, 4, 6),
            {},
            "7 of the 18 training classes never come up: "
            "each is in a group of fewer than 5 classes.",
        ),
        (
            (1, 5),
            {},
            "1 of the 6 training classes never comes up: it is in a group of fewer than 5 classes.",
        ),
        (
            (3, 5, 4, 6),
            {"training_ways": 6},
            "12 of the 18 training classes never come up: "
            "each is in a group of fewer than 6 classes.",
        ),
    ],
)
def test_a_run_and_its_card_say_how_many_classes_never_come_up(sizes, settings, sentence, tmp_path):
    made = within_alphabets(*sizes, **settings)

    assert made.describe().endswith(f"; engine: reference. {sentence}")
    assert f"on the training classes of split `auto`. {sentence} All settings" in card_of(
        made, tmp_path
    )


@pytest.mark.parametrize(("sizes", "within_groups"), [((5, 6), True), ((3, 5), False)])
def test_where_all_classes_come_up_nothing_is_said(sizes, within_groups, tmp_path):
    made = within_alphabets(*sizes, within_groups=within_groups)

    assert made.describe().endswith("; engine: reference")
    assert "never come" not in card_of(made, tmp_path)
    assert "never_drawn" not in (tmp_path / "run" / "env.json").read_text("utf-8")
