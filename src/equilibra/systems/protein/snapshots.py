"""Snapshots of proteins with the mean forces on their frames, as training data; each finished start of the dynamics is kept in a file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import cast

import numpy as np
import torch

from equilibra.atomic import read_arrays, write_arrays
from equilibra.data.conformations import Conformations
from equilibra.errors import DivergenceError, InputError, ShapeError
from equilibra.nn.frames import ROT, TRANS
from equilibra.systems.protein.mean_forces import FrameForceConfig, FrameForceRun, UnbuiltError
from equilibra.systems.protein.peptides import FloatArray, require_all_atom_form
from equilibra.systems.protein.rigid import frames_of
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import thermal_energy

VERSION = 1
"""Version of the cached files; another one makes them anew."""

_COLUMNS = ("trans", "rot", "force", "torque", "force_error", "torque_error")


@dataclass(frozen=True, kw_only=True)
class ForceProgress:
    """How far mean forces are: the protein at hand, its number from 0 of `proteins`, its finished snapshots of `snapshots`, and all energy calls so far."""

    protein: str
    number: int
    proteins: int
    snapshot: int
    snapshots: int
    calls: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanForces:
    """Snapshots of one protein with the mean forces on their frames.

    Attributes:
        conformations: The snapshots, fields `trans` and `rot`, with the scores F/kT (1/Å) and M/kT (1/rad) as their forces.
        errors: Standard errors of the scores by field (snapshots, L, 3), in kT; NaN for an average of one.
        calls: Energy calls that they took: one for each time step and each averaged conformation. Those of the relaxation are not known.
        skipped: What was wrong with conformations that no dynamics could start from.
    """

    conformations: Conformations
    errors: Mapping[str, np.ndarray]
    calls: int
    skipped: tuple[str, ...]


def mean_forces(
    entries: Sequence[Conformations],
    config: FrameForceConfig | None = None,
    folder: str | Path | None = None,
    *,
    progress: Callable[[ForceProgress], None] = lambda state: None,
) -> list[MeanForces]:
    """Makes snapshots with mean forces of each protein; with a folder, the same call goes on with an interrupted run.

    Arguments:
        entries: Conformations of proteins, fields `trans` and `rot`. Those that show every residue are what dynamics start from.
        config: How; the default of `FrameForceConfig` if None.
        folder: Where each finished start is kept, in a file named after the hash of all that it depends on; nowhere if None.
        progress: Told how far it is after each snapshot.

    Raises:
        InputError: If a protein cannot be built, or no conformation of it shows every residue; the message names it.
        DivergenceError: If dynamics diverges; what was finished before is kept.
    """
    config = config or FrameForceConfig()
    path = None if folder is None else Path(folder)
    # what is cheap to see comes first: the last protein of many may be the one that cannot be built
    check_proteins(entries)
    found: list[MeanForces] = []
    for number, entry in enumerate(entries):

        def report(snapshot: int, calls: int, number: int = number, name: str = entry.system.name) -> None:
            before = sum(done.calls for done in found)
            progress(
                ForceProgress(
                    protein=name,
                    number=number,
                    proteins=len(entries),
                    snapshot=snapshot,
                    snapshots=config.snapshots,
                    calls=before + calls,
                )
            )

        found.append(_Protein(entry, config, path)(report))
    return found


def check_proteins(entries: Sequence[Conformations]) -> None:
    """Checks that mean forces can be asked for, as far as that is cheap to see.

    Raises:
        InputError: If a protein has no all-atom form, or no conformation of it shows every residue; the message names it.
        ShapeError: If conformations are not those of frames.
    """
    for entry in entries:
        if set(entry.fields) != {TRANS, ROT}:
            raise ShapeError(f"mean forces of {entry.system.name}", sorted(entry.fields), f"the fields {TRANS} and {ROT}")
        require_all_atom_form(cast(ProteinSystem, entry.system))
        _starts(entry, 1)


class _Protein:
    """The starts of one protein, each of which is made once."""

    def __init__(self, entry: Conformations, config: FrameForceConfig, folder: Path | None) -> None:
        self.system, self.config, self.folder = cast(ProteinSystem, entry.system), config, folder
        self.rows = _starts(entry, min(config.starts, config.snapshots))
        self.frames = [[entry.fields[name][row].double().numpy() for name in (TRANS, ROT)] for row in self.rows]

    @cached_property
    def run(self) -> FrameForceRun:
        return FrameForceRun(self.system, self.config)

    def __call__(self, report: Callable[[int, int], None]) -> MeanForces:
        """Returns all snapshots, those of finished starts from their files."""
        parts: list[Mapping[str, np.ndarray]] = []
        skipped, calls, done = [], 0, 0
        for place, (row, frames) in enumerate(zip(self.rows, self.frames, strict=True)):
            count = self.config.snapshots // len(self.rows) + (place < self.config.snapshots % len(self.rows))
            key = _key(self.system, frames, count, self.config)
            path = None if self.folder is None else self.folder / f"{key[:32]}.npz"
            part: Mapping[str, np.ndarray] | None = None if path is None else _read(path, count, self.system.length)
            if part is None:
                try:
                    positions = self.run.built(*frames, seed=self.config.seed)
                except UnbuiltError as error:
                    skipped.append(f"conformation {row}: {error}")
                    continue
                part = self._made(positions, count, key, partial(_later, report, done, calls))
                if path is not None:
                    write_arrays(path, part)
            done, calls = done + count, calls + int(part["calls"])
            report(done, calls)
            parts.append(part)
        if not parts:
            raise InputError(
                f"mean forces of {self.system.name}: no conformation can be built with all its atoms ({skipped[0]}); leave the protein out of the "
                "sets with an energy"
            )
        arrays = {name: np.concatenate([part[name] for part in parts]) for name in _COLUMNS}
        single = {name: torch.from_numpy(value).float() for name, value in arrays.items()}
        forces = {TRANS: single["force"], ROT: single["torque"]}
        return MeanForces(
            conformations=Conformations(self.system, {TRANS: single["trans"], ROT: single["rot"]}, forces),
            errors={TRANS: arrays["force_error"], ROT: arrays["torque_error"]},
            calls=calls,
            skipped=tuple(skipped),
        )

    def _made(
        self, positions: FloatArray, count: int, key: str, report: Callable[[int, int], None]
    ) -> Mapping[str, np.ndarray]:
        """Returns the columns of one start: frames about their own centre, and scores with their errors."""
        x, forces, calls = [], [], 0
        try:
            for now, force, cost in self.run.snapshots(positions, count, seed=int(key[:15], 16) % (2**31 - 2) + 1):
                x.append(now)
                forces.append(force)
                calls += cost
                if len(x) < count:
                    report(len(x), calls)
        except DivergenceError as error:
            raise DivergenceError(f"mean forces of {self.system.name}: {error}") from error
        trans, rot = frames_of(self.run.protein, torch.from_numpy(np.stack(x)))
        arrays = {"trans": (trans - trans.mean(1, keepdim=True)).numpy(), "rot": rot.numpy(), "calls": np.array(calls)}
        kt = thermal_energy(self.config.temperature)
        return arrays | {
            name: np.stack(values) / kt for name, values in zip(_COLUMNS[2:], zip(*forces, strict=True), strict=True)
        }


def _later(report: Callable[[int, int], None], done: int, calls: int, own: int, own_calls: int) -> None:
    """Reports the snapshots and calls of one start after those before it."""
    report(done + own, calls + own_calls)


def _starts(entry: Conformations, most: int) -> list[int]:
    """Returns conformations that show every residue, evenly spaced."""
    rows = np.arange(len(entry)) if entry.observed is None else np.flatnonzero(entry.observed.all(1).numpy())
    if not len(rows):
        raise InputError(
            f"mean forces of {entry.system.name}: no conformation shows every residue, and forces are those of whole proteins; leave the protein "
            "out of the sets with an energy"
        )
    picked = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
    return [int(row) for row in rows[picked]]


def _key(system: ProteinSystem, frames: Sequence[FloatArray], count: int, config: FrameForceConfig) -> str:
    """Returns the hash of all that the snapshots of one start depend on."""
    options = dataclasses.asdict(config)
    del options["snapshots"], options["starts"]
    described = {
        "version": VERSION,
        "sequence": system.sequence,
        "breaks": np.flatnonzero(system.breaks).tolist(),
        "count": count,
        "config": options,
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for array in frames:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _read(path: Path, count: int, length: int) -> dict[str, np.ndarray] | None:
    """Reads a finished start, or None where there is none that is whole."""
    arrays = read_arrays(path)
    if arrays is None or not {*_COLUMNS, "calls"} <= set(arrays):
        return None
    return arrays if arrays["force"].shape == (count, length, 3) else None
