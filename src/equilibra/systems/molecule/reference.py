"""The compact reference that comes with a model: torsions and bond statistics of the data that its samples should look like."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.atomic import atomic_path
from equilibra.errors import InputError, ShapeError
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.systems.model import WEIGHTS
from equilibra.systems.molecule.system import MoleculeSystem
from equilibra.systems.molecule.torsions import torsion_quadruples

FILE = "reference.npz"
"""Name of the file in a model's folder."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """What the reference says of a molecule.

    Attributes:
        label: What to call it.
        torsions: Angles (F,) in rad by name, as `MoleculeEnsemble.torsions` names them.
        bond_mean: Mean lengths (bonds,), in Å, in the order of `bond_pairs`.
        bond_std: Their standard deviations (bonds,), in Å.
    """

    label: str
    torsions: Mapping[str, np.ndarray]
    bond_mean: np.ndarray
    bond_std: np.ndarray

    def fits(self, system: MoleculeSystem) -> bool:
        """Tells whether torsions and bonds are those of a molecule, by names and number."""
        return set(self.torsions) == set(torsion_quadruples(system)) and len(self.bond_mean) == len(bond_pairs(system))


def bond_pairs(system: MoleculeSystem) -> np.ndarray:
    """Returns the bonded pairs (bonds, 2) of atoms, each pair ascending, and the pairs in lexicographic order."""
    pairs = sorted(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())) for bond in system.mol.GetBonds())
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def reference_of(positions: np.ndarray, system: MoleculeSystem, label: str) -> Reference:
    """Makes the reference of frames (F, N, 3) in Å.

    Raises:
        ShapeError: If the frames are not of the molecule.
        InputError: If there are fewer than two frames, or some are not finite.
    """
    positions = np.asarray(positions)
    if positions.ndim != 3 or positions.shape[1:] != (system.atoms, 3):
        raise ShapeError("positions", positions.shape, f"(frames, {system.atoms}, 3)")
    if len(positions) < 2 or not np.isfinite(positions).all():
        raise InputError(f"reference: got {len(positions)} frames, expected at least 2, all of finite numbers")
    quadruples = torsion_quadruples(system)
    angles = dihedrals(positions, np.array(list(quadruples.values()), dtype=np.int64).reshape(-1, 4))
    pairs = bond_pairs(system)
    lengths = np.linalg.norm(positions[:, pairs[:, 0]].astype(np.float64) - positions[:, pairs[:, 1]], axis=-1)
    return Reference(
        label=label,
        torsions={name: angles[:, column] for column, name in enumerate(quadruples)},
        bond_mean=lengths.mean(axis=0),
        bond_std=lengths.std(axis=0, ddof=1),
    )


def write_reference(path: str | Path, positions: np.ndarray, system: MoleculeSystem, label: str) -> None:
    """Writes the reference of frames (F, N, 3) in Å to an `npz` file.

    Arrays: `torsion_names`, `torsions` (names, F) float32 in rad, `bond_mean` and `bond_std` (bonds,) in Å, and `label`.
    """
    reference = reference_of(positions, system, label)
    arrays: dict[str, Any] = {
        "torsion_names": np.array(list(reference.torsions), dtype=np.str_),
        "torsions": np.array([reference.torsions[name] for name in reference.torsions], dtype=np.float32),
        "bond_mean": reference.bond_mean,
        "bond_std": reference.bond_std,
        "label": np.array(label, dtype=np.str_),
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_reference(path: str | Path) -> Reference:
    """Reads what `write_reference` wrote; the torsions may also be given as (F, names).

    Raises:
        InputError: If the file is missing or malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = [str(name) for name in arrays["torsion_names"]]
            torsions, label = np.asarray(arrays["torsions"], dtype=np.float64), str(arrays["label"])
            mean, std = np.asarray(arrays["bond_mean"]), np.asarray(arrays["bond_std"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"'{path}' is no reference that can be read ({error}); write it again") from error
    if torsions.ndim != 2 or len(names) not in torsions.shape or mean.shape != std.shape or mean.ndim != 1:
        raise InputError(
            f"'{path}' is malformed: {len(names)} torsions of shape {torsions.shape}, bonds {mean.shape} and {std.shape}"
        )
    rows = torsions if torsions.shape[0] == len(names) else torsions.T
    return Reference(label=label, torsions=dict(zip(names, rows, strict=True)), bond_mean=mean, bond_std=std)


def model_reference(model: str | Path, system: MoleculeSystem) -> Reference | None:
    """Returns the reference in a model's folder, given as `load` takes it, if there is one and it is of the molecule."""
    for folder in (WEIGHTS / str(model), Path(model), Path(model) / "model"):
        if (folder / FILE).is_file():
            reference = read_reference(folder / FILE)
            return reference if reference.fits(system) else None
    return None
