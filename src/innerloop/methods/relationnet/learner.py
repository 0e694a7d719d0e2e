"""Relation networks: a learnt comparison of a query's maps with those of each class."""

from typing import ClassVar, Self, cast

from torch import Tensor, nn
from torch.nn import functional as F

from innerloop.core.errors import ConfigError
from innerloop.methods.base import Learner
from innerloop.methods.heads.episodic import EpisodicFeatures
from innerloop.methods.heads.prototypes import class_sums
from innerloop.methods.heads.rule import Fitted, Rule
from innerloop.methods.parts import Parts
from innerloop.networks.base import HasMaps
from innerloop.networks.batch_norm import BatchNorm2d, BatchNormMode
from innerloop.settings.run import RunConfig

HIDDEN = 8
"""Width of the layer before the score, as published."""


class Relation(Rule):
    """Scores g_φ([class maps, query maps]) in (0, 1): see `RelationNet`.

    Args:
        map_shape: channels, height and width of the network's maps.
    """

    def __init__(self, map_shape: tuple[int, int, int]):
        super().__init__()
        self.map_shape = map_shape
        channels, height, width = map_shape
        self.convs = nn.ModuleList()
        self.norms = nn.ModuleList()
        for inputs in (2 * channels, channels):
            self.convs.append(nn.Conv2d(inputs, channels, 3, padding=1, bias=False))
            self.norms.append(BatchNorm2d(channels))
            height, width = _pooled(height, width)
        self.hidden = nn.Linear(channels * height * width, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1)

    def fit(self, features: Tensor, labels: Tensor, ways: int) -> Fitted:
        """The maps of each class (ways, C, H, W), a sum over its images."""
        self._refuse_other_maps(features)
        return {"classes": class_sums(features, labels, ways)}

    def logits(self, fitted: Fitted, features: Tensor) -> Tensor:
        """Scores (m, ways) of maps (m, C, H, W)."""
        self._refuse_other_maps(features)
        classes = fitted["classes"]
        first, second = self.convs
        # A convolution of two maps in depth is the sum of one of each, so that it is computed once
        # for each class and each query instead of once for each pair of them.
        of_class, of_query = cast(Tensor, first.weight).chunk(2, dim=1)
        of_pairs = F.conv2d(classes, of_class, padding=1) + F.conv2d(
            features, of_query, padding=1
        ).unsqueeze(1)
        x = of_pairs.flatten(0, 1)  # a query with each class, then the next query
        x = second(_pooled_relu(self.norms[0](x)))
        x = _pooled_relu(self.norms[1](x))
        scores = self.score(F.relu(self.hidden(x.flatten(1)))).sigmoid()
        return scores.view(len(features), len(classes))

    def _refuse_other_maps(self, features: Tensor) -> None:
        if features.shape[1:] != self.map_shape:
            raise ConfigError(
                f"The maps of these images have shape {tuple(features.shape[1:])}, and relations "
                f"are learnt of {self.map_shape}: give images of the size in training."
            )

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The mean squared error of scores (m, ways) from 1 for the right class, 0 for others."""
        return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits))


def _pooled_relu(x: Tensor) -> Tensor:
    """ReLU, then 2 x 2 pooling where both sides are larger than one: pooled first, it is less."""
    return F.relu(F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x)


def _pooled(height: int, width: int) -> tuple[int, int]:
    """Sides of maps after a pooling of 2 x 2, where both are larger than one."""
    return (height // 2, width // 2) if min(height, width) > 1 else (height, width)


class RelationNet(EpisodicFeatures):
    """Relation networks (Sung et al., 2018, arXiv 1711.06025).

    With f the network's maps (n, C, H, W), S_k the support images of class k, [·, ·] a
    concatenation in depth and g_φ the relation module (equations 1 and 2, section 3.2)::

        r_k(x) = g_φ([sum of f(x_i) over x_i in S_k, f(x)])
        minimise over f and φ:  mean over episodes, queries and classes of (r_k(x) - 1(y = k))²

    g_φ is two blocks of 3x3 convolution, batch norm, ReLU and 2x2 pooling, a layer of 8 numbers
    with ReLU, and one number with a sigmoid. A block does not pool maps of one row or column.
    ``logits`` are the scores r: numbers in (0, 1), not the logarithms of probabilities.

    The batch norms of g_φ are treated as the network's: training normalises by all pairs of queries
    and classes of an episode and gathers running statistics; predictions use these (``running``),
    or those of the pairs of support images and classes (``support``). So a score depends on no
    other query; the authors' code normalises by the test batch, which is ``transductive``.

    Deviations: a mean over queries and classes instead of a sum, and over the episodes of an outer
    step instead of one episode; convolutions have no bias, which batch norm would cancel.

    Args:
        model: has ``maps(images) -> (n, *map_shape)``, as `innerloop.Conv4` has.
        halve_every: as of `EpisodicFeatures`.
        batch_norm_modes: as of `EpisodicFeatures`.

    Raises:
        ConfigError: if the model has no maps.
    """

    network_method: ClassVar[str] = "maps"
    adaptable: ClassVar[tuple[Parts, ...]] = ("own",)
    # Other heads are of rows of features.
    adapting = Learner.adapting

    def __init__(
        self,
        model: nn.Module,
        *,
        halve_every: int = 0,
        batch_norm_modes: tuple[BatchNormMode, ...] = ("running", "support", "transductive"),
    ):
        if not isinstance(model, HasMaps):
            raise ConfigError(
                "RelationNet compares maps: give "
                f"{type(model).__name__} methods embed(images) and maps(images), which returns (n, "
                "channels, height, width), and an attribute map_shape, as innerloop.Conv4 has."
            )
        super().__init__(
            model,
            Relation(model.map_shape),
            halve_every=halve_every,
            batch_norm_modes=batch_norm_modes,
        )

    @classmethod
    def from_config(cls, config: RunConfig, model: nn.Module) -> Self:
        """The halvings are a setting of the same name."""
        return cls(model, halve_every=config.own.halve_every)
