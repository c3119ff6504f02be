"""The adsorbate's Ensemble: positions of the mobile atoms, the sites they occupy, and what is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.systems.adsorbate.anomalies import anomalies
from equilibra.systems.adsorbate.files import FORMATS, ase_structures, read_frames, write_structures
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.system import AdsorbateSystem, adsorbate_values, slab_values, system_of_values
from equilibra.systems.adsorbate.validity import check
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.ensemble_folder import read_folder
from equilibra.systems.validity import Validity
from equilibra.units import thermal_energy


@dataclass(frozen=True)
class SitePopulation:
    """How often a kind of site is occupied.

    Attributes:
        label: The site; of several adsorbates, those of each.
        population: Share of the weight.
        error: Its standard error over independent samples or populations of samples; nan where there is one population.
        samples: Number of samples there.
        free_energy: Free energy relative to the most occupied site, in eV; None without a temperature.
        lowest: Index of the sample with the lowest energy, or with the largest weight where there are no energies.
    """

    label: str
    population: float
    error: float
    samples: int
    free_energy: float | None
    lowest: int

    @property
    def known_error(self) -> float | None:
        """The error, None where it is not known."""
        return None if math.isnan(self.error) else self.error


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AdsorbateEnsemble(Ensemble):
    """F structures of one system: the positions are those of its mobile atoms; see `Ensemble`. Immutable."""

    kind: ClassVar[str] = "adsorbate"
    formats: ClassVar[tuple[str, ...]] = FORMATS
    topology_file: ClassVar[str | None] = None
    rejected_format: ClassVar[str] = "npz"

    system: AdsorbateSystem

    @classmethod
    def check(cls, positions: np.ndarray, system: Any, cells: np.ndarray | None = None) -> Validity:  # noqa: D102
        return check(positions, system)

    @classmethod
    def write(  # noqa: D102
        cls,
        path: Path,
        positions: np.ndarray,
        system: Any,
        properties: Mapping[str, np.ndarray] | None = None,
        cells: np.ndarray | None = None,
    ) -> None:
        write_structures(path, positions, system, properties)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Reads a folder that `save` wrote.

        Raises:
            InputError: If it is missing, malformed or of another kind.
        """
        path = Path(folder)
        if not (path / "ensemble.json").is_file():
            raise InputError(
                f"'{path}' holds no ensemble of an adsorbate; expected a folder that `equilibra sample adsorbate` wrote"
            )
        made: list[AdsorbateSystem] = []

        def system(folder: Path, description: dict[str, Any]) -> AdsorbateSystem:
            made.append(_saved_system(folder, description))
            return made[0]

        read = lambda file, topology: read_frames(file, made[0])  # noqa: E731
        return cls(**read_folder(path, cls, system, read, needed=("adsorbate",)))

    @cached_property
    def sites(self) -> Sites:
        """The sites of the slab."""
        return Sites(self.system.slab)

    @cached_property
    def occupied(self) -> np.ndarray:
        """Index (F, adsorbates) of the kind of site that each adsorbate occupies, in `sites.kinds`: the nearest to its bound atom."""
        found = []
        for part in self.system.molecules:
            x = self.positions[:, part.start : part.stop].astype(np.float64)
            bound = self.sites.bound_atoms(x, self.system.numbers[part.start : part.stop])
            found.append(self.sites.nearest(x[np.arange(len(x)), bound])[0])
        return np.stack(found, axis=1) if found else np.zeros((len(self), 0), dtype=np.int64)

    @cached_property
    def site_labels(self) -> list[str]:
        """The occupied site of each frame; of several adsorbates, all of them in alphabetical order."""
        names = [site.label for site in self.sites.kinds]
        return [" + ".join(sorted(names[k] for k in row)) for row in self.occupied]

    @cached_property
    def flags(self) -> dict[str, np.ndarray]:
        """Anomalies (F,) by name; see `anomalies`."""
        return anomalies(self.system, self.positions, sites=self.sites)

    def populations_of_sites(self) -> list[SitePopulation]:
        """Returns the populations of the occupied sites, the largest first; errors as `shares` has them."""
        labels = np.array(self.site_labels)
        kelvin = self.provenance.get("temperature_k")
        masks = {label: labels == label for label in sorted(set(labels.tolist()))}
        shares = self.shares(masks)
        order = -self.weights if self.energies is None else self.energies
        rows = []
        for label, there in masks.items():
            lowest = int(np.flatnonzero(there)[np.argmin(order[there])])
            rows.append((label, *shares[label], int(there.sum()), lowest))
        largest = max((row[1] for row in rows), default=1.0)
        made = [
            SitePopulation(
                label,
                share,
                error,
                count,
                None if kelvin is None else 0.0 - thermal_energy(kelvin) * math.log(max(share, 1e-300) / largest),
                lowest,
            )
            for label, share, error, count, lowest in rows
        ]
        return sorted(made, key=lambda row: -row.population)

    def state_positions(self) -> torch.Tensor:
        """Returns the positions (F, atoms, 3) relative to the system's level, as energies and models take them, in Å, float64."""
        return torch.tensor(self.positions.astype(np.float64)) - torch.tensor([0.0, 0.0, self.system.level])

    def to_ase(self) -> list[Any]:
        """Returns ASE `Atoms` with the slab, in Å, with weights, energies and flags in `info`."""
        return ase_structures(self.positions, self.system, self.properties())

    def properties(self) -> dict[str, np.ndarray]:  # noqa: D102
        own = {f"site_{k + 1}": self.occupied[:, k].astype(np.int64) for k in range(self.occupied.shape[1])}
        return {**super().properties(), **own, **{name: flag.astype(np.int64) for name, flag in self.flags.items()}}

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns nothing: adsorbates are told apart by their sites."""
        return {}

    def descriptor(self) -> dict[str, Any]:  # noqa: D102
        return {
            "adsorbate": {
                "slab": slab_values(self.system.slab),
                "adsorbates": [adsorbate_values(item) for item in self.system.adsorbates],
                "sites": [site.label for site in self.sites.kinds],
                "populations": [
                    {
                        "site": row.label,
                        "population": row.population,
                        "error": row.known_error,
                        "free_energy_ev": row.free_energy,
                    }
                    for row in self.populations_of_sites()
                ],
            }
        }


def _saved_system(folder: Path, description: dict[str, Any]) -> AdsorbateSystem:
    try:
        values = description["adsorbate"]
        return system_of_values(description["name"], values["slab"], values["adsorbates"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{folder / 'ensemble.json'}': the system in it is malformed: {error}") from error
