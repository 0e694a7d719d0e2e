"""Made tests/legacy/0.1 once, with version 0.1: python tests/legacy/make.py. Its files are never
made again."""

import shutil
from pathlib import Path

import numpy as np
import torch

from innerloop.experiments.environment import environment
from innerloop.experiments.experiment import open_run, prepare
from innerloop.experiments.training import train
from innerloop.methods.catalogue import settings_of
from innerloop.runs.directory import RunDirectory

FOLDER = Path(__file__).parent / "0.1"


def logits_of(learner, images, labels, query) -> torch.Tensor:
    """Adapt to one stored episode in float64 and classify its query images."""
    from innerloop.data.images import LabelledImages

    learner.double()
    support = LabelledImages(
        torch.from_numpy(images)[None].double() / 255, torch.from_numpy(labels)[None]
    )
    adaptation = learner.adapt(support, steps=2)
    with torch.no_grad():
        return learner.predict(
            adaptation, torch.from_numpy(query)[None].double() / 255, batch_norm="support"
        )[0]


def main() -> None:
    config = settings_of("mamlpp").replace(
        data="strokes",
        ways=3,
        shots=2,
        queries=2,
        inner_steps=2,
        meta_steps=6,
        meta_batch_size=2,
        filters=4,
        image_size=16,
        validation_every=3,
        validation_episodes=2,
        checkpoint_every=3,
        threads=1,
    )
    experiment = prepare(config)
    run = RunDirectory.create(experiment.config, environment(experiment), FOLDER / "run")
    train(experiment, run)
    for path in sorted((run.path / "checkpoints").iterdir())[:-1]:
        shutil.rmtree(path)
    _, learner = open_run(run)
    batch = experiment.evaluation_sampler("val").batch(0, 1)
    support, query = (
        (one.images[0] * 255).round().byte().numpy() for one in (batch.support, batch.query)
    )
    labels = batch.support.labels[0].numpy()
    logits = logits_of(learner, support, labels, query).numpy()
    np.savez_compressed(
        FOLDER / "episode.npz", support=support, labels=labels, query=query, logits=logits
    )


if __name__ == "__main__":
    main()
