"""What `train` and `fine-tune` share: their options, and the run with its progress bar."""

import dataclasses
import shlex
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.checks import at_least, writable
from equilibra.cli.console import Bar, bar, say
from equilibra.errors import InputError
from equilibra.train.config import TrainConfig

if TYPE_CHECKING:
    from equilibra.data.trajectory import TrajectoryFiles
    from equilibra.systems.model import Model
    from equilibra.systems.protein.snapshots import ForceProgress
    from equilibra.train.energy import EnergyProgress

Trajectory = Annotated[
    list[Path] | None,
    typer.Option("--trajectory", help="XTC, DCD, HDF5 or npz file of frames at equilibrium; repeat it for several."),
]
Topology = Annotated[
    Path | None,
    typer.Option("--topology", help="PDB or SDF file of the molecule, with all hydrogens; of a protein, any PDB file."),
]
Forces = Annotated[
    list[Path] | None, typer.Option("--forces", help="npz file of the forces in eV/Å of each trajectory, in the same order.")
]
Stride = Annotated[int, typer.Option("--stride", help="Use every stride-th frame.")]
Skip = Annotated[int, typer.Option("--skip", help="Frames left out at the start of each trajectory.")]
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        help="Temperature of the data, in K, inside the range of a model of several. By default that which a model of molecules is meant for; "
        "proteins need none.",
    ),
]
Start = Annotated[
    list[Path] | None,
    typer.Option(
        "--trajectory",
        help="XTC, DCD, HDF5 or npz file of frames at equilibrium; repeat it for several. With --energy: frames to start from, equilibrium or not.",
    ),
]
StartTopology = Annotated[
    Path | None, typer.Option("--topology", help="PDB or SDF file of the molecule of the trajectories, with all hydrogens.")
]
Out = Annotated[Path, typer.Option("--out", "-o", help="Run folder; the model goes to its sub-folder `model`.")]
Steps = Annotated[int, typer.Option("--steps", help="Optimiser steps of the whole run.")]
BatchSize = Annotated[int, typer.Option("--batch-size", help="Conformations per step, over all devices.")]
LearningRate = Annotated[float, typer.Option("--learning-rate", help="Peak learning rate of AdamW.")]
Schedule = Annotated[str, typer.Option("--schedule", help="cosine (to zero), inverse-sqrt (after the warm-up) or constant.")]
Warmup = Annotated[int, typer.Option("--warmup", help="Steps of linear warm-up.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Decoupled weight decay.")]
Clip = Annotated[float, typer.Option("--clip", help="Largest gradient norm.")]
Ema = Annotated[float, typer.Option("--ema", help="Decay per step of the averaged weights, which the model keeps.")]
NoiseMedian = Annotated[
    float, typer.Option("--noise-median", help="Median training noise, in units of the data's spread; 0.08 with --energy.")
]
NoiseWidth = Annotated[
    float, typer.Option("--noise-width", help="Standard deviation of the logarithm of the training noise; 1.7 with --energy.")
]
UseForces = Annotated[bool, typer.Option("--use-forces/--ignore-forces", help="Use the forces, if there are any, in the loss.")]
Precision = Annotated[str, typer.Option("--precision", help="bf16 or fp32.")]
Compile = Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the network.")]
Threads = Annotated[int | None, typer.Option("--threads", help="CPU threads; by default PyTorch's choice.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of weights, batches and noise.")]
CheckpointEvery = Annotated[int, typer.Option("--checkpoint-every", help="Steps between checkpoints.")]
LogEvery = Annotated[int, typer.Option("--log-every", help="Steps between log lines.")]
Devices = Annotated[int, typer.Option("--devices", help="Devices per node.")]
Nodes = Annotated[int, typer.Option("--nodes", help="Nodes.")]
Strategy = Annotated[str, typer.Option("--strategy", help="Lightning's strategy, such as ddp.")]
Accelerator = Annotated[str, typer.Option("--accelerator", help="Lightning's accelerator: auto, cpu, gpu, ...")]


class TrainingBar:
    """What a training shows: optimiser steps, and before them the snapshots that mean forces are known for."""

    def __init__(self, shown: Bar, steps: int) -> None:
        self._shown, self._steps = shown, steps
        self._first: tuple[int, float] | None = None

    def __call__(self, step: int, values: dict[str, float]) -> None:
        """Shows a step with its loss."""
        now = time.monotonic()
        self._first = self._first or (step, now)
        passed = now - self._first[1]
        rate = (step - self._first[0]) / passed if passed > 0 else 0.0
        note = f"{step:,}/{self._steps:,} loss {values['loss']:.4f}, {rate:.1f} steps/s"
        self._shown.update(step, total=self._steps, note=note)

    def collecting(self, state: "ForceProgress") -> None:
        """Shows a snapshot."""
        note = f"mean forces of {state.protein}: snapshot {state.snapshot}/{state.snapshots}, {state.calls:,} energy calls"
        self._shown.update(state.number * state.snapshots + state.snapshot, total=state.proteins * state.snapshots, note=note)


def config_of(options: dict[str, Any]) -> TrainConfig:
    """Makes the configuration of the verb's options; those that are not its own are left out."""
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    values = {name: value for name, value in options.items() if name in known}
    values["forces"] = options["use_forces"]
    at_least("--warmup", values["warmup"], 0)
    at_least("--weight-decay", values["weight_decay"], 0)
    at_least("--seed", values["seed"], 0)
    at_least("--threads", values["threads"], 1)
    return TrainConfig(**values)


