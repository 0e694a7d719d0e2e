"""What all figures look like."""

from typing import Any

from matplotlib.axes import Axes


def legend(axes: Axes, **kwargs: Any) -> None:
    """The legend of a panel, on a ground that lets curves shine through."""
    axes.legend(**{"frameon": True, "framealpha": 0.9, "edgecolor": "none"} | kwargs)
