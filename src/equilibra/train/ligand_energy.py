"""Training of a ligand in a pocket from an energy function: no complex is needed."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import ConfigError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.state import State
from equilibra.systems.card import Card
from equilibra.systems.ligand.domain import identifier
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.engine import PoseEnergy, PosePacking, pose_moves
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import ligand_denoiser, ligand_network_config, ligand_process, network_values
from equilibra.systems.ligand.poses import pose_positions, pose_state, random_state
from equilibra.systems.ligand.system import SHIFT, LigandSystem
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyTraining, Progress, log_z_words
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.ligand import DEFAULT, SAMPLER

LIGAND = EnergyConfig(
    rounds=4,
    rungs=8,
    hottest=5.0,
    columns=16,
    leapfrog=10,
    moves=1,
    burn_in=150,
    sweeps=300,
    every=2,
    step=0.1,
    focus=0.7,
    path_levels=60,
)
"""Defaults for ligands: a ladder up to 1,500 K, on which poses leave one binding mode for another."""

OBJECTIVES = ("anneal", "tsm")
"""Objectives that poses can be trained with."""

STARTS = 64
"""Poses to start from, anywhere in the box; half of them are the known pose where there is one."""

_NATIVE = 0.5


def train_ligand_on_energy(
    source: Any,
    folder: str | Path,
    energy: str | Energy = "vina",
    config: EnergyConfig | None = None,
    train: TrainConfig | None = None,
    *,
    name: str = "ligand",
    temperature: float = 300.0,
    network: dict[str, int] | None = None,
    weights: Model | None = None,
    from_pose: bool = False,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda state: None,
) -> Model:
    """Trains a model of one ligand in one pocket from its energy; the same call goes on with an interrupted run.

    Arguments:
        source: What `ligand_systems` reads as one system, or a system.
        folder: Run folder; the model is written to `folder/model`, and the poses of the lowest temperature of the parallel tempering to `folder/walkers`: an ensemble
            of its own, to compare the model with.
        energy: A name of `ENERGIES`, or an energy in eV and Å with the atoms of the system.
        config: Where poses come from; `LIGAND` by default.
        train: How to train.
        name: Name of the model.
        temperature: Temperature that the model is meant for, in K; the lowest of the ladder.
        network: Changes of the network's size.
        weights: A model of ligands whose network training starts from, of the same size; random weights by default.
        from_pose: Start half of the walkers from the known pose of the system.
        sampler: The model's default sampler.
        card: Its card.
        progress: Told how far it is.

    Raises:
        InputError: If the system, the energy or the starting weights cannot be used.
        ConfigError: If the objective is not for poses.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = LIGAND if config is None else config
    train = dataclasses.replace(DEFAULT if train is None else train, compile=False)
    if config.objective not in OBJECTIVES:
        raise ConfigError(f"objective: '{config.objective}' is for positions; poses are trained with {' or '.join(OBJECTIVES)}")
    systems = ligand_systems(source)
    if len(systems) != 1:
        raise InputError(f"training from an energy: got {len(systems)} ligands, expected one")
    system, folder = systems[0], Path(folder)
    potential = ligand_energy(system, energy) if isinstance(energy, str) else energy
    packing = PosePacking(system)
    reduced = ReducedEnergy.at(PoseEnergy(potential, packing), temperature)
    starts = packing.array(start_poses(system, train.seed, from_pose=from_pose))
    training = EnergyTraining(
        system.features,
        reduced,
        config,
        train,
        folder,
        packing=packing,
        moves=pose_moves(packing, step=config.step, leapfrog=config.leapfrog),
    )
    network_config = ligand_network_config(**{"conditions": int(config.rungs > 1), **(network or {})})
    identity = {
        "kind": "training of a ligand from its energy",
        "name": name,
        "system": system.digest,
        "potential": potential.name,
        "network": dataclasses.asdict(network_config),
        "start": hashlib.sha256(np.ascontiguousarray(starts.numpy()).tobytes()).hexdigest(),
        **({} if weights is None else {"weights": weights.sha256}),
    }
    training.first_round(starts, identity=identity, progress=progress)
    process = ligand_process(_scale(packing, training.buffer.rung(0)[0]))

    def make(kind: Any) -> Any:
        denoiser = ligand_denoiser(process, network_config, parametrisation=kind, seed=train.seed)
        if weights is not None:
            _take(denoiser.network, weights)
        return denoiser

    denoiser, objective = make_objective(config, train, reduced, make)
    run = training.run(denoiser, objective=objective, progress=progress)
    last, hottest = run.rounds[-1], temperature * (config.hottest if config.rungs > 1 else 1.0)
    model = Model(
        name=name,
        domain="ligand",
        denoiser=denoiser,
        network=network_values(network_config),
        sampler=sampler or SAMPLER,
        scope=Scope(
            systems=(identifier(system),),
            elements=tuple(sorted({atom.GetAtomicNum() for atom in system.mol.GetAtoms()})),
            temperature=temperature,
            temperatures=(temperature, hottest) if config.rungs > 1 else None,
        ),
        card=card or _card(system, potential, temperature, hottest, run.calls, last),
    )
    walkers_of(system, training, temperature=temperature).save(folder / "walkers")
    averaged = {key.removeprefix("network."): value for key, value in run.weights.items() if key.startswith("network.")}
    return model.with_weights(averaged).save(folder / "model")


