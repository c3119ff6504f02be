"""Training of adsorbates from an energy alone: one network for many surfaces and adsorbates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import InputError
from equilibra.nn.surface import POSITIONS
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.adsorbate.domain import absolute, elements, identifier
from equilibra.systems.adsorbate.energy import EMT, adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.network import adsorbate_denoiser, adsorbate_network_config, adsorbate_process
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.adsorbate.validity import check
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import TrainConfig
from equilibra.train.energies import EnergiesTraining, digest_of
from equilibra.train.energy import EnergyTraining, Progress
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.fit import network_weights

LADDER = EnergyConfig(
    objective="tsm",
    rounds=1,
    rungs=8,
    hottest=5.0,
    columns=32,
    leapfrog=10,
    moves=2,
    burn_in=300,
    sweeps=400,
    every=2,
    step=0.02,
    focus=0.3,
    newest=1.0,
    path_levels=50,
    path_samples=100,
)
"""Where the conformations come from by default: parallel tempering up to five times the lowest temperature crosses what is between sites; the space has few dimensions."""

DEFAULT = TrainConfig(noise_median=0.2, noise_width=1.6, compile=False, precision="fp32")
"""How it is trained by default: around the noise of 0.05 to 1 Å, where sites are chosen. The number of neighbours changes from batch to batch, so that networks are not compiled."""

TRANSFERABLE = 10
"""A model of more systems than this is meant for other surfaces of its elements, too."""

STARTS = 64
"""Starting points of each system."""


def train_adsorbate_on_energy(
    systems: Sequence[AdsorbateSystem],
    folder: str | Path,
    energy: str = EMT,
    config: EnergyConfig | None = None,
    train: TrainConfig | None = None,
    *,
    name: str = "adsorbate",
    temperature: float = 300.0,
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda state: None,
) -> Model:
    """Trains one model of some systems from their energy; the same call goes on with an interrupted run.

    Arguments:
        systems: Slabs with adsorbates.
        folder: Run folder; the model is written to `folder/model`, what each system collected to `folder/systems`, and its walkers of the lowest temperature to
            `folder/walkers`: ensembles to compare the model with.
        energy: Name of an energy, as `adsorbate_energy` takes it.
        config: Where conformations come from; `LADDER` by default.
        train: How to train; networks of adsorbates are never compiled.
        name: Name of the model.
        temperature: Lowest temperature, in K; the model is meant for it, and knows all up to the hottest of the ladder.
        network: Changes of the network's size, by the names of `SurfaceNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Told how far it is.

    Raises:
        InputError: If there is no system, or the energy does not know an element.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    if not systems:
        raise InputError("train: got no system, expected at least one slab with an adsorbate")
    config = LADDER if config is None else config
    train = dataclasses.replace(DEFAULT if train is None else train, compile=False)
    folder = Path(folder)
    network_config = adsorbate_network_config(conditions=int(config.rungs > 1), **(network or {}))
    trainings, starts, identities = [], [], []
    for number, system in enumerate(systems):
        reduced = ReducedEnergy.at(adsorbate_energy(system, energy), temperature)
        start = _starts(system, reduced, train.seed)
        trainings.append(_training(system, reduced, config, train, folder / "systems" / f"{number:03d}"))
        starts.append(start)
        identities.append({"kind": "training of an adsorbate from its energy", "system": system.digest, "potential": energy})
    training = EnergiesTraining(trainings, folder)
    training.first_round(starts, identities=identities, progress=progress)
    denoiser, objective = make_objective(
        config,
        training.train,
        trainings[0].reduced,
        lambda kind: adsorbate_denoiser(adsorbate_process(), network_config, parametrisation=kind, seed=train.seed),
    )
    identity = {
        "name": name,
        "systems": digest_of([system.digest for system in systems]),
        "potential": energy,
        "temperature": temperature,
        "ladder": dataclasses.asdict(config),
        "network": dataclasses.asdict(network_config),
    }
    run = training.run(denoiser, identity=identity, objective=objective, progress=progress)
    hottest = temperature * (config.hottest if config.rungs > 1 else 1.0)
    for number, (system, one) in enumerate(zip(systems, trainings, strict=True)):
        _write_walkers(folder / "walkers" / f"{number:03d}", system, one, temperature)
    model = Model(
        name=name,
        domain="adsorbate",
        denoiser=denoiser,
        network=dataclasses.asdict(network_config),
        sampler=sampler or SamplerConfig(grid=GridConfig(steps=20, spacing="log", end="flow")),
        scope=Scope(
            systems=tuple(sorted({identifier(system) for system in systems})),
            elements=elements(systems),
            temperature=temperature,
            temperatures=(temperature, hottest) if config.rungs > 1 else None,
            transferable=len(systems) > TRANSFERABLE,
        ),
        card=card or _card(systems, energy, temperature, hottest, run.calls, [rounds[-1] for rounds in run.rounds]),
    )
    return model.with_weights(network_weights(run.weights)).save(folder / "model")


