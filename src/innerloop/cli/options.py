"""The options of every command: the dataclasses that tyro turns into flags and help texts."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

Unset = tyro.conf.arg(help_behavior_hint="")
"""Marks an option whose sentence says what happens without it, so that no "(default: None)"
follows."""


@dataclass(frozen=True)
class Common:
    """Options of every command."""

    json: tyro.conf.FlagCreatePairsOff[bool] = False
    """Print one machine-readable JSON object on standard output, and nothing else there."""
    debug: tyro.conf.FlagCreatePairsOff[bool] = False
    """Show the traceback of an error before its sentence."""


@dataclass(frozen=True)
class DataOptions(Common):
    """Options of the commands that read a data set."""

    data_dir: Annotated[Path | None, Unset] = None
    """Folder with images_background.zip and images_evaluation.zip; default: $INNERLOOP_DATA, the
    cache, a download."""


@dataclass(frozen=True)
class TrainOptions(DataOptions):
    """Meta-train a method; writes a run directory: weights, metrics, figures, hyperparameters."""

    preset: Annotated[str | None, Unset] = None
    """Start from a named set of settings: course (the network and batches of the assignment's own
    code), or, for mamlpp, paper or authors-code; options given beside it win."""
    config: Annotated[Path | None, Unset] = None
    """Start from a saved config.json; on a CPU the same file gives the same bits on the same
    machine; options given beside it win."""
    run_dir: Annotated[Path | None, Unset] = None
    """Run directory; default: runs/<method>-<data>-<ways>w<shots>s-s<seed>, numbered if taken."""
    max_minutes: Annotated[float | None, Unset] = None
    """Stop and save after this many minutes, to go on with `innerloop resume`; default: no
    limit."""


@dataclass(frozen=True)
class ResumeOptions(DataOptions):
    """Go on with an interrupted run; on a CPU to the same bits as without the interruption."""

    run: Annotated[Path, tyro.conf.Positional] = dataclasses.field(kw_only=True)
    """The run directory."""
    max_minutes: Annotated[float | None, Unset] = None
    """Stop and save after this many minutes; default: no limit."""


@dataclass(frozen=True)
class EvaluateOptions(DataOptions):
    """Evaluate a finished run on fixed episodes; writes the accuracies, never the weights."""

    run: Annotated[Path, tyro.conf.Positional] = dataclasses.field(kw_only=True)
    """The run directory."""
    part: Literal["val", "test"] = "val"
    """Which classes of the split; no training or choice ever sees test classes."""
    episodes: int = 600
    """How many of the part's fixed episodes, at least 2."""
    ways: Annotated[int | None, Unset] = None
    """Classes in an episode; default: as trained."""
    shots: Annotated[tuple[int, ...], Unset] = ()
    """Support images per class; several make one table; default: as trained."""
    queries: Annotated[int | None, Unset] = None
    """Query images per class; default: as trained, or 10 where several shots are compared."""
    inner_steps: Annotated[int | None, Unset] = None
    """Gradient steps K; default: as trained. Accuracies are measured from 0 to 2K."""
    batch_norm: Literal["all", "transductive", "support", "running"] = "all"
    """Whose statistics normalise the query images: their own batch's, the support set's, or those
    stored in training (transfer, mamlpp); all is every mode that the method has."""
    adapt: Literal["own", "head", "head+1", "head+2", "head+3", "all", "body"] = "own"
    """What takes inner steps: what the method itself adapts; a new head on frozen features; it and
    the last 1, 2 or 3 blocks; everything; or everything but a fixed random head."""
    head: Literal["gradient", "logistic", "cosine"] = "gradient"
    """With --adapt head, how the head is found: inner steps, logistic regression to convergence, or
    cosine prototypes."""
    head_init: Annotated[Literal["zero", "glorot"] | None, Unset] = None
    """Where the new head starts; default: as the method does."""
    inner_lr: Annotated[float | None, Unset] = None
    """Rate of the inner steps; default: as trained."""
    penalty: float = 0.1
    """L2 penalty of the logistic head."""
    untrained: tyro.conf.FlagCreatePairsOff[bool] = False
    """Evaluate the run's initial weights, to see what training gives."""


