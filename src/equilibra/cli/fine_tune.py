"""`equilibra fine-tune`: a model for a user's own molecule, from the weights of another."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli import training as options
from equilibra.train.config import TrainConfig

NAME = "fine-tune"
EXAMPLE = (
    "Example:\n\nequilibra fine-tune molecule-ala2 --trajectory my.xtc --topology my.pdb -o runs/tuned/\n\n"
    "Repeat the command to go on with an interrupted run."
)
DEFAULT = TrainConfig(steps=2000, warmup=100, learning_rate=3e-4)


def run(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(help="A shipped model, or the folder of your own.", metavar="MODEL")],
    trajectory: options.Trajectory,
    topology: options.Topology,
    out: options.Out,
    forces: options.Forces = None,
    stride: options.Stride = 1,
    skip: options.Skip = 0,
    temperature: options.Temperature = 300.0,
    name: Annotated[
        str | None, typer.Option("--name", help="Name of the new model; by default the old one's with `-tuned`.")
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
    """Train a model further on your own trajectories; the model itself is left as it is."""
    given = dict(locals())
    config = options.config_of(given)
    files = options.files_of(given)

    from equilibra.systems.model import load
    from equilibra.train.molecule import fine_tune

    start = load(model)
    options.watch(
        ctx,
        out,
        config,
        lambda progress: fine_tune(start, [files], Path(out), config, name=name, temperature=temperature, progress=progress),
    )
