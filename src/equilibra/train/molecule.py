"""Training of molecules: from trajectories to a model, and from a model to a better one for a user's own molecule."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.data.trajectory import TrajectoryFiles, read_trajectories
from equilibra.errors import InputError
from equilibra.geometry.internal_coordinates import signed_volumes
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import check_elements, fit, start_choices, starting_model, tuned
from equilibra.train.run import Progress
from equilibra.units import thermal_energy


def read_molecule(files: TrajectoryFiles, *, temperature: float) -> Conformations:
    """Reads the training data of one molecule: its system from the topology file, positions centred, forces reduced by kT.

    Raises:
        InputError: If a file cannot be read, does not match, holds NaN, or holds another stereoisomer than the topology.
    """
    if not temperature > 0:
        raise InputError(f"temperature: got {temperature}, expected a positive number in K")
    system = molecule_system(Path(files.topology))
    positions, forces = read_trajectories(files, system.topology)
    _check_stereo(positions, system)
    centred = torch.from_numpy(positions - positions.mean(axis=1, keepdims=True))
    reduced = None if forces is None else torch.from_numpy(forces / np.float32(thermal_energy(temperature)))
    return Conformations(system, centred, reduced)


def train_molecule(
    entries: Sequence[TrajectoryFiles],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "molecule",
    temperature: float = 300.0,
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on trajectories, from random weights; the same call goes on with an interrupted run.

    Arguments:
        entries: Files of each molecule.
        folder: Run folder; the model is written to `folder/model`.
        config: How to train.
        name: Name of the model.
        temperature: Temperature of the trajectories, in K.
        network: Changes of the network's size, by the names of `GraphormerConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = config or TrainConfig()
    conformations = [read_molecule(files, temperature=temperature) for files in entries]
    data = ConformationData(conformations)
    network_config = molecule_network_config(**(network or {}))
    process = molecule_process(round(data.scale(), 4))
    denoiser = molecule_denoiser(process, network_config, seed=config.seed)
    model = Model(
        name=name,
        domain="molecule",
        denoiser=denoiser,
        network=dataclasses.asdict(network_config),
        sampler=sampler or SamplerConfig(),
        scope=_scope(_molecules(conformations), temperature),
        card=card
        or Card(summary=f"Trained on {data.frames} conformations of {len(conformations)} molecule(s) at {temperature:g} K."),
    )
    return fit(model, data, Path(folder), config, progress)


def fine_tune(
    model: Model,
    entries: Sequence[TrajectoryFiles],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    temperature: float | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on other trajectories, of the same or another molecule; the given model is left as it is.

    Arguments:
        model: Where to start.
        entries: Files of each molecule.
        folder: Run folder; the new model is written to `folder/model`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        temperature: Temperature of the trajectories, in K; by default the one that the model is meant for. A model of several temperatures is
            trained further at this one, and knows no other afterwards.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or have an element that the model has never seen, or a temperature outside the range of a model
            of several.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = config or FINE_TUNING
    start = starting_model(model, "molecule", temperature)
    kelvin = start.scope.temperature if temperature is None else temperature
    if kelvin is None:
        raise InputError(f"temperature: got none, and the model '{model.name}' has none; give that of the trajectories in K")
    conformations = [read_molecule(files, temperature=kelvin) for files in entries]
    check_elements(model, elements(_molecules(conformations)))
    data = ConformationData(conformations)
    copy = tuned(
        start,
        name=name,
        scope=_scope(_molecules(conformations), kelvin),
        card=Card(
            summary=f"{model.name}, trained further on {data.frames} conformations of {len(conformations)} molecule(s) at {kelvin:g} K.",
            not_good_for=f"Anything but the molecules of its training; the molecules of '{model.name}' may have been forgotten.",
        ),
    )
    return fit(copy, data, Path(folder), config, progress, start=model.sha256, **start_choices(model, start))


def _scope(systems: Sequence[MoleculeSystem], temperature: float) -> Scope:
    return Scope(
        systems=tuple(sorted({identifier(system) for system in systems})), elements=elements(systems), temperature=temperature
    )


def _molecules(conformations: Sequence[Conformations]) -> list[MoleculeSystem]:
    return [cast(MoleculeSystem, entry.system) for entry in conformations]


def _check_stereo(positions: np.ndarray, system: MoleculeSystem) -> None:
    if not len(system.stereo_centres):
        return
    right = (signed_volumes(positions.astype(np.float64), system.stereo_centres) * system.stereo_signs > 0).all(axis=1)
    if not right.all():
        first = int(np.flatnonzero(~right)[0])
        raise InputError(
            f"{system.name}: {int((~right).sum())} of {len(positions)} training frames (the first is {first}) are another stereoisomer "
            "than the topology file; a model is of one stereoisomer: remove those frames"
        )
