"""`equilibra interpolate`: a path between two conformations."""

from pathlib import Path
from typing import Annotated, Any

import typer

from equilibra.cli.checks import at_least, present, writable
from equilibra.cli.console import bar, say
from equilibra.cli.domains import chain_names, default_model, refuse

NAME = "interpolate"
EXAMPLE = (
    "Examples:\n\nequilibra interpolate a.pdb b.pdb --steps 50 -o path/\n\n"
    "equilibra interpolate 1ake.pdb 4ake.pdb --model runs/mine/model --chains A --log-density -o path/"
)
PROTEINS = "Proteins"


def run(
    ctx: typer.Context,
    a: Annotated[
        Path,
        typer.Argument(
            help="First conformation: a PDB or SDF file with all hydrogens; of a protein, a PDB or mmCIF file.", metavar="A"
        ),
    ],
    b: Annotated[
        Path,
        typer.Argument(
            help="Last conformation: the same atoms in the same order; of a protein, what residues both have counts.",
            metavar="B",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to.")] = Path("path"),
    steps: Annotated[int, typer.Option("--steps", help="Conformations on the path, the two ends included.")] = 50,
    model: Annotated[
        str | None,
        typer.Option("--model", help="A shipped model, or the folder of your own; of molecules, molecule-ala2 by default."),
    ] = None,
    network_steps: Annotated[int, typer.Option("--network-steps", help="Steps of the flow in each direction.")] = 50,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            help="Conformations given to the network at once; by default 64, of a protein what memory has room for.",
        ),
    ] = None,
    outside_scope: Annotated[
        bool, typer.Option("--outside-scope", help="Allow a molecule that the model was not trained for.")
    ] = False,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Write report.html.")] = True,
    features: Annotated[
        str | None,
        typer.Option(
            "--features",
            help="Extra features of the residues that both structures have, as the model was trained with: see `equilibra sample --help`.",
            rich_help_panel=PROTEINS,
        ),
    ] = None,
    chains: Annotated[
        list[str] | None,
        typer.Option(
            "--chains",
            help="Chains to take of both structures, such as A or A,B; by default all, but of copies the first.",
            rich_help_panel=PROTEINS,
        ),
    ] = None,
    log_density: Annotated[
        bool,
        typer.Option("--log-density", help="Compute the log-density of each conformation, too.", rich_help_panel=PROTEINS),
    ] = False,
    probes: Annotated[int, typer.Option("--probes", help="Random probes of the log-densities.", rich_help_panel=PROTEINS)] = 4,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the probes.", rich_help_panel=PROTEINS)] = 0,
    energy: Annotated[
        str | None,
        typer.Option(
            "--energy",
            help="Potential energies of this force field, such as amber14-obc2: side chains are placed on each conformation and relaxed, the backbone held.",
            rich_help_panel=PROTEINS,
        ),
    ] = None,
    gif: Annotated[
        bool | None,
        typer.Option(
            "--gif/--no-gif", help="Draw path.gif, an animated picture; by default with the report.", rich_help_panel=PROTEINS
        ),
    ] = None,
) -> None:
    """Interpolate between two conformations through the model's latent space: a hypothesis about a transition, not its mechanism."""
    at_least("--steps", steps, 2)
    at_least("--network-steps", network_steps, 1)
    at_least("--batch-size", batch_size, 1)
    at_least("--probes", probes, 2)
    at_least("--seed", seed, 0)
    chosen = chain_names(chains)
    present(a)
    present(b)
    writable(out)

    from equilibra.systems.model import load
    from equilibra.systems.paths import interpolate

    loaded = load(_default(a, b) if model is None else model)
    options: dict[str, Any] = {"steps": steps, "network_steps": network_steps, "outside_scope": outside_scope}
    if batch_size is not None:
        options["batch_size"] = batch_size
    if loaded.domain == "protein":
        from equilibra.systems.protein.named_provider import read_provider

        options |= {"chains": chosen, "provider": read_provider(features), "log_density": log_density}
        options |= {"probes": probes, "seed": seed, "energy": energy, "folder": out}
    else:
        meaningless = {
            "--features": features,
            "--chains": chains,
            "--log-density": log_density,
            "--energy": energy,
            "--gif": gif,
        }
        refuse(loaded.domain, {name: (value, "") for name, value in meaningless.items()})
    with bar(ctx, "path", 1.0) as shown:
        if loaded.domain == "protein":
            options["progress"] = lambda words: shown.update(0.0, note=words)
        path = interpolate(loaded, a, b, **options)
    path.save(out)
    files = ["path.pdb", "path.xtc", "path.csv"]
    if report:
        from equilibra.report.path import write_path_report

        files.append(write_path_report(path, out / "report.html", model=model or loaded.name).name)
    if loaded.domain == "protein":
        if report if gif is None else gif:
            from equilibra.report.path_picture import write_path_gif

            files.append(write_path_gif(path, out / "path.gif").name)
        if path.energies is not None:
            files += ["all-atom.pdb", "all-atom.xtc", "relaxation.csv"]
    valid = int(path.ensemble.validity.valid.sum())
    say(ctx, f"{len(path)} conformations, {valid} of them valid, in '{out}': {', '.join(files)}")
    unit = "Å and rad" if loaded.domain == "protein" else "Å"
    say(
        ctx,
        f"encoded and decoded, the ends come back within {path.round_trip[0]:.4f} and {path.round_trip[1]:.4f} {unit} (rms per coordinate)",
    )
    values = path.ensemble.log_density
    if values is not None:
        say(ctx, f"log-density: {values[0]:.1f} nats at A, {values[-1]:.1f} at B, lowest on the way {values.min():.1f}")
    if loaded.domain == "protein" and path.energies is not None:
        say(ctx, f"{path.energies.summary()}; no free energies")


def _default(a: Path, b: Path) -> str:
    """Returns the name of the default model for what two files hold."""
    from equilibra.report.source_domain import domain_of

    return default_model(domain_of(a, b))
