"""Frozen features under several heads, typed, and what the gap between two runs is made of."""

from dataclasses import dataclass
from typing import Literal, get_args

from innerloop.analysis.explanation.rows import Mean
from innerloop.core.intervals import Difference

Head = Literal["gradient", "logistic", "cosine"]
"""Heads that are put on frozen features: by the run's own steps, converged, by prototypes."""


@dataclass(frozen=True, kw_only=True)
class HeadCell(Mean):
    """Accuracy of a new head on frozen features.

    Attributes:
        features: name of the run whose they are.
        batch_norm: whose statistics normalised the query images.
        head: which kind of head.
    """

    features: str
    batch_norm: str
    head: Head


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The parts of the gap between the runs, the first minus the second.

    Attributes:
        features: of the features, under a converged head.
        cosine_features: of the features, under prototypes by cosine; no part of the sum.
        head_steps: of the head's steps against a converged head.
        body_adaptation: of adapting the body too.
        all: of all three: the runs' own adaptation.
    """

    features: Difference
    cosine_features: Difference
    head_steps: Difference
    body_adaptation: Difference
    all: Difference

    def in_words(self) -> dict[str, Difference]:
        """Each part by what pages and files call it."""
        return {words: getattr(self, name) for name, words in GAP_WORDS.items()}


GAP_WORDS = {
    "features": "features",
    "cosine_features": "features, by cosine prototypes",
    "head_steps": "the head's steps",
    "body_adaptation": "the body's adaptation",
    "all": "all",
}
"""Attribute of `Gap` -> what pages and files call it."""


@dataclass(frozen=True, kw_only=True)
class HeadTable:
    """Two kinds of features under each head, and what the gap between the runs is made of.

    Attributes:
        cells: one for each run, batch-norm mode and head.
        gap: the gap taken apart.
    """

    cells: tuple[HeadCell, ...]
    gap: Gap

    def __post_init__(self):
        for (name, mode), cells in self.by_features().items():
            if missing := [head for head in get_args(Head) if head not in cells]:
                heads = ", ".join(missing)
                raise ValueError(f"cells lack the head {heads} on {name}'s features by {mode}")

    def by_features(self) -> dict[tuple[str, str], dict[Head, HeadCell]]:
        """Cells by head, for each pair of a run's name and a batch-norm mode."""
        rows: dict[tuple[str, str], dict[Head, HeadCell]] = {}
        for cell in self.cells:
            rows.setdefault((cell.features, cell.batch_norm), {})[cell.head] = cell
        return rows
