"""The adsorbate's System: a slab that does not move, and the atoms on it that do."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.geometry.periodic import plane_spacings
from equilibra.state import Features, System
from equilibra.systems.adsorbate.slab import read_slab, top_height
from equilibra.systems.adsorbate.species import Adsorbate, molecules_of, read_adsorbate

HEAVIEST = 103
NODE_VOCABULARY = {"element": HEAVIEST + 1}
"""Integer features of mobile atoms, with the number of their values."""

FARTHEST = 5
PAIR_VOCABULARY = {"path": FARTHEST + 3}
"""Integer features of pairs of mobile atoms: bonds on the shortest path between them, 6 for more than 5, 7 for atoms of different molecules. An atom and an image of itself are of
different molecules, as in a supercell."""

LIFT = 1.2
"""Height of the middle of the prior above the top of the surface, in Å: heights of a State are relative to it."""

REACH = 5.5
"""Cut-off that the features of the surface are made for, in Å."""

DEPTH = 6.5
"""Atoms farther below the top than this are not told to the network, in Å."""

SHELLS = (2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
"""Distances in Å about which neighbours of an atom of the surface are counted, smoothly: its environment."""

BELOW, ABOVE = 1.0, 3.5
"""How far mobile atoms may go below the lowest ground of the surface, and above its top, in Å; large adsorbates farther by their extent."""

_APART = 4.0  # Å between the highest that atoms may be and the image of the slab
_STRETCH = 1.4  # of a bond's length up to which it counts as one
_GROUND = 0.8  # of the shortest distance of atoms of the slab: what is within so much sideways is ground


@dataclass(frozen=True, kw_only=True, eq=False)
class AdsorbateSystem(System):
    """Adsorbates on a slab. Two systems are equal if their digests are.

    Attributes:
        slab: ASE `Atoms` of the slab, with its constraints and tags; not to be changed.
        adsorbates: What is on it.
        top: Height of the top of the surface, in Å.
        window: Lowest and highest height of mobile atoms relative to `level`, in Å.
    """

    slab: Any
    adsorbates: tuple[Adsorbate, ...]
    top: float
    window: tuple[float, float]

    @classmethod
    def of(cls, slab: Any, adsorbates: Sequence[Any] | Any = (), *, name: str = "", whole: bool = False) -> Self:
        """Makes a system.

        Arguments:
            slab: What `read_slab` reads.
            adsorbates: What `read_adsorbate` reads, one or several; by default the molecules that are on it in its file.
            name: What to call it; by default after what is in it.
            whole: Whether all atoms of the slab are of the slab, whatever their tags say.

        Raises:
            InputError: If a part cannot be read, nothing is on the slab, or an adsorbate is larger than the cell.
        """
        atoms, on_it = read_slab(slab, whole=whole)
        given = (
            [adsorbates]
            if isinstance(adsorbates, str | Adsorbate) or hasattr(adsorbates, "get_positions")
            else list(adsorbates)
        )
        if not given and on_it is not None:
            given = [item for item, _ in molecules_of(on_it, str(on_it.symbols))]
        if not given:
            raise InputError(
                "adsorbate: got a slab with nothing on it, so no atom could move; name an adsorbate, such as O or CO"
            )
        read = tuple(read_adsorbate(item) for item in given)
        cell = np.asarray(atoms.cell)
        spacing = float(plane_spacings(torch.tensor(cell))[:2].min())
        for item in read:
            if item.extent >= spacing:
                raise InputError(
                    f"adsorbate '{item.name}': it is {item.extent:.1f} Å long, and the cell of the slab {spacing:.1f} Å wide; expected a slab with more cells"
                )
        high = ABOVE + max(item.extent for item in read)
        gap = abs(float(cell[2, 2])) - float(np.ptp(atoms.positions[:, 2]))
        if atoms.pbc[2] and gap < high + _APART:
            raise InputError(
                f"slab: its vacuum of {gap:.1f} Å is too thin for '{read[0].name}', which may be {high:.1f} Å above the surface; expected at least {high + _APART:.1f} Å, so "
                "that it does not meet the image of the slab"
            )
        known = max(atoms.numbers.max(), *(item.numbers.max() for item in read))
        if known > HEAVIEST:
            raise InputError(f"adsorbate: got the atomic number {known}, expected at most {HEAVIEST}")
        top = top_height(atoms)
        low = _lowest_ground(atoms) - top - BELOW
        called = name or f"{','.join(item.name for item in read)}@{slab if isinstance(slab, str) else atoms.symbols}"
        content = {**slab_values(atoms), "adsorbates": [adsorbate_values(item) for item in read]}
        return cls(
            name=called,
            features=_features(atoms, read, top),
            digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest(),
            slab=atoms,
            adsorbates=read,
            top=top,
            window=(low - LIFT, high - LIFT),
        )

    @property
    def atoms(self) -> int:
        """Number of mobile atoms."""
        return sum(len(item) for item in self.adsorbates)

    @property
    def numbers(self) -> np.ndarray:
        """Atomic numbers of the mobile atoms."""
        return np.concatenate([item.numbers for item in self.adsorbates])

    @property
    def level(self) -> float:
        """Height that those of a State are relative to, in Å."""
        return self.top + LIFT

    @property
    def bonds(self) -> list[tuple[int, int]]:
        """Pairs of bonded mobile atoms."""
        return [(i + first, j + first) for first, item in self._starts() for i, j in item.bonds]

    @property
    def longest_bonds(self) -> list[float]:
        """Up to which length each bond counts as one, in Å."""
        return [
            _STRETCH * float(np.linalg.norm(item.positions[i] - item.positions[j]))
            for item in self.adsorbates
            for i, j in item.bonds
        ]

    @property
    def molecules(self) -> list[range]:
        """Indices of the mobile atoms of each adsorbate."""
        return [range(first, first + len(item)) for first, item in self._starts()]

    @property
    def plane(self) -> torch.Tensor:
        """The two lattice vectors of the plane (2, 2), as rows, in Å, float64."""
        return torch.tensor(np.asarray(self.slab.cell)[:2, :2].copy())

    @property
    def topology(self) -> Any:
        """None: files of frames tell the atoms."""
        return None

    def _starts(self) -> list[tuple[int, Adsorbate]]:
        starts = np.cumsum([0, *(len(item) for item in self.adsorbates)])[:-1]
        return list(zip(starts.tolist(), self.adsorbates, strict=True))

    def placed(self, n: int, *, seed: int, spread: float = 0.5, at: np.ndarray | None = None) -> np.ndarray:
        """Returns starting points (n, atoms, 3), relative to `level`, in Å: adsorbates anywhere, turned at random, so high that no atom is within another.

        Arguments:
            n: Number of starting points.
            seed: The same seed gives the same ones.
            spread: They are up to so much higher, at random, in Å.
            at: Where in the plane (n, 2) the first adsorbate is; anywhere by default.
        """
        from ase.data import covalent_radii
        from scipy.spatial.transform import Rotation

        rng = np.random.default_rng([seed, 0x504C4143])
        cell = np.asarray(self.slab.cell)
        images = _images(self.slab, REACH, np.ones(len(self.slab), dtype=bool))
        ground, radii = images[0] - np.array([0.0, 0.0, self.level]), covalent_radii[self.slab.numbers[images[1]]]
        made = np.zeros((n, self.atoms, 3))
        for row in range(n):
            there, wide = ground, radii
            for part, item in zip(self.molecules, self.adsorbates, strict=True):
                turned = item.positions @ Rotation.random(random_state=rng).as_matrix().T
                for _ in range(20):  # a crowded cell has few free places
                    place = (rng.random(2) - 0.5) @ cell[:2, :2] if at is None or part.start else at[row]
                    x = turned + np.array([*place, 0.0])
                    lift = _free_height(x, covalent_radii[item.numbers], there, wide) + rng.random() * spread
                    if x[:, 2].max() + lift <= self.window[1]:
                        break
                made[row, part] = x + np.array([0.0, 0.0, lift])
                shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]) @ cell[:2]
                there = np.concatenate([there, (made[row, part][None] + shifts[:, None]).reshape(-1, 3)])
                wide = np.concatenate([wide, np.tile(covalent_radii[item.numbers], len(shifts))])
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AdsorbateSystem) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"AdsorbateSystem(name={self.name!r}, slab={len(self.slab)} atoms, mobile={self.atoms})"


def slab_values(slab: Any) -> dict[str, Any]:
    """Returns a slab as JSON: numbers, positions and cell to the last bit, periodicity, tags, and the indices of fixed atoms."""
    from ase.constraints import FixAtoms

    fixed = sorted({int(index) for item in slab.constraints if isinstance(item, FixAtoms) for index in item.index})
    return {
        "numbers": slab.numbers.tolist(),
        "positions": slab.positions.tolist(),
        "cell": np.asarray(slab.cell).tolist(),
        "pbc": [bool(value) for value in slab.pbc],
        "tags": slab.get_tags().tolist(),
        "fixed": fixed,
    }


def adsorbate_values(item: Adsorbate) -> dict[str, Any]:
    """Returns an adsorbate as JSON."""
    return {
        "name": item.name,
        "numbers": item.numbers.tolist(),
        "positions": item.positions.tolist(),
        "bonds": [list(bond) for bond in item.bonds],
    }


def system_of_values(name: str, slab: Mapping[str, Any], adsorbates: Sequence[Mapping[str, Any]]) -> AdsorbateSystem:
    """Makes a system from its JSON form, the values of `slab_values` and `adsorbate_values`."""
    from ase import Atoms
    from ase.constraints import FixAtoms

    atoms = Atoms(numbers=slab["numbers"], positions=slab["positions"], cell=slab["cell"], pbc=slab["pbc"], tags=slab["tags"])
    if slab["fixed"]:
        atoms.set_constraint(FixAtoms(slab["fixed"]))
    read = [
        Adsorbate(
            item["name"],
            np.array(item["numbers"]),
            np.array(item["positions"], dtype=np.float64).reshape(-1, 3),
            tuple((int(i), int(j)) for i, j in item["bonds"]),
        )
        for item in adsorbates
    ]
    return AdsorbateSystem.of(atoms, read, name=name, whole=True)


def _features(slab: Any, adsorbates: Sequence[Adsorbate], top: float) -> Features:
    numbers = torch.tensor(np.concatenate([item.numbers for item in adsorbates]).copy())
    shown = slab.positions[:, 2] > top - DEPTH
    position, index = _images(slab, REACH, shown)
    position = position - np.array([0.0, 0.0, top + LIFT])
    return Features(
        node={"element": numbers},
        pair={"path": torch.from_numpy(_paths(adsorbates))},
        graph={"cell": torch.tensor(np.asarray(slab.cell).copy()).float()},
        around={
            "element": torch.tensor(slab.numbers[index].copy()),
            "position": torch.tensor(position).float(),
            "environment": torch.tensor(_environments(slab)[index]).float(),
        },
    )


def _paths(adsorbates: Sequence[Adsorbate]) -> np.ndarray:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import shortest_path

    total = sum(len(item) for item in adsorbates)
    made = np.full((total, total), FARTHEST + 2, dtype=np.int64)
    first = 0
    for item in adsorbates:
        count = len(item)
        graph = np.zeros((count, count))
        for i, j in item.bonds:
            graph[i, j] = graph[j, i] = 1.0
        steps = shortest_path(csr_array(graph), unweighted=True)
        own = slice(first, first + count)
        own_steps = np.minimum(np.where(np.isfinite(steps), steps, FARTHEST + 1), FARTHEST + 1).astype(np.int64)
        np.fill_diagonal(own_steps, FARTHEST + 2)
        made[own, own] = own_steps
        first += count
    return made


def _images(slab: Any, reach: float, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns positions (K, 3) of all images of some atoms within `reach` of the cell about the origin, and which atom (K,) each is of."""
    cell = np.asarray(slab.cell)
    spacing = plane_spacings(torch.tensor(cell))[:2].numpy()
    index = np.flatnonzero(chosen)
    frac = np.linalg.solve(cell[:2, :2].T, slab.positions[index, :2].T).T
    base = frac - np.floor(frac + 0.5)
    counts = np.ceil(reach / spacing).astype(int) + 1
    shifts = np.array([(i, j) for i in range(-counts[0], counts[0] + 1) for j in range(-counts[1], counts[1] + 1)])
    images = base[:, None] + shifts[None]
    near = (np.abs(images) <= 0.5 + reach / spacing + 1e-9).all(-1)
    which, shift = np.nonzero(near)
    plane = images[which, shift] @ cell[:2, :2]
    return np.concatenate([plane, slab.positions[index[which], 2:]], axis=1), index[which]


