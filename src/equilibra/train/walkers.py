"""The walkers of a training from an energy as a simulation: what the run knows of the Boltzmann distribution without the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from equilibra.atomic import write_arrays, write_text
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.simulate import SCHEMA_VERSION
from equilibra.systems.molecule.system import MoleculeSystem
from equilibra.train.energy import EnergyTraining


def write_walkers(folder: Path, system: MoleculeSystem, training: EnergyTraining, *, temperature: float) -> Path:
    """Writes the walkers of the lowest temperature in the layout of `equilibra simulate`, one trajectory for each; `simulation.json` comes last.

    Each walker is a Markov chain at that temperature: its moves, the exchanges with the rungs above, and the model's proposals leave the Boltzmann
    distribution as it is. Of the oldest rounds see `EnergyTraining.walkers`.

    Arguments:
        folder: Folder to write to.
        system: The molecule.
        training: A finished training.
        temperature: Lowest temperature, in K.
    """
    config = training.config
    frames, reduced = training.walkers()
    x, u = frames.numpy(), reduced.numpy() * training.reduced.kt
    folder.mkdir(parents=True, exist_ok=True)
    write_frames(folder / "topology.pdb", np.asarray(system.reference, dtype=np.float32)[None], system)
    trajectories, energies = [], []
    for walker in range(config.columns):
        trajectories.append(f"trajectory-{walker}.xtc")
        energies.append(f"forces-{walker}.npz")
        write_frames(folder / trajectories[-1], x[:, walker], system)
        write_arrays(folder / energies[-1], {"energies": u[:, walker]})
    description = {
        "schema_version": SCHEMA_VERSION,
        "kind": "walkers of a training from an energy",
        "name": system.name,
        "system": system.digest,
        "force_field": training.reduced.energy.name,
        "constraints": "none",
        "temperature": temperature,
        "seed": training.train.seed,
        "frames": [len(x)] * config.columns,
        "trajectories": trajectories,
        "forces": energies,
    }
    write_text(folder / "simulation.json", json.dumps(description, indent=2, allow_nan=False) + "\n")
    return folder
