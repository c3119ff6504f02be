"""The molecule's Ensemble: conformations with weights, what was rejected and why, and where it all comes from."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np

from equilibra.atomic import write_text
from equilibra.errors import InputError, ShapeError
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.systems.molecule.files import FORMATS, ase_frames, mdtraj_trajectory, rdkit_conformers, write_frames
from equilibra.systems.molecule.system import MoleculeSystem
from equilibra.systems.molecule.torsions import torsion_quadruples
from equilibra.systems.molecule.validity import CHECKS, Validity, check

SCHEMA_VERSION = 1
"""Version of `ensemble.json`."""

_STORABLE = 1e6  # Å; XTC holds nothing farther out, nor what is not finite


@dataclass(frozen=True, kw_only=True, eq=False)
class MoleculeEnsemble:
    """F conformations of one molecule of N atoms. Immutable.

    Attributes:
        system: The molecule.
        positions: Conformations (F, N, 3), float32, in Å.
        log_weights: Logarithms (F,) of their weights, of any normalisation; by default all zero.
        validity: Results of the checks of `positions`; by default they are made.
        rejected: Conformations (R, N, 3), in Å, that failed the checks and do not count.
        rejected_reasons: Why, one text for each.
        blocks: Block (F,) that each conformation was drawn in, or None.
        energies: Potential energies (F,), in eV, or None.
        log_density: Logarithms (F,) of the model's density, or None.
        provenance: What made it: model, seed, versions, cost. Everything in it can be written as JSON.

    Raises:
        ShapeError: If the arrays do not fit each other or the system.
    """

    system: MoleculeSystem
    positions: np.ndarray
    log_weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    validity: Validity = None  # type: ignore[assignment]  # filled in below, never None
    rejected: np.ndarray = None  # type: ignore[assignment]  # filled in below, never None
    rejected_reasons: tuple[str, ...] = ()
    blocks: np.ndarray | None = None
    energies: np.ndarray | None = None
    log_density: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = (self.system.atoms, 3)
        positions = np.asarray(self.positions, dtype=np.float32)
        rejected = np.zeros((0, *shape)) if self.rejected is None else self.rejected
        for name, value in (("positions", positions), ("rejected", rejected)):
            if np.ndim(value) != 3 or np.shape(value)[1:] != shape:
                raise ShapeError(name, np.shape(value), f"(frames, {self.system.atoms}, 3)")
        frames = len(positions)
        log_weights = self.log_weights if np.size(self.log_weights) or not frames else np.zeros(frames)
        _freeze(self, "positions", positions, np.float32)
        _freeze(self, "rejected", rejected, np.float32)
        _freeze(self, "log_weights", log_weights, np.float64)
        for name, dtype in (("blocks", np.int64), ("energies", np.float64), ("log_density", np.float64)):
            if getattr(self, name) is not None:
                _freeze(self, name, getattr(self, name), dtype)
        for name, values in {"log_weights": self.log_weights, **self._properties()}.items():
            if values.shape != (frames,):
                raise ShapeError(name, values.shape, f"({frames},), one for each frame")
        if len(self.rejected_reasons) != len(self.rejected):
            raise ShapeError(
                "rejected_reasons", (len(self.rejected_reasons),), f"({len(self.rejected)},), one for each rejected frame"
            )
        if self.validity is None:
            object.__setattr__(self, "validity", check(self.positions, self.system))
        object.__setattr__(self, "rejected_reasons", tuple(self.rejected_reasons))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    @classmethod
    def from_frames(
        cls,
        system: MoleculeSystem,
        positions: np.ndarray,
        *,
        log_weights: np.ndarray | None = None,
        blocks: np.ndarray | None = None,
        energies: np.ndarray | None = None,
        log_density: np.ndarray | None = None,
        excluded: Mapping[str, np.ndarray] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """Makes an ensemble of the frames that pass the checks, and sets the others apart with the reasons.

        Arguments:
            system: The molecule.
            positions: Frames (F, N, 3), in Å, valid or not.
            log_weights: Logarithms (F,) of the weights, or None for equal ones.
            blocks: Block (F,) of each frame.
            energies: Potential energies (F,), in eV.
            log_density: Logarithms (F,) of the model's density.
            excluded: Further reasons to reject frames: for each reason a mask (F,).
            provenance: What made the frames.

        Raises:
            ShapeError: If the arrays do not fit each other.
        """
        positions = np.asarray(positions)
        validity = check(positions, system)
        further = {} if excluded is None else {reason: np.asarray(mask, dtype=bool) for reason, mask in excluded.items()}
        arrays: dict[str, Any] = {
            **further,
            "log_weights": log_weights,
            "blocks": blocks,
            "energies": energies,
            "log_density": log_density,
        }
        for name, values in arrays.items():
            if values is not None and np.shape(values) != validity.valid.shape:
                raise ShapeError(name, np.shape(values), f"({len(positions)},), one for each frame")
        good = validity.valid & ~np.any([np.zeros(len(positions), dtype=bool), *further.values()], axis=0)
        chosen: dict[str, Any] = {
            name: np.asarray(values)[good] for name, values in arrays.items() if values is not None and name not in further
        }
        reasons = [
            [*validity.reasons(int(i)), *(reason for reason, mask in further.items() if mask[i])] for i in np.flatnonzero(~good)
        ]
        return cls(
            system=system,
            positions=positions[good],
            rejected=positions[~good],
            rejected_reasons=tuple("; ".join(words) for words in reasons),
            provenance={} if provenance is None else provenance,
            **chosen,
        )

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def __repr__(self) -> str:
        return f"MoleculeEnsemble(system={self.system.name!r}, frames={len(self)}, rejected={len(self.rejected)})"

    @property
    def weights(self) -> np.ndarray:
        """Normalised weights (F,), which sum to one."""
        weights = np.exp(self.log_weights - self.log_weights.max(initial=-np.inf))
        return np.asarray(weights / weights.sum())

    def validity_table(self) -> list[tuple[str, int, int]]:
        """Returns the rows (check, passed, total) of all frames that were drawn, the rejected ones included."""
        rejected = check(self.rejected, self.system).table()
        return [(name, a + b, m + n) for (name, a, m), (_, b, n) in zip(self.validity.table(), rejected, strict=True)]

    def torsions(self) -> dict[str, np.ndarray]:
        """Returns torsions by name, each (F,) in rad: phi and psi of a peptide, else those of the rotatable bonds."""
        quadruples = torsion_quadruples(self.system)
        if not quadruples:
            return {}
        angles = dihedrals(self.positions, np.array(list(quadruples.values())))
        return {name: angles[:, column] for column, name in enumerate(quadruples)}

    def to_mdtraj(self) -> Any:
        """Returns an mdtraj `Trajectory`, in nm."""
        return mdtraj_trajectory(self.positions, self.system.topology)

    def to_ase(self) -> list[Any]:
        """Returns ASE `Atoms`, in Å, with the weights and energies in `info`."""
        return ase_frames(self.positions, self.system, self._properties())

    def to_rdkit(self) -> Any:
        """Returns an RDKit molecule with one conformer for each frame, in Å."""
        return rdkit_conformers(self.system.mol, self.positions)

    def to_sdf(self, path: str | Path) -> None:
        """Writes the frames as records of an SDF file, with weights and energies as properties."""
        write_frames(Path(path).with_suffix(".sdf"), self.positions, self.system, self._properties())

    def save(self, folder: str | Path, formats: Sequence[str] = ("xtc",)) -> Path:
        """Writes the ensemble to a folder, each file whole or not at all, `ensemble.json` last.

        `topology.pdb` is the first valid frame; `samples.<format>` the frames; `samples.csv` one row for each; `rejected.xtc` and
        `rejected.csv`, if there are any, the rejected frames and the reasons; `ensemble.json` provenance, checks and the molecule.

        Arguments:
            folder: Folder to write to; it is made if need be.
            formats: Any of `FORMATS`.

        Returns:
            The folder.

        Raises:
            InputError: If a format is unknown, there is no valid frame, or the folder is not writable or holds another molecule's ensemble.
        """
        folder = Path(folder)
        self._check_target(folder, formats)
        files = [f"samples.{suffix}" for suffix in formats]
        write_frames(folder / "topology.pdb", self.positions[self.validity.valid][:1], self.system)
        for name in files:
            write_frames(folder / name, self.positions, self.system, self._properties())
        write_text(folder / "samples.csv", self._samples_csv())
        self._save_rejected(folder)
        write_text(folder / "ensemble.json", json.dumps(self._description(files), indent=2, allow_nan=False) + "\n")
        return folder

    def _check_target(self, folder: Path, formats: Sequence[str]) -> None:
        unknown = sorted(set(formats) - set(FORMATS))
        if unknown or not formats:
            raise InputError(f"formats: got {', '.join(unknown) or 'none'}, expected some of {', '.join(FORMATS)}")
        if not self.validity.valid.any():
            raise InputError(f"'{folder}': no frame of {self.system.name} passed the checks, so there is no ensemble to write")
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        if (folder / "ensemble.json").is_file():
            try:
                other = json.loads((folder / "ensemble.json").read_text(encoding="utf-8"))
                name, digest = other["name"], other["digest"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"'{folder}' holds an ensemble.json that cannot be read; choose another folder") from error
            if digest != self.system.digest:
                raise InputError(f"'{folder}' holds an ensemble of {name}, not of {self.system.name}; choose another folder")

    def _properties(self) -> dict[str, np.ndarray]:
        optional = {"block": self.blocks, "log_density": self.log_density, "energy_ev": self.energies}
        return {"log_weight": self.log_weights, **{name: values for name, values in optional.items() if values is not None}}

    def _samples_csv(self) -> str:
        properties = self._properties()
        blocks = properties.pop("block", None)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "block", "valid", *properties])
        valid = self.validity.valid
        for i in range(len(self)):
            block = "" if blocks is None else int(blocks[i])
            rows.writerow([i, block, int(valid[i]), *(repr(float(values[i])) for values in properties.values())])
        return text.getvalue()

    def _save_rejected(self, folder: Path) -> None:
        storable = np.isfinite(self.rejected).all(axis=(1, 2)) & (np.abs(self.rejected) < _STORABLE).all(axis=(1, 2))
        if storable.any():
            write_frames(folder / "rejected.xtc", self.rejected[storable], self.system)
        else:
            (folder / "rejected.xtc").unlink(missing_ok=True)
        if not len(self.rejected):
            (folder / "rejected.csv").unlink(missing_ok=True)
            return
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "frame", "reasons"])
        for i, (stored, reason) in enumerate(zip(storable, self.rejected_reasons, strict=True)):
            rows.writerow([i, int(storable[:i].sum()) if stored else "", reason])
        write_text(folder / "rejected.csv", text.getvalue())

    def _description(self, files: list[str]) -> dict[str, Any]:
        from rdkit import Chem

        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "molecule",
            "name": self.system.name,
            "digest": self.system.digest,
            "atoms": self.system.atoms,
            "frames": len(self),
            "rejected": len(self.rejected),
            "validity": [{"check": name, "passed": passed, "total": total} for name, passed, total in self.validity_table()],
            "checks": list(CHECKS),
            "files": files,
            "provenance": dict(self.provenance),
            "molecule": Chem.MolToMolBlock(self.system.mol, forceV3000=True),
        }


def _freeze(target: Any, name: str, value: Any, dtype: Any) -> None:
    view = np.asarray(value, dtype=dtype).view()
    view.setflags(write=False)
    object.__setattr__(target, name, view)
