"""Files of adsorbed structures: extended XYZ, ASE trajectory and database, npz; written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError
from equilibra.systems.adsorbate.energy import whole_atoms
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.files import Frames

FORMATS = ("extxyz", "traj", "db", "npz")
"""Formats that structures can be written in. The slab is in all but the last, in `traj` and `db` to the last bit."""


def ase_structures(
    positions: np.ndarray, system: AdsorbateSystem, properties: Mapping[str, np.ndarray] | None = None
) -> list[Any]:
    """Returns ASE `Atoms` of the slab with the mobile atoms at positions (F, atoms, 3), in Å, with numbers (F,) in `info`."""
    frames = []
    for index, x in enumerate(positions):
        atoms = whole_atoms(system, x)
        atoms.info.update({name: float(values[index]) for name, values in (properties or {}).items()})
        frames.append(atoms)
    return frames


def write_structures(
    path: Path, positions: np.ndarray, system: AdsorbateSystem, properties: Mapping[str, np.ndarray] | None = None
) -> None:
    """Writes structures atomically in one of `FORMATS`, which the end of the file's name tells.

    Arguments:
        path: The file.
        positions: Positions (F, atoms, 3) of the mobile atoms, in Å.
        system: The system.
        properties: Numbers (F,) that go along; `energy_ev` becomes the energy of the structures in `traj` and `db`.

    Raises:
        InputError: If the format is unknown, there is no structure, or the folder is not writable.
    """
    import ase.db
    import ase.io
    from ase.calculators.singlepoint import SinglePointCalculator

    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise InputError(f"'{path.name}': unknown format; expected one of {', '.join(FORMATS)}")
    if not len(positions):
        raise InputError(f"'{path.name}': there is no structure to write")
    with atomic_path(path) as temporary:
        if suffix == "npz":
            arrays: dict[str, Any] = {"positions": positions, "numbers": system.numbers, **(properties or {})}
            with temporary.open("wb") as file:
                np.savez(file, **arrays)
            return
        frames = ase_structures(positions, system, properties)
        if suffix == "extxyz":
            ase.io.write(str(temporary), frames, format="extxyz")
            return
        for atoms in frames:
            if "energy_ev" in atoms.info:
                atoms.calc = SinglePointCalculator(atoms, energy=atoms.info["energy_ev"])
        if suffix == "traj":
            ase.io.write(str(temporary), frames, format="traj")
            return
        with ase.db.connect(str(temporary), type="db") as table:
            for atoms in frames:
                table.write(atoms, data=dict(atoms.info))


def read_frames(path: str | Path, system: AdsorbateSystem | None = None) -> Frames:
    """Reads structures that `write_structures` wrote.

    Arguments:
        path: The file.
        system: Whose they are; of files with slabs the last atoms are the mobile ones. Not needed for npz.

    Returns:
        Positions (F, atoms, 3) of the mobile atoms, float32, in Å, and the numbers (F,) of the frames.

    Raises:
        InputError: If the file is missing or malformed, or has other atoms.
    """
    import ase.db
    import ase.io

    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: np.asarray(arrays[name]) for name in arrays.files}
            return np.asarray(found.pop("positions"), dtype=np.float32), {k: v for k, v in found.items() if k != "numbers"}
        if path.suffix == ".db":
            with ase.db.connect(str(path)) as table:
                frames: Any = [row.toatoms(attach_calculator=False, add_additional_information=True) for row in table.select()]
            for atoms in frames:
                atoms.info = dict(atoms.info.get("data", {}))
        else:
            frames = ase.io.read(path, index=":")
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read: {type(error).__name__}: {error}") from error
    if system is None:
        raise InputError(f"'{path}': the slab of these structures is not known; name the folder that they are in")
    if any(len(atoms) != len(system.slab) + system.atoms for atoms in frames):
        raise InputError(f"'{path}': its structures have other numbers of atoms than {system.name}")
    positions = np.stack([atoms.positions[len(system.slab) :] for atoms in frames]).astype(np.float32)
    kept = [name for name, value in frames[0].info.items() if isinstance(value, int | float)]
    return positions, {name: np.array([float(atoms.info[name]) for atoms in frames]) for name in kept}
