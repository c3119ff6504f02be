"""What can be wrong with an all-atom structure: clashes, bonds that are off, stereocentres of the wrong hand."""

from __future__ import annotations

import numpy as np

from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray, IntArray

CLASH = 2.2
"""Heavy atoms more than three bonds apart and closer than this clash, in Å; hydrogen bonds are longer."""

STRETCH = 0.2
"""Largest sound difference of a bond's length from that in the built structure, in Å."""

DISULFIDE = 2.5
"""Sulfurs of two cysteines closer than this would be bonded, in Å."""

_DISULFIDE_BOND = 2.04
"""Length of a disulfide, in Å."""

_CENTRES = {"CA": ("N", "C", "CB"), "ILE": ("CA", "CG1", "CG2"), "THR": ("CA", "OG1", "CG2")}
"""Stereocentres: every CA with a CB, and the CB of two residues; with three of their neighbours."""


class Checks:
    """What can be wrong with an all-atom structure of one protein."""

    def __init__(self, protein: AllAtomProtein) -> None:
        self._heavy = np.flatnonzero(protein.heavy)
        self.near = _near_pairs(protein)
        self._centres = _stereocentres(protein)
        self._hands = _hands(protein.reference, self._centres)
        self._residue = protein.residue
        self._bonds = protein.bonds[protein.heavy[protein.bonds].all(1)]
        first, second = self._bonds.T
        sulfurs = np.array([protein.names[a] == protein.names[b] == "SG" for a, b in self._bonds], dtype=bool)
        built = np.sqrt(((protein.reference[first] - protein.reference[second]) ** 2).sum(1))
        self._lengths = np.where(sulfurs, _DISULFIDE_BOND, built)
        bonded = {residue for pair in protein.disulfides for residue in pair}
        self._sulfurs = np.array(
            [atom for atom in protein.index("SG") if atom >= 0 and protein.residue[atom] not in bonded], dtype=np.int64
        )

    def clashes(self, positions: FloatArray) -> int:
        """Returns how many pairs of heavy atoms, more than three bonds apart, are closer than `CLASH`."""
        from scipy.spatial import cKDTree

        found = cKDTree(positions[self._heavy]).query_pairs(CLASH, output_type="ndarray")
        pairs = self._heavy[found]
        # both indices ascend, as in the table of near pairs
        return int(sum((int(a), int(b)) not in self.near for a, b in pairs))

    def inverted(self, positions: FloatArray) -> IntArray:
        """Returns the residues with a stereocentre of another hand than the built, L structure."""
        wrong = np.sign(_hands(positions, self._centres)) != np.sign(self._hands)
        return np.unique(self._residue[self._centres[wrong, 0]])

    def stretched(self, positions: FloatArray) -> int:
        """Returns how many bonds of heavy atoms are longer or shorter than in the built structure by more than `STRETCH`."""
        first, second = self._bonds.T
        lengths = np.sqrt(((positions[first] - positions[second]) ** 2).sum(1))
        return int((np.abs(lengths - self._lengths) > STRETCH).sum())

    def close_sulfurs(self, positions: FloatArray) -> int:
        """Returns how many pairs of reduced sulfurs are closer than `DISULFIDE`."""
        x = positions[self._sulfurs]
        distances = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))
        return int((np.triu(distances < DISULFIDE, 1)).sum())


def _near_pairs(protein: AllAtomProtein) -> set[tuple[int, int]]:
    """Returns the pairs of atoms (first below second) at most three bonds apart."""
    neighbours: list[set[int]] = [set() for _ in range(protein.atoms)]
    for a, b in protein.bonds.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    pairs = set()
    for atom in range(protein.atoms):
        shell, seen = {atom}, {atom}
        for _ in range(3):
            shell = {other for member in shell for other in neighbours[member]} - seen
            seen |= shell
        pairs |= {(atom, other) for other in seen if other > atom}
    return pairs


def _stereocentres(protein: AllAtomProtein) -> IntArray:
    """Returns the centre and three neighbours of each stereocentre (n, 4)."""
    named = {
        (int(residue), name): atom for atom, (residue, name) in enumerate(zip(protein.residue, protein.names, strict=True))
    }
    rows = []
    for residue, letter in enumerate(protein.sequence):
        if letter != "G":
            rows.append([named[residue, name] for name in ("CA", *_CENTRES["CA"])])
        for own, key in (("I", "ILE"), ("T", "THR")):
            if letter == own:
                rows.append([named[residue, name] for name in ("CB", *_CENTRES[key])])
    return np.array(rows, dtype=np.int64).reshape(-1, 4)


def _hands(positions: FloatArray, centres: IntArray) -> FloatArray:
    """Returns the signed volumes (n,) of stereocentres in Å³."""
    a, b, c = (positions[centres[:, k]] - positions[centres[:, 0]] for k in (1, 2, 3))
    volumes: FloatArray = (a * np.cross(b, c)).sum(1)
    return volumes