@dataclass(frozen=True)
class CompareOptions(DataOptions):
    """Compare runs over the same episodes; those that differ in training seed alone are one row."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = dataclasses.field(kw_only=True)
    """The run directories, at least two. One that was not evaluated yet is evaluated first."""
    part: Literal["val", "test"] = "val"
    """Which classes of the split."""
    episodes: int = 600
    """How many of the part's fixed episodes, at least 2."""
    allow_different: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on where data, split or episodes differ, and print in which fields; differences are then
    not paired."""
    out: Annotated[Path | None, Unset] = None
    """Folder for table, figures and comparison.json; default: comparison, beside the first run."""


@dataclass(frozen=True)
class ExplainOptions(DataOptions):
    """Measure why two finished runs differ, on validation episodes; takes minutes, no training."""

    runs: Annotated[tuple[Path, Path], tyro.conf.Positional] = dataclasses.field(kw_only=True)
    """The two run directories; differences are the first minus the second."""
    episodes: int = 600
    """Fixed episodes of what is quick to measure: both runs' own accuracy, and heads on frozen
    features."""
    few_episodes: int = 16
    """Fixed episodes of what is slow: adapting whole networks, up to 200 steps, at many rates."""
    out: Annotated[Path | None, Unset] = None
    """Folder for page, figures and explanation.json; default: explanation, beside the first run."""


@dataclass(frozen=True)
class ReportOptions(Common):
    """Write report.html and report.pdf from run directories alone; in seconds, without PyTorch."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = dataclasses.field(kw_only=True)
    """The run directories, of any methods and seeds; what is missing is said in its section."""
    out: Path = Path("report")
    """Folder for report.html, report.pdf and figures/."""
    explanation: Annotated[Path | None, Unset] = None
    """Folder that `innerloop explain` wrote; default: explanation, beside the first run, where it
    is there."""
    collaborators: Annotated[tuple[str, ...], Unset] = ()
    """Who took part, and in what, each in quotes; default: nobody is named."""
    references: Annotated[tuple[str, ...], Unset] = ()
    """What else was used, each in quotes; default: the papers of the methods alone."""


@dataclass(frozen=True)
class DataCommandOptions(DataOptions):
    """Look at, check or fetch the data."""

    action: Annotated[Literal["show", "verify", "download", "info"], tyro.conf.Positional] = (
        dataclasses.field(kw_only=True)
    )
    """show: a PNG of one episode; verify: check every name and pixel; download: fetch Omniglot;
    info: what is there."""
    data: str = "auto"
    """Data set: omniglot, strokes, or auto (Omniglot where it is found, else strokes)."""
    split: str = "auto"
    """Split that the episode is drawn from; auto is assignment for Omniglot and alphabets for
    strokes."""
    part: Literal["train", "val", "test"] = "train"
    """Which part of the split."""
    episode: int = 0
    """Number of the episode to show, counted from 0."""
    seed: int = 0
    """Seed of the episodes to show."""
    rotations: bool = False
    """Show the episode with training rotations."""
    out: Path = Path("episode.png")
    """Where show writes its picture."""


@dataclass(frozen=True)
class DoctorOptions(DataOptions):
    """Say what this installation can do: versions, device, threads, data, free disk."""


@dataclass(frozen=True)
class ReproduceOptions(DataOptions):
    """Train, evaluate and draw what the README shows; typed again after a kill, it goes on."""

    budget: Literal["quick", "full"] = "quick"
    """quick: fewer episodes an outer step and in the evaluation, takes minutes; full: the published
    settings."""
    data: str = "auto"
    """Data set: omniglot, strokes, or auto (Omniglot where it is found, else strokes)."""
    out: Path = Path("runs/reproduce")
    """Folder that the run directories go into."""
    max_minutes: Annotated[float | None, Unset] = None
    """Stop and save after this many minutes of training; default: no limit."""


@dataclass(frozen=True)
class BundleOptions(DataOptions):
    """Pack report, plots, results, weights, settings and code into an archive; or check one."""

    folder: Annotated[Path | None, tyro.conf.Positional, Unset] = None
    """Folder that `innerloop reproduce` made, for instance runs/reproduce/full; default: none, with
    --check."""
    check: Annotated[Path | None, Unset] = None
    """Unpack this archive to a temporary place, verify it and evaluate its weights again; default:
    pack instead."""
    name: Annotated[str | None, Unset] = None
    """The student's name, in any script; default: none, with --check."""
    student_number: Annotated[str | None, Unset] = None
    """The student's number; default: none, with --check."""
    assignment: int = 2
    """The assignment's number."""
    out: Path = Path(".")
    """Folder that the archive is written to."""
    collaborators: Annotated[tuple[str, ...], Unset] = ()
    """Who took part, and in what, each in quotes; default: nobody is named."""
    references: Annotated[tuple[str, ...], Unset] = ()
    """What else was used, each in quotes; default: the papers of the methods alone."""
