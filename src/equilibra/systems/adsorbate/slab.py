"""Surfaces: slabs from files or built from a text such as `Pt(111) 3x3x4`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.errors import InputError

VACUUM = 10.0
"""Vacuum on both sides of a slab that is built, in Å."""

LEAST_VACUUM = 8.0
"""Least gap between a slab and its image along the normal, in Å."""

FACETS = {
    "fcc": {"111": "fcc111", "100": "fcc100", "110": "fcc110", "211": "fcc211"},
    "bcc": {"100": "bcc100", "110": "bcc110", "111": "bcc111"},
    "hcp": {"0001": "hcp0001"},
}
"""Functions of `ase.build` by lattice and facet."""

_TEXT = re.compile(r"\s*([A-Z][A-Za-z0-9]*)\s*\(\s*([0-9]+)\s*\)\s*(\d+)\s*[xX]\s*(\d+)\s*[xX]\s*(\d+)\s*(?:a=([0-9.]+))?\s*")
_ALLOY = re.compile(r"([A-Z][a-z]?)3([A-Z][a-z]?)|([A-Z][a-z]?)([A-Z][a-z]?)3")
_FLAT = 1e-6  # Å
_LAYER = 0.6  # Å below the top layer, above which atoms cannot be of the next one
_ADSORBED = 2
"""Tag of adsorbed atoms in the convention of the Open Catalyst data: 0 below, 1 at the surface."""


def read_slab(source: Any, *, whole: bool = False) -> tuple[Any, Any | None]:
    """Reads a slab.

    Arguments:
        source: A text such as `Pt(111) 3x3x4` (metal or alloy A3B, facet, cells along the surface and layers; `a=3.99` for another lattice constant), a file that ASE
            reads, whose last frame is taken, or ASE `Atoms`.
        whole: Whether all atoms are of the slab, whatever their tags say.

    Returns:
        ASE `Atoms` of the slab with its constraints and tags, positions as they came; and those of the adsorbate that was on it, or None. Adsorbed
        atoms are those with tag 2 where atoms with tag 0 are below the surface of tag 1 (Open Catalyst), or where no other has a tag; on slabs whose layers are numbered from the top
        (`ase.build`), those with tag 0 or 2 that are not below the top layer.

    Raises:
        InputError: If there is no such slab; if it has no cell along the surface, its surface is not perpendicular to z, or there is no vacuum.
    """
    if hasattr(source, "get_positions"):
        atoms, name = source.copy(), str(source.symbols)
    else:
        text = str(source)
        atoms, name = (_from_file(Path(text)), text) if Path(text).is_file() else (_built(text), text)
    adsorbed = np.zeros(len(atoms), dtype=bool) if whole else adsorbed_atoms(atoms)
    atoms.info = {}  # builders leave notes that files cannot hold
    slab, on_it = atoms[~adsorbed], (atoms[adsorbed] if adsorbed.any() else None)
    _check(slab, name)
    return slab, on_it


def top_height(slab: Any) -> float:
    """Returns the mean height of the highest atoms of a slab, those within 0.5 Å of the highest, in Å."""
    z = slab.positions[:, 2]
    return float(z[z > z.max() - 0.5].mean())


def _built(text: str) -> Any:
    import ase.build
    from ase.data import atomic_numbers, reference_states

    match = _TEXT.fullmatch(text)
    if match is None:
        raise InputError(
            f"slab: got '{text}', which is no file and no text such as 'Pt(111) 3x3x4' (metal, facet, two numbers of cells, number of layers)"
        )
    symbol, facet = match[1], match[2]
    size = (int(match[3]), int(match[4]), int(match[5]))
    a = None if match[6] is None else float(match[6])
    if min(size) < 1 or (a is not None and not a > 0):
        raise InputError(f"slab: got '{text}', expected at least one cell, one layer and a positive lattice constant")
    if symbol not in atomic_numbers:
        return _alloy(text, symbol, facet, size, a)
    state = reference_states[atomic_numbers[symbol]]
    lattice = None if state is None else str(state["symmetry"])
    known = FACETS.get(lattice or "", {})
    if facet not in known:
        what = f"facets {', '.join(known)} of {lattice} {symbol}" if known else f"a metal that is {', '.join(FACETS)}"
        raise InputError(f"slab: got '{text}', expected {what}; build others with ASE and give the file")
    try:
        return getattr(ase.build, known[facet])(symbol, size, **({} if a is None else {"a": a}), vacuum=VACUUM)
    except Exception as error:
        # ASE refuses some sizes of some facets
        raise InputError(f"slab: ASE cannot build '{text}': {type(error).__name__}: {error}") from error


def _alloy(text: str, formula: str, facet: str, size: tuple[int, int, int], a: float | None) -> Any:
    """Builds a slab of an ordered alloy A3B (L1_2), with the mean of the lattice constants if none is given."""
    import ase.build
    from ase import Atoms
    from ase.data import atomic_numbers, reference_states

    match = _ALLOY.fullmatch(formula)
    parts = None if match is None else ((match[1], match[2]) if match[1] else (match[4], match[3]))
    states: list[Any] = [] if parts is None else [reference_states[atomic_numbers.get(symbol, 0)] for symbol in parts]
    if parts is None or any(state is None or state["symmetry"] != "fcc" for state in states) or len(facet) != 3:
        raise InputError(
            f"slab: got '{text}', expected a metal, or an alloy A3B of fcc metals such as Cu3Au, with a facet of three digits; build others with ASE"
        )
    if a is None:
        a = 0.75 * float(states[0]["a"]) + 0.25 * float(states[1]["a"])
    major, minor = parts
    bulk = Atoms(
        [minor, *[major] * 3], scaled_positions=[(0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)], cell=[a] * 3, pbc=True
    )
    slab = ase.build.surface(bulk, tuple(int(digit) for digit in facet), size[2], vacuum=VACUUM)
    slab = slab * (size[0], size[1], 1)
    slab.pbc = (True, True, False)
    return slab


def _from_file(path: Path) -> Any:
    import ase.io

    try:
        return ase.io.read(path)
    except Exception as error:
        # readers raise whatever their own code stumbles over
        raise InputError(f"slab '{path}' cannot be read: {type(error).__name__}: {error}") from error


def adsorbed_atoms(atoms: Any) -> np.ndarray:
    """Returns which atoms (atoms,) of a structure are an adsorbate by their tags; see `read_slab`."""
    tags, z = atoms.get_tags(), atoms.positions[:, 2]
    surface = tags == 1
    if not surface.any():
        # slabs without tags, with adsorbed atoms that have one
        return np.asarray((tags == _ADSORBED) & (set(tags.tolist()) == {0, _ADSORBED}))
    top = float(z[surface].mean())
    if ((tags == 0) & (z < top - _LAYER)).any():  # Open Catalyst: 0 below the surface
        return np.asarray(tags == _ADSORBED)
    # ase.build numbers layers from the top: its second one has the tag of adsorbed atoms, too
    return np.asarray(((tags == _ADSORBED) | (tags == 0)) & (z > top - _LAYER))


def _check(slab: Any, name: str) -> None:
    """Refuses what is no slab, and gives a cell without a normal vector one."""
    if not len(slab):
        raise InputError(f"slab '{name}': there are no atoms in it")
    if not np.isfinite(slab.positions).all():
        raise InputError(
            f"slab '{name}': atom {int((~np.isfinite(slab.positions)).any(1).argmax())} has a position that is not finite"
        )
    cell = np.asarray(slab.cell)
    if np.linalg.matrix_rank(cell[:2]) < 2 or not slab.pbc[:2].all():
        raise InputError(
            f"slab '{name}': it is not periodic along its surface; expected two lattice vectors in the plane, with pbc on (a molecule or cluster is no slab)"
        )
    if np.abs(cell[:2, 2]).max() > _FLAT:
        raise InputError(
            f"slab '{name}': its surface is not perpendicular to z; expected the first two lattice vectors in the xy plane (ase.build.surface, or rotate the cell)"
        )
    z = slab.positions[:, 2]
    thickness = float(z.max() - z.min())
    if np.abs(cell[2]).max() < _FLAT:
        slab.cell[2] = (0.0, 0.0, thickness + 2.0 * VACUUM)
        cell = np.asarray(slab.cell)
    gap = abs(float(cell[2, 2])) - thickness
    if slab.pbc[2] and gap < LEAST_VACUUM:
        raise InputError(
            f"slab '{name}': there is no vacuum: {max(gap, 0.0):.1f} Å between the slab and its image along z, expected at least {LEAST_VACUUM:g} Å; "
            "add some, with atoms.center(vacuum=10, axis=2) for example"
        )
