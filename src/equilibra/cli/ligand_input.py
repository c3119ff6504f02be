"""What the command line knows of ligands in pockets: how receptor, ligand and pocket are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.checks import present
from equilibra.cli.console import complain, say
from equilibra.cli.training import typed

if TYPE_CHECKING:
    from equilibra.systems.ligand.inputs import LigandInput

PANEL = "Ligands"
OWN = ("ref_ligand", "center", "size", "residues", "waters", "keep_geometry")
"""Options that belong to ligands, by the names of their parameters."""

RefLigand = Annotated[
    str | None,
    typer.Option(
        "--ref-ligand",
        help="A ligand in the pocket: an SDF, MOL, MOL2, PDB or mmCIF file, or a residue of the receptor's file such as LIG or A:LIG401, which is then left out "
        "of the receptor. By default a ligand with 3-D coordinates is its own reference.",
        rich_help_panel=PANEL,
    ),
]
Center = Annotated[
    tuple[float, float, float] | None,
    typer.Option("--center", help="Centre X Y Z of the box that the ligand may be in, in Å.", rich_help_panel=PANEL),
]
Size = Annotated[
    list[float] | None,
    typer.Option(
        "--size",
        help="With --center: edge of the box in Å, or three of them (repeat it); 22.5 by default.",
        rich_help_panel=PANEL,
    ),
]
Residues = Annotated[
    list[str] | None,
    typer.Option(
        "--residues",
        help="Residues that line the pocket, such as A:57 or A:57,A:102; repeat it for several.",
        rich_help_panel=PANEL,
    ),
]
Waters = Annotated[
    bool, typer.Option("--waters", help="Keep the water molecules of the receptor's file.", rich_help_panel=PANEL)
]
KeepGeometry = Annotated[
    bool,
    typer.Option(
        "--keep-geometry",
        help="Keep bonds, angles and rings of a ligand with 3-D coordinates, instead of making them anew. Of complexes in --data, without --energy, it saves the time that takes.",
        rich_help_panel=PANEL,
    ),
]

State = Annotated[
    str,
    typer.Option(
        "--state",
        help="Of ligands, with --data: torsional (shift, turn and torsions; bonds and angles are exact) or cartesian (positions of the heavy atoms, all of which are learned). The model "
        "remembers it.",
        rich_help_panel=PANEL,
    ),
]

DataShare = Annotated[
    float | None,
    typer.Option(
        "--data-share",
        help="Of ligands, with --energy and --data: share of the training batches that are known complexes, 0.3 by default.",
        rich_help_panel=PANEL,
    ),
]

LigandResidue = Annotated[
    str | None,
    typer.Option(
        "--ligand-residue",
        help="Of ligands, with trajectories in --data: name of the ligand's residue in their topologies; by default the only one that is no amino acid, water or ion.",
        rich_help_panel=PANEL,
    ),
]
LigandTemplate = Annotated[
    str | None,
    typer.Option(
        "--ligand-template",
        help="The ligand of these trajectories as SDF or MOL2 file or SMILES, for its bond orders and charges; by default they are found from the coordinates.",
        rich_help_panel=PANEL,
    ),
]
TRAJECTORIES = ("ligand_residue", "ligand_template", "stride", "skip")
"""Options that belong to trajectories in `--data`."""


def data_of(ctx: typer.Context, given: Mapping[str, Any]) -> list[Any]:
    """Returns what `--data` names: tables and folders of complexes, with the geometries of their poses if `--keep-geometry` is given, and trajectories as `TRAJECTORY:TOPOLOGY`.

    Raises:
        InputError: If a file is missing, or options of trajectories are given without any.
    """
    from equilibra.data.trajectory import TrajectoryFiles
    from equilibra.errors import InputError
    from equilibra.systems.ligand.inputs import complexes, with_options
    from equilibra.systems.ligand.trajectory import ComplexTrajectory

    found: list[Any] = []
    for text in given["data"] or ():
        # the last colon: a drive's letter comes first
        frames, colon, topology = text.rpartition(":")
        if Path(text).exists() or not colon:
            present(Path(text))
            kept = given.get("keep_geometry") and given.get("energy") is None
            found.append([with_options(each, keep_geometry=True) for each in complexes(text)] if kept else text)
            continue
        files = TrajectoryFiles(
            topology=topology, trajectories=(frames,), stride=given.get("stride", 1), skip=given.get("skip", 0)
        )
        found.append(ComplexTrajectory(files=files, residue=given.get("ligand_residue"), template=given.get("ligand_template")))
    if not any(isinstance(each, ComplexTrajectory) for each in found):
        for option in typed(ctx, TRAJECTORIES):
            raise InputError(
                f"{option}: has a meaning for ligands with trajectories in --data only, such as --data md.xtc:complex.pdb; leave it out"
            )
    return found


def tell_data(ctx: typer.Context, sources: Any) -> None:
    """Says how well the frames of trajectories fit, and warns of those of which most were left out."""
    for each in sources.trajectories:
        say(ctx, f"{each.system.name}: {each.in_words()}")
        for warning in each.system.warnings:
            complain(f"{each.system.name}: {warning}")
        if 2 * int(each.used.sum()) < len(each.used):
            complain(f"{each.system.name}: more than half of the frames were left out; what is learned is of the others")


def tell_complexes(ctx: typer.Context, sources: Any, out: Path) -> None:
    """Says how trajectories are sampled with the model, and compared with it."""
    if sources.trajectories:
        first = out / "complexes" / "000"
        model = f"--model {out / 'model'}"
        say(
            ctx,
            f"the first trajectory's: equilibra sample ligand {first / 'receptor.pdb'} {first / 'ligand.sdf'} --keep-geometry {model}",
        )
        say(ctx, f"and its frames, to compare with: equilibra evaluate out/ {first / 'poses'}")


def ligand_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options as `LigandInput` takes them, those that were not given left out."""
    residues = [name for text in given["residues"] or () for name in text.replace(",", " ").split()]
    found = {
        "reference": given["ref_ligand"],
        "centre": given["center"],
        "size": given["size"] or None,
        "residues": residues or None,
        "waters": given["waters"] or None,
        "keep_geometry": given["keep_geometry"] or None,
    }
    return {key: value for key, value in found.items() if value is not None}


