"""What a sweep says: accuracy of all settings, and which are chosen. Needs no torch."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from innerloop.analysis.compared import ComparedRow
from innerloop.analysis.comparison import Arm, arms, difference
from innerloop.core.errors import ConfigError
from innerloop.methods.catalogue import title_of
from innerloop.runs.directory import RunDirectory
from innerloop.runs.results import Protocol
from innerloop.runs.sweeps.directory import SweepDirectory
from innerloop.runs.sweeps.plan import CHOOSES_ON

PART = "val"
"""Whose classes a sweep is evaluated on: never those of the test."""
RULE = (
    "Of each method the settings with the highest mean query accuracy over episodes and training "
    "seeds are chosen, of equal ones those that were planned first. Settings of which a planned "
    f"seed is not done are not chosen. On Omniglot settings are chosen on split {CHOOSES_ON} "
    "alone, and never on test classes."
)


@dataclass(frozen=True)
class Trial:
    """Some settings of a sweep, with all of their training seeds.

    Attributes:
        settings: those that the sweep varies and the method has.
        row: what was measured.
        run: one of the runs, of which ``config.json`` has all settings.
        is_whole: whether every planned seed is done.
    """

    settings: dict[str, Any]
    row: ComparedRow
    run: str
    is_whole: bool

    def to_json(self) -> dict[str, Any]:
        """The row, and beside it the rest."""
        own = {"settings": self.settings, "run": self.run, "is_whole": self.is_whole}
        return dataclasses.asdict(self.row) | own


@dataclass(frozen=True)
class Choice:
    """The settings of a method that the rule chooses.

    Attributes:
        trial: the chosen one.
        of: among how many.
        alike: names of those that are not distinguishable from it, by the interval of the paired
            difference.
    """

    trial: Trial
    of: int
    alike: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        return {"trial": self.trial.to_json(), "of": self.of, "alike": list(self.alike)}


@dataclass(frozen=True)
class Table:
    """Trials over the same episodes, which compare.

    Attributes:
        protocol: over which.
        trials: the best first.
        choices: one for each method; none where the split is not one to choose on.
    """

    protocol: Protocol
    trials: tuple[Trial, ...]
    choices: tuple[Choice, ...]

    @property
    def may_choose(self) -> bool:
        """Whether the rule lets settings be chosen on these episodes."""
        return self.protocol.data != "omniglot" or self.protocol.split == CHOOSES_ON

    def to_json(self) -> dict[str, Any]:
        """As one object."""
        return {
            "protocol": dataclasses.asdict(self.protocol),
            "trials": [trial.to_json() for trial in self.trials],
            "choices": [choice.to_json() for choice in self.choices],
        }


def tables(sweep: SweepDirectory) -> tuple[Table, ...]:
    """The trials of a sweep, so far as they are done, by the episodes that they are over.

    Raises:
        ConfigError: if no run is done.
        DataError: if a run is damaged.
    """
    done = sweep.done()
    runs = [RunDirectory(sweep.run(name)) for name in sweep.plan.runs if name in done]
    if not runs:
        raise ConfigError(
            f"No run of {sweep.path} is done yet: start innerloop sweep work {sweep.path}."
        )
    primary, _ = arms(runs, PART, sweep.plan.episodes)
    by_protocol: dict[Protocol, list[Arm]] = {}
    for arm in primary:
        by_protocol.setdefault(arm.rows[0].protocol, []).append(arm)
    return tuple(_table(sweep, protocol, found) for protocol, found in by_protocol.items())


def _table(sweep: SweepDirectory, protocol: Protocol, found: Sequence[Arm]) -> Table:
    trials = {id(arm): _trial(sweep, arm) for arm in found}
    # Sorting is stable: of equal ones that which was planned first stays first.
    ordered = sorted(found, key=lambda arm: -trials[id(arm)].row.query_accuracy)
    table = Table(protocol, tuple(trials[id(arm)] for arm in ordered), ())
    if not table.may_choose:
        return table
    methods = dict.fromkeys(arm.rows[0].method for arm in found)
    choices = []
    for method in methods:
        whole = [
            arm for arm in ordered if arm.rows[0].method == method and trials[id(arm)].is_whole
        ]
        if whole:
            best, *others = whole
            alike = [
                trials[id(arm)].row.name
                for arm in others
                if difference(best, arm).verdict == "not distinguishable"
            ]
            choices.append(Choice(trials[id(best)], len(whole), tuple(alike)))
    return dataclasses.replace(table, choices=tuple(choices))


def _trial(sweep: SweepDirectory, arm: Arm) -> Trial:
    values = arm.runs[0].config.flat()
    settings = {name: values[name] for name in sweep.plan.varied if name in values}
    words = ", ".join(f"{name} {_shown(value)}" for name, value in settings.items())
    title = title_of(arm.rows[0].method)
    return Trial(
        settings,
        dataclasses.replace(arm.summary(), name=f"{title}: {words}" if words else title),
        arm.runs[0].path.name,
        set(arm.seeds) == set(sweep.plan.seeds),
    )


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
