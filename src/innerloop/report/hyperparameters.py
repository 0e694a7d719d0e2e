"""``hyperparameters.md``: every setting of a run in words and values, and what the run found."""

import dataclasses
import inspect
import re
from typing import Any

from innerloop.runs.directory import RunDirectory
from innerloop.settings.run import UNUSED, RunConfig


def setting_descriptions() -> dict[str, str]:
    """The sentence under each setting of `RunConfig`, by name."""
    source = inspect.getsource(RunConfig)
    found = re.findall(
        r'^    (\w+): [^\n]+\n    """(.+?)"""', source, flags=re.MULTILINE | re.DOTALL
    )
    return {name: " ".join(text.split()) for name, text in found}


def hyperparameters(run: RunDirectory) -> str:
    """The text of ``hyperparameters.md``."""
    config, descriptions = run.config, setting_descriptions()
    lines = [
        f"# Hyperparameters of {run.path.name}",
        "",
        "| setting | value (-: not used by this method) | meaning |",
        "|---|---|---|",
    ]
    for spec in dataclasses.fields(config):
        meaning = descriptions[spec.name].replace("|", "\\|")
        lines.append(f"| `{spec.name}` | {setting_value(config, spec.name)} | {meaning} |")
    lines += [
        "",
        f"Fixed by the method: {fixed_settings(run)}",
        "",
        "## Training",
        "",
        f"{run.status['state'].capitalize()} at outer step {run.status['step']} of "
        f"{config.meta_steps}. " + (run.status["message"] or "No divergence was seen."),
        "",
        "## Environment",
        "",
        *(f"- {name}: {_value(value)}" for name, value in run.environment.items()),
        "",
    ]
    return "\n".join(lines)


def setting_value(config: RunConfig, name: str) -> str:
    """A setting as tables show it; "-" where its method does not use it."""
    return "-" if name in UNUSED.get(config.method, ()) else _value(getattr(config, name))


def fixed_settings(run: RunDirectory) -> str:
    """What no setting changes, in words."""
    if run.environment.get("trains_on") == "images":
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
    schedule = (
        "" if run.config.method == "mamlpp" and run.config.cosine_annealing else ", no schedule"
    )
    return (
        "inner optimiser plain gradient descent; outer optimiser Adam with betas 0.9 and 0.999, "
        f"eps 1e-8, no weight decay{schedule}; {objective}"
    )


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
