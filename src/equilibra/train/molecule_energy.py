"""Training of a molecule from an energy function: no data are needed, and few are enough."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.conformation_checks import check
from equilibra.systems.model import Model
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.energy import conformers, molecule_energy
from equilibra.systems.molecule.network import FIELD, molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.systems.scope import Scope
from equilibra.train.budget import Cost, measured, planned
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyTraining, Progress, ess_words, log_z_words, unjudged_words
from equilibra.train.energy_config import LOW_NOISE, MOLECULE, ON_POLICY, TWICE_DIFFERENTIATED, EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.fit import check_weights, network_weights, take_weights
from equilibra.train.molecule import read_molecule
from equilibra.train.walkers import write_walkers

SIGMA_MIN = 0.004
"""Smallest noise in Å: a tenth of the amplitude of the stiffest bonds, so that what it adds to the density is small."""

STARTS = 32
"""Conformers to start from."""


def train_molecule_on_energy(
    source: Any,
    folder: str | Path,
    energy: str | Energy,
    config: EnergyConfig | None = None,
    train: TrainConfig | None = None,
    *,
    name: str = "molecule",
    temperature: float = 300.0,
    minutes: float | None = None,
    network: dict[str, int] | None = None,
    weights: Model | None = None,
    start: Sequence[TrajectoryFiles] = (),
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda state: None,
) -> Model:
    """Trains a model of one molecule from its energy; the same call goes on with an interrupted run.

    Arguments:
        source: What `molecule_system` reads, or a system.
        folder: Run folder; the model is written to `folder/model`, with what each round found, and the walkers of the lowest temperature to
            `folder/walkers`: a simulation of its own, to compare the model with.
        energy: A name of `energy_names()`, or an energy in eV and Å with the atoms of the system.
        config: Where conformations come from; `MOLECULE` by default.
        train: How to train.
        name: Name of the model.
        temperature: Temperature that the model is meant for, in K; the lowest of the ladder.
        minutes: Time that the run should take on this machine; sweeps and steps are chosen for it, once, and kept in the folder.
        network: Changes of the network's size, by the names of `GraphormerConfig`.
        weights: A model of any molecule whose network training starts from, of the same size; random weights by default. What it knows of bonds and
            angles need not be learned again.
        start: Trajectories to start the walkers from; conformers by distance geometry by default. They need be no equilibrium sample.
        sampler: The model's default sampler.
        card: Its card.
        progress: Told how far it is.

    Raises:
        InputError: If the molecule, the energy, the starting frames or the starting weights cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = MOLECULE if config is None else config
    train = LOW_NOISE if train is None else train
    folder = Path(folder)
    system = source if isinstance(source, MoleculeSystem) else molecule_system(source)
    potential = molecule_energy(system, energy, compile=train.compile) if isinstance(energy, str) else energy
    reduced = ReducedEnergy.at(potential, temperature)
    positions = _starts(system, start, temperature, train.seed)
    reduced.check(positions[: min(len(positions), STARTS)])

    def accept(x: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(check(x.numpy(), system).valid))

    network_config = molecule_network_config(**{"conditions": int(config.rungs > 1), **(network or {})})
    if weights is not None:
        if config.objective in TWICE_DIFFERENTIATED:
            raise InputError(
                f"weights: got the objective '{config.objective}', whose network is of another kind; train from random weights"
            )
        check_weights(weights, "molecule", dataclasses.asdict(network_config))

    def parts(training: EnergyTraining, scale: float) -> tuple[Any, torch.nn.Module]:
        process, seed = molecule_process(scale, sigma_min=SIGMA_MIN), training.train.seed

        def make(kind: Any) -> Any:
            denoiser = molecule_denoiser(process, network_config, parametrisation=kind, seed=seed)
            if weights is not None:
                take_weights(denoiser.network, weights)
            return denoiser

        return make_objective(training.config, training.train, training.reduced, make)

    def training_of(config: EnergyConfig, train: TrainConfig, reduced: ReducedEnergy) -> EnergyTraining:
        return EnergyTraining(system.features, reduced, config, train, folder, dtype=torch.float32, accept=accept, field=FIELD)

    asked = config, train

    def measure() -> Cost:
        # calls of the measurement are no calls of the run
        trial = training_of(*asked, ReducedEnergy(potential, reduced.kt))
        denoiser, objective = parts(trial, 1.0)
        return measured(trial.engine, positions, trial.buffer, denoiser, objective, trial.config, trial.train, accept)

    config, train, plan = planned(folder, minutes, config, train, measure)
    training = training_of(config, train, reduced)
    identity = {
        "kind": "training of a molecule from its energy",
        "name": name,
        "system": system.digest,
        "potential": potential.name,
        "network": dataclasses.asdict(network_config),
        "start": hashlib.sha256(np.ascontiguousarray(positions.numpy()).tobytes()).hexdigest(),
        **({} if weights is None else {"weights": weights.sha256}),
        **plan,
    }
    training.first_round(positions, identity=identity, progress=progress)
    denoiser, objective = parts(training, round(training.buffer.scale(), 4))
    run = training.run(denoiser, objective=objective, progress=progress)
    last = run.rounds[-1]
    hottest = temperature * (config.hottest if config.rungs > 1 else 1.0)
    model = Model(
        name=name,
        domain="molecule",
        denoiser=denoiser,
        network=dataclasses.asdict(network_config),
        sampler=sampler or SamplerConfig(grid=GridConfig(steps=28, spacing="log", end="flow")),
        scope=Scope(
            systems=(identifier(system),),
            elements=elements([system]),
            temperature=temperature,
            temperatures=(temperature, hottest) if config.rungs > 1 else None,
        ),
        card=card or _card(system, potential, config, temperature, hottest, run.calls, last),
    )
    if config.objective not in ON_POLICY:
        write_walkers(folder / "walkers", system, training, temperature=temperature)
    return model.with_weights(network_weights(run.weights)).save(folder / "model")


def _starts(system: MoleculeSystem, files: Sequence[TrajectoryFiles], temperature: float, seed: int) -> Tensor:
    if not files:
        found = conformers(system, STARTS, seed=seed)
        return torch.from_numpy(found - found.mean(axis=1, keepdims=True)).float()
    parts = []
    for entry in files:
        read = read_molecule(entry, temperature=temperature)
        if read.system.digest != system.digest:
            raise InputError(
                f"start: '{entry.topology}' is {read.system.name} with other atoms, bonds or stereochemistry than {system.name}; expected the same "
                "molecule with its atoms in the same order"
            )
        parts.append(read.positions)
    return torch.cat(parts)


def _card(
    system: MoleculeSystem,
    energy: Energy,
    config: EnergyConfig,
    temperature: float,
    hottest: float,
    calls: int,
    last: dict[str, Any],
) -> Card:
    span = f"{temperature:g} K" if hottest == temperature else f"{temperature:g} to {hottest:g} K"
    return Card(
        summary=f"{system.name}, trained from the energy '{energy.name}' at {span} with {calls:,} energy calls ({config.objective}).",
        not_good_for="Any other molecule, energy or solvent. States that the parallel tempering of its training did not reach are missing: "
        "compare with a longer run before trusting rare states.",
        data=f"Own samples of the energy. At the end the ESS of {last['path_samples']} samples was {ess_words(last)}, and log Z "
        f"{log_z_words(last['elbo'], last['eubo'])} at {temperature:g} K.{unjudged_words([last])}",
    )
