"""What `convert` does for crystals: files of structures to one table, without bad records, and without duplicates if wanted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from equilibra.cli.checks import present, writable
from equilibra.cli.console import bar, complain, say
from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.crystal.structures import Structure

FORMATS = (".csv", ".extxyz")
_SHOWN = 5  # bad records that are told one by one


def convert_crystals(
    ctx: typer.Context,
    sources: Sequence[Path],
    out: Path,
    *,
    deduplicate: bool,
    without: Sequence[Path],
    add: Sequence[str] = (),
) -> None:
    """Reads files of structures, leaves out bad records and duplicates, and writes the rest with their names and energies.

    Arguments:
        ctx: The command.
        sources: Files or folders of structures.
        out: The table to write, `.csv` or `.extxyz`.
        deduplicate: Whether to keep one structure of each group of duplicates: that of lowest energy where energies are known, else the first.
        without: Files of structures that are left out where they occur: those of a test set, for example.
        add: Properties that become values of the structures, as `systems.crystal.judge` names them; what cannot be computed is left out.

    Raises:
        InputError: If a file is missing, or nothing is left.
    """
    if out.suffix.lower() not in FORMATS:
        raise InputError(f"--out: got '{out}', expected a file that ends in {' or '.join(FORMATS)}")
    for source in (*sources, *without):
        present(source)
    writable(out.parent)

    from equilibra.systems.crystal.files import write_table

    structures = _read(sources)
    say(ctx, f"{len(structures):,} structures read")
    if deduplicate or without:
        structures = _different(ctx, structures, _read(without) if without else [], deduplicate=deduplicate)
    if not structures:
        raise InputError(f"'{out}': no structure is left to write")
    for name in add:
        structures = _with(ctx, structures, name)
    write_table(out, structures)
    say(ctx, f"{len(structures):,} structures in '{out}'")


def _with(ctx: typer.Context, structures: list[Structure], name: str) -> list[Structure]:
    """Returns the structures with one more value."""
    import dataclasses

    import numpy as np

    from equilibra.systems.crystal.judge import judge

    with bar(ctx, name, len(structures)) as shown:
        found = judge(structures, name, progress=shown.count)
    known = np.isfinite(found)
    say(ctx, f"{name}: {int(known.sum()):,} of {len(found):,} structures have a value")
    pairs = zip(structures, found.tolist(), strict=True)
    return [dataclasses.replace(item, values={**item.values, name: value}) for item, value in pairs]


def _read(sources: Sequence[Path]) -> list[Structure]:
    from equilibra.systems.crystal.data.read import read_structures

    problems: list[InputError] = []
    structures = [structure for source in sources for structure in read_structures(source, problems.append)]
    for problem in problems[:_SHOWN]:
        complain(f"left out: {problem}")
    if len(problems) > _SHOWN:
        complain(f"left out: {len(problems) - _SHOWN} more records")
    return structures


def _different(
    ctx: typer.Context, structures: list[Structure], others: list[Structure], *, deduplicate: bool
) -> list[Structure]:
    """Returns the structures that no other set has, and of each group of duplicates one; in their order."""
    import numpy as np

    from equilibra.analysis.crystal.duplicates import duplicate_groups, known_elsewhere

    start = time.monotonic()

    def shown(what: str, run: Callable[[Callable[[int, int], None]], np.ndarray]) -> np.ndarray:
        with bar(ctx, what, len(structures)) as progress:
            return run(progress.count)

    if others:
        known = shown("known elsewhere", lambda tell: known_elsewhere(structures, others, progress=tell))
        say(ctx, f"{int(known.sum()):,} structures dropped that the other files have")
        structures = [structure for structure, there in zip(structures, known, strict=True) if not there]
    if deduplicate and structures:
        energies = [np.inf if structure.energy is None else structure.energy for structure in structures]
        preferred = np.argsort(energies, kind="stable")
        groups = shown("duplicates", lambda tell: duplicate_groups([structures[i] for i in preferred], progress=tell))
        kept = sorted(preferred[np.unique(groups)].tolist())
        say(ctx, f"{len(structures) - len(kept):,} duplicates dropped ({100 * (1 - len(kept) / len(structures)):.1f} %)")
        structures = [structures[i] for i in kept]
    say(ctx, f"compared in {time.monotonic() - start:,.0f} s")
    return structures
