"""``hyperparameters.md``: every setting of a run in words and values, and what the run found."""

from typing import Any

from innerloop.report.render.markdown import table
from innerloop.runs.directory import RunDirectory


def hyperparameters(run: RunDirectory) -> str:
    """The text of ``hyperparameters.md``."""
    config = run.config
    descriptions = config.descriptions()
    rows = [
        [f"`{name}`", value_in_words(value), descriptions[name]]
        for name, value in config.flat().items()
    ]
    lines = [f"# Hyperparameters of {run.path.name}", ""]
    lines += table(["setting", "value", "meaning"], rows)
    lines += [
        "",
        f"Fixed by the method: {fixed_settings(run)}",
        "",
        "## Training",
        "",
        f"{run.status.state.capitalize()} at outer step {run.status.step} of "
        f"{config.training.meta_steps}. " + (run.status.message or "No divergence was seen."),
        "",
        "## Environment",
        "",
        *(
            f"- {name}: {value_in_words(value)}"
            for name, value in run.environment.recorded().items()
        ),
        "",
    ]
    return "\n".join(lines)


def fixed_settings(run: RunDirectory) -> str:
    """What no setting changes, in words."""
    if run.config.own.trains_on == "images":
        objective = (
            "the pretraining loss is the mean cross-entropy over the images of a mini-batch; "
            "batch norm in pretraining by the statistics of each mini-batch, with running "
            "statistics of momentum 0.1 that predictions use, eps 1e-5; the body and its "
            "statistics are frozen in adaptation."
        )
    else:
        objective = (
            "the outer loss is the mean over the episodes of a meta-batch; batch norm in "
            "training by the statistics of each batch (transductive), eps 1e-5."
        )
    schedule = "" if run.config.own.schedule(1.0) else ", no schedule"
    return (
        "inner optimiser plain gradient descent; outer optimiser Adam with betas 0.9 and 0.999, "
        f"eps 1e-8, no weight decay{schedule}; {objective}"
    )


def value_in_words(value: Any) -> str:
    """A setting, or what was recorded of an environment, as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
