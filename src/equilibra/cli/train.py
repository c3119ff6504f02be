"""`equilibra train`: a model from trajectories."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli import training as options
from equilibra.cli.checks import one_of
from equilibra.errors import InputError, unknown_key_message
from equilibra.train.config import TrainConfig

NAME = "train"
EXAMPLE = (
    "Example:\n\nequilibra train molecule --trajectory my.xtc --topology my.pdb --temperature 300 -o runs/mine/\n\n"
    "Repeat the command to go on with an interrupted run."
)
DEFAULT = TrainConfig()
SIZES = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")


def run(
    ctx: typer.Context,
    trajectory: options.Trajectory,
    topology: options.Topology,
    out: options.Out,
    domain: Annotated[str, typer.Argument(help="Kind of system: molecule.", metavar="[DOMAIN]")] = "molecule",
    forces: options.Forces = None,
    stride: options.Stride = 1,
    skip: options.Skip = 0,
    temperature: options.Temperature = 300.0,
    name: Annotated[str, typer.Option("--name", help="Name of the model.")] = "molecule",
    network: Annotated[
        list[str] | None,
        typer.Option("--network", help="Size of the network, such as dim=96 or layers=3; repeat it for several."),
    ] = None,
    steps: options.Steps = DEFAULT.steps,
    batch_size: options.BatchSize = DEFAULT.batch_size,
    learning_rate: options.LearningRate = DEFAULT.learning_rate,
    schedule: options.Schedule = DEFAULT.schedule,
    warmup: options.Warmup = DEFAULT.warmup,
    weight_decay: options.WeightDecay = DEFAULT.weight_decay,
    clip: options.Clip = DEFAULT.clip,
    ema: options.Ema = DEFAULT.ema,
    noise_median: options.NoiseMedian = DEFAULT.noise_median,
    noise_width: options.NoiseWidth = DEFAULT.noise_width,
    use_forces: options.UseForces = DEFAULT.forces,
    precision: options.Precision = DEFAULT.precision,
    compile: options.Compile = DEFAULT.compile,
    threads: options.Threads = DEFAULT.threads,
    seed: options.Seed = DEFAULT.seed,
    checkpoint_every: options.CheckpointEvery = DEFAULT.checkpoint_every,
    log_every: options.LogEvery = DEFAULT.log_every,
    devices: options.Devices = DEFAULT.devices,
    nodes: options.Nodes = DEFAULT.nodes,
    strategy: options.Strategy = DEFAULT.strategy,
    accelerator: options.Accelerator = DEFAULT.accelerator,
) -> None:
    """Train a model on trajectories at equilibrium, with forces if there are any."""
    given = dict(locals())
    one_of("domain", domain, ("molecule",))
    config = options.config_of(given)
    sizes = _sizes(network or [])
    files = options.files_of(given)

    from equilibra.train.molecule import train_molecule

    options.watch(
        ctx,
        out,
        config,
        lambda progress: train_molecule(
            [files], Path(out), config, name=name, temperature=temperature, network=sizes, progress=progress
        ),
    )


def _sizes(texts: list[str]) -> dict[str, int]:
    """Reads `KEY=NUMBER` pairs of the network's configuration."""
    sizes = {}
    for text in texts:
        key, _, number = text.partition("=")
        if key not in SIZES:
            raise InputError(f"--network: {unknown_key_message('size', key, SIZES)}")
        if not number.isdecimal() or int(number) < 1:
            raise InputError(f"--network: got '{text}', expected a size and a whole number, such as {key}=64")
        sizes[key] = int(number)
    return sizes
