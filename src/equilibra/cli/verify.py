"""`equilibra verify`: a first-principles check of a few crystal structures."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equilibra.cli.checks import at_least, writable
from equilibra.cli.console import bar, complain, say, table
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.crystal.first_principles import Verification
    from equilibra.systems.crystal.structures import Structure

NAME = "verify"
EXAMPLE = (
    "Examples:\n\nequilibra verify gaps/ --dft -n 20\n\n"
    "equilibra verify gaps/relaxed.extxyz --calculator my.py:function -n 20 -o table.csv\n\n"
    "GPAW is installed by `apt-get install libxc-dev libopenblas-dev` and `CC=g++ pip install gpaw gpaw-data`."
)
TABLE = "verification.csv"
_SHOWN = 30  # structures that the table on the screen has room for


def run(
    ctx: typer.Context,
    source: Annotated[
        str, typer.Argument(help="A folder of samples of crystals, or a file or folder of structures.", metavar="SOURCE")
    ],
    dft: Annotated[
        bool,
        typer.Option("--dft", help="Compute energies and band gaps by density functional theory: PBE in plane waves, by GPAW."),
    ] = False,
    calculator: Annotated[
        str | None,
        typer.Option(
            "--calculator",
            help="Instead of --dft: a function of your own, my.py:function, that returns an ASE calculator with levels.",
        ),
    ] = None,
    n: Annotated[int, typer.Option("-n", help="Largest number of structures, spread evenly over the source.")] = 20,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The table to write, .csv; by default verification.csv in the folder.")
    ] = None,
) -> None:
    """Check a few crystal structures by a first-principles calculation: energies and band gaps beside the values that guided and judged them."""
    at_least("-n", n, 1)
    if dft == (calculator is not None):
        raise InputError("verify: say how, either by --dft or by --calculator my.py:function")
    if out is None and not Path(source).is_dir():
        raise InputError(f"'{source}' is no folder; say where to write with --out, such as --out {TABLE}")
    path = Path(source) / TABLE if out is None else out
    if path.suffix.lower() != ".csv":
        raise InputError(f"--out: got '{path}', expected a file that ends in .csv")
    writable(path.parent)

    from equilibra.systems.crystal.first_principles import DFT, verify
    from equilibra.systems.crystal.load import load_crystals
    from equilibra.systems.density_blocks import chosen

    found = load_crystals(source).structures
    structures = [found[index] for index in chosen(len(found), n)]
    with bar(ctx, "verifying", len(structures)) as shown:
        result = verify(
            structures,
            calculator or DFT,
            progress=shown.count,
        )
    for problem in result.problems.values():
        complain(f"not computed: {problem}")
    _write(path, structures, result)
    rows = [
        (item.name or item.formula, _number(result.gaps[index]), _number(result.energies[index]))
        for index, item in enumerate(structures[:_SHOWN])
    ]
    table(ctx, ("structure", "gap (eV)", "energy (eV per atom)"), rows, title=f"{len(structures):,} structures")
    say(ctx, f"table in '{path}'")
    if len(result.problems) == len(structures):
        raise typer.Exit(1)


def _number(value: float) -> str:
    return "-" if value != value else f"{value:.3f}"


def _write(path: Path, structures: list[Structure], result: Verification) -> None:
    """Writes one row for each structure, with the values that it has from guides and judges."""
    from equilibra.atomic import write_text

    names = list(dict.fromkeys(name for item in structures for name in item.values))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["name", "formula", "atoms", "gap_ev", "energy_per_atom_ev", *names])
    for index, item in enumerate(structures):
        values = ["" if name not in item.values else repr(item.values[name]) for name in names]
        numbers = [repr(float(value)) for value in (result.gaps[index], result.energies[index])]
        rows.writerow([item.name, item.formula, len(item), *numbers, *values])
    write_text(path, text.getvalue())
