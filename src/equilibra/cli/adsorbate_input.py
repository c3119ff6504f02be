"""The options that name a slab and what is on it, for every command that works on adsorbates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from equilibra.errors import InputError

PANEL = "Adsorbates"

Slab = Annotated[
    list[str] | None,
    typer.Option(
        "--slab",
        help="A slab: a text such as 'Pt(111) 3x3x4', or a file that ASE reads (CIF, POSCAR, extxyz, traj); repeat it for several. An adsorbate in the file is told by its tags.",
        rich_help_panel=PANEL,
    ),
]
Adsorbates = Annotated[
    list[str] | None,
    typer.Option(
        "--adsorbate",
        help="What is on it: a name (O, CO, *NNH), an xyz file, or smiles:...; with commas several together (CO,H). Repeat it for several systems.",
        rich_help_panel=PANEL,
    ),
]
Coverage = Annotated[int, typer.Option("--coverage", help="How many of each adsorbate are on the slab.", rich_help_panel=PANEL)]

OWN = ("slab", "adsorbate", "coverage")
"""Names of the options."""

_SHOWN = 12  # kinds of sites that are printed


def sources_of(sources: Sequence[str] | None, given: Mapping[str, Any]) -> list[str]:
    """Returns the texts of all systems: those named after the domain, and every adsorbate on every slab.

    Raises:
        InputError: If there is none, or adsorbates have no slab.
    """
    from equilibra.systems.adsorbate.sources import adsorbates_of, source_text

    slabs, adsorbates, coverage = given["slab"] or [], given["adsorbate"] or [], given["coverage"]
    if coverage < 1:
        raise InputError(f"--coverage: got {coverage}, expected at least 1")
    if adsorbates and not slabs:
        raise InputError("--adsorbate: got one without a --slab to be on; give a slab, such as --slab 'Pt(111) 3x3x4'")
    texts = list(sources or [])
    for slab in slabs:
        texts += [source_text(slab, adsorbates_of(text), coverage) for text in adsorbates] or [slab]
    if not texts:
        raise InputError("got no system; give a --slab with an --adsorbate, or a text such as 'O@Pt(111) 3x3x4'")
    return texts


def tell_sites(ctx: typer.Context, ensemble: Any) -> None:
    """Prints how often each kind of site is occupied, and how many samples have an anomaly."""
    from equilibra.cli.console import say, table

    populations = ensemble.populations_of_sites()
    rows = [
        (
            row.label,
            row.samples,
            f"{100 * row.population:.1f}{'' if row.known_error is None else f' ± {100 * row.known_error:.1f}'} %",
            "-" if row.free_energy is None else f"{row.free_energy:.3f}",
        )
        for row in populations[:_SHOWN]
    ]
    more = len(populations) - len(rows)
    title = f"{ensemble.system.name}: occupied sites{f', and {more} more in ensemble.json' if more > 0 else ''}"
    table(ctx, ("site", "samples", "population", "free energy (eV)"), rows, title=title)
    flagged = {name: int(flag.sum()) for name, flag in ensemble.flags.items() if flag.any()}
    if flagged:
        say(ctx, f"anomalies: {', '.join(f'{count} {name}' for name, count in flagged.items())} of {len(ensemble):,} samples")
