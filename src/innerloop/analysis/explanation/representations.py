"""What adaptation does to a network: its blocks' outputs and its weights, before and after."""

from innerloop.analysis.explanation.formulas import relative_change, spread_ratio, unbiased_cka
from innerloop.data.episodes import EpisodeBatch
from innerloop.methods.base import Learner


def change_by_adaptation(
    learner: Learner, batch: EpisodeBatch, *, steps: int
) -> dict[str, dict[str, float]]:
    """How one episode's adaptation changes the network.

    Args:
        learner: knows the blocks of its network.
        batch: one episode.
        steps: inner steps K.

    Returns:
        ``cka``: unbiased linear CKA of each block's output on the query set before and after
            adaptation;
        ``spread_before`` and ``spread_after``: variance within the classes over that of their
            means, by block;
        ``weights``: relative change of each adapted tensor; NaN for one that starts from zero.
    """
    states = list(learner.trajectory(batch.support, steps=steps))
    first, last = states[0], states[-1]
    labels = batch.query.labels[0]
    before, after = (
        {name: value[0] for name, value in outputs.items()}
        for outputs in (learner.block_outputs(state, batch.query.images) for state in (first, last))
    )
    return {
        "cka": {name: unbiased_cka(before[name], after[name]) for name in before},
        "spread_before": {name: spread_ratio(value, labels) for name, value in before.items()},
        "spread_after": {name: spread_ratio(value, labels) for name, value in after.items()},
        "weights": {
            name: relative_change(first.fast_weights[name][0].detach(), value[0].detach())
            for name, value in last.fast_weights.items()
        },
    }