def files_of(options: dict[str, Any]) -> "TrajectoryFiles":
    """Makes the description of the data, and checks that its files are there and the run folder can be written."""
    if not options["trajectory"] or options["topology"] is None:
        raise InputError("a molecule is learned from a --trajectory with its --topology; give both")
    if options["temperature"] is not None and not options["temperature"] > 0:
        raise InputError(f"--temperature: got {options['temperature']}, expected a positive number in K")
    writable(options["out"])

    from equilibra.data.trajectory import TrajectoryFiles

    return TrajectoryFiles(
        topology=options["topology"],
        trajectories=tuple(options["trajectory"]),
        forces=tuple(options["forces"] or ()),
        stride=options["stride"],
        skip=options["skip"],
    )


def sizes_of(weights: "Model | None", names: Iterable[str], sizes: dict[str, int]) -> dict[str, Any]:
    """Returns the sizes of a network that are asked for, and the others of those names as the weights have them that a training starts from, if there are any."""
    own = {} if weights is None else {name: weights.network[name] for name in names if name in weights.network}
    return {**own, **sizes}


def weight_of(text: str) -> tuple[str, float]:
    """Splits a weight off the end of a set of data, `PATH@WEIGHT`; a file of that very name has none.

    Raises:
        InputError: If the weight is not positive.
    """
    where, mark, number = text.rpartition("@")
    if not mark or Path(text).exists():
        return text, 1.0
    try:
        weight = float(number)
    except ValueError:
        return text, 1.0
    if not 0.0 < weight < float("inf"):
        raise InputError(f"--data: got the weight {number} of '{where}', expected a positive number")
    return where, weight


def typed(ctx: typer.Context, names: Iterable[str]) -> list[str]:
    """Returns those options that the command line names, as they are typed."""
    sources = {name: ctx.get_parameter_source(name) for name in names}
    return [
        "--" + name.replace("_", "-") for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"
    ]


def watch_energy(
    ctx: typer.Context,
    out: Path,
    source: str | list[str],
    energy: str,
    train: Callable[[Callable[["EnergyProgress"], None]], "Model"],
) -> None:
    """Runs a training from an energy with its progress bar, and prints what each round found."""
    if (out / "round-000.safetensors").is_file() or (out / "systems").is_dir():
        say(ctx, f"going on with '{out}'")
    start = time.monotonic()
    with bar(ctx, "training", 1.0) as shown:

        def progress(state: "EnergyProgress") -> None:
            if state.doing == "judged":
                say(ctx, f"round {state.round + 1} of {state.rounds}: {_judged(state)}")
            which = "" if state.system is None or state.systems == 1 else f" system {state.system + 1} of {state.systems}"
            note = f"round {state.round + 1}/{state.rounds} {state.doing}{which}, {state.calls:,} energy calls"
            if state.loss is not None:
                note += f", step {state.step:,}/{state.steps:,} loss {state.loss:.4f}"
            if state.ess is not None:
                note += (
                    f", mean ESS {100 * state.ess:.1f} %"
                    if state.systems > 1
                    else f", ESS {100 * state.ess:.1f} %, log Z {state.log_z}"
                )
            shown.update(state.step, total=state.steps, note=note)

        model = train(progress)
    say(ctx, model.card.data)
    say(ctx, f"'{model.name}', {model.parameters():,} weights, in '{out / 'model'}' after {time.monotonic() - start:,.0f} s")
    named = [source] if isinstance(source, str) else source
    command = shlex.join(["equilibra", "sample", model.domain, *named, "--model", str(out / "model"), "--energy", energy])
    say(ctx, f"sample it: {command}")
    if (out / "systems.csv").is_file():
        say(
            ctx,
            f"what the walkers themselves know: the poses in '{out / 'walkers'}', a folder for each number of '{out / 'systems.csv'}'",
        )
    elif (out / "walkers").is_dir() and model.domain == "ligand":
        say(ctx, f"what the walkers themselves know: the poses in '{out / 'walkers'}', and its clusters.csv")
    elif (out / "walkers").is_dir():
        say(
            ctx,
            f"what the walkers themselves know: equilibra free-energy {shlex.quote(str(out / 'walkers'))} --cv VARIABLE --states STATE STATE",
        )


def _judged(state: "EnergyProgress") -> str:
    ess = "unknown" if state.ess is None else f"{100 * state.ess:.1f} % of the model's samples"
    parts = [f"{state.calls:,} energy calls"]
    parts += [f"mean ESS of {state.systems} systems {ess}"] if state.systems > 1 else [f"ESS {ess}", f"log Z {state.log_z}"]
    if state.accepted is not None:
        parts.append(f"{100 * state.accepted:.0f} % of its proposals accepted")
    return ", ".join(parts)


def watch(ctx: typer.Context, out: Path, config: TrainConfig, train: Callable[[TrainingBar], "Model"]) -> "Model":
    """Runs a training with its progress bar, prints where the model is, and returns it."""
    if any((folder / "checkpoint.safetensors").is_file() for folder in (out, out / "training")):
        say(ctx, f"going on with '{out}' from its checkpoint")
    elif (out / "mean-forces").is_dir():
        say(ctx, f"going on with '{out}' from its mean forces")
    start = time.monotonic()
    with bar(ctx, "training", config.steps) as shown:
        model = train(TrainingBar(shown, config.steps))
    say(ctx, f"'{model.name}', {model.parameters():,} weights, in '{out / 'model'}' after {time.monotonic() - start:,.0f} s")
    what = {"protein": "SEQUENCE", "crystal": "FORMULA", "ligand": "RECEPTOR LIGAND"}.get(model.domain, "MOLECULE")
    say(ctx, f"sample it: equilibra sample {model.domain} {what} --model {out / 'model'}")
    return model
