"""Backbones from structures: PDB and mmCIF files, arrays in `.npz` files, and text files of N, CA and C."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.errors import InputError
from equilibra.systems.protein.chains import PEPTIDE_BOND_LIMIT
from equilibra.systems.protein.data.backbones import Backbones, merged, observed_backbones
from equilibra.systems.protein.data.trajectory_files import trajectory_backbones
from equilibra.systems.protein.sources import structure
from equilibra.systems.protein.structures import is_structure_path
from equilibra.systems.protein.system import ProteinSystem

_ATOMS = 3
_RESIDUE_STEP = 3.8


def structure_backbones(path: str | Path) -> Backbones:
    """Reads a PDB or mmCIF file; each model of a PDB file is a frame.

    Residues with an impossible bond count as not observed.

    Raises:
        InputError: If the file cannot be read or holds no protein.
    """
    path = Path(path)
    if _models(path) > 1:
        return trajectory_backbones(TrajectoryFiles(topology=path, trajectories=[path]))
    found = structure(path)
    xyz = np.stack([found.n, found.ca, found.c], axis=1).astype(np.float32)
    return observed_backbones(found.system, xyz[None])


def structure_folder(folder: str | Path) -> list[Backbones]:
    """Reads all structures of a folder, in the order of their names; those of the same protein are its conformers.

    Raises:
        InputError: If there is no structure, or one of them cannot be read.
    """
    folder = Path(folder)
    paths = sorted(path for path in folder.iterdir() if path.is_file() and is_structure_path(path))
    if not paths:
        raise InputError(f"'{folder}': holds no PDB or mmCIF file, expected at least one")
    return merged([structure_backbones(path) for path in paths])


def array_backbones(path: str | Path) -> Backbones:
    """Reads a `.npz` file with the arrays `sequence` (text, `:` between chains) and `coords`.

    The coordinates, in Å, have the shape (frames, L, A, 3), or (L, A, 3) for one frame. The first three of the A atoms of a residue are N, CA and C.
    Optional arrays: `numbers` (L,), the positions along the chains, and `observed` (frames, L), boolean.

    Raises:
        InputError: If the file cannot be read, or an array is missing or does not fit.
    """
    path = Path(path)
    arrays = _arrays(path)
    sequence, coords = str(arrays["sequence"]).strip().upper(), arrays["coords"]
    chains = sequence.split(":")
    length = sum(map(len, chains))
    shape = coords.shape
    coords = coords[None] if coords.ndim == 3 else coords
    if coords.ndim != 4 or coords.shape[1] != length or coords.shape[2] < _ATOMS or coords.shape[3] != 3:
        raise InputError(
            f"'{path}': coords have shape {shape}, but the sequence has {length} residues: expected (frames, {length}, atoms, 3) with N, CA and C as the "
            "first atoms"
        )
    numbers = arrays.get("numbers")
    if numbers is not None and numbers.shape != (length,):
        raise InputError(f"'{path}': numbers have shape {numbers.shape}, expected ({length},), one for each residue")
    parts = None if numbers is None else np.split(numbers, np.cumsum([len(chain) for chain in chains])[:-1])
    if parts is not None and any((np.diff(part) < 1).any() for part in parts):
        raise InputError(f"'{path}': numbers must increase along each chain, one for each bonded residue and more across a gap")
    system = ProteinSystem.of_chains(chains, name=_name(path), numbers=parts)
    observed = arrays.get("observed")
    if observed is not None and observed.shape != coords.shape[:2]:
        raise InputError(f"'{path}': observed has shape {observed.shape}, expected {coords.shape[:2]}")
    xyz = np.ascontiguousarray(coords[:, :, :_ATOMS], dtype=np.float32)
    return observed_backbones(system, xyz, None if observed is None else observed.astype(bool))


def text_folder(folder: str | Path) -> list[Backbones]:
    """Reads a folder of `.txt` files such as the data of the coarse-grained force field cgdms (Greener and Jones, 2021; MIT licence).

    A file has the sequence in its first line, the predicted secondary structure in the second, which is not used, and then for each residue the
    positions of N, CA, C and of the side chain's centre in Å, twelve numbers. Chains of the same sequence are conformers of one protein.

    References:
        | Differentiable molecular simulation can learn all the parameters in a coarse-grained force field for proteins (Greener and Jones, 2021)
        | https://doi.org/10.1371/journal.pone.0256990

    Raises:
        InputError: If there is no such file, or one of them is malformed.
    """
    folder = Path(folder)
    paths = sorted(folder.glob("*.txt"))
    if not paths:
        raise InputError(f"'{folder}': holds no .txt file, expected at least one")
    return merged([text_backbones(path) for path in paths])


def text_backbones(path: str | Path) -> Backbones:
    """Reads one file of `text_folder`."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
        rows = np.array([line.split() for line in lines[2:] if line.strip()], dtype=np.float32)
    except (OSError, ValueError) as error:
        raise InputError(
            f"'{path}' cannot be read: expected a sequence, a line of secondary structure and rows of numbers ({error})"
        ) from error
    sequence = lines[0].strip()
    if rows.ndim != 2 or rows.shape != (len(sequence), 12):
        raise InputError(
            f"'{path}': has numbers of the shape {rows.shape} for a sequence of {len(sequence)} residues; expected twelve for each: N, CA, C and the side "
            "chain's centre"
        )
    xyz = rows[:, :9].reshape(-1, 3, 3)
    system = ProteinSystem.of_chains([sequence], name=path.stem, numbers=[_numbers_of_bonds(xyz)])
    return observed_backbones(system, xyz[None])


def _numbers_of_bonds(xyz: np.ndarray) -> np.ndarray:
    """Positions along one chain whose file has no numbers: one apart if bonded, else as many as can bridge the distance."""
    gaps = np.linalg.norm(xyz[1:, 0] - xyz[:-1, 2], axis=-1)
    steps = [1 if gap <= PEPTIDE_BOND_LIMIT else max(2, math.ceil(gap / _RESIDUE_STEP)) for gap in gaps.tolist()]
    return np.cumsum([1, *steps])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"'{path}' cannot be read as a .npz file: {error}") from error
    for name in ("sequence", "coords"):
        if name not in arrays:
            raise InputError(f"'{path}': has no array '{name}' (it has {', '.join(arrays) or 'none'})")
    return arrays


def _models(path: Path) -> int:
    if not path.is_file() or not path.name.lower().endswith((".pdb", ".ent")):
        return 1
    with path.open("rb") as file:
        return sum(line.startswith(b"ENDMDL") for line in file)


def _name(path: Path) -> str:
    return path.name.split(".")[0]