def repeated(given: Mapping[str, Any]) -> list[str]:
    """Returns the options of the pocket as they are typed, for a command that is to be repeated."""
    words: list[str] = []
    if given["ref_ligand"] is not None:
        words += ["--ref-ligand", str(given["ref_ligand"])]
    if given["center"] is not None:
        words += ["--center", *(f"{x:g}" for x in given["center"])]
    for edge in given["size"] or ():
        words += ["--size", f"{edge:g}"]
    for residue in given["residues"] or ():
        words += ["--residues", residue]
    return [*words, *(["--waters"] if given["waters"] else []), *(["--keep-geometry"] if given["keep_geometry"] else [])]


def inputs_of(sources: Sequence[str], given: Mapping[str, Any]) -> list[LigandInput]:
    """Returns the complexes of the command line: a receptor and one or several ligands, or one table or folder of complexes, of whose options those given here take the place.

    Raises:
        InputError: If the table cannot be read, or options do not go together.
    """
    from equilibra.systems.ligand.inputs import LigandInput, complexes, with_options

    options = ligand_options(given)
    if len(sources) == 1 and (
        Path(sources[0]).is_dir() or not sources[0].lower().endswith((".pdb", ".ent", ".cif", ".mmcif", ".gz"))
    ):
        return [with_options(each, **options) for each in complexes(sources[0])]
    receptor, *ligands = sources
    if not ligands:
        from equilibra.errors import InputError

        raise InputError(
            f"ligand: got the receptor '{receptor}' alone; name a ligand after it: an SDF, MOL2 or SMI file, or a SMILES"
        )
    return [LigandInput(receptor=receptor, ligand=ligand, **options) for ligand in ligands]


def tell(ctx: typer.Context, system: Any) -> None:
    """Says what was done to the input of a system."""
    for note in system.notes:
        say(ctx, f"{system.name}: {note}")
    for warning in system.warnings:
        complain(f"{system.name}: {warning}")


def tell_clusters(ctx: typer.Context, ensemble: Any) -> None:
    """Prints the clusters of poses."""
    from equilibra.cli.console import table

    clusters = ensemble.clusters[:8]
    rows = [
        (
            each.number,
            each.poses,
            each.in_words(),
            "-" if each.free_energy is None else f"{each.free_energy:.2f}",
            "-" if ensemble.rmsd is None else f"{ensemble.rmsd[each.best]:.2f}",
        )
        for each in clusters
    ]
    more = len(ensemble.clusters) - len(clusters)
    title = f"{ensemble.system.name}: binding modes{f', and {more} more in clusters.csv' if more else ''}"
    table(ctx, ("mode", "poses", "population", "free energy (kcal/mol)", "RMSD of the best (Å)"), rows, title=title)
    if ensemble.relaxed_by is not None:
        say(
            ctx,
            f"poses were relaxed by {ensemble.relaxed_by}, the lowest energy is the first in poses.sdf; populations are shares of these minima, not of a distribution",
        )
