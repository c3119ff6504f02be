"""The ligand's Ensemble: poses with weights, clusters with populations and free energies, and contacts with the receptor."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from equilibra.atomic import write_text
from equilibra.energies.docking.box import Box
from equilibra.errors import InputError
from equilibra.geometry.symmetric_rmsd import leader_clusters, symmetric_rmsd
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.ensemble_folder import check_target, read_folder
from equilibra.systems.ligand.contacts import contact_table
from equilibra.systems.ligand.files import FORMATS, read_poses, read_receptor_arrays, write_poses, write_receptor
from equilibra.systems.ligand.symmetry import automorphisms
from equilibra.systems.ligand.system import LigandSystem, ligand_system
from equilibra.systems.ligand.validity import check
from equilibra.systems.validity import Validity
from equilibra.units import KCAL_PER_MOL_EV, thermal_energy

CLUSTER_RADIUS = 2.0
"""Poses within so many Å of the best pose of a cluster belong to it."""


@dataclass(frozen=True)
class Cluster:
    """One binding mode.

    Attributes:
        number: Number, from 0, the most populated first.
        poses: How many poses it has.
        population: Share of the weight.
        error: Its standard error over independent poses or populations of poses; nan where there is one population.
        free_energy: Free energy in kcal/mol relative to the first cluster; None without a temperature, and of relaxed poses.
        best: Index of the pose that leads it.
    """

    number: int
    poses: int
    population: float
    error: float
    free_energy: float | None
    best: int

    def in_words(self) -> str:
        """Returns the population with its error, if that is known."""
        error = "" if math.isnan(self.error) else f" ± {100 * self.error:.1f}"
        return f"{100 * self.population:.1f}{error} %"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LigandEnsemble(Ensemble):
    """F poses of one ligand in one pocket; see `Ensemble`. Immutable."""

    kind: ClassVar[str] = "ligand"
    formats: ClassVar[tuple[str, ...]] = FORMATS
    topology_file: ClassVar[str | None] = None
    rejected_format: ClassVar[str] = "sdf"

    system: LigandSystem

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
        write_poses(path, positions, system.mol, properties, name=system.name)

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Reads a folder that `save` wrote.

        Raises:
            InputError: If it is missing, malformed or of another kind.
        """
        return cls(**read_folder(Path(folder), cls, _saved_system, read_poses, needed=("ligand",)))

    def save(self, folder: str | Path, formats: Sequence[str] = ("sdf",)) -> Path:
        """Writes the ensemble to a folder, each file whole or not at all, `ensemble.json` last.

        `poses.sdf` has all poses, the best first: by weight where there are weights, then by energy; `best.sdf` the first pose of each cluster, `clusters.csv` populations and free
        energies, `contacts.csv` contacts with residues of the receptor, `receptor.pdb` and `receptor.npz` the receptor. The others are those of `Ensemble.save`.

        Raises:
            InputError: If a format is unknown, there is no valid pose, or the folder is not writable or holds another system's ensemble.
        """
        path = Path(folder)
        check_target(self, path, formats)
        write_receptor(path, self.system.receptor)
        order, numbers = self.ranking, self.properties()
        sorted_numbers = {name: values[order] for name, values in numbers.items()}
        write_poses(path / "poses.sdf", self.positions[order], self.system.mol, sorted_numbers, name=self.system.name)
        first = [cluster.best for cluster in self.clusters]
        best = {name: values[first] for name, values in numbers.items()}
        write_poses(path / "best.sdf", self.positions[first], self.system.mol, best, name=self.system.name)
        write_text(path / "clusters.csv", self._clusters_csv())
        write_text(path / "contacts.csv", contact_table(self.system, self.positions, self.weights))
        return super().save(path, formats)

    @property
    def temperature(self) -> float | None:
        """Temperature in K that the poses are weighted for, or were sampled at; None if it is unknown."""
        value = self.provenance.get("temperature_k")
        return None if value is None else float(value)

    @property
    def relaxed_by(self) -> str | None:
        """Name of the energy that the poses were relaxed in as they were drawn; None where they were not."""
        value = self.provenance.get("relaxed_by")
        return None if value is None else str(value)

    @cached_property
    def heavy(self) -> np.ndarray:
        """Positions (F, L, 3) of the heavy atoms, in Å."""
        return np.asarray(self.positions[:, self.system.torsions.heavy], dtype=np.float64)

    @cached_property
    def symmetries(self) -> np.ndarray:
        """Automorphisms (P, L) of the ligand."""
        return automorphisms(self.system.mol)

    @cached_property
    def ranking(self) -> np.ndarray:
        """Indices (F,) of the poses, the best first: by weight; those of equal weight by energy where it is known."""
        energies = np.zeros(len(self)) if self.energies is None else self.energies
        return np.lexsort((energies, -self.log_weights))

    @cached_property
    def _cluster_of(self) -> np.ndarray:
        found = leader_clusters(self.heavy, self.ranking, self.symmetries, CLUSTER_RADIUS)
        population = np.bincount(found, weights=self.weights, minlength=1)
        rank = np.empty(len(population), dtype=np.int64)
        rank[np.argsort(-population, kind="stable")] = np.arange(len(population))
        return np.asarray(rank[found])

    @cached_property
    def clusters(self) -> list[Cluster]:
        """The clusters of poses within `CLUSTER_RADIUS`, the most populated first; errors of populations are bootstraps over poses, or over whole populations of poses that are relatives."""
        made: list[Cluster] = []
        masks = {str(number): self._cluster_of == number for number in range(int(self._cluster_of.max(initial=-1)) + 1)}
        shares = self.shares(masks)
        # shares of minima are no populations of a distribution
        kt = (
            None
            if self.temperature is None or self.relaxed_by is not None
            else thermal_energy(self.temperature) / KCAL_PER_MOL_EV
        )
        for number, (name, inside) in enumerate(masks.items()):
            share, error = shares[name]
            reference = made[0].population if made else share
            free = None if kt is None or share <= 0.0 else 0.0 - kt * math.log(share / reference)
            best = int(next(i for i in self.ranking if inside[i]))
            made.append(Cluster(number, int(inside.sum()), share, error, free, best))
        return made

    @cached_property
    def rmsd(self) -> np.ndarray | None:
        """Symmetric RMSDs (F,) in Å from the pose of the system, in the frame of the receptor without superposition; None where it has none."""
        if self.system.pose is None:
            return None
        return symmetric_rmsd(self.heavy, self.system.pose[self.system.torsions.heavy], self.symmetries)

    def properties(self) -> dict[str, np.ndarray]:  # noqa: D102
        found = {**super().properties(), "weight": self.weights, "cluster": self._cluster_of.astype(np.float64)}
        if self.energies is not None:
            found["energy_kcal_mol"] = self.energies / KCAL_PER_MOL_EV
        if self.rmsd is not None:
            found["rmsd"] = self.rmsd
        return found

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns the torsions by the atoms of their bonds, each (F,) in rad."""
        names = self.system.atom_names
        angles = self.system.torsions.angles(np.asarray(self.positions, dtype=np.float64))
        return {f"{names[i]}-{names[j]}": angles[:, k] for k, (i, j) in enumerate(self.system.torsions.axes)}

    def descriptor(self) -> dict[str, Any]:  # noqa: D102
        from rdkit import Chem

        pose = self.system.pose
        return {
            "ligand": {
                "smiles": Chem.MolToSmiles(Chem.RemoveHs(self.system.mol)),
                "mol": Chem.MolToMolBlock(self.system.mol),
                "geometries": self.system.geometries.tolist(),
                "centre": list(self.system.box.centre),
                "size": list(self.system.box.size),
                "pose": None
                if pose is None
                else [[None if math.isnan(v) else round(v, 4) for v in row] for row in pose.tolist()],
                "notes": list(self.system.notes),
                "warnings": list(self.system.warnings),
            }
        }

    def _clusters_csv(self) -> str:
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(
            [
                "cluster",
                "poses",
                "population",
                "population_error",
                "free_energy_kcal_mol",
                "best_index",
                "energy_kcal_mol",
                "rmsd",
            ]
        )
        for each in self.clusters:
            energy = "" if self.energies is None else f"{self.energies[each.best] / KCAL_PER_MOL_EV:.4f}"
            distance = "" if self.rmsd is None else f"{self.rmsd[each.best]:.3f}"
            free = "" if each.free_energy is None else f"{each.free_energy:.4f}"
            rows.writerow(
                [
                    each.number,
                    each.poses,
                    f"{each.population:.6g}",
                    "" if math.isnan(each.error) else f"{each.error:.3g}",
                    free,
                    each.best,
                    energy,
                    distance,
                ]
            )
        return text.getvalue()


def _saved_system(folder: Path, description: dict[str, Any]) -> LigandSystem:
    from rdkit import Chem

    try:
        given = description["ligand"]
        mol = Chem.MolFromMolBlock(given["mol"], removeHs=False)
        if mol is None:
            raise ValueError("RDKit cannot read the molecule")
        Chem.AssignStereochemistryFrom3D(mol)
        pose = given["pose"]
        return ligand_system(
            mol,
            read_receptor_arrays(folder / "receptor.npz"),
            Box(tuple(given["centre"]), tuple(given["size"])),
            name=description["name"],
            geometries=np.array(given["geometries"], dtype=np.float64),
            unwound=True,
            pose=None if pose is None else np.array(pose, dtype=np.float64),
            notes=given["notes"],
            warnings=given["warnings"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{folder / 'ensemble.json'}': the ligand in it is malformed: {error}") from error
