r"""Log-densities of crystal structures under a model.

A structure is taken in its Niggli cell, upright, so that every description of a crystal gets the same value. The density is that of the model at the smallest
noise of its process, with respect to :math:`d^{3n}f\, d^6\ell` of fractional coordinates f (all n atoms: the law does not depend on the origin, and translations
have the volume one) and of the cell :math:`\ell = L/n^{1/3}` in Å, an orthonormal basis of symmetric matrices. A density of positions in Å and of A follows with
the Jacobians in `geometry.lattice`; it is a density of data, and a free energy only for a model of an equilibrium ensemble.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Trace
from equilibra.errors import InputError
from equilibra.run_folder import claim
from equilibra.systems.crystal.ensemble import CrystalEnsemble, state_of
from equilibra.systems.crystal.load import load_crystals
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.density_blocks import BLOCK_SIZE, DensityBlocks, DensityProgress, chosen, drawing_model, error_notes
from equilibra.systems.domain import domain
from equilibra.systems.model import Model, versions

SCHEMA_VERSION = 1
"""Version of `density.json`."""

MEASURE = (
    "density of the model at its smallest noise with respect to the fractional coordinates of all atoms and to the symmetric cell divided by n^(1/3), in Å; natural "
    "logarithm. Structures are taken in their Niggli cells; values of cells of different sizes are not comparable as they are"
)
"""What the density is of, and with respect to what."""

_PARTS = ("log_density", "integration_error", "trace_error")


@dataclass(frozen=True, kw_only=True, eq=False)
class CrystalDensity:
    """Log-densities of F structures.

    Attributes:
        structures: The structures.
        log_density: Log-densities (F,), in nats.
        integration_error: Expected error (F,) of the integration; see `density.flow.FlowDensity`.
        trace_error: Standard error (F,) of Hutchinson's estimate; 0 for the exact trace.
        atoms: Atoms in the cell (F,): log-densities of cells of different sizes are not comparable as they are.
        index: Place (F,) of each in the source.
        network_calls: Denoiser calls, over all structures.
        notes: What a reader must know, in words.
        provenance: What was computed and how.
    """

    structures: list[Structure]
    log_density: np.ndarray
    integration_error: np.ndarray
    trace_error: np.ndarray
    atoms: np.ndarray
    index: np.ndarray
    network_calls: int
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.structures)

    def to_dict(self) -> dict[str, Any]:
        """Returns the summary that is written to `density.json`: of each number of atoms the mean and the deviation, and the errors."""
        sizes = {}
        for count in np.unique(self.atoms):
            values = self.log_density[self.atoms == count]
            deviation = float(values.std(ddof=1)) if len(values) > 1 else None
            sizes[str(int(count))] = {"structures": len(values), "mean": float(values.mean()), "standard_deviation": deviation}
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "log-density of crystals",
            "measure": MEASURE,
            "unit": "nat",
            "structures": len(self),
            "by_number_of_atoms": sizes,
            "integration_error": {"mean": float(self.integration_error.mean()), "largest": float(self.integration_error.max())},
            "trace_error": {"mean": float(self.trace_error.mean()), "largest": float(self.trace_error.max())},
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `density.csv` (one row for each structure) and `density.json` to a folder, each whole or not at all, and returns their paths.

        Raises:
            InputError: If the folder cannot be written to.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "name", "formula", "atoms", *_PARTS, "energy_per_atom"])
        for row, structure in enumerate(self.structures):
            numbers = [repr(float(getattr(self, part)[row])) for part in _PARTS]
            energy = "" if structure.energy is None else repr(float(structure.energy))
            rows.writerow([int(self.index[row]), structure.name, structure.formula, len(structure), *numbers, energy])
        write_text(folder / "density.csv", text.getvalue())
        write_text(folder / "density.json", json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        return [folder / "density.csv", folder / "density.json"]


def crystal_log_density(
    model: Model | str | Path | None,
    source: str | Path | CrystalEnsemble | Sequence[Structure] | Sequence[CrystalEnsemble],
    *,
    labels: Mapping[str, float] | None = None,
    config: FlowConfig | None = None,
    trace: Trace | None = None,
    most: int | None = None,
    seed: int = 0,
    block_size: int = BLOCK_SIZE,
    folder: str | Path | None = None,
    outside_scope: bool = False,
    progress: Callable[[DensityProgress], None] = lambda state: None,
) -> CrystalDensity:
    """Computes the log-densities of structures under a model.

    Arguments:
        model: A model of crystals, or what `load` takes; None for the one that drew the samples.
        source: The structures, of any compositions: what `load_crystals` takes.
        labels: Values of labels that the density is conditioned on, for a model that was trained with some; without, it is that of all values.
        config: Integration; see `FlowConfig` and `density_blocks.flow_config`.
        trace: Divergences; exact up to 100 degrees of freedom by default.
        most: The largest number of structures; they are spread evenly over the source.
        seed: Seed of Hutchinson's probes.
        block_size: Structures of a block; part of the run's identity, as the probes are drawn for a block.
        folder: Run folder; finished blocks are kept in `folder/blocks` and not computed again. None keeps nothing.
        outside_scope: Allow compositions that the model was not trained for.
        progress: Called as work is done.

    Raises:
        InputError: If the model is not one of crystals, there is no structure, or one is outside the model's scope; if a label is unknown.
        CheckpointError: If the folder holds another run.
        DivergenceError: If a log-density is not finite.
    """
    if isinstance(source, Sequence) and not isinstance(source, str) and not source:
        raise InputError("crystal density: got no structure, expected at least one")
    found = load_crystals(source)
    loaded = drawing_model(model, found.provenance)
    if loaded.domain != "crystal":
        raise InputError(f"crystal density: '{loaded.name}' is a model of the domain '{loaded.domain}', expected 'crystal'")
    index = chosen(len(found.structures), most)
    structures = [found.structures[place] for place in index]
    groups: dict[str, list[int]] = {}
    for place, structure in enumerate(structures):
        groups.setdefault(structure.formula, []).append(place)
    systems = {formula: CrystalSystem.of(structures[members[0]].numbers.tolist()) for formula, members in groups.items()}
    if not outside_scope:
        for system in systems.values():
            domain("crystal").check_scope(system, loaded.scope, loaded.name)
    config, trace = config or FlowConfig(), trace or Trace()
    identity = {
        "kind": "log-density of crystals",
        "model": loaded.name,
        "weights": loaded.sha256,
        "structures": _digest(structures),
        "labels": dict(labels or {}),
        "trace": [trace.kind, trace.probes],
        "flow": [config.solver, config.steps, config.check, config.tolerance],
        "seed": seed,
        "block_size": block_size,
    }
    if folder is not None:
        claim(Path(folder), identity)
    dtype = next(loaded.denoiser.parameters()).dtype
    result = {name: np.zeros(len(structures)) for name in _PARTS}
    calls = done = 0
    start = time.monotonic()
    for number, (formula, members) in enumerate(groups.items()):

        def told(state: DensityProgress, before: int = done) -> None:
            total = before + state.done
            left = (time.monotonic() - start) / total * (len(structures) - total) if total > 0 else None
            progress(DensityProgress(total, len(structures), left))

        run = DensityBlocks(
            loaded.bind(systems[formula], labels=labels),
            state_of([structures[place] for place in members]).to(dtype=dtype),
            config=config,
            trace=trace,
            seed=seed + number,
            block_size=block_size,
            folder=None if folder is None else Path(folder) / "blocks" / formula,
        )
        values = run.all_blocks(told)
        for name, array in result.items():
            array[members] = values[name]
        calls += run.network_calls * len(members)
        done += len(members)
    return CrystalDensity(
        structures=structures,
        atoms=np.array([len(structure) for structure in structures]),
        index=index,
        network_calls=calls,
        notes=error_notes(result),
        provenance={
            **identity,
            "network_calls": calls,
            "versions": versions(),
            "timing": {"seconds": round(time.monotonic() - start, 3), "threads": torch.get_num_threads()},
        },
        **result,
    )


def _digest(structures: Sequence[Structure]) -> str:
    digest = hashlib.sha256()
    for structure in structures:
        for array in (structure.numbers, structure.frac, structure.cell):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
