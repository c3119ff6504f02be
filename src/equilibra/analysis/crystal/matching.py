"""Whether two crystals are the same up to tolerances: pymatgen's StructureMatcher, with cheap tests before it.

References:
    | Python Materials Genomics (pymatgen) (Ong et al., 2013), https://doi.org/10.1016/j.commatsci.2012.10.028
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from equilibra.analysis.crystal.crystals import Crystal, composition
from equilibra.errors import ConfigError, MissingDependencyError
from equilibra.geometry.average_distances import average_minimum_distances

NEIGHBOURS = 24
"""Neighbours that average minimum distances are taken of."""


@dataclass(frozen=True, kw_only=True)
class Tolerances:
    """How different two structures may be.

    Attributes:
        length: Relative difference of lattice vectors.
        site: Root-mean-square distance of atoms, in units of the cube root of the volume per atom.
        angle: Difference of lattice angles, in degrees.
        distances: Largest difference of any average minimum distance, in Å: pairs that differ by more are not matched at all. None matches every pair
            of one composition, which takes long.
    """

    length: float = 0.3
    site: float = 0.5
    angle: float = 10.0
    distances: float | None = None

    def __post_init__(self) -> None:
        for name in ("length", "site", "angle"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"tolerances: got {name} = {getattr(self, name)}, expected a positive number")
        if self.distances is not None and not self.distances > 0:
            raise ConfigError(f"tolerances: got distances = {self.distances}, expected a positive number in Å")


PUBLISHED = Tolerances()
"""Those of CDVAE and of all that compare with it (Xie et al., 2022)."""

DUPLICATES = Tolerances(length=0.2, site=0.3, angle=5.0, distances=0.01)
"""For what counts as one entry of a set of relaxed structures: pymatgen's own tolerances, and average minimum distances within 0.01 Å. In Carbon-24 the distances to the
nearest other structure have two peaks, of repeated minima at 0.002 Å and of different ones at 0.04 Å, and this lies in the valley between."""

ORIGINALITY = Tolerances(distances=0.3)
"""For whether a sample, which is not relaxed, is one of a set: the published tolerances, of pairs whose average minimum distances agree within 0.3 Å."""


class Matcher:
    """Matches crystals; each is prepared once, and remembered by its place in a list.

    Arguments:
        crystals: The crystals.
        tolerances: How different two may be.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """

    def __init__(self, crystals: Sequence[Crystal], tolerances: Tolerances = PUBLISHED) -> None:
        self.crystals, self.tolerances = list(crystals), tolerances
        self._matcher = structure_matcher(tolerances)
        self._structures: dict[int, Any] = {}
        self._reduced: dict[int, Any] = {}
        self.compositions = [composition(crystal) for crystal in self.crystals]

    @cached_property
    def distances(self) -> np.ndarray:
        """Average minimum distances (F, NEIGHBOURS), in Å."""
        return np.stack([fingerprint(crystal) for crystal in self.crystals]) if self.crystals else np.zeros((0, NEIGHBOURS))

    def structure(self, index: int) -> Any:
        """Returns a crystal as a pymatgen `Structure`."""
        if index not in self._structures:
            self._structures[index] = pymatgen_structure(self.crystals[index])
        return self._structures[index]

    def reduced(self, index: int) -> Any:
        """Returns the primitive cell of a crystal's Niggli cell, which the matcher makes of both structures of every pair otherwise."""
        if index not in self._reduced:
            niggli = self.structure(index).get_reduced_structure(reduction_algo="niggli")
            self._reduced[index] = niggli.get_primitive_structure()
        return self._reduced[index]

    def candidates(self, index: int, among: np.ndarray) -> np.ndarray:
        """Returns which of the crystals with the places `among` may match one, by composition and average minimum distances; the nearest first."""
        same = np.array([self.compositions[other] == self.compositions[index] for other in among], dtype=bool)
        among = among[same]
        if self.tolerances.distances is None or not len(among):
            return among
        apart = np.abs(self.distances[among] - self.distances[index]).max(axis=1)
        order = np.argsort(apart, kind="stable")
        return np.asarray(among[order][apart[order] <= self.tolerances.distances])

    def rms(self, first: int, second: int) -> float | None:
        """Returns the root-mean-square distance of the atoms of two crystals, in units of the cube root of the volume per atom; None without a match."""
        found = self._matcher.get_rms_dist(self.structure(first), self.structure(second))
        return None if found is None else float(found[0])

    def same(self, first: int, second: int) -> bool:
        """Tells whether two crystals match."""
        return bool(self._matcher.fit(self.reduced(first), self.reduced(second), skip_structure_reduction=True))


def structure_matcher(tolerances: Tolerances) -> Any:
    """Returns pymatgen's matcher with these tolerances.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """
    try:
        from pymatgen.analysis.structure_matcher import StructureMatcher
    except ImportError as error:
        raise MissingDependencyError(
            "matching crystals needs pymatgen, which is not installed; install it with `pip install 'equilibra[crystal]'`"
        ) from error
    return StructureMatcher(ltol=tolerances.length, stol=tolerances.site, angle_tol=tolerances.angle)


def pymatgen_structure(crystal: Crystal) -> Any:
    """Returns a pymatgen `Structure`."""
    from pymatgen.core import Lattice, Structure

    species: list[Any] = [int(number) for number in crystal.numbers]
    return Structure(Lattice(np.asarray(crystal.cell)), species, np.asarray(crystal.frac))


def fingerprint(crystal: Crystal) -> np.ndarray:
    """Returns the average minimum distances (NEIGHBOURS,) of a crystal, in Å."""
    frac = torch.tensor(np.asarray(crystal.frac), dtype=torch.float64)
    cell = torch.tensor(np.asarray(crystal.cell), dtype=torch.float64)
    return average_minimum_distances(frac, cell, NEIGHBOURS).numpy()


Progress = Callable[[int, int], object]
"""Told how many of how many structures are done."""
