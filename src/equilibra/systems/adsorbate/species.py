"""Adsorbates: atoms and molecules from a name, a SMILES, or a file."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.adsorbate.names import ATOMS, OTHER_NAMES, SMILES, plain
from equilibra.systems.embedding import embed

_SEED = 7  # of the first conformation of a molecule
_TOUCHING = 1.25
"""Atoms of a file are bonded if they are closer than this times the sum of their covalent radii."""


@dataclass(frozen=True, eq=False)
class Adsorbate:
    """One atom or molecule.

    Attributes:
        name: What it is called.
        numbers: Atomic numbers (N,).
        positions: A sensible geometry (N, 3) about its centre, in Å, float64; its orientation has no meaning.
        bonds: Pairs of bonded atoms, the smaller index first.
    """

    name: str
    numbers: np.ndarray
    positions: np.ndarray
    bonds: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def extent(self) -> float:
        """Largest distance between two atoms, in Å."""
        return float(np.linalg.norm(self.positions[:, None] - self.positions[None], axis=-1).max())


def read_adsorbate(source: Any) -> Adsorbate:
    """Reads an adsorbate.

    Arguments:
        source: A name (`O`, `CO`, `*NNH`), `smiles:` followed by a SMILES, a file that ASE reads (xyz, for example), or ASE `Atoms`. A name is never taken for a
            SMILES: `CO` is carbon monoxide, methanol is `OHCH3` or `smiles:CO`.

    Raises:
        InputError: If it is none of these, or no single molecule.
    """
    if isinstance(source, Adsorbate):
        return source
    if hasattr(source, "get_positions"):
        return _of_atoms(source, str(source.symbols))
    text = str(source).strip()
    if text.startswith("smiles:"):
        return _of_smiles(text.removeprefix("smiles:"), text)
    name = plain(text)
    if name in ATOMS:
        from ase.data import atomic_numbers

        return Adsorbate(name, np.array([atomic_numbers[name]]), np.zeros((1, 3)), ())
    if name in SMILES:
        return _of_smiles(SMILES[name], name)
    path = Path(text)
    if path.is_file():
        import ase.io

        try:
            atoms = ase.io.read(path)
        except Exception as error:
            # readers raise whatever their own code stumbles over
            raise InputError(f"adsorbate '{text}' cannot be read: {type(error).__name__}: {error}") from error
        return _of_atoms(atoms, path.stem)
    known = [*ATOMS, *SMILES, *OTHER_NAMES]
    near = difflib.get_close_matches(name, known, n=3)
    hint = f"; near are {', '.join(near)}" if near else ""
    raise InputError(
        f"adsorbate: got '{text}', which is no file and none of the {len(known)} known names{hint}; give a name such as CO or NNH, an xyz file, or "
        "smiles:... for any other molecule"
    )


def _of_smiles(smiles: str, name: str) -> Adsorbate:
    from rdkit import Chem, RDLogger

    RDLogger.DisableLog("rdApp.*")  # type: ignore[attr-defined]  # what is wrong is said below
    try:
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or not mol.GetNumAtoms():
            raise InputError(f"adsorbate '{name}': '{smiles}' is no SMILES that can be read")
        mol = Chem.AddHs(mol)
        if len(Chem.GetMolFrags(mol)) > 1:
            raise InputError(
                f"adsorbate '{name}': got {len(Chem.GetMolFrags(mol))} molecules, expected one; name several with commas"
            )
        if not embed(mol, _SEED):
            raise InputError(f"adsorbate '{name}': RDKit finds no geometry for '{smiles}'; give an xyz file")
    finally:
        RDLogger.EnableLog("rdApp.*")  # type: ignore[attr-defined]
    x = np.asarray(mol.GetConformer().GetPositions(), dtype=np.float64)
    bonds = sorted(tuple(sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()))) for bond in mol.GetBonds())
    numbers = np.array([atom.GetAtomicNum() for atom in mol.GetAtoms()])
    return Adsorbate(name, numbers, x - x.mean(0), tuple((int(i), int(j)) for i, j in bonds))


def _of_atoms(atoms: Any, name: str) -> Adsorbate:
    found = molecules_of(atoms, name)
    if len(found) > 1:
        raise InputError(f"adsorbate '{name}': its atoms are {len(found)} molecules, expected one; name several with commas")
    return found[0][0]


def molecules_of(atoms: Any, name: str = "") -> list[tuple[Adsorbate, list[int]]]:
    """Returns the molecules in ASE `Atoms`, each with the indices of its atoms.

    Atoms closer than 1.25 times the sum of their covalent radii are bonded, across the boundary of a periodic cell, too.

    Raises:
        InputError: If there is no atom, or a position is not finite.
    """
    from ase.data import covalent_radii

    x = np.asarray(atoms.get_positions(), dtype=np.float64)
    if not len(x) or not np.isfinite(x).all():
        raise InputError(f"adsorbate '{name}': got {len(x)} atoms, expected at least one, with finite positions")
    periodic = bool(np.any(atoms.pbc))
    radii = covalent_radii[atoms.numbers]
    gaps = atoms.get_all_distances(mic=periodic)
    bonds = np.argwhere(np.triu(gaps < _TOUCHING * (radii[:, None] + radii[None]), k=1))
    made = []
    for members in fragments_of(len(x), [(int(a), int(b)) for a, b in bonds]):
        # in one piece about its first atom
        near = np.asarray(atoms.get_distances(members[0], members, mic=periodic, vector=True)).reshape(-1, 3)
        place = {atom: number for number, atom in enumerate(members)}
        own = tuple((place[int(a)], place[int(b)]) for a, b in bonds if int(a) in place)
        called = name if len(members) == len(x) else str(atoms[members].symbols)
        made.append((Adsorbate(called, np.asarray(atoms.numbers[members]), near - near.mean(0), own), members))
    return made


def fragments_of(atoms: int, bonds: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Returns the connected parts of a graph, each ascending."""
    owner = list(range(atoms))
    for i, j in bonds:
        a, b = owner[i], owner[j]
        owner = [min(a, b) if part in (a, b) else part for part in owner]
    return [[k for k in range(atoms) if owner[k] == part] for part in sorted(set(owner))]
