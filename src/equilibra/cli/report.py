"""`equilibra report`: a page about an ensemble."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equilibra.cli.checks import present, writable
from equilibra.cli.console import say
from equilibra.errors import InputError

NAME = "report"
EXAMPLE = (
    "Examples:\n\nequilibra report out/\n\nequilibra report out/ --reference md/ -o comparison.html\n\n"
    "equilibra report trp-cage/ --native 2jof.pdb"
)


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
    native: Annotated[
        Path | None, typer.Option("--native", help="Of a protein: its native structure, a PDB or mmCIF file.")
    ] = None,
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

    if native is not None:
        present(native)

    from equilibra.report.evaluation import evaluate as measure
    from equilibra.report.from_ensemble import write_report
    from equilibra.report.source_domain import domain_of

    kind = domain_of(*(source for source in (folder, reference) if source is not None))
    if native is not None and kind != "protein":
        raise InputError(f"--native: has a meaning for proteins only, and '{folder}' is an ensemble of a {kind}; leave it out")
    module = _runs_of(kind)
    runs = module.load_runs(folder)
    others = None if reference is None else module.load_runs(reference)
    evaluation = None
    if others is not None and evaluate:
        evaluation = measure(runs, others, seed=seed, native=native, domain=kind)
    options: dict[str, Any] = {
        "reference": others,
        "temperature": temperature,
        "evaluation": evaluation,
        "label": reference,
        "native": native,
    }
    say(ctx, f"written: '{write_report(module.join_runs(runs), out, seed=seed, **options)}'")


def _runs_of(kind: str) -> Any:
    """Returns the module that reads the ensembles of a domain."""
    if kind == "protein":
        from equilibra.systems.protein import runs

        return runs
    if kind == "crystal":
        from equilibra.systems.crystal import runs as crystals

        return crystals
    if kind == "ligand":
        from equilibra.systems.ligand import runs as ligands

        return ligands
    if kind == "adsorbate":
        from equilibra.systems.adsorbate import runs as adsorbates

        return adsorbates
    from equilibra.systems.molecule import runs as molecules

    return molecules
