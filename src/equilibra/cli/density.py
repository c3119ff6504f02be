"""`equilibra density`: the log-density of conformations, or of crystal structures, under a model."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import bar, complain, say, settings, table
from equilibra.cli.crystal_density import density_of_crystals, is_crystals
from equilibra.cli.domains import only_molecules
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.cli.console import Bar
    from equilibra.systems.density_blocks import DensityProgress
    from equilibra.systems.molecule.conformation_density import ConformationDensity

NAME = "density"
EXAMPLE = (
    "Examples:\n\nequilibra density out/ --max 100 --energy amber99sbildn-obc\n\n"
    "equilibra density md/trajectory-0.dcd --topology md/topology.pdb --model molecule-ala2 -o density/\n\n"
    "equilibra density validation.csv --model runs/carbon/model --max 100 -o density/\n\n"
    "Repeat the command to go on with an interrupted run."
)
_LONG = 60.0  # seconds; a run expected to take longer is announced


def run(
    ctx: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            help="A folder of samples or of a simulation, a PDB or SDF file, or FILE:TOPOLOGY; of crystals also files of structures.",
            metavar="OUT",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", help="A shipped model, or the folder of your own; by default the one that drew the samples."),
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            "--energy",
            help="Compare with this energy: a force field of peptides such as amber99sbildn-obc, or mmff94, mmff94s, gaff2, so3lr.",
        ),
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Temperature in K, of a model of several.")] = None,
    trace: Annotated[
        str, typer.Option("--trace", help="exact, hutchinson (random probes), or auto: exact up to 100 degrees of freedom.")
    ] = "auto",
    probes: Annotated[int, typer.Option("--probes", help="Random probes of the trace hutchinson.")] = 16,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Steps of the flow; by default what the tolerance needs.")
    ] = None,
    check: Annotated[
        str,
        typer.Option(
            "--check",
            help="Integration error: estimate (traces only where they are needed), or of a trace at every step, halving the steps or from the nodes.",
        ),
    ] = "estimate",
    tolerance: Annotated[
        float, typer.Option("--tolerance", help="Integration error in nats up to which the estimate goes on.")
    ] = 0.05,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network's derivative: for some hundred conformations and more.")
    ] = False,
    most: Annotated[
        int | None, typer.Option("--max", help="Largest number of conformations, spread evenly over the source.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Conformations treated at once; lower it if memory is short.")
    ] = None,
    topology: Annotated[Path | None, typer.Option("--topology", help="PDB or SDF file of a trajectory without atoms.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder to write to; by default density/ in OUT.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the random probes.")] = 0,
    outside_scope: Annotated[
        bool, typer.Option("--outside-scope", help="Allow a molecule that the model was not trained for.")
    ] = False,
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads; by default PyTorch's choice.")] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write density.html.")] = True,
    label: Annotated[
        list[str] | None,
        typer.Option(
            "--label",
            metavar="NAME=VALUE",
            help="Of crystals: the density among structures with this label, of a model that was trained with some.",
        ),
    ] = None,
) -> None:
    """Compute the log-density of conformations or crystal structures under a model, with its errors; with an energy, see how well it follows it."""
    given = dict(locals())
    for name, value, least in (
        ("--steps", steps, 2),
        ("--probes", probes, 2),
        ("--max", most, 1),
        ("--batch-size", batch_size, 1),
        ("--seed", seed, 0),
        ("--threads", threads, 1),
    ):
        at_least(name, value, least)
    if temperature is not None and not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    one_of("trace", trace, ("auto", "exact", "hutchinson"))
    one_of("check", check, ("estimate", "halving", "nodes"))
    if not tolerance > 0:
        raise InputError(f"--tolerance: got {tolerance}, expected a positive number of nats")
    folder = target(source, out, NAME)
    if is_crystals(source):
        writable(folder)
        _set_threads(threads)
        density_of_crystals(ctx, source, folder, given)
        return
    if label:
        raise InputError("--label: has a meaning for crystals only; leave it out")
    only_molecules(NAME, source, "; log-densities along a path come with `equilibra interpolate --log-density`")
    writable(folder)

    _set_threads(threads)
    if energy is not None:
        from equilibra.systems.molecule.energy import energy_names

        one_of("energy", energy, energy_names())
    from equilibra.systems.molecule.density import log_density

    with bar(ctx, "log-density", 1.0) as shown:
        result = log_density(
            model,
            source,
            energy=energy,
            temperature=temperature,
            trace=trace,  # type: ignore[arg-type]  # checked above
            probes=probes,
            steps=steps,
            check=check,  # type: ignore[arg-type]  # checked above
            tolerance=tolerance,
            compile=compile,
            max_conformations=most,
            topology=topology,
            seed=seed,
            batch_size=batch_size,
            folder=folder,
            outside_scope=outside_scope,
            progress=_reporter(ctx, shown),
        )
    files = [path.name for path in result.save(folder)]
    if report:
        from equilibra.report.density_page import write_density_report

        files.append(write_density_report(result, folder / "density.html").name)
    _summary(ctx, result, folder, files)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def target(source: str, out: Path | None, name: str) -> Path:
    """Returns the folder to write to: the one asked for, or a sub-folder of the source.

    Raises:
        InputError: If the source is no folder, and none was asked for.
    """
    if out is not None:
        return out
    if not Path(source).is_dir():
        if not Path(source).exists() and ":" not in source:
            raise InputError(f"no such file or folder: '{source}'")
        raise InputError(f"'{source}' is no folder; say where to write with --out")
    return Path(source) / name


def _reporter(ctx: typer.Context, shown: "Bar"):  # type: ignore[no-untyped-def]  # noqa: ANN202
    announced = False

    def report(state: "DensityProgress") -> None:
        nonlocal announced
        shown.update(state.done, total=state.wanted, note=f"{state.done:,.0f}/{state.wanted:,}")
        if announced or state.seconds_left is None:
            return
        announced = True
        if state.seconds_left > _LONG and not settings(ctx).quiet:
            complain(
                f"{state.wanted - state.done:,.0f} conformations are left: about {state.seconds_left / 60.0:,.0f} min; fewer with --max, faster with "
                "--check nodes, or with the noisy --trace hutchinson. What is finished is kept"
            )

    return report


def _summary(ctx: typer.Context, result: "ConformationDensity", folder: Path, files: list[str]) -> None:
    values = result.log_density
    rows = [
        ("mean of ln p", f"{values.mean():.3f} nats"),
        ("standard deviation", f"{values.std():.3f} nats"),
        (
            "integration error, mean and largest",
            f"{result.integration_error.mean():.2g}, {result.integration_error.max():.2g} nats",
        ),
    ]
    if result.trace == "hutchinson":
        rows.append(("trace error, mean and largest", f"{result.trace_error.mean():.2g}, {result.trace_error.max():.2g} nats"))
    found = result.calibration()
    if found is not None:
        rows.append((f"slope against -u of {result.energy_name} (ideal 1)", str(found.slope)))
        rows.append(("Spearman's rank correlation with -u", f"{found.spearman:.3f}"))
        rows.append(("standard deviation of ln p + u", f"{found.spread:.2f}"))
    name = result.ensemble.system.name
    table(ctx, ("", "value"), rows, title=f"{name}: ln p of {len(result):,} conformations, {result.trace} trace")
    for note in result.notes:
        say(ctx, note)
    say(ctx, f"{result.measure[0].upper()}{result.measure[1:]}.")
    say(ctx, f"files in '{folder}': {', '.join(files)}")
