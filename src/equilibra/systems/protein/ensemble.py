"""The protein's Ensemble: backbones with their frames, torsions and size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from equilibra.geometry import size
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.nn.frames import ROT, TRANS
from equilibra.state import State
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.protein.files import FORMATS, write_frames
from equilibra.systems.protein.frames import atom5_of, frames_of
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.protein.validity import check, cis_share
from equilibra.systems.validity import Validity


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ProteinEnsemble(Ensemble):
    """F conformations of one protein of L residues; see `Ensemble`. Immutable.

    The positions are those of the atoms that are written: N, CA, C, O and CB of each residue, glycine without CB.
    """

    kind: ClassVar[str] = "protein"
    formats: ClassVar[tuple[str, ...]] = FORMATS

    system: ProteinSystem

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

    @property
    def ca(self) -> np.ndarray:
        """Positions (F, L, 3) of the C-alpha atoms, in Å."""
        return self.positions[:, self.system.atom_index[:, 1]]

    @property
    def atom5(self) -> np.ndarray:
        """Positions (F, L, 5, 3) of N, CA, C, O and CB, in Å; the CB that glycine lacks is where an L residue has it."""
        return atom5_of(self.positions, self.system)

    @property
    def trans(self) -> np.ndarray:
        """Positions (F, L, 3) of the frames: the C-alpha atoms about their mean, in Å."""
        return self._frames[0]

    @property
    def rot(self) -> np.ndarray:
        """Rotations (F, L, 3, 3) of the frames, from local to global coordinates."""
        return self._frames[1]

    @cached_property
    def _frames(self) -> tuple[np.ndarray, np.ndarray]:
        return frames_of(self.positions, self.system)

    def state(self) -> State:
        """Returns the frames as a State of the fields `trans` and `rot`, as models take them."""
        return State({TRANS: torch.from_numpy(self.trans.copy()), ROT: torch.from_numpy(self.rot.copy())})

    @property
    def radius_of_gyration(self) -> np.ndarray:
        """Radius of gyration (F,) of the C-alpha atoms, in Å."""
        return radius_of_gyration(self.ca)

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns phi, psi and omega of every residue that has them by name (`phi LEU42`; `phi A:LEU42` of several chains), each (F,) in rad.

        Omega is that of the peptide bond to the next residue.
        """
        system = self.system
        n, ca, c = system.atom_index[:, :3].T
        bonds = np.flatnonzero(~system.breaks)
        atoms = {
            "phi": (bonds + 1, np.stack([c[bonds], n[bonds + 1], ca[bonds + 1], c[bonds + 1]], axis=1)),
            "psi": (bonds, np.stack([n[bonds], ca[bonds], c[bonds], n[bonds + 1]], axis=1)),
            "omega": (bonds, np.stack([ca[bonds], c[bonds], n[bonds + 1], ca[bonds + 1]], axis=1)),
        }
        found: dict[str, np.ndarray] = {}
        for name, (residues, quadruples) in atoms.items():
            angles = dihedrals(self.positions, quadruples)
            found |= {f"{name} {self._label(i)}": angles[:, column] for column, i in enumerate(residues.tolist())}
        return found

    def _label(self, residue: int) -> str:
        chain, _, label = self.system.label(residue).partition(":")
        names = self.system.chain_ids
        if len(names) == 1:
            return label
        # files may give two chains one name
        return f"{chain if len(set(names)) == len(names) else self.system.chain_index[residue] + 1}:{label}"

    @property
    def cis_share(self) -> float:
        """Share of the peptide bonds of all frames that are cis; nan where there is none."""
        omega = [values for name, values in self.torsions().items() if name.startswith("omega ")]
        return cis_share(np.array(omega))

    def descriptor(self) -> dict[str, Any]:  # noqa: D102
        share = self.cis_share
        return {
            "protein": {
                "sequence": self.system.text,
                "chain_ids": list(self.system.chain_ids),
                "residue_numbers": self.system.residue_numbers.tolist(),
                "provider": self.system.provider,
                "provider_content": self.system.provider_content,
                "cis_peptide_bonds": round(share, 6) if np.isfinite(share) else None,
            }
        }


def radius_of_gyration(x: np.ndarray) -> np.ndarray:
    r"""Returns :math:`\sqrt{\frac1L \sum_i |x_i - \bar x|^2}` (F,) of points (F, L, 3), in their unit."""
    return np.asarray(size.radius_of_gyration(torch.from_numpy(x.astype(np.float64))))