def _training(
    system: AdsorbateSystem, reduced: ReducedEnergy, config: EnergyConfig, train: TrainConfig, folder: Path
) -> EnergyTraining:
    def accept(x: Tensor) -> Tensor:
        return torch.from_numpy(check(absolute(system, x.double().numpy()), system).valid)

    return EnergyTraining(system.features, reduced, config, train, folder, accept=accept, field=POSITIONS)


def _write_walkers(folder: Path, system: AdsorbateSystem, training: EnergyTraining, temperature: float) -> None:
    """Writes the walkers of the lowest temperature as an ensemble: what the run knows of the Boltzmann distribution without the model."""
    config = training.config
    x, u = training.walkers()
    AdsorbateEnsemble.from_frames(
        system,
        absolute(system, x.flatten(0, 1).numpy()),
        energies=u.flatten().numpy() * training.reduced.kt,
        provenance={
            "walkers": config.columns,
            "energy": training.reduced.energy.name,
            "temperature_k": temperature,
            "seed": training.train.seed,
        },
    ).save(folder, formats=("npz",))


def _starts(system: AdsorbateSystem, reduced: ReducedEnergy, seed: int) -> Tensor:
    """Returns starting points (n, atoms, 3) of finite energy.

    Raises:
        InputError: If there are none.
    """
    x = torch.tensor(system.placed(STARTS, seed=seed))
    u, force = reduced.with_force(x)
    good = torch.isfinite(u) & torch.isfinite(force).flatten(1).all(1)
    if not bool(good.any()):
        cause = next(iter(reduced.energy.failures), "")
        raise InputError(
            f"{system.name}: the energy '{reduced.energy.name}' is not finite at any of {STARTS} places above the surface{f' ({cause})' if cause else ''}; check that "
            "it knows the elements"
        )
    return x[good]


def _card(
    systems: Sequence[AdsorbateSystem],
    energy: str,
    temperature: float,
    hottest: float,
    calls: int,
    last: Sequence[dict[str, Any]],
) -> Card:
    span = f"{temperature:g} K" if hottest == temperature else f"{temperature:g} to {hottest:g} K"
    shares = [100.0 * float(entry["ess"] or 0.0) for entry in last]
    names = ", ".join(system.name for system in systems[:3]) + (f" and {len(systems) - 3} more" if len(systems) > 3 else "")
    return Card(
        summary=f"{names}, trained from the energy '{energy}' at {span} with {calls:,} energy calls.",
        not_good_for="Surfaces that move: the slab is held as it is. Adsorbates and elements that were not in the training. What the energy is no good for.",
        data=f"Own samples of the energy. At the end the ESS of {last[0]['path_samples']} weighted samples was {min(shares):.1f} to {max(shares):.1f} % at {temperature:g} K.",
    )
