"""What `sample` does for crystals: cells of several sizes in the proportions of the training, and one table of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equilibra.errors import InputError

if TYPE_CHECKING:
    from equilibra.systems.crystal.system import CrystalSystem
    from equilibra.systems.model import Model

_STREAM = 0x41544F4D  # of the numbers of atoms; no block has such a number


def atom_range(text: str) -> tuple[int, int]:
    """Reads a number of atoms, or a range such as 6..24.

    Raises:
        InputError: If it is neither.
    """
    low, mark, high = text.partition("..")
    if not low.isdecimal() or (mark and not high.isdecimal()):
        raise InputError(f"--atoms: got '{text}', expected a number of atoms or a range, such as 8 or 6..24")
    first, last = int(low), int(high or low)
    if not 1 <= first <= last:
        raise InputError(f"--atoms: got '{text}', expected at least 1 atom, and the smaller number first")
    return first, last


def of_sizes(model: Model, systems: Sequence[CrystalSystem], atoms: str, n: int, seed: int) -> list[tuple[CrystalSystem, int]]:
    """Draws how many structures to make of cells of each size, in the proportions that the model's training had.

    Arguments:
        model: The model, whose scope tells the sizes.
        systems: What one unit holds (C, or SiO2): cells are multiples of it.
        atoms: Number of atoms, or a range.
        n: Structures of each system over all sizes.
        seed: The same seed gives the same numbers.

    Returns:
        Cells with the number of structures wanted of each.

    Raises:
        InputError: If the model has seen no such cell.
    """
    import numpy as np

    from equilibra.systems.crystal.system import CrystalSystem

    first, last = atom_range(atoms)
    rng = np.random.default_rng([seed, _STREAM])
    found = []
    for system in systems:
        unit = system.atoms
        seen = {count: structures for count, structures in model.scope.atoms if first <= count <= last and count % unit == 0}
        if not seen:
            known = ", ".join(str(count) for count, _ in model.scope.atoms) or "none"
            raise InputError(
                f"--atoms: got {atoms}, but '{model.name}' has seen no cell of {system.name} of such a size; its numbers of atoms are {known}"
            )
        drawn = rng.multinomial(n, np.array(list(seen.values())) / sum(seen.values()))
        for count, wanted in zip(seen, drawn.tolist(), strict=True):
            if wanted:
                found.append((CrystalSystem.of(system.numbers * (count // unit)), wanted))
    return found


def write_all(folders: Sequence[Path], out: Path) -> list[str]:
    """Writes the structures of several folders as one file of structures and one table; returns their names.

    Arguments:
        folders: Folders of ensembles.
        out: Where to write.
    """
    import csv
    import io

    import ase.io

    from equilibra.atomic import atomic_path, write_text
    from equilibra.systems.crystal.ensemble import CrystalEnsemble

    structures: list[Any] = []
    rows: list[dict[str, object]] = []
    for folder in folders:
        ensemble = CrystalEnsemble.read(folder)
        for index, atoms in enumerate(ensemble.to_ase()):
            known = {"formula": ensemble.system.formula, "folder": folder.name, "index": index}
            atoms.info = {**{key: value for key, value in known.items() if key != "index"}, **atoms.info}
            structures.append(atoms)
            rows.append({**known, **{name: values[index] for name, values in ensemble.properties().items()}})
    with atomic_path(out / "samples.extxyz") as temporary:
        ase.io.write(str(temporary), structures, format="extxyz")
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_text(out / "structures.csv", text.getvalue())
    return ["samples.extxyz", "structures.csv"]
