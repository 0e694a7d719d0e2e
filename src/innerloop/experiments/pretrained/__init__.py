"""Networks that this package brings along, trained: the published runs of training seed 0.

Each is a run directory without what only a training needs: ``config.json``, ``env.json``,
``model.safetensors``, ``MODEL_CARD.md``. ``SHA256SUMS`` has the checksums of all weights.
"""

from importlib.resources import files
from pathlib import Path

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.experiments.experiment import build_learner, load_trained
from innerloop.experiments.machine import usable_device
from innerloop.methods.base import Learner
from innerloop.runs.directory import RunDirectory

PREFIX = "pretrained:"
"""Before a name, where a command takes a run directory."""
_FOLDER = Path(str(files(__name__)))


def pretrained_names() -> list[str]:
    """What `pretrained` knows."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/model.safetensors"))


def pretrained_run(name: str) -> RunDirectory:
    """The run directory of a pretrained network, in this package; nothing is to be written there.

    Raises:
        ConfigError: if there is none of that name.
    """
    if name not in pretrained_names():
        raise ConfigError(
            f"There is no pretrained network {name!r}.{did_you_mean(name, pretrained_names())}"
        )
    return RunDirectory(_FOLDER / name)


def pretrained(name: str, *, device: str = "cpu") -> Learner:
    """A trained learner, ready for `Learner.adapt` and `Learner.predict`.

    Its network takes images (E, n, 1, 28, 28) with ink 1 on background 0. Of a method that trains a
    classifier of the training classes, that layer is not part of it: the network's head has
    as many outputs as the run's episodes have ways, and initial weights.

    Args:
        name: one of `pretrained_names`, for instance ``transfer-omniglot``.
        device: where it computes; ``auto`` is a GPU if there is one.

    Raises:
        ConfigError: if there is no network or usable device of that name.
        DataError: if the weights are damaged.
    """
    run = pretrained_run(name)
    config = run.config.replace(device=usable_device(device), engine="auto")
    # One channel: Omniglot is grey.
    learner = build_learner(config, 1, training_labels=config.episode.ways)
    load_trained(learner, run.weights_path)
    return learner
