"""What the command line knows of ligands in pockets: how receptor, ligand and pocket are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.console import complain, say

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
        help="Keep bonds, angles and rings of a ligand with 3-D coordinates, instead of making them anew.",
        rich_help_panel=PANEL,
    ),
]


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
            f"{100 * each.population:.1f} ± {100 * each.error:.1f} %",
            "-" if each.free_energy is None else f"{each.free_energy:.2f}",
            "-" if ensemble.rmsd is None else f"{ensemble.rmsd[each.best]:.2f}",
        )
        for each in clusters
    ]
    more = len(ensemble.clusters) - len(clusters)
    title = f"{ensemble.system.name}: binding modes{f', and {more} more in clusters.csv' if more else ''}"
    table(ctx, ("mode", "poses", "population", "free energy (kcal/mol)", "RMSD of the best (Å)"), rows, title=title)
