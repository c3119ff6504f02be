"""`equilibra simulate`: reference data with OpenMM."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equilibra.cli.checks import at_least, one_of, writable
from equilibra.cli.console import bar, say, table
from equilibra.cli.quantities import duration
from equilibra.energies.openmm_system import FORCE_FIELDS
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.molecule.simulate import Simulation, SimulationProgress

NAME = "simulate"
EXAMPLE = (
    "Example:\n\nequilibra simulate ACE-ALA-NME --time 200ns --replica-exchange 5 --top-temperature 650 -o md/\n\n"
    "Repeat the command to go on with an interrupted simulation; with a longer --time or more --runs to extend it."
)
_FEWEST = 20  # frames below which a population says nothing


def run(
    ctx: typer.Context,
    molecule: Annotated[
        str, typer.Argument(help="A peptide (ACE-ALA-NME), or a PDB file with all hydrogens.", metavar="MOLECULE")
    ],
    time: Annotated[str, typer.Option("--time", help="Simulated time of each run, such as 200ns or 0.5us.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the simulation.")],
    force_field: Annotated[str, typer.Option("--force-field", help=f"One of {', '.join(FORCE_FIELDS)}.")] = "amber99sbildn-obc",
    temperature: Annotated[float, typer.Option("--temperature", help="Temperature in K.")] = 300.0,
    replica_exchange: Annotated[
        int, typer.Option("--replica-exchange", help="Temperatures of a replica exchange; 1 for plain dynamics.")
    ] = 1,
    top_temperature: Annotated[
        float, typer.Option("--top-temperature", help="Highest temperature of the exchange, in K.")
    ] = 600.0,
    runs: Annotated[int, typer.Option("--runs", help="Independent runs, to compare with each other.")] = 2,
    time_step: Annotated[str, typer.Option("--time-step", help="Integration step, such as 2fs (with constraints).")] = "1fs",
    constraints: Annotated[str, typer.Option("--constraints", help="none, or h-bonds for rigid bonds to hydrogen.")] = "none",
    hydrogen_mass: Annotated[
        float | None, typer.Option("--hydrogen-mass", help="Mass of hydrogens in u, up to 4; averages do not depend on it.")
    ] = None,
    friction: Annotated[float, typer.Option("--friction", help="Langevin friction in 1/ps.")] = 1.0,
    frame_interval: Annotated[
        str, typer.Option("--frame-interval", help="Time between frames, and between exchanges.")
    ] = "1ps",
    platform: Annotated[str, typer.Option("--platform", help="auto, Reference, CPU, CUDA or OpenCL.")] = "auto",
    seed: Annotated[int, typer.Option("--seed", help="Seed of all runs.")] = 0,
) -> None:
    """Simulate a molecule with OpenMM: several runs of Langevin dynamics, with replica exchange if wanted."""
    total_ns = duration("--time", time, "ns")
    step_fs, interval_ps = duration("--time-step", time_step, "fs"), duration("--frame-interval", frame_interval, "ps")
    at_least("--runs", runs, 1)
    at_least("--replica-exchange", replica_exchange, 1)
    at_least("--seed", seed, 0)
    one_of("constraints", constraints, ("none", "h-bonds"))
    one_of("platform", platform, ("auto", "Reference", "CPU", "CUDA", "OpenCL"))
    if replica_exchange > 1 and top_temperature <= temperature:
        raise InputError(
            f"--top-temperature: got {top_temperature:g} K, expected more than the {temperature:g} K of --temperature"
        )
    writable(out)

    from equilibra.systems.molecule.simulate import simulate

    with bar(ctx, molecule, total_ns * runs) as shown:

        def progress(state: "SimulationProgress") -> None:
            done = state.run * state.total_ns + state.time_ns
            shown.update(done, state.total_ns * state.runs, f"run {state.run + 1}/{state.runs}: {state.time_ns:.4g} ns")

        done = simulate(
            molecule,
            out,
            time_ns=total_ns,
            force_field=force_field,
            temperature=temperature,
            constraints=constraints,
            time_step=step_fs,
            hydrogen_mass=hydrogen_mass,
            friction=friction,
            frame_interval_ps=interval_ps,
            runs=runs,
            rungs=replica_exchange,
            top_temperature=top_temperature,
            platform=platform,
            seed=seed,
            progress=progress,
        )
    _summary(ctx, done)


def _summary(ctx: typer.Context, done: "Simulation") -> None:
    import numpy as np

    from equilibra.analysis.ramachandran import STATES, population
    from equilibra.report.molecule import torsion_pairs
    from equilibra.systems.molecule.runs import load_runs

    say(
        ctx,
        f"{done.system.name}: {' + '.join(f'{count:,}' for count in done.frames)} frames in '{done.folder}', platform {done.platform}",
    )
    if len(done.temperatures) > 1:
        pairs = zip(done.temperatures[:-1], done.temperatures[1:], strict=True)
        rows = [
            (f"{low:.0f} - {high:.0f} K", *(f"{100 * row[k]:.0f} %" for row in done.acceptance))
            for k, (low, high) in enumerate(pairs)
        ]
        table(ctx, ("exchanges accepted", *(f"run {k}" for k in range(len(done.frames)))), rows)
    if min(done.frames) < _FEWEST:
        return
    angles = [run.torsions() for run in load_runs(done.folder)]
    rows = []
    for phi, psi in torsion_pairs(list(angles[0])):
        runs = [np.stack([run[phi], run[psi]], axis=1) for run in angles]
        for state in STATES:
            shares = [population(run, state, correlated=True) for run in runs]
            rows.append(
                (f"{state} of {phi.removeprefix('phi ')}", *(f"{100 * p.value:.2f} ± {100 * p.error:.2f} %" for p in shares))
            )
    if rows:
        table(ctx, ("population", *(f"run {k}" for k in range(len(angles)))), rows)
