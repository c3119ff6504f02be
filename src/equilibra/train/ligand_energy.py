"""Training of ligands in pockets from an energy function: no complex is needed."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import ConfigError, InputError
from equilibra.run_folder import claim
from equilibra.sampling.choose import SamplerConfig
from equilibra.state import State
from equilibra.systems.card import Card
from equilibra.systems.ensemble import WALKERS
from equilibra.systems.ligand.energy import ENERGIES, ligand_energy
from equilibra.systems.ligand.engine import PoseEnergy, PosePacking, pose_moves
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import ligand_denoiser, ligand_network_config, ligand_process, network_values, state_of
from equilibra.systems.ligand.poses import pose_positions, pose_state, random_state
from equilibra.systems.ligand.system import SHIFT, LigandSystem
from equilibra.systems.model import Model
from equilibra.train.config import TrainConfig
from equilibra.train.energies import EnergiesTraining, digest_of
from equilibra.train.energy import EnergyTraining, Progress
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.fit import check_weights, data_digest, network_weights, take_weights
from equilibra.train.ligand import DEFAULT, SAMPLER, LigandSources, scope_of, shift_scale
from equilibra.train.ligand_card import energy_card, systems_table

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

KNOWN_SHARE = 0.3
"""Share of the training batches that are known complexes, where there are any, by default."""

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
    known: Sequence[Any] | LigandSources = (),
    known_share: float = KNOWN_SHARE,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda state: None,
) -> Model:
    """Trains a model of one or many ligands in their pockets from their energy; the same call goes on with an interrupted run.

    Of one ligand, `folder` holds the rounds and the poses of the lowest temperature of the parallel tempering, in `folder/walkers`: an ensemble of its own, to compare the model
    with. Of many, or with known complexes, the rounds of each are in `folder/systems/NNN`, its poses in `folder/walkers/NNN`, and `folder/systems.csv` tells which is which, and how
    well the model knows each.

    Arguments:
        source: What `ligand_systems` reads: one ligand, many, or systems.
        folder: Run folder; the model is written to `folder/model`.
        energy: A name of `ENERGIES`; of one ligand also an energy in eV and Å with the atoms of the system.
        config: Where poses come from; `LIGAND` by default.
        train: How to train.
        name: Name of the model.
        temperature: Temperature that the model is meant for, in K; the lowest of the ladder.
        network: Changes of the network's size.
        weights: A model of ligands whose network training starts from, of the same size; random weights by default.
        from_pose: Start half of the walkers from the known pose of each system.
        known: Complexes and trajectories to learn from besides, by score matching: what `train_ligand` takes.
        known_share: Share of the training batches that are of these.
        sampler: The model's default sampler.
        card: Its card.
        progress: Told how far it is.

    Raises:
        InputError: If a system, the energy, the complexes or the starting weights cannot be used.
        ConfigError: If the objective is not for poses.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = LIGAND if config is None else config
    train = dataclasses.replace(DEFAULT if train is None else train, compile=False)
    if config.objective not in OBJECTIVES:
        raise ConfigError(f"objective: '{config.objective}' is for positions; poses are trained with {' or '.join(OBJECTIVES)}")
    systems, folder = ligand_systems(source), Path(folder)
    if len(systems) > 1 and not isinstance(energy, str):
        raise InputError(f"training from an energy: got {len(systems)} ligands and the energy of one; name one of {ENERGIES}")
    others = known if isinstance(known, LigandSources) else LigandSources.read(known) if known else None
    data = None if others is None else others.data(seed=train.seed)
    alone = len(systems) == 1 and data is None
    places = [folder if alone else folder / "systems" / f"{number:03d}" for number in range(len(systems))]
    potentials = [ligand_energy(system, energy) if isinstance(energy, str) else energy for system in systems]
    trainings = [
        _training(system, potential, config, train, place, temperature)
        for system, potential, place in zip(systems, potentials, places, strict=True)
    ]
    starts = [PosePacking(system).array(start_poses(system, train.seed, from_pose=from_pose)) for system in systems]
    network_config = ligand_network_config("torsional", **{"conditions": int(config.rungs > 1), **(network or {})})
    if weights is not None:
        if weights.domain == "ligand" and state_of(weights.process) != "torsional":
            raise InputError(
                f"weights: '{weights.name}' is of the cartesian state, and a training from an energy is of the torsional one; start from a model of that, or leave it out"
            )
        check_weights(weights, "ligand", network_values(network_config))
    identities = [
        {
            "kind": "training of a ligand from its energy",
            "name": name,
            "system": system.digest,
            "potential": potential.name,
            "network": dataclasses.asdict(network_config),
            "start": hashlib.sha256(np.ascontiguousarray(start.numpy()).tobytes()).hexdigest(),
            **({} if weights is None else {"weights": weights.sha256}),
        }
        for system, potential, start in zip(systems, potentials, starts, strict=True)
    ]
    together: dict[str, Any] = {
        "name": name,
        "systems": digest_of([system.digest for system in systems]),
        "potential": potentials[0].name,
        "temperature": temperature,
        "network": dataclasses.asdict(network_config),
        **({} if weights is None else {"weights": weights.sha256}),
        **({} if data is None else {"known": data_digest(data), "known_share": known_share}),
    }
    many = None if alone else EnergiesTraining(trainings, folder, known=data, share=known_share)
    if many is None:
        trainings[0].first_round(starts[0], identity=identities[0], progress=progress)
    else:
        claim(folder, {"kind": "training of ligands from their energies", **together})
        many.first_round(starts, identities=identities, progress=progress)
    squares = [_mean_square(one) for one in trainings]
    scales = [float(np.sqrt(np.mean(squares))), *([] if data is None else [shift_scale(data)])]
    process = ligand_process(max(round(max(scales), 3), 0.5))

    def make(kind: Any) -> Any:
        denoiser = ligand_denoiser(process, network_config, parametrisation=kind, seed=train.seed)
        if weights is not None:
            take_weights(denoiser.network, weights)
        return denoiser

    denoiser, objective = make_objective(config, train, trainings[0].reduced, make)
    if many is None:
        one = trainings[0].run(denoiser, objective=objective, progress=progress)
        averaged, calls, last = one.weights, one.calls, [one.rounds[-1]]
    else:
        run = many.run(denoiser, identity=together, objective=objective, progress=progress)
        averaged, calls, last = run.weights, run.calls, [rounds[-1] for rounds in run.rounds]
    hottest = temperature * (config.hottest if config.rungs > 1 else 1.0)
    seen = [*systems, *([] if others is None else others.all_systems)]
    model = Model(
        name=name,
        domain="ligand",
        denoiser=denoiser,
        network=network_values(network_config),
        sampler=sampler or SAMPLER,
        scope=dataclasses.replace(
            scope_of(seen),
            temperature=temperature,
            temperatures=(temperature, hottest) if config.rungs > 1 else None,
        ),
        card=card
        or energy_card(
            systems, potentials[0].name, (temperature, hottest), calls, last, "" if others is None else others.in_words()
        ),
    )
    for number, (system, training) in enumerate(zip(systems, trainings, strict=True)):
        walkers = walkers_of(system, training, temperature=temperature)
        walkers.save(folder / "walkers" if alone else folder / "walkers" / f"{number:03d}")
    if others is not None:
        others.save(folder / "complexes")
    if not alone:
        write_text(folder / "systems.csv", systems_table(systems, last))
    return model.with_weights(network_weights(averaged)).save(folder / "model")


