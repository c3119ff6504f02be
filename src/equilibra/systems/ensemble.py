"""The Ensemble: conformations with weights, what was rejected and why, and where it all comes from. Each domain has its own kind."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Self

import numpy as np

from equilibra.errors import ShapeError
from equilibra.systems.block_weights import LOG_WEIGHT, VALUE, populations_of
from equilibra.systems.blocks import Block
from equilibra.systems.files import mdtraj_trajectory
from equilibra.systems.validity import Validity
from equilibra.systems.weighted import ENERGY
from equilibra.thermo.free_energy import populations

WALKERS = "walkers of a training from an energy"
"""Kind of provenance of frames in which every block is a Markov chain."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Ensemble(ABC):
    """Abstract: F conformations of one system of N atoms. Immutable.

    A domain says which atoms those are, how frames are checked and written, and what its `ensemble.json` tells of the system.

    Attributes:
        system: The system; it has `name`, `digest`, `atoms` and `topology`.
        positions: Conformations (F, N, 3), float32, in Å.
        cells: Cells (F, 3, 3), rows are lattice vectors, float32, in Å, of a periodic system; None of others.
        log_weights: Logarithms (F,) of their weights, of any normalisation; by default all zero.
        validity: Results of the checks of `positions`; by default they are made.
        rejected: Conformations (R, N, 3), in Å, that failed the checks and do not count.
        rejected_cells: Their cells (R, 3, 3), in Å, of a periodic system.
        rejected_reasons: Why, one text for each.
        blocks: Block (F,) that each conformation was drawn in, or None.
        energies: Potential energies (F,), in eV, or None.
        log_density: Logarithms (F,) of the model's density, or None.
        values: Values (F,) of properties by name, such as those that the conformations were guided to.
        provenance: What made it: model, seed, versions, cost. Everything in it can be written as JSON.

    Raises:
        ShapeError: If the arrays do not fit each other or the system.
    """

    kind: ClassVar[str]
    """Name of the domain."""
    formats: ClassVar[tuple[str, ...]]
    """Formats that `save` can write."""
    periodic: ClassVar[bool] = False
    """Whether every conformation has a cell of its own."""
    topology_file: ClassVar[str | None] = "topology.pdb"
    """Name of the file of the first valid frame that tells the atoms; None where the files of frames do."""
    rejected_format: ClassVar[str] = "xtc"
    """Format of the rejected frames."""

    system: Any
    positions: np.ndarray
    cells: np.ndarray | None = None
    log_weights: np.ndarray = field(default_factory=lambda: np.zeros(0))
    validity: Validity = None  # type: ignore[assignment]  # filled in below, never None
    rejected: np.ndarray = None  # type: ignore[assignment]  # filled in below, never None
    rejected_cells: np.ndarray | None = None
    rejected_reasons: tuple[str, ...] = ()
    blocks: np.ndarray | None = None
    energies: np.ndarray | None = None
    log_density: np.ndarray | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    @abstractmethod
    def check(cls, positions: np.ndarray, system: Any, cells: np.ndarray | None = None) -> Validity:
        """Checks frames (F, N, 3), in Å, with their cells (F, 3, 3) if it is periodic, against the system they should be of."""

    @classmethod
    @abstractmethod
    def write(
        cls,
        path: Path,
        positions: np.ndarray,
        system: Any,
        properties: Mapping[str, np.ndarray] | None = None,
        cells: np.ndarray | None = None,
    ) -> None:
        """Writes frames (F, N, 3), in Å, with their cells (F, 3, 3) if it is periodic, in the format of the path's suffix, with numbers (F,) where it has room for them."""

    @abstractmethod
    def torsions(self) -> dict[str, np.ndarray]:
        """Returns torsions by name, each (F,) in rad."""

    @abstractmethod
    def descriptor(self) -> dict[str, Any]:
        """Returns what `ensemble.json` tells of the system, so that it can be read back, as JSON."""

    def __post_init__(self) -> None:
        shape = (self.system.atoms, 3)
        positions = np.asarray(self.positions, dtype=np.float32)
        rejected = np.zeros((0, *shape)) if self.rejected is None else self.rejected
        for name, value in (("positions", positions), ("rejected", rejected)):
            if np.ndim(value) != 3 or np.shape(value)[1:] != shape:
                raise ShapeError(name, np.shape(value), f"(frames, {self.system.atoms}, 3)")
        frames = len(positions)
        self._check_cells(frames, len(rejected))
        log_weights = self.log_weights if np.size(self.log_weights) or not frames else np.zeros(frames)
        _freeze(self, "positions", positions, np.float32)
        _freeze(self, "rejected", rejected, np.float32)
        _freeze(self, "log_weights", log_weights, np.float64)
        for name, dtype in (("blocks", np.int64), ("energies", np.float64), ("log_density", np.float64)):
            if getattr(self, name) is not None:
                _freeze(self, name, getattr(self, name), dtype)
        object.__setattr__(self, "values", MappingProxyType({name: _frozen(v, np.float64) for name, v in self.values.items()}))
        for name, values in {"log_weights": self.log_weights, **self.properties()}.items():
            if values.shape != (frames,):
                raise ShapeError(name, values.shape, f"({frames},), one for each frame")
        if len(self.rejected_reasons) != len(self.rejected):
            raise ShapeError(
                "rejected_reasons", (len(self.rejected_reasons),), f"({len(self.rejected)},), one for each rejected frame"
            )
        if self.validity is None:
            object.__setattr__(self, "validity", self.check(self.positions, self.system, self.cells))
        object.__setattr__(self, "rejected_reasons", tuple(self.rejected_reasons))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def _check_cells(self, frames: int, rejected: int) -> None:
        if not self.periodic:
            if self.cells is not None or self.rejected_cells is not None:
                raise ShapeError("cells", "cells", f"none: a {self.kind} is not periodic")
            return
        cells = {
            "cells": (self.cells, frames),
            "rejected_cells": (np.zeros((0, 3, 3)) if self.rejected_cells is None else self.rejected_cells, rejected),
        }
        for name, (value, count) in cells.items():
            if value is None or np.shape(value) != (count, 3, 3):
                raise ShapeError(name, None if value is None else np.shape(value), f"({count}, 3, 3), one for each frame")
            _freeze(self, name, value, np.float32)

    @classmethod
    def from_frames(
        cls,
        system: Any,
        positions: np.ndarray,
        *,
        cells: np.ndarray | None = None,
        log_weights: np.ndarray | None = None,
        blocks: np.ndarray | None = None,
        energies: np.ndarray | None = None,
        log_density: np.ndarray | None = None,
        values: Mapping[str, np.ndarray] | None = None,
        excluded: Mapping[str, np.ndarray] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Self:
        """Makes an ensemble of the frames that pass the checks, and sets the others apart with the reasons.

        Arguments:
            system: The system.
            positions: Frames (F, N, 3), in Å, valid or not.
            cells: Cells (F, 3, 3), in Å, of a periodic system.
            log_weights: Logarithms (F,) of the weights, or None for equal ones.
            blocks: Block (F,) of each frame.
            energies: Potential energies (F,), in eV.
            log_density: Logarithms (F,) of the model's density.
            values: Values (F,) of properties by name.
            excluded: Further reasons to reject frames: for each reason a mask (F,).
            provenance: What made the frames.

        Raises:
            ShapeError: If the arrays do not fit each other.
        """
        positions = np.asarray(positions)
        validity = cls.check(positions, system, cells)
        further = {} if excluded is None else {reason: np.asarray(mask, dtype=bool) for reason, mask in excluded.items()}
        named = {} if values is None else dict(values)
        arrays: dict[str, Any] = {
            **further,
            "log_weights": log_weights,
            "blocks": blocks,
            "energies": energies,
            "log_density": log_density,
        }
        for name, array in {**named, **arrays}.items():
            if array is not None and np.shape(array) != validity.valid.shape:
                raise ShapeError(name, np.shape(array), f"({len(positions)},), one for each frame")
        good = validity.valid & ~np.any([np.zeros(len(positions), dtype=bool), *further.values()], axis=0)
        chosen: dict[str, Any] = {
            name: np.asarray(array)[good] for name, array in arrays.items() if array is not None and name not in further
        }
        reasons = [
            [*validity.reasons(int(i)), *(reason for reason, mask in further.items() if mask[i])] for i in np.flatnonzero(~good)
        ]
        return cls(
            system=system,
            positions=positions[good],
            rejected=positions[~good],
            rejected_reasons=tuple("; ".join(words) for words in reasons),
            cells=None if cells is None else np.asarray(cells)[good],
            rejected_cells=None if cells is None else np.asarray(cells)[~good],
            values={name: np.asarray(array)[good] for name, array in named.items()},
            provenance={} if provenance is None else provenance,
            **chosen,
        )

    @classmethod
    def from_blocks(
        cls,
        system: Any,
        positions: Sequence[np.ndarray],
        blocks: Sequence[Block],
        n: int,
        provenance: Mapping[str, Any],
        cells: Sequence[np.ndarray] | None = None,
    ) -> Self:
        """Makes the ensemble of the first n valid samples of a run, with weights, energies and values of properties if its blocks have them.

        The others drawn up to there are kept apart: invalid ones, and those without weight.

        Arguments:
            system: The system.
            positions: Samples (block, N, 3) of each block, in Å.
            blocks: The blocks.
            n: Number of valid samples.
            provenance: What made them.
            cells: Cells (block, 3, 3) of each block, in Å, of a periodic system.
        """
        frames = np.concatenate(list(positions))
        numbers = np.concatenate([np.full(len(block.valid), index) for index, block in enumerate(blocks)])
        passed = np.concatenate([block.valid for block in blocks])
        last = int(np.flatnonzero(passed)[n - 1]) + 1
        found = {name: np.concatenate([block.values[name] for block in blocks])[:last] for name in blocks[0].values}
        weighted: dict[str, Any] = {}
        if LOG_WEIGHT in found:
            reason = "infinite energy" if ENERGY in found else "no weight"
            weighted = {"log_weights": found[LOG_WEIGHT], "excluded": {reason: ~np.isfinite(found[LOG_WEIGHT])}}
        return cls.from_frames(
            system,
            frames[:last],
            cells=None if cells is None else np.concatenate(list(cells))[:last],
            blocks=numbers[:last],
            energies=found.get(ENERGY),
            values={name.removeprefix(VALUE): array for name, array in found.items() if name.startswith(VALUE)},
            provenance=provenance,
            **weighted,
        )

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(system={self.system.name!r}, frames={len(self)}, rejected={len(self.rejected)})"

    @property
    def weights(self) -> np.ndarray:
        """Normalised weights (F,), which sum to one."""
        weights = np.exp(self.log_weights - self.log_weights.max(initial=-np.inf))
        return np.asarray(weights / weights.sum())

    def properties(self) -> dict[str, np.ndarray]:
        """Returns the numbers (F,) of the frames by the names that files have for them: `log_weight`; `block`, `log_density`, `energy_ev`, `value_...` if known."""
        optional = {"block": self.blocks, "log_density": self.log_density, "energy_ev": self.energies}
        known = {name: values for name, values in optional.items() if values is not None}
        return {"log_weight": self.log_weights, **known, **{f"{VALUE}{name}": values for name, values in self.values.items()}}

    def populations(self) -> list[np.ndarray] | None:
        """Returns the indices of the frames of each population whose samples are relatives of each other, as those of one Markov chain; or None where all are independent."""
        guided = self.provenance.get("guidance", {}).get("corrected", False)
        related = guided or "smc" in self.provenance or self.provenance.get("kind") == WALKERS
        return populations_of(self.blocks) if self.blocks is not None and related else None

    def shares(self, states: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
        """Returns the share of the weight in each state, and its standard error: a bootstrap over frames, or over whole populations of relatives.

        Of a single population of relatives, as of one Markov chain, nothing is known about the spread, and the error is nan.

        Arguments:
            states: For each state, whether each frame is in it, (F,).
        """
        if not states:
            return {}
        families = self.populations()
        alone = families is not None and len(families) < 2
        found = populations(self.log_weights, states, np.random.default_rng(0), blocks=None if alone else families)
        return {name: (share.value, math.nan if alone else share.error) for name, share in found.items()}

    def validity_table(self) -> list[tuple[str, int, int]]:
        """Returns the rows (check, passed, total) of all frames that were drawn, the rejected ones included."""
        rejected = self.check(self.rejected, self.system, self.rejected_cells).table()
        return [(name, a + b, m + n) for (name, a, m), (_, b, n) in zip(self.validity.table(), rejected, strict=True)]

    def to_mdtraj(self) -> Any:
        """Returns an mdtraj `Trajectory`, in nm."""
        return mdtraj_trajectory(self.positions, self.system.topology)

    def save(self, folder: str | Path, formats: Sequence[str] = ("xtc",)) -> Path:
        """Writes the ensemble to a folder, each file whole or not at all, `ensemble.json` last.

        `topology.pdb` is the first valid frame, except of crystals; `samples.<format>` the frames; `samples.csv` one row for each; `rejected.xtc` and
        `rejected.csv`, if there are any, the rejected frames and the reasons; `ensemble.json` provenance, checks and the system.

        Arguments:
            folder: Folder to write to; it is made if need be.
            formats: Any of the ensemble's `formats`.

        Returns:
            The folder.

        Raises:
            InputError: If a format is unknown, there is no valid frame, or the folder is not writable or holds another system's ensemble.
        """
        from equilibra.systems.ensemble_folder import write_folder

        return write_folder(self, Path(folder), formats)


def _freeze(target: Any, name: str, value: Any, dtype: Any) -> None:
    object.__setattr__(target, name, _frozen(value, dtype))


def _frozen(value: Any, dtype: Any) -> np.ndarray:
    view = np.asarray(value, dtype=dtype).view()
    view.setflags(write=False)
    return view
