"""`equilibra report`: a page about an ensemble."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

NAME = "report"
EXAMPLE = "Examples:\n\nequilibra report out/\n\nequilibra report out/ --reference md/ -o comparison.html"


def run(
    ctx: typer.Context,
    folder: Annotated[str, typer.Argument(help="A folder of samples or of a simulation, or FILE:TOPOLOGY.", metavar="FOLDER")],
    reference: Annotated[
        str | None, typer.Option("--reference", help="What to compare with, likewise; by default what came with the model.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File to write; by default report.html in the folder.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", help="Temperature in K, where the files do not say it.")
    ] = None,
    evaluate: Annotated[
        bool, typer.Option("--evaluate/--no-evaluate", help="Measure against the reference; takes a minute or so.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
) -> None:
    """Write a page about an ensemble: free energies, torsions, structures, checks, bonds; it needs no network when opened."""
    if temperature is not None and not temperature > 0:
        raise InputError(f"--temperature: got {temperature}, expected a positive number in K")
    if out is None:
        if not Path(folder).is_dir():
            raise InputError(f"'{folder}' is no folder; say where to write with --out")
        out = Path(folder) / "report.html"
    writable(out if out.is_dir() else out.parent)
    if reference is not None and ":" not in reference:
        present(Path(reference))

    from equilibra.report.evaluation import evaluate as measure
    from equilibra.report.from_ensemble import write_report
    from equilibra.systems.molecule.runs import join_runs, load_runs

    runs = load_runs(folder)
    others = None if reference is None else load_runs(reference)
    evaluation = measure(runs, others, seed=seed) if others is not None and evaluate else None
    written = write_report(
        join_runs(runs), out, reference=others, temperature=temperature, evaluation=evaluation, label=reference, seed=seed
    )
    say(ctx, f"written: '{written}'")
