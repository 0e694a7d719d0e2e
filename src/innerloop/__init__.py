"""Few-shot learning in modern PyTorch. Importing it is cheap: names load when first used."""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from innerloop.config import RunConfig as RunConfig
    from innerloop.data import load_dataset as load_dataset
    from innerloop.data.images import FewShotDataset as FewShotDataset
    from innerloop.data.images import LabelledImages as LabelledImages
    from innerloop.data.splits import Split as Split
    from innerloop.data.splits import find_split as find_split
    from innerloop.episodes import EpisodeBatch as EpisodeBatch
    from innerloop.episodes import EpisodeSampler as EpisodeSampler
    from innerloop.errors import InnerloopError as InnerloopError
    from innerloop.evaluation import Evaluation as Evaluation
    from innerloop.evaluation import evaluate as evaluate
    from innerloop.learners.base import Adaptation as Adaptation
    from innerloop.learners.base import Learner as Learner
    from innerloop.learners.checks import check_model as check_model
    from innerloop.learners.maml import MAML as MAML
    from innerloop.learners.mamlpp import MAMLpp as MAMLpp
    from innerloop.learners.transfer import FrozenFeatures as FrozenFeatures
    from innerloop.learners.transfer import Transfer as Transfer
    from innerloop.minibatches import ImageSampler as ImageSampler
    from innerloop.models.batch_norm import BatchNorm2d as BatchNorm2d
    from innerloop.models.conv4 import Conv4 as Conv4

_HOME = {
    "Adaptation": "learners.base",
    "BatchNorm2d": "models.batch_norm",
    "Conv4": "models.conv4",
    "EpisodeBatch": "episodes",
    "EpisodeSampler": "episodes",
    "Evaluation": "evaluation",
    "FewShotDataset": "data.images",
    "FrozenFeatures": "learners.transfer",
    "ImageSampler": "minibatches",
    "InnerloopError": "errors",
    "LabelledImages": "data.images",
    "Learner": "learners.base",
    "MAML": "learners.maml",
    "MAMLpp": "learners.mamlpp",
    "RunConfig": "config",
    "Split": "data.splits",
    "Transfer": "learners.transfer",
    "check_model": "learners.checks",
    "evaluate": "evaluation",
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
