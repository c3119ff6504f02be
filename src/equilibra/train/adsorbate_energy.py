"""Training of adsorbates from an energy alone: one network for many surfaces and adsorbates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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
from equilibra.systems.ensemble import WALKERS
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import TrainConfig
from equilibra.train.energies import EnergiesTraining, digest_of
from equilibra.train.energy import EnergyTraining, Progress, unjudged_words
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.fit import check_weights, network_weights, take_weights

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
"""Starting points of each system, where its energy is too costly to draw them from many."""

SPACING = 0.18
"""Spacing in Å of the grid from which the places of single atoms are drawn."""

PLACES = 1500
"""Places from which those of molecules are drawn."""

AT_ONCE = 4096
"""Places that the energy is asked for at once."""


def train_adsorbate_on_energy(
    systems: Sequence[AdsorbateSystem],
    folder: str | Path,
    energy: str = EMT,
    config: EnergyConfig | None = None,
    train: TrainConfig | None = None,
    *,
    name: str = "adsorbate",
    temperature: float = 300.0,
    network: Mapping[str, float] | None = None,
    weights: Model | None = None,
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
        weights: A model of adsorbates whose network training starts from, of the same size; random weights by default.
        sampler: The model's default sampler.
        card: Its card.
        progress: Told how far it is.

    Raises:
        InputError: If there is no system, the energy does not know an element, or the starting weights cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    if not systems:
        raise InputError("train: got no system, expected at least one slab with an adsorbate")
    config = LADDER if config is None else config
    train = dataclasses.replace(DEFAULT if train is None else train, compile=False)
    folder = Path(folder)
    network_config = adsorbate_network_config(conditions=int(config.rungs > 1), **(network or {}))
    if weights is not None:
        check_weights(weights, "adsorbate", dataclasses.asdict(network_config))
    trainings, starts, identities = [], [], []
    for number, system in enumerate(systems):
        reduced = ReducedEnergy.at(adsorbate_energy(system, energy), temperature)
        trainings.append(_training(system, reduced, config, train, folder / "systems" / f"{number:03d}"))
        starts.append(partial(starting_points, system, reduced, config, train.seed, cheap=energy == EMT))
        identities.append({"kind": "training of an adsorbate from its energy", "system": system.digest, "potential": energy})
    training = EnergiesTraining(trainings, folder)
    training.first_round(starts, identities=identities, progress=progress)

    def make(kind: Any) -> Any:
        denoiser = adsorbate_denoiser(adsorbate_process(), network_config, parametrisation=kind, seed=train.seed)
        if weights is not None:
            take_weights(denoiser.network, weights)
        return denoiser

    denoiser, objective = make_objective(config, training.train, trainings[0].reduced, make)
    identity = {
        "name": name,
        "systems": digest_of([system.digest for system in systems]),
        "potential": energy,
        "temperature": temperature,
        "ladder": dataclasses.asdict(config),
        "network": dataclasses.asdict(network_config),
        **({} if weights is None else {"weights": weights.sha256}),
    }
    run = training.run(denoiser, identity=identity, objective=objective, progress=progress)
    hottest = temperature * (config.hottest if config.rungs > 1 else 1.0)
    for number, (system, one) in enumerate(zip(systems, trainings, strict=True)):
        walkers_of(system, one, temperature=temperature).save(folder / "walkers" / f"{number:03d}", formats=("npz",))
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


def walkers_of(system: AdsorbateSystem, training: EnergyTraining, *, temperature: float) -> AdsorbateEnsemble:
    """Returns the walkers of the lowest temperature as an ensemble, a block of each: what the run knows of the Boltzmann distribution without the model; see `EnergyTraining.walkers`."""
    x, u = training.walkers()
    frames, columns = u.shape
    return AdsorbateEnsemble.from_frames(
        system,
        absolute(system, x.flatten(0, 1).numpy()),
        energies=u.flatten().numpy() * training.reduced.kt,
        blocks=np.tile(np.arange(columns), frames),
        provenance={
            "kind": WALKERS,
            "walkers": columns,
            "energy": training.reduced.energy.name,
            "temperature_k": temperature,
            "seed": training.train.seed,
        },
    )


def starting_points(system: AdsorbateSystem, reduced: ReducedEnergy, config: EnergyConfig, seed: int, *, cheap: bool) -> Tensor:
    """Returns where the walkers of a system start (n, atoms, 3), at places of finite energy, relative to the system's level, in Å.

    They are anywhere above the surface. Where an energy costs microseconds, each walker's place is drawn from many by its Boltzmann factor at the temperature of its rung. A single atom has
    so few coordinates that this is equilibrium, up to half the spacing of a grid over the window, within which it starts anywhere. Molecules are turned at random at `PLACES` places, and
    drawn no colder than where a hundredth of these counts.

    Arguments:
        system: The system.
        reduced: Its energy, reduced at the lowest temperature.
        config: The ladder.
        seed: The same seed gives the same ones.
        cheap: Whether the energy costs microseconds.

    Raises:
        InputError: If there are none.
    """
    if not cheap:
        x = torch.tensor(system.placed(STARTS, seed=seed))
        u, force = reduced.with_force(x)
        good = torch.isfinite(u) & torch.isfinite(force).flatten(1).all(1)
        if not bool(good.any()):
            raise _nowhere(system, reduced, STARTS)
        return x[good]
    rng = np.random.default_rng([seed, 0x504C4143])
    if system.atoms > 1:
        x = torch.tensor(system.placed(PLACES, seed=seed))
        shares = _boltzmann(system, reduced, x, config)
        for rung, values in enumerate(shares):
            # too cold a law would put all walkers of a rung at one place
            while np.square(values).sum() > 1.0 / (0.01 * PLACES):
                shares[rung] = values = np.sqrt(values) / np.sqrt(values).sum()
        return torch.cat([x[rng.choice(PLACES, size=config.columns, p=values)] for values in shares])
    low, high = system.window
    lengths = [*np.linalg.norm(np.asarray(system.slab.cell)[:2], axis=1), high - low]
    counts = [max(2, math.ceil(length / SPACING)) for length in lengths]
    fractions = np.stack(np.meshgrid(*((np.arange(n) + 0.5) / n for n in counts), indexing="ij"), -1).reshape(-1, 3)
    made = []
    for values in _boltzmann(system, reduced, _in_window(system, fractions)[:, None], config):
        chosen = fractions[rng.choice(len(fractions), size=config.columns, p=values)]
        made.append(_in_window(system, chosen + (rng.random(chosen.shape) - 0.5) / counts))
    return torch.cat(made)[:, None]


def _in_window(system: AdsorbateSystem, fractions: np.ndarray) -> Tensor:
    """Returns positions (n, 3) relative to the system's level, for fractions of the cell and of the range of heights."""
    low, high = system.window
    plane = fractions[:, :2] @ np.asarray(system.slab.cell)[:2, :2]
    return torch.tensor(np.concatenate([plane, low + (high - low) * fractions[:, 2:]], axis=1))


def _boltzmann(system: AdsorbateSystem, reduced: ReducedEnergy, x: Tensor, config: EnergyConfig) -> list[np.ndarray]:
    """Returns the Boltzmann factors (n,) of places (n, atoms, 3) at the temperature of each rung, normalised."""
    with torch.no_grad():
        u = torch.cat([reduced(part) for part in x.split(AT_ONCE)]).double().numpy()
    finite = np.isfinite(u)
    if not finite.any():
        raise _nowhere(system, reduced, len(u))
    factors = [np.exp(-beta * np.where(finite, u - u[finite].min(), np.inf)) for beta in config.betas]
    return [values / values.sum() for values in factors]


def _nowhere(system: AdsorbateSystem, reduced: ReducedEnergy, places: int) -> InputError:
    cause = next(iter(reduced.energy.failures), "")
    return InputError(
        f"{system.name}: the energy '{reduced.energy.name}' is not finite at any of {places} places above the surface{f' ({cause})' if cause else ''}; check that "
        "it knows the elements"
    )


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
        data=f"Own samples of the energy. At the end the ESS of {last[0]['path_samples']} weighted samples was {min(shares):.1f} to {max(shares):.1f} % at {temperature:g} K."
        f"{unjudged_words(last)}",
    )
