"""The crystal's Ensemble: structures with their cells, volumes, densities and space groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.nn.crystal import CELL, FRAC
from equilibra.state import State
from equilibra.systems.crystal.files import FORMATS, ase_structures, read_frames, write_structures
from equilibra.systems.crystal.structures import Structure, densities, fields_of
from equilibra.systems.crystal.symmetry import space_groups
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.crystal.validity import check
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.ensemble_folder import known, read_folder
from equilibra.systems.validity import Validity


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class CrystalEnsemble(Ensemble):
    """F structures of one composition, each with its cell; see `Ensemble`. Immutable."""

    kind: ClassVar[str] = "crystal"
    formats: ClassVar[tuple[str, ...]] = FORMATS
    periodic: ClassVar[bool] = True
    topology_file: ClassVar[str | None] = None
    rejected_format: ClassVar[str] = "extxyz"

    system: CrystalSystem

    @classmethod
    def check(cls, positions: np.ndarray, system: Any, cells: np.ndarray | None = None) -> Validity:  # noqa: D102
        return check(positions, cells)

    @classmethod
    def write(  # noqa: D102
        cls,
        path: Path,
        positions: np.ndarray,
        system: Any,
        properties: Mapping[str, np.ndarray] | None = None,
        cells: np.ndarray | None = None,
    ) -> None:
        if cells is None:
            raise InputError(f"'{path.name}': got no cells; expected one for each structure")
        write_structures(path, positions, cells, system.numbers, properties, name=system.formula)

    @classmethod
    def of(cls, structures: Sequence[Structure], *, provenance: Mapping[str, Any] | None = None) -> Self:
        """Makes the ensemble of structures of one composition; those that fail the checks are set apart.

        Raises:
            InputError: If there is no structure, or they are of several compositions.
        """
        ordered = [structure.right_handed().ordered() for structure in structures]
        kinds = {structure.formula for structure in ordered}
        if len(kinds) != 1:
            raise InputError(
                f"crystals: got structures of {', '.join(sorted(kinds)) or 'no composition'}, expected one composition"
            )
        energies = [structure.energy for structure in ordered]
        return cls.from_frames(
            CrystalSystem.of(ordered[0].numbers.tolist()),
            np.stack([structure.positions for structure in ordered]),
            cells=np.stack([structure.cell for structure in ordered]),
            energies=None if None in energies else np.array(energies) * len(ordered[0]),
            provenance=provenance,
        )

    @classmethod
    def read(cls, folder: str | Path) -> Self:
        """Reads a folder that `save` wrote, or a file of structures of one composition (extxyz, npz).

        Raises:
            InputError: If it is missing, malformed or of another kind.
        """
        path = Path(folder)
        if path.is_dir():
            return cls(**read_folder(path, cls, _saved_system, read_frames, needed=("crystal",)))
        positions, arrays = read_frames(path)
        system = CrystalSystem.of(arrays["numbers"].tolist())
        return cls(system=system, positions=positions, cells=arrays["cells"], **known(arrays, len(positions), path))

    @property
    def frac(self) -> np.ndarray:
        """Fractional coordinates (F, N, 3) in [0, 1), float64."""
        frac = self.positions.astype(np.float64) @ np.linalg.inv(self._cells)
        return np.asarray(frac - np.floor(frac))

    @property
    def _cells(self) -> np.ndarray:
        assert self.cells is not None
        return self.cells.astype(np.float64)

    @property
    def volumes(self) -> np.ndarray:
        """Volumes of the cells (F,), in Å³."""
        return np.asarray(np.abs(np.linalg.det(self._cells)))

    @property
    def densities(self) -> np.ndarray:
        """Mass densities (F,), in g/cm³."""
        return densities(np.array(self.system.numbers), self._cells)

    @cached_property
    def space_groups(self) -> np.ndarray:
        """Numbers (F,) of the space groups, found within `symmetry.TOLERANCE`; 0 where none is found."""
        return space_groups(self.frac, self._cells, np.array(self.system.numbers))

    def structures(self) -> list[Structure]:
        """Returns the structures one by one, with what guides and judges say of them."""
        numbers = np.array(self.system.numbers)
        energies = [None] * len(self) if self.energies is None else (self.energies / self.system.atoms).tolist()
        rows = zip(self.frac, self._cells, energies, strict=True)
        return [
            Structure(
                numbers=numbers,
                frac=frac,
                cell=cell,
                name=f"{self.system.name} {index}",
                energy=energy,
                values={name: float(values[index]) for name, values in self.values.items()},
            )
            for index, (frac, cell, energy) in enumerate(rows)
        ]

    def state(self) -> State:
        """Returns the structures as a State of the fields `frac` and `cell`, as models take them: in Niggli cells, upright, in float64."""
        frac, cell = fields_of([structure.canonical() for structure in self.structures()])
        return State({FRAC: frac, CELL: cell})

    def to_ase(self) -> list[Any]:
        """Returns ASE `Atoms`, in Å, with weights, volumes, densities and energies in `info`."""
        return ase_structures(self.positions, self._cells, self.system.numbers, self.properties())

    def properties(self) -> dict[str, np.ndarray]:  # noqa: D102
        return {
            **super().properties(),
            "volume_a3": self.volumes,
            "density_g_cm3": self.densities,
            "space_group": self.space_groups.astype(np.float64),
        }

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns nothing: crystals have no torsions."""
        return {}

    def descriptor(self) -> dict[str, Any]:  # noqa: D102
        return {"crystal": {"formula": self.system.formula, "numbers": list(self.system.numbers)}}


def state_of(structures: Sequence[Structure]) -> State:
    """Returns structures of one composition as a State, in float64; see `CrystalEnsemble.state`."""
    frac, cell = fields_of([structure.canonical() for structure in structures])
    return State({FRAC: frac, CELL: cell})


def sample_positions(frac: torch.Tensor | np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Returns Cartesian positions (B, N, 3), in Å, of fractional coordinates in cells (B, 3, 3)."""
    return np.asarray(frac, dtype=np.float64) @ np.asarray(cells, dtype=np.float64)


def _saved_system(folder: Path, description: dict[str, Any]) -> CrystalSystem:
    try:
        return CrystalSystem.of(description["crystal"]["numbers"], name=description["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{folder / 'ensemble.json'}': the crystal in it is malformed: {error}") from error
