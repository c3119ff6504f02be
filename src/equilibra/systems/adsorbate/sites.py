"""Adsorption sites of a surface, and which of them adsorbed atoms occupy.

Sites are the vertices, the middles of edges and the centres of the triangles of the Delaunay triangulation of the exposed atoms in the plane, as in the heuristic placement
of the Open Catalyst project; two right-angled triangles that share their longest edge are one fourfold site at its middle. A threefold site above an atom of the layer below
is `hcp`, one without is `fcc`. Sites with the same atoms about them, at the same distances, are one kind.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from equilibra.energies.confinement import PlanarDistance

_ALIKE = 0.05  # Å between distances that count as the same
_SEEN = 5.0  # Å about a site that tell its kind
_PERCH = 1.2  # Å above its atoms, from where distances are measured
_BOND = 1.2  # of the shortest distance: neighbours in the slab
_RIGHT = 0.12  # cosine up to which an angle counts as right
_BELOW = 0.6  # Å sideways within which an atom of the next layer is below a site


@dataclass(frozen=True)
class Site:
    """A kind of site: its label, such as `fcc`, `ontop Cu` or `bridge 2`; its shape; and its points (n, 3) in the cell, at the height of its atoms, in Å."""

    label: str
    shape: str
    points: np.ndarray


class Sites:
    """All sites of a slab.

    Arguments:
        slab: ASE `Atoms` with a surface perpendicular to z.
    """

    def __init__(self, slab: Any) -> None:
        self.slab = slab
        self._apart = PlanarDistance(torch.tensor(np.asarray(slab.cell)[:2, :2].copy()))

    @cached_property
    def exposed(self) -> np.ndarray:
        """Which atoms (atoms,) of the slab are at its upper surface: those above its middle with fewer neighbours than the atoms within, or the top layer of a thin slab."""
        z = self.slab.positions[:, 2]
        gaps = self._gaps(self.slab.positions)
        shortest = gaps[gaps > 0.5].min() if (gaps > 0.5).any() else 1.0
        neighbours = self._neighbours(_BOND * shortest)
        upper = z > 0.5 * (z.max() + z.min()) - 1e-9
        found = upper & (neighbours < neighbours.max())
        return np.asarray(found if found.any() else z > z.max() - 0.5)

    def _gaps(self, points: np.ndarray) -> np.ndarray:
        """Returns the distances (n, atoms) of points to the nearest images of the atoms of the slab."""
        d = torch.tensor(self.slab.positions)[None] - torch.tensor(points)[:, None]
        return np.asarray(self._apart(d).numpy())

    def _images(self, reach: float) -> tuple[np.ndarray, np.ndarray]:
        cell = np.asarray(self.slab.cell)
        normal = np.abs(np.linalg.det(cell[:2, :2])) / np.linalg.norm(cell[[1, 0], :2], axis=1)
        n = np.ceil(reach / normal).astype(int) + 1
        shifts = np.array([(i, j) for i in range(-n[0], n[0] + 1) for j in range(-n[1], n[1] + 1)]) @ cell[:2]
        return (self.slab.positions[None] + shifts[:, None]).reshape(-1, 3), np.tile(np.arange(len(self.slab)), len(shifts))

    def _neighbours(self, reach: float) -> np.ndarray:
        images, _ = self._images(reach)
        gaps = np.linalg.norm(self.slab.positions[:, None] - images[None], axis=-1)
        return np.asarray(((gaps < reach) & (gaps > 0.1)).sum(1))

    @cached_property
    def kinds(self) -> list[Site]:
        """The kinds of sites, by shape and label."""
        groups: list[tuple[str, str, np.ndarray, list[np.ndarray]]] = []
        for shape, members, point in self._triangulated():
            label, prints = self._label(shape, members, point), self._fingerprint(point)
            group = next((points for known, _, other, points in groups if known == label and _same(other, prints)), None)
            if group is None:
                groups.append((label, shape, prints, [point]))
            else:
                group.append(point)
        total = Counter(label for label, *_ in groups)
        counts: Counter[str] = Counter()
        made = []
        # of one label the highest first
        for label, shape, _, points in sorted(groups, key=lambda group: (group[0], -round(float(group[3][0][2]), 3))):
            counts[label] += 1
            made.append(Site(f"{label} {counts[label]}" if total[label] > 1 else label, shape, np.array(points)))
        return made

    def _triangulated(self) -> list[tuple[str, list[int], np.ndarray]]:
        """Returns the shape, the atoms, and the point in the cell of every site, each once."""
        from scipy.spatial import Delaunay

        cell = np.asarray(self.slab.cell)
        images, owner = self._images(float(np.linalg.norm(cell[:2], axis=1).max()) + 6.0)
        kept = self.exposed[owner]
        images, owner = images[kept], owner[kept]
        # a regular lattice has many triangulations: a grain of noise, the same for all images, chooses one
        grain = np.random.default_rng(0).normal(size=(len(self.slab), 2)) * 1e-4
        triangles = Delaunay(images[:, :2] + grain[owner]).simplices
        found: list[tuple[str, list[int], np.ndarray]] = []
        diagonals: set[tuple[int, int]] = set()
        edges = {tuple(sorted(pair)) for triangle in triangles for pair in itertools.combinations(triangle, 2)}
        hollows: list[tuple[str, list[int], np.ndarray]] = []
        for triangle in triangles:
            corner = _right_corner(images[triangle, :2])
            if corner is None:
                hollows.append(("hollow", list(triangle), images[triangle].mean(0)))
            else:
                i, j = (int(triangle[k]) for k in range(3) if k != corner)
                diagonals.add((min(i, j), max(i, j)))
        for pair in edges:
            middle = images[list(pair)].mean(0)
            found.append(("fourfold" if pair in diagonals else "bridge", list(pair), middle))
        found += hollows + [("ontop", [k], images[k]) for k in range(len(images))]
        unique: list[tuple[str, list[int], np.ndarray]] = []
        inverse = np.linalg.inv(cell[:2, :2])
        taken: dict[str, list[np.ndarray]] = defaultdict(list)
        for shape, members, point in found:
            frac = point[:2] @ inverse
            if ((frac < -0.5 - 1e-6) | (frac >= 0.5 - 1e-6)).any():
                continue
            if any(np.linalg.norm(point - other) < 0.1 for other in taken[shape]):
                continue
            taken[shape].append(point)
            unique.append((shape, [int(owner[k]) for k in members], point))
        return unique

    def _label(self, shape: str, members: list[int], point: np.ndarray) -> str:
        from ase.data import chemical_symbols

        numbers = set(self.slab.numbers.tolist())
        suffix = ""
        if len(numbers) > 1:
            suffix = " " + "-".join(sorted(chemical_symbols[self.slab.numbers[k]] for k in members))
        if shape != "hollow":
            return shape + suffix
        flat = point.copy()
        d = torch.tensor(self.slab.positions - flat)
        d[:, 2] = 0.0
        under = self._apart(d).numpy() < _BELOW
        depth = point[2] - self.slab.positions[:, 2]
        under &= (depth > 0.8) & (depth < 3.2)
        return ("hcp" if under.any() else "fcc") + suffix

    def _fingerprint(self, point: np.ndarray) -> np.ndarray:
        """Returns sorted (element, distance) rows of the atoms about a site."""
        images, owner = self._images(_SEEN)
        d = np.linalg.norm(images - point - np.array([0.0, 0.0, _PERCH]), axis=1)
        near = d < _SEEN
        rows = np.stack([self.slab.numbers[owner[near]].astype(float), d[near]], 1)
        return np.asarray(rows[np.lexsort((rows[:, 1], rows[:, 0]))])

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns the index (n,) of the kind of the nearest site in the plane, and the distance (n,) to it in Å, of points (n, 3).

        A higher site of the same place, on the edge of a step for example, counts as nearer than a lower one in proportion to the height.
        """
        best, which = np.full(len(points), np.inf), np.zeros(len(points), dtype=np.int64)
        for index, site in enumerate(self.kinds):
            d = torch.tensor(site.points)[None] - torch.tensor(points)[:, None]
            d[..., 2] = 0.0
            gap = self._apart(d).numpy().min(1)
            closer = gap < best
            best[closer], which[closer] = gap[closer], index
        return which, best

    def bound_atoms(self, positions: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Returns which mobile atom (n,) of positions (n, atoms, 3) is bound: the one with the smallest gap to the surface in units of covalent radii."""
        from ase.data import covalent_radii

        radii, ground = covalent_radii[numbers], covalent_radii[self.slab.numbers]
        n, atoms = positions.shape[:2]
        gaps = self._gaps(positions.reshape(-1, 3)).reshape(n, atoms, -1) / (radii[:, None] + ground[None])
        return np.asarray(gaps.min(2).argmin(1))


def _right_corner(triangle: np.ndarray) -> int | None:
    """Returns the corner of a triangle (3, 2) with a right angle, or None."""
    for k in range(3):
        a, b = triangle[(k + 1) % 3] - triangle[k], triangle[(k + 2) % 3] - triangle[k]
        if abs(a @ b) < _RIGHT * np.linalg.norm(a) * np.linalg.norm(b):
            return k
    return None


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    """Tells whether two fingerprints are the same but for atoms at the rim."""
    rim = _SEEN - 2 * _ALIKE
    a, b = a[a[:, 1] < rim], b[b[:, 1] < rim]
    return len(a) == len(b) and bool(np.abs(a - b).max(initial=0.0) < _ALIKE)
