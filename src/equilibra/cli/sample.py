"""`equilibra sample`: equilibrium conformations from a model."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import complain, table
from equilibra.cli.sampling import folders, sample_one
from equilibra.errors import EquilibraError, InputError

if TYPE_CHECKING:
    from equilibra.sampling.choose import SamplerConfig
    from equilibra.systems.model import Model

NAME = "sample"
EXAMPLE = (
    "Example:\n\nequilibra sample molecule ACE-ALA-NME -n 1000 --seed 0 -o out/\n\n"
    "With weights for the Boltzmann distribution of a force field:\n\n"
    "equilibra sample molecule ACE-ALA-NME -n 1000 --energy amber99sbildn-obc -o weighted/\n\n"
    "Repeat the command to go on with an interrupted run; with a larger -n to draw more."
)
DOMAINS = ("molecule", "protein")
SAMPLERS = ("dpm2m", "heun", "euler", "sde")
SPACINGS = ("log", "karras")
FORMATS = ("xtc", "dcd", "npz", "pdb", "sdf", "extxyz")


def run(
    ctx: typer.Context,
    domain: Annotated[str, typer.Argument(help="Kind of system: molecule.", metavar="DOMAIN")],
    source: Annotated[
        list[str],
        typer.Argument(
            help="Peptides (ACE-ALA-NME), SMILES, or SDF, MOL, PDB or SMI files; several go to a sub-folder each.",
            metavar="SOURCE",
        ),
    ],
    n: Annotated[int, typer.Option("-n", help="Valid conformations wanted, of each system.")] = 1000,
    seed: Annotated[
        int, typer.Option("--seed", help="The same seed gives the same conformations, whatever the batch size.")
    ] = 0,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("out"),
    model: Annotated[str, typer.Option("--model", help="A shipped model, or the folder of your own.")] = "molecule-ala2",
    steps: Annotated[int | None, typer.Option("--steps", help="Noise levels; by default the model's.")] = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="dpm2m, heun, euler or sde; by default the model's.")] = None,
    spacing: Annotated[
        str | None, typer.Option("--spacing", help="Spacing of the noise levels: log or karras; by default the model's.")
    ] = None,
    eta: Annotated[float | None, typer.Option("--eta", help="Stochasticity of the sde sampler, 1 by default.")] = None,
    churn: Annotated[
        float | None, typer.Option("--churn", help="Noise added before each step, relative; not with dpm2m.")
    ] = None,
    energy: Annotated[
        str | None,
        typer.Option(
            "--energy",
            help="Weight the conformations for the Boltzmann distribution of this energy: a force field of peptides such as "
            "amber99sbildn-obc, or mmff94, mmff94s, gaff2, so3lr. Not with the options of a sampler.",
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            "--levels", help="Noise levels of a path, with --energy; 200 by default. More cost more, and raise the ESS."
        ),
    ] = None,
    smc: Annotated[
        int | None,
        typer.Option(
            "--smc",
            help="With --energy, anneal the paths of each block to the energy, with so many moves between levels: for weights that are too uneven. "
            "Blocks should have some hundred conformations.",
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="Temperature in K, of a model of several or of the energy; by default the model's."),
    ] = None,
    block_size: Annotated[
        int, typer.Option("--block-size", help="Conformations of a block, the unit kept when interrupted.")
    ] = 50,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", help="Conformations given to the network at once; lower it if memory is short."),
    ] = None,
    format: Annotated[
        list[str] | None, typer.Option("--format", help="xtc, dcd, npz, pdb, sdf or extxyz; repeat it for several.")
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    outside_scope: Annotated[
        bool, typer.Option("--outside-scope", help="Allow molecules that the model was not trained for.")
    ] = False,
    compile: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: pays from some ten thousand conformations on.")
    ] = False,
    precision: Annotated[
        str, typer.Option("--precision", help="fp32, or bf16: faster, other conformations of the same quality.")
    ] = "fp32",
    threads: Annotated[int | None, typer.Option("--threads", help="CPU threads; by default PyTorch's choice.")] = None,
) -> None:
    """Draw equilibrium conformations of a molecule from a trained model."""
    one_of("domain", domain, DOMAINS)
    for name, value in (
        ("-n", n),
        ("--steps", steps),
        ("--block-size", block_size),
        ("--batch-size", batch_size),
        ("--threads", threads),
    ):
        at_least(name, value, 1)
    for name, number in (("--seed", seed), ("--eta", eta), ("--churn", churn)):
        at_least(name, number, 0)
    at_least("--levels", levels, 2)
    at_least("--smc", smc, 1)
    if temperature is not None and not 0.0 < temperature < float("inf"):
        raise InputError(f"--temperature: got {temperature:g} K, expected a positive number")
    given = {"--sampler": sampler, "--steps": steps, "--spacing": spacing, "--eta": eta, "--churn": churn}
    _check_weighting(energy, {"--levels": levels, "--smc": smc}, [name for name, value in given.items() if value is not None])
    one_of("sampler", sampler, SAMPLERS)
    one_of("spacing", spacing, SPACINGS)
    one_of("precision", precision, ("fp32", "bf16"))
    formats = list(dict.fromkeys(format or ["xtc"]))
    for name in formats:
        one_of("format", name, FORMATS)
    writable(out)

    import torch

    if energy is not None:
        from equilibra.systems.molecule.energy import energy_names

        one_of("energy", energy, energy_names())

    from equilibra.memory import keep_freed_memory
    from equilibra.systems.model import load

    keep_freed_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    loaded = load(model)
    if loaded.domain != domain:
        raise InputError(
            f"model '{model}' is of the domain '{loaded.domain}', not '{domain}'; `equilibra models` lists what there is"
        )
    way: dict[str, Any] = {"energy": energy, "levels": levels, "smc": smc}
    if energy is None:
        way = {"sampler": _sampler(loaded.sampler, steps=steps, name=sampler, spacing=spacing, eta=eta, churn=churn)}
    way |= {"temperature": temperature, "precision": precision}
    systems, problems = _systems(loaded, source, outside_scope)
    for problem in problems:
        complain(str(problem))
    if not systems:
        raise typer.Exit(2)
    several = len(systems) + len(problems) > 1
    rows, worst = [], 2 if problems else 0
    for folder, system in folders(out, systems) if several else [(out, systems[0])]:
        try:
            options = {"n": n, "seed": seed, "block_size": block_size, "batch_size": batch_size}
            rows.append(
                sample_one(
                    ctx,
                    loaded,
                    system,
                    folder,
                    formats,
                    report,
                    model,
                    way,
                    {**options, "outside_scope": outside_scope, "compile": compile},
                )
            )
        except EquilibraError as error:
            if not several:
                raise
            complain(f"{system.name}: {error}")
            worst = max(worst, error.exit_code)
    if several and rows:
        table(ctx, ("system", "conformations", "valid", "calls each", "per second", "folder"), rows)
    if worst:
        raise typer.Exit(worst)


def _check_weighting(energy: str | None, path_options: dict[str, int | None], sampler_options: list[str]) -> None:
    """Refuses options that do not go together."""
    for name, value in path_options.items():
        if energy is None and value is not None:
            raise InputError(f"{name}: has an effect with --energy only; use --steps for the noise levels of a sampler")
    if energy is not None and sampler_options:
        raise InputError(
            f"{sampler_options[0]}: cannot be combined with --energy, whose weights need a path of its own; leave it out, and use --levels "
            "for the number of noise levels"
        )


def _sampler(
    default: "SamplerConfig",
    *,
    steps: int | None,
    name: str | None,
    spacing: str | None,
    eta: float | None,
    churn: float | None,
) -> "SamplerConfig":
    if eta is not None and (name or default.name) != "sde":
        raise InputError(f"--eta: has no effect on the sampler '{name or default.name}'; use it with --sampler sde")
    grid: dict[str, Any] = {key: value for key, value in (("steps", steps), ("spacing", spacing)) if value is not None}
    changes: dict[str, Any] = {
        key: value for key, value in (("name", name), ("eta", eta), ("churn", churn)) if value is not None
    }
    return dataclasses.replace(default, grid=dataclasses.replace(default.grid, **grid), **changes)


def _systems(model: "Model", sources: list[str], outside_scope: bool) -> tuple[list[Any], list[InputError]]:
    """Reads all sources; a bad one, or a bad record of a file, does not sink the others."""
    from equilibra.systems.model import domain
    from equilibra.systems.molecule.system import molecule_systems

    module = domain(model.domain)
    systems: list[Any] = []
    problems: list[InputError] = []
    for source in sources:
        try:
            found = molecule_systems(module.meant(source, model.scope), on_error=problems.append)
        except InputError as error:
            problems.append(error)
            continue
        for system in found:
            try:
                if not outside_scope:
                    module.check_scope(system, model.scope, model.name)
                systems.append(system)
            except InputError as error:
                problems.append(error)
    return systems, problems
