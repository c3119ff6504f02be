"""Some atoms of trajectories of whole systems, as mdtraj reads them, with the periodic cells of the frames."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError, MissingDependencyError
from equilibra.units import NM

OWN_ATOMS = (".pdb", ".ent", ".h5", ".hdf5")
"""Suffixes of files that hold the atoms besides their positions."""

SMALLEST_CELL = 16.0
"""Edge in Å of the smallest cell that counts as one; some programs write a cell of 1 Å for none."""

_BARE = (".psf", ".prmtop", ".parm7")  # topologies without positions
_CHUNK = 500


def first_frame(path: Path) -> Any:
    """Reads the atoms of a file as an mdtraj `Trajectory` of its first frame; a `Topology` where it has no positions.

    Raises:
        InputError: If the file is missing or cannot be read as a topology.
    """
    import mdtraj

    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if path.suffix.lower() in _BARE:
                return mdtraj.load_topology(str(path))
            return next(iter(mdtraj.iterload(str(path), chunk=1)))
    except ImportError as error:
        raise MissingDependencyError(f"'{path}' needs a package that is not installed: {error}") from error
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"'{path}' cannot be read as a topology ({type(error).__name__}: {error})") from error


def read_atoms(path: Path, topology: Any, atoms: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Reads some atoms of all frames.

    Arguments:
        path: The trajectory.
        topology: mdtraj `Topology` of all its atoms; for a file of `OWN_ATOMS` that of the file itself.
        atoms: Indices (n,) of the wanted atoms, ascending.

    Returns:
        Positions (F, n, 3), float32, in Å, and periodic cells (F, 3, 3), rows in Å, or None where there are none.

    Raises:
        InputError: If the file is missing or malformed, or has another number of atoms.
    """
    import mdtraj

    if not path.is_file():
        raise InputError(f"no such file: '{path}'")
    own = path.suffix.lower() in OWN_ATOMS
    frames, cells = [], []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if not own:
                _check_atoms(path, topology)
            options = {} if own else {"top": topology}
            for part in mdtraj.iterload(str(path), chunk=_CHUNK, atom_indices=atoms, **options):
                frames.append(part.xyz * np.float32(NM))
                vectors = part.unitcell_vectors
                cells.append(None if vectors is None else np.asarray(vectors, dtype=np.float64) * NM)
    except InputError:
        raise
    except ImportError as error:
        raise MissingDependencyError(f"'{path}' needs a package that is not installed: {error}") from error
    except Exception as error:
        raise InputError(
            f"'{path}' cannot be read as frames of {topology.n_atoms} atoms ({type(error).__name__}: {error}); give the topology that it was "
            "written with"
        ) from error
    if not frames:
        raise InputError(f"'{path}' holds no frame")
    known = [cell for cell in cells if cell is not None]
    return np.concatenate(frames), np.concatenate(known) if len(known) == len(cells) else None


def _check_atoms(path: Path, topology: Any) -> None:
    """Compares the number of atoms; readers of some formats would take the wrong ones without a word."""
    import mdtraj

    with mdtraj.open(str(path)) as file:
        first = file.read(n_frames=1)
    atoms = np.asarray(first[0] if isinstance(first, tuple) else first).shape[1]
    if atoms != topology.n_atoms:
        raise InputError(
            f"'{path}' has {atoms} atoms, but its topology has {topology.n_atoms}, so that their residues do not match; give the topology that it was "
            "written with"
        )
