"""``hyperparameters.md``: every setting of a run in words and values, and what the run found."""

from typing import Any

from innerloop.report.document import code
from innerloop.report.render.markdown import table, text
from innerloop.runs.directory import RunDirectory


def hyperparameters(run: RunDirectory) -> str:
    """The text of ``hyperparameters.md``."""
    config = run.config
    descriptions = config.descriptions()
    rows = [
        [code(name), value_in_words(value), descriptions[name]]
        for name, value in config.in_use().items()
    ]
    lines = [f"# {text(f'Hyperparameters of {run.path.name}')}", ""]
    lines += table(["setting", "value", "meaning"], rows)
    lines += [
        "",
        f"Fixed by the method: {text(config.own.fixed_in_words)}",
        "",
        "## Training",
        "",
        f"{run.status.state.capitalize()} at outer step {run.status.step} of "
        f"{config.training.meta_steps}. " + text(run.status.message or "No divergence was seen."),
        "",
        "## Environment",
        "",
        *(
            f"- {name}: {text(value_in_words(value))}"
            for name, value in run.environment.recorded().items()
        ),
        "",
    ]
    return "\n".join(lines)


def value_in_words(value: Any) -> str:
    """A setting, or what was recorded of an environment, as tables show it."""
    return f"{value:g}" if isinstance(value, float) else str(value)
