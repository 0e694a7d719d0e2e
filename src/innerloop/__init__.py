"""Few-shot learning in modern PyTorch. Importing it is cheap: names load when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

from innerloop.core.version import __version__ as __version__

if TYPE_CHECKING:
    from innerloop.core.errors import InnerloopError as InnerloopError
    from innerloop.data import load_dataset as load_dataset
    from innerloop.data.episodes import EpisodeBatch as EpisodeBatch
    from innerloop.data.episodes import EpisodeSampler as EpisodeSampler
    from innerloop.data.images import FewShotDataset as FewShotDataset
    from innerloop.data.images import LabelledImages as LabelledImages
    from innerloop.data.minibatches import ImageSampler as ImageSampler
    from innerloop.data.splits import Split as Split
    from innerloop.data.splits import find_split as find_split
    from innerloop.experiments.evaluation import Evaluation as Evaluation
    from innerloop.experiments.evaluation import evaluate as evaluate
    from innerloop.methods.base import Adaptation as Adaptation
    from innerloop.methods.base import Learner as Learner
    from innerloop.methods.maml.learner import MAML as MAML
    from innerloop.methods.mamlpp.learner import MAMLpp as MAMLpp
    from innerloop.methods.transfer.learner import FrozenFeatures as FrozenFeatures
    from innerloop.methods.transfer.learner import Transfer as Transfer
    from innerloop.networks.batch_norm import BatchNorm2d as BatchNorm2d
    from innerloop.networks.checks import check_model as check_model
    from innerloop.networks.conv4 import Conv4 as Conv4
    from innerloop.settings.run import RunConfig as RunConfig

_HOME = {
    "Adaptation": "methods.base",
    "BatchNorm2d": "networks.batch_norm",
    "Conv4": "networks.conv4",
    "EpisodeBatch": "data.episodes",
    "EpisodeSampler": "data.episodes",
    "Evaluation": "experiments.evaluation",
    "FewShotDataset": "data.images",
    "FrozenFeatures": "methods.transfer.learner",
    "ImageSampler": "data.minibatches",
    "InnerloopError": "core.errors",
    "LabelledImages": "data.images",
    "Learner": "methods.base",
    "MAML": "methods.maml.learner",
    "MAMLpp": "methods.mamlpp.learner",
    "RunConfig": "settings.run",
    "Split": "data.splits",
    "Transfer": "methods.transfer.learner",
    "check_model": "networks.checks",
    "evaluate": "experiments.evaluation",
    "find_split": "data.splits",
    "load_dataset": "data",
}

__all__ = ["__version__", *_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'innerloop' has no attribute {name!r}")
    return getattr(import_module(f"innerloop.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
