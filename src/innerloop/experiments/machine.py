"""Where and by what a run is computed: device, engine, threads, chunks."""

import re
from collections.abc import Callable

import torch

from innerloop.core.errors import ConfigError, did_you_mean
from innerloop.fast_weights.engine import Engine, make_ready, threads, use_threads, why_reference
from innerloop.fast_weights.precision import Precision, precision_of, use_products
from innerloop.methods.catalogue import find_learner
from innerloop.networks.build import build_network
from innerloop.runs.directory import RunDirectory
from innerloop.settings.run import RunConfig
from innerloop.settings.sections import DEVICES

AT_ONCE = 8
"""Episodes that the fused engine computes at once: enough for as many threads, in 200 MB."""


def usable_device(name: str) -> str:
    """A device by its name; of ``auto``, what is here.

    Raises:
        ConfigError: if there is none of that name, or it cannot be used on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(DEVICES, name):
        raise ConfigError(
            f"There is no device {name!r}.{did_you_mean(name, ['auto', 'cpu', 'cuda', 'mps'])}"
        )
    try:
        # Tried out: a device that has a name need not work.
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"Device {name!r} cannot be used on this machine: choose --device cpu or auto."
        ) from error
    return name


def device_for(run: RunDirectory, device: str | None, say: Callable[[str], None]) -> str:
    """Where to compute with a run: a device is where it was trained, and not what it is.

    Args:
        run: of which ``config.json`` keeps where it was trained.
        device: what was asked for; None: there, where that can be used, else as ``auto``.
        say: told if it is elsewhere.

    Raises:
        ConfigError: if what was asked for cannot be used.
    """
    trained_on = run.config.machine.device
    try:
        here = usable_device(device or trained_on)
    except ConfigError:
        if device:
            raise
        here = usable_device("auto")
    if here != trained_on:
        say(f"{run.path} was trained on {trained_on}; here it is computed on {here}.")
    return here


def on_this_machine(
    config: RunConfig, channels: int, engine: Engine, say: Callable[[str], None]
) -> tuple[RunConfig, str]:
    """Settings in which nothing of the machine is ``auto`` or 0 any more; threads are set.

    Args:
        config: its device is one that can be used.
        channels: of the data set's images.
        engine: what is wanted.
        say: told what is being waited for.

    Returns:
        The settings, and the engine in words.

    Raises:
        ConfigError: if the fused engine is asked for and does not apply.
    """
    machine = config.machine
    number = machine.threads or threads()
    because = _why_reference(config, channels, engine)
    if because is not None and engine == "fused":
        raise ConfigError(
            f"--engine fused does not apply, because {because}: choose --engine auto or reference."
        )
    chosen: Engine = "fused" if because is None else "reference"
    precision = _precision(config, chosen)
    at_once = machine.episodes_per_chunk or config.own.batch
    if because is None and machine.device == "cpu":
        at_once = machine.episodes_per_chunk or min(AT_ONCE, config.own.batch)
        make_ready(build_network(config.network, 2, channels=channels, image_size=32), say)
    elif machine.device == "cpu":
        at_once = machine.episodes_per_chunk or 1
    use_threads(number, chosen if machine.device == "cpu" else "reference")
    words = chosen if because is None else f"{chosen}, because {because}"
    if precision != "float32":
        words = f"{words}; {precision}"
    resolved = config.replace(
        engine=chosen, precision=precision, threads=number, episodes_per_chunk=at_once
    )
    return resolved, words


def _precision(config: RunConfig, engine: Engine) -> Precision:
    """Of products of matrices, for this process too, on whose GPU the reference computes by it."""
    precision = precision_of(config.machine.precision)
    on_gpu = torch.device(config.machine.device).type == "cuda"
    if precision != "float32" and not on_gpu:
        raise ConfigError(
            f"--precision {precision} is for a CUDA device, and {config.machine.device} is none: "
            "choose --precision auto."
        )
    if precision == "bfloat16" and engine != "fused":
        raise ConfigError(
            "--precision bfloat16 is for the fused engine, which does not apply here: choose "
            "--precision float32 or tf32."
        )
    if on_gpu:
        use_products(precision)
    return precision


def _why_reference(config: RunConfig, channels: int, engine: Engine) -> str | None:
    with torch.random.fork_rng(devices=[]):
        network = build_network(
            config.network, 2, channels=channels, image_size=config.data.image_size
        )
    method = find_learner(config.method).network_method
    return why_reference(network, engine, config.machine.device, method)