def _environments(slab: Any) -> np.ndarray:
    """Returns what surrounds each atom of a slab (atoms, shells + 1): smooth counts of neighbours about `SHELLS`, and its depth below the top in units of 5 Å."""
    images, _ = _images(slab, SHELLS[-1] + 1.5, np.ones(len(slab), dtype=bool))
    cell = np.asarray(slab.cell)
    frac = np.linalg.solve(cell[:2, :2].T, slab.positions[:, :2].T).T
    plane = (frac - np.floor(frac + 0.5)) @ cell[:2, :2]
    wrapped = np.concatenate([plane, slab.positions[:, 2:]], axis=1)
    gaps = np.linalg.norm(wrapped[:, None] - images[None], axis=-1)
    counts = [(np.exp(-0.5 * ((gaps - shell) / 0.3) ** 2) * (gaps > 0.5)).sum(1) / 10.0 for shell in SHELLS]
    return np.stack([*counts, (slab.positions[:, 2].max() - slab.positions[:, 2]) / 5.0], axis=1)


def _lowest_ground(slab: Any) -> float:
    """Returns the height of the lowest ground of a surface: over the plane, the lowest of the highest atoms that are not far sideways, in Å."""
    images, _ = _images(slab, REACH, np.ones(len(slab), dtype=bool))
    gaps = np.linalg.norm(images[:, None] - images[None], axis=-1)
    side = _GROUND * float(gaps[gaps > 0.5].min()) if (gaps > 0.5).any() else REACH
    cell = np.asarray(slab.cell)[:2, :2]
    counts = np.ceil(np.linalg.norm(cell, axis=1) / 0.4).astype(int)
    grid = np.stack(np.meshgrid(*(np.arange(n) / n - 0.5 for n in counts), indexing="ij"), -1).reshape(-1, 2) @ cell
    flat = np.linalg.norm(grid[:, None] - images[None, :, :2], axis=-1)
    heights = np.where(flat < side, images[None, :, 2], -np.inf).max(1)
    return float(heights[np.isfinite(heights)].min())


def _free_height(x: np.ndarray, radii: np.ndarray, ground: np.ndarray, wide: np.ndarray) -> float:
    """Returns the least lift along z with which no atom of x (N, 3) is closer to the ground (K, 3) than the sum of their radii."""
    reach = radii[:, None] + wide[None]
    flat = np.square(x[:, None, :2] - ground[None, :, :2]).sum(-1)
    under = flat < reach**2
    if not under.any():
        return -float(x[:, 2].min())
    needed = ground[None, :, 2] + np.sqrt(np.maximum(reach**2 - flat, 0.0)) - x[:, None, 2]
    return float(needed[under].max())
