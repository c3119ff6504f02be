"""`equilibra interpolate`: a path between two conformations."""

from pathlib import Path
from typing import Annotated

import typer

from equilibra.cli.checks import at_least, present, writable
from equilibra.cli.console import say

NAME = "interpolate"
EXAMPLE = "Example:\n\nequilibra interpolate a.pdb b.pdb --steps 50 -o path/"


def run(
    ctx: typer.Context,
    a: Annotated[Path, typer.Argument(help="First conformation: a PDB or SDF file with all hydrogens.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Last conformation: the same atoms in the same order.", metavar="B")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("path"),
    steps: Annotated[int, typer.Option("--steps", help="Conformations on the path, the two ends included.")] = 50,
    model: Annotated[str, typer.Option("--model", help="A shipped model, or the folder of your own.")] = "molecule-ala2",
    network_steps: Annotated[int, typer.Option("--network-steps", help="Steps of the flow in each direction.")] = 50,
    batch_size: Annotated[int, typer.Option("--batch-size", help="Conformations given to the network at once.")] = 64,
    outside_scope: Annotated[
        bool, typer.Option("--outside-scope", help="Allow a molecule that the model was not trained for.")
    ] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
) -> None:
    """Interpolate between two conformations through the model's latent space: a hypothesis about a transition, not its mechanism."""
    at_least("--steps", steps, 2)
    at_least("--network-steps", network_steps, 1)
    at_least("--batch-size", batch_size, 1)
    present(a)
    present(b)
    writable(out)

    from equilibra.systems.molecule.interpolate import interpolate

    path = interpolate(
        model, a, b, steps=steps, network_steps=network_steps, batch_size=batch_size, outside_scope=outside_scope
    )
    path.save(out)
    files = ["path.pdb", "path.xtc", "path.csv"]
    if report:
        from equilibra.report.path import write_path_report

        files.append(write_path_report(path, out / "report.html", model=model).name)
    valid = int(path.ensemble.validity.valid.sum())
    say(ctx, f"{len(path)} conformations, {valid} of them valid, in '{out}': {', '.join(files)}")
    say(
        ctx,
        f"encoded and decoded, the ends come back within {path.round_trip[0]:.4f} and {path.round_trip[1]:.4f} Å (rms per coordinate)",
    )