def start_poses(system: LigandSystem, seed: int, *, from_pose: bool = False) -> State:
    """Returns `STARTS` poses as a State: anywhere in the box, half of them the known pose where that is asked for.

    Raises:
        InputError: If the known pose is asked for and there is none.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = random_state(system, STARTS, generator=generator)
    if not from_pose:
        return drawn
    if system.pose is None or np.isnan(system.pose).any():
        raise InputError(f"{system.name}: there is no pose of all atoms to start from")
    known = pose_state(system, system.pose[None], fitted=True)
    return State.cat([known[[0] * int(_NATIVE * STARTS)], drawn[: STARTS - int(_NATIVE * STARTS)]])


def walkers_of(system: LigandSystem, training: EnergyTraining, *, temperature: float) -> LigandEnsemble:
    """Returns the poses of the lowest temperature of a training as an ensemble: a Markov chain of each walker, without the oldest rounds, as in the buffer's `newest` share."""
    config = training.config
    first = min(config.rounds - 1, round((1.0 - config.newest) * config.rounds))
    frames = [training.files.read(number)[0] for number in range(first, config.rounds)]
    x = torch.cat([each.x[0] for each in frames])
    u = torch.cat([each.u[0] for each in frames])
    packing = PosePacking(system)
    walker = np.concatenate([np.arange(len(each.u[0])) % config.columns for each in frames])
    return LigandEnsemble.from_frames(
        system,
        pose_positions(system, packing.state(x)).numpy(),
        energies=u.numpy() * training.reduced.kt,
        blocks=walker,
        provenance={
            "kind": "walkers of a training from an energy",
            "temperature_k": temperature,
            "energy": training.reduced.energy.name,
        },
    )


def _scale(packing: PosePacking, x: Tensor) -> float:
    shift = packing.numbers.split(x)[SHIFT].double()
    return max(round(float(shift.square().mean().sqrt()), 3), 0.5)


def _take(network: torch.nn.Module, model: Model) -> None:
    """Gives a network the weights of another model; what that one was not told of, its temperature, keeps its random weights."""
    own, other = network.state_dict(), model.denoiser.network.state_dict()
    different = [key for key, value in other.items() if key in own and own[key].shape != value.shape]
    if model.domain != "ligand" or different or not set(other) & set(own):
        raise InputError(
            f"weights: the network of '{model.name}' is of another kind or size; choose the same with --network, or leave it out"
        )
    network.load_state_dict(dict(other), strict=False)


def _card(system: LigandSystem, energy: Energy, temperature: float, hottest: float, calls: int, last: dict[str, Any]) -> Card:
    span = f"{temperature:g} K" if hottest == temperature else f"{temperature:g} to {hottest:g} K"
    return Card(
        summary=f"{system.name} in its pocket, trained from the energy '{energy.name}' at {span} with {calls:,} energy calls.",
        not_good_for="Any other ligand, pocket or energy. Binding modes that the parallel tempering of its training did not reach are missing.",
        data=f"Own samples of the energy. At the end the ESS of {last['path_samples']} samples was {100 * last['ess']:.1f} %, and log Z "
        f"{log_z_words(last['elbo'], last['eubo'])} at {temperature:g} K.",
    )