def _training(
    system: LigandSystem, potential: Energy, config: EnergyConfig, train: TrainConfig, folder: Path, temperature: float
) -> EnergyTraining:
    packing = PosePacking(system)
    return EnergyTraining(
        system.features,
        ReducedEnergy.at(PoseEnergy(potential, packing), temperature),
        config,
        train,
        folder,
        packing=packing,
        moves=pose_moves(packing, step=config.step, leapfrog=config.leapfrog),
    )


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
    """Returns the poses of the lowest temperature of a training as an ensemble: a block of each walker; see `EnergyTraining.walkers`."""
    x, u = training.walkers()
    packing = PosePacking(system)
    frames, columns = u.shape
    return LigandEnsemble.from_frames(
        system,
        pose_positions(system, packing.state(x.flatten(0, 1))).numpy(),
        energies=u.flatten().numpy() * training.reduced.kt,
        blocks=np.tile(np.arange(columns), frames),
        provenance={
            "kind": WALKERS,
            "temperature_k": temperature,
            "energy": training.reduced.energy.name,
        },
    )


def _mean_square(training: EnergyTraining) -> float:
    """Returns the mean square of the shift per axis at the lowest temperature, in Å²."""
    packing = cast(PosePacking, training.packing)
    return float(packing.numbers.split(training.buffer.rung(0)[0])[SHIFT].double().square().mean())
