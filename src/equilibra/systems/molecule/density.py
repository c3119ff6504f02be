r"""Log-density of given conformations under a model, by the probability flow.

The density is that of the model at its smallest noise :math:`\sigma_{min}`: of the target convolved with :math:`N(0, \sigma_{min}^2)`, with respect to the
Lebesgue measure on the mean-free space of positions in Å, orientations included.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from equilibra.density.trace import Kind, Trace
from equilibra.errors import InputError
from equilibra.geometry.superposition import centre
from equilibra.run_folder import claim
from equilibra.state import State
from equilibra.systems.density_blocks import (
    BLOCK_SIZE,
    TOLERANCE,
    Check,
    DensityBlocks,
    DensityProgress,
    chosen,
    drawing_model,
    error_notes,
    flow_config,
)
from equilibra.systems.model import Model, domain, versions
from equilibra.systems.molecule.conformation_density import ConformationDensity
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import Source, join_runs, load_runs
from equilibra.units import thermal_energy

_ENERGY_ROWS = 256


def log_density(
    model: Model | str | Path | None,
    source: Source,
    *,
    energy: str | None = None,
    temperature: float | None = None,
    trace: Kind = "auto",
    probes: int = 16,
    steps: int | None = None,
    check: Check = "estimate",
    tolerance: float = TOLERANCE,
    compile: bool = False,
    max_conformations: int | None = None,
    topology: str | Path | None = None,
    seed: int = 0,
    block_size: int = BLOCK_SIZE,
    batch_size: int | None = None,
    folder: str | Path | None = None,
    outside_scope: bool = False,
    progress: Callable[[DensityProgress], None] = lambda state: None,
) -> ConformationDensity:
    """Computes the log-density of conformations under a model.

    Arguments:
        model: A model, or what `load` takes; None for the one that drew the ensemble.
        source: An ensemble, a folder of samples or of a simulation, or a file of frames (`FILE:TOPOLOGY`).
        energy: Name of an energy (`molecule_energy`) to compare with; by default the energies of the ensemble, if it has any.
        temperature: Temperature in K, for a model of several; by default the ensemble's own if the model drew it, else the one that the model is meant for.
        trace: `exact`, `hutchinson`, or `auto`: exact up to 100 degrees of freedom.
        probes: Probes of Hutchinson's estimate.
        steps: Steps of the flow; by default as many as the tolerance needs, or 50 of fourth order for `halving` and `nodes`.
        check: Where the integration error comes from; see `density_blocks.flow_config`.
        tolerance: Integration error in nats up to which `estimate` goes on.
        compile: Compile the network's derivative: a third of the time from some hundred conformations on.
        max_conformations: The largest number of conformations; they are spread evenly over the source.
        topology: PDB or SDF file of a trajectory without atoms.
        seed: Seed of the probes.
        block_size: Conformations of a block; part of the run's identity, as the probes are drawn for a block.
        batch_size: Conformations treated at once, by default a block; lower it if memory is short.
        folder: Run folder; finished blocks are kept in `folder/blocks` and not computed again. None keeps nothing.
        outside_scope: Allow a molecule that the model was not trained for.
        progress: Called as work is done.

    Raises:
        InputError: If a number is out of range, the source cannot be read or holds conformations that are not finite, the model was not trained
            for the molecule or the temperature, or the energy is unknown or not finite.
        CheckpointError: If the folder holds another run.
        DivergenceError: If a log-density is not finite.
    """
    for name, value in (("max_conformations", max_conformations), ("block_size", block_size), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise InputError(f"{name}: got {value}, expected at least 1")
    config = flow_config(steps, check, tolerance, batch_size)
    rule = Trace(kind=trace, probes=probes, compile=compile)
    everything = join_runs(load_runs(source, topology))
    loaded = drawing_model(model, everything.provenance)
    if not outside_scope:
        domain(loaded.domain).check_scope(everything.system, loaded.scope, loaded.name)
    index = chosen(len(everything), max_conformations)
    positions = everything.positions[index]
    if not np.isfinite(positions).all():
        bad = int(index[np.argmin(np.isfinite(positions).all(axis=(1, 2)))])
        raise InputError(f"{everything.system.name}: conformation {bad} has coordinates that are not finite; leave it out")
    drawn_by_it = everything.provenance.get("weights") == loaded.sha256 and bool(loaded.sha256)
    wanted = (
        everything.provenance.get("temperature_k")
        if temperature is None and drawn_by_it and loaded.scope.temperatures
        else temperature
    )
    bound = loaded.bind(everything.system, temperature=wanted)
    kelvin = loaded.scope.temperature if wanted is None else float(wanted)
    energies, energy_name = _energies(everything, index, energy)
    state = State({FIELD: centre(torch.from_numpy(np.array(positions, dtype=np.float32)))})
    degrees = int(loaded.process.degrees(state[:1]).max())
    kind: Literal["exact", "hutchinson"] = "exact" if rule.exact(torch.tensor([degrees])) else "hutchinson"
    identity = {
        "kind": "log-density of molecule",
        "model": loaded.name,
        "weights": loaded.sha256,
        "system": everything.system.digest,
        "conformations": hashlib.sha256(np.ascontiguousarray(positions).tobytes()).hexdigest(),
        "temperature_k": kelvin,
        "trace": kind,
        "probes": probes if kind == "hutchinson" else None,
        "steps": steps,
        "check": check,
        "tolerance": tolerance if check == "estimate" else None,
        "seed": seed,
        "block_size": block_size,
    }
    if folder is not None:
        claim(Path(folder), identity)
    run = DensityBlocks(
        bound,
        state,
        config=config,
        trace=replace(rule, kind=kind),
        seed=seed,
        block_size=block_size,
        folder=None if folder is None else Path(folder) / "blocks",
    )
    values = run.all_blocks(progress)
    ensemble = MoleculeEnsemble(
        system=everything.system,
        positions=positions,
        log_weights=everything.log_weights[index],
        energies=energies,
        log_density=values["log_density"],
        provenance=everything.provenance,
    )
    return ConformationDensity(
        ensemble=ensemble,
        index=index,
        integration_error=values["integration_error"],
        trace_error=values["trace_error"],
        u=None if energies is None or kelvin is None else energies / thermal_energy(kelvin),
        energy_name=energy_name,
        temperature=kelvin,
        trace=kind,
        degrees=degrees,
        sigma_min=float(loaded.process.fields[FIELD].schedule.sigma(torch.tensor(loaded.process.t_min, dtype=torch.float64))),
        notes=(*error_notes(values), *_notes(positions, energies, kelvin, everything, drawn_by_it)),
        provenance={
            **identity,
            "network_calls": run.network_calls,
            "source": {
                key: everything.provenance[key]
                for key in ("model", "seed", "simulation", "files")
                if key in everything.provenance
            },
            "versions": versions(),
            "timing": {"seconds": round(run.seconds, 3), "conformations": run.computed, "threads": torch.get_num_threads()},
        },
    )


def _energies(ensemble: MoleculeEnsemble, index: np.ndarray, name: str | None) -> tuple[np.ndarray | None, str]:
    """Returns the energies in eV of chosen conformations, and what they are of."""
    if name is None:
        if ensemble.energies is None or not np.isfinite(ensemble.energies[index]).all():
            return None, ""
        known = ensemble.provenance.get("energy") or ensemble.provenance.get("force_field")
        return ensemble.energies[index], str(known) if known else "energies of the ensemble"
    from equilibra.systems.molecule.energy import molecule_energy

    function = molecule_energy(ensemble.system, name)
    x = torch.from_numpy(np.array(ensemble.positions[index], dtype=np.float64))
    with torch.no_grad():
        values = torch.cat([function.energy(part).double() for part in x.split(_ENERGY_ROWS)]).cpu().numpy()
    if values.shape != index.shape or not np.isfinite(values).all():
        bad = int(index[np.argmin(np.isfinite(values))]) if values.shape == index.shape else 0
        raise InputError(f"energy '{name}': conformation {bad} has no finite energy; check for atoms on top of each other")
    return values, name


def _notes(
    positions: np.ndarray, energies: np.ndarray | None, kelvin: float | None, ensemble: MoleculeEnsemble, drawn_by_it: bool
) -> tuple[str, ...]:
    notes = []
    grid = 100.0 * positions.astype(np.float64)
    if float(np.abs(grid - grid.round()).max()) < 0.01:
        notes.append(
            "The coordinates are rounded to 0.01 Å, as XTC files round them, which moves ln p and u of each conformation a little; draw with "
            "`--format npz` to keep all digits."
        )
    known = ensemble.provenance.get("temperature_k")
    if energies is not None and kelvin is None:
        notes.append("The temperature is not known, so the energies are not compared with the density.")
    if known is not None and kelvin is not None and abs(float(known) - kelvin) > 0.01:
        notes.append(f"The conformations are of {float(known):g} K, the density of {kelvin:g} K.")
    if not drawn_by_it and "model" in ensemble.provenance:
        notes.append(f"The conformations were drawn by another model, '{ensemble.provenance['model']}'.")
    return tuple(notes)
