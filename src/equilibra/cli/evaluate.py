"""`equilibra evaluate`: two ensembles, and how far apart they are."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import at_least, one_of, present, writable
from equilibra.cli.console import say
from equilibra.cli.domains import DOMAINS
from equilibra.errors import InputError

NAME = "evaluate"
EXAMPLE = (
    "Examples:\n\nequilibra evaluate out/ md/\n\nequilibra evaluate my.xtc:my.pdb md/ --json metrics.json\n\n"
    "equilibra evaluate trp-cage/ md.xtc:md.pdb --native 2jof.pdb\n\n"
    "equilibra evaluate carbon/ validation.csv --training train.csv\n\n"
    "equilibra evaluate poses/ known.sdf --vina"
)


def run(
    ctx: typer.Context,
    a: Annotated[
        str, typer.Argument(help="The ensemble: a folder of samples or of a simulation, or FILE:TOPOLOGY.", metavar="A")
    ],
    b: Annotated[str, typer.Argument(help="The reference, likewise; several runs give the better floor.", metavar="B")],
    n: Annotated[
        int | None,
        typer.Option(
            "-n",
            help="Largest number of conformations on each side; by default 10,000 of a molecule, 1,000 of a protein or of crystals.",
        ),
    ] = None,
    json: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file, too.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the draws.")] = 0,
    lag: Annotated[int, typer.Option("--lag", help="Lag of the TICA in frames of the reference; 0 leaves it out.")] = 10,
    include_rejected: Annotated[
        bool, typer.Option("--include-rejected", help="Count the samples of A that failed the checks, too.")
    ] = False,
    native: Annotated[
        Path | None,
        typer.Option(
            "--native", help="Of a protein: its native structure, a PDB or mmCIF file, for TM-score, RMSD and native contacts."
        ),
    ] = None,
    training: Annotated[
        Path | None,
        typer.Option(
            "--training", help="Of crystals: the structures that the model was trained on, for novelty and the score of memory."
        ),
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            "--judge",
            metavar="NAME",
            help="Of crystals: judge both sides by this model, such as band-gap:xtb or band-gap:megnet, and compare the distributions; repeat it for several.",
        ),
    ] = None,
    placement: Annotated[
        str | None,
        typer.Option(
            "--placement",
            metavar="ENERGY",
            help="Of adsorbates: relax samples of A, and as many random and heuristic placements, with this energy (emt, chgnet, ...): success within 0.1 eV "
            "after k structures, with the number of energy calls.",
        ),
    ] = None,
    vina: Annotated[
        bool,
        typer.Option(
            "--vina", help="Of ligands: dock with AutoDock Vina into the same box, too; its figures are the baseline."
        ),
    ] = False,
    exhaustiveness: Annotated[int, typer.Option("--exhaustiveness", help="Of ligands: exhaustiveness of --vina.")] = 8,
    domain: Annotated[
        str | None,
        typer.Option(
            "--domain",
            help="molecule, protein, crystal, adsorbate or ligand; by default what the folders say, or what the atoms look like.",
        ),
    ] = None,
) -> None:
    """Measure an ensemble against a reference: every number beside its error, its noise floor and a baseline."""
    at_least("-n", n, 2)
    at_least("--seed", seed, 0)
    at_least("--lag", lag, 0)
    at_least("--exhaustiveness", exhaustiveness, 1)
    one_of("domain", domain, DOMAINS)
    for path in (native, training):
        if path is not None:
            present(path)
    if json is not None:
        if json.is_dir():
            raise InputError(f"--json: '{json}' is a folder, expected a file")
        writable(json.parent)

    from equilibra.report.evaluation import evaluate

    result = evaluate(
        a,
        b,
        n=n,
        seed=seed,
        lag=lag or None,
        include_rejected=include_rejected,
        native=native,
        training=training,
        judges=judge or (),
        placement=placement,
        vina=vina,
        exhaustiveness=exhaustiveness,
        domain=domain,
    )
    say(ctx, result.to_text().rstrip("\n"))
    if json is not None:
        from equilibra.atomic import write_text

        write_text(json, result.to_json() + "\n")
