"""Few-shot learning in modern PyTorch. Importing it is cheap: names load when first used."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from innerloop.core.version import __version__ as __version__

if TYPE_CHECKING:
    from innerloop.classifier.estimator import FewShotClassifier as FewShotClassifier
    from innerloop.core.errors import InnerloopError as InnerloopError
    from innerloop.data import load_dataset as load_dataset
    from innerloop.data.episodes import EpisodeBatch as EpisodeBatch
    from innerloop.data.images import FewShotDataset as FewShotDataset
    from innerloop.data.images import LabelledImages as LabelledImages
    from innerloop.data.minibatches import ImageSampler as ImageSampler
    from innerloop.data.sampling import EpisodeSampler as EpisodeSampler
    from innerloop.data.splits import Split as Split
    from innerloop.data.splits import find_split as find_split
    from innerloop.experiments.evaluation import Evaluation as Evaluation
    from innerloop.experiments.evaluation import evaluate as evaluate
    from innerloop.experiments.outer_loop import meta_train as meta_train
    from innerloop.experiments.pretrained import pretrained as pretrained
    from innerloop.experiments.pretrained import pretrained_names as pretrained_names
    from innerloop.methods.base import Adaptation as Adaptation
    from innerloop.methods.base import Learner as Learner
    from innerloop.methods.base import accuracy as accuracy
    from innerloop.methods.card import Card as Card
    from innerloop.methods.card import DiagnosticFigure as DiagnosticFigure
    from innerloop.methods.card import Paper as Paper
    from innerloop.methods.catalogue import settings_of as settings_of
    from innerloop.methods.check import check_model as check_model
    from innerloop.methods.heads.frozen import FrozenFeatures as FrozenFeatures
    from innerloop.networks.batch_norm import BatchNorm2d as BatchNorm2d
    from innerloop.networks.conv4 import Conv4 as Conv4
    from innerloop.networks.resnet12 import ResNet12 as ResNet12
    from innerloop.settings.fields import between as between
    from innerloop.settings.method import EpisodicSettings as EpisodicSettings
    from innerloop.settings.method import InnerLoopSettings as InnerLoopSettings
    from innerloop.settings.method import MethodSettings as MethodSettings
    from innerloop.settings.method import PretrainingSettings as PretrainingSettings
    from innerloop.settings.run import RunConfig as RunConfig

_HOME = {
    "Adaptation": "methods.base",
    "BatchNorm2d": "networks.batch_norm",
    "Card": "methods.card",
    "Conv4": "networks.conv4",
    "DiagnosticFigure": "methods.card",
    "EpisodeBatch": "data.episodes",
    "EpisodeSampler": "data.sampling",
    "EpisodicSettings": "settings.method",
    "Evaluation": "experiments.evaluation",
    "FewShotClassifier": "classifier.estimator",
    "FewShotDataset": "data.images",
    "FrozenFeatures": "methods.heads.frozen",
    "ImageSampler": "data.minibatches",
    "InnerLoopSettings": "settings.method",
    "InnerloopError": "core.errors",
    "LabelledImages": "data.images",
    "Learner": "methods.base",
    "MethodSettings": "settings.method",
    "Paper": "methods.card",
    "PretrainingSettings": "settings.method",
    "ResNet12": "networks.resnet12",
    "RunConfig": "settings.run",
    "Split": "data.splits",
    "accuracy": "methods.base",
    "between": "settings.fields",
    "check_model": "methods.check",
    "evaluate": "experiments.evaluation",
    "find_split": "data.splits",
    "load_dataset": "data",
    "meta_train": "experiments.outer_loop",
    "pretrained": "experiments.pretrained",
    "pretrained_names": "experiments.pretrained",
    "settings_of": "methods.catalogue",
}

# The learners of this package too; those of methods that are installed beside it are found by name.
_LEARNERS = ["MAML", "MAMLpp", "Transfer"]
__all__ = ["__version__", *sorted([*_HOME, *_LEARNERS])]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A public name: one of this package's, or the learner of any method that is installed."""
    if name in _HOME:
        return getattr(import_module(f"innerloop.{_HOME[name]}"), name)
    place = _learners().get(name) if not name.startswith("_") else None
    if place is None:
        faults = "" if name.startswith("_") else " ".join(["", *_faults()])
        raise AttributeError(f"module 'innerloop' has no attribute {name!r}{faults}")
    module, _, attribute = place.partition(":")
    return getattr(import_module(module), attribute)


def _learners() -> dict[str, str]:
    """Name of a learner's class -> ``module:Class``, of every method."""
    from innerloop.methods.catalogue import cards

    # Reversed: of two learners of one name the first is found, and this package's come first.
    return {card.learner.partition(":")[2]: card.learner for card in reversed(cards()[0])}


def _faults() -> list[str]:
    """A sentence for each method whose learner is not to be had."""
    from innerloop.methods.catalogue import cards

    return cards()[1]


def __dir__() -> list[str]:
    return sorted({*__all__, *_learners()})
