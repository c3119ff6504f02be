"""The molecule's Ensemble: conformations of all atoms, with their conversions to ASE, RDKit and SDF."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.systems.conformation_checks import check
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.molecule.files import FORMATS, ase_frames, rdkit_conformers, write_frames
from equilibra.systems.molecule.system import MoleculeSystem
from equilibra.systems.molecule.torsions import torsion_quadruples
from equilibra.systems.validity import Validity


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MoleculeEnsemble(Ensemble):
    """F conformations of one molecule of N atoms; see `Ensemble`. Immutable."""

    kind: ClassVar[str] = "molecule"
    formats: ClassVar[tuple[str, ...]] = FORMATS

    system: MoleculeSystem

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
        write_frames(path, positions, system, properties)

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns torsions by name, each (F,) in rad: phi and psi of a peptide, else those of the rotatable bonds."""
        quadruples = torsion_quadruples(self.system)
        if not quadruples:
            return {}
        angles = dihedrals(self.positions, np.array(list(quadruples.values())))
        return {name: angles[:, column] for column, name in enumerate(quadruples)}

    def to_ase(self) -> list[Any]:
        """Returns ASE `Atoms`, in Å, with the weights and energies in `info`."""
        return ase_frames(self.positions, self.system, self.properties())

    def to_rdkit(self) -> Any:
        """Returns an RDKit molecule with one conformer for each frame, in Å."""
        return rdkit_conformers(self.system.mol, self.positions)

    def to_sdf(self, path: str | Path) -> None:
        """Writes the frames as records of an SDF file, with weights and energies as properties."""
        write_frames(Path(path).with_suffix(".sdf"), self.positions, self.system, self.properties())

    def descriptor(self) -> dict[str, Any]:  # noqa: D102
        from rdkit import Chem

        return {"molecule": Chem.MolToMolBlock(self.system.mol, forceV3000=True)}
