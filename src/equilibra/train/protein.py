"""Training of proteins: from structures and trajectories to a model, and from a model to a better one for a user's own proteins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

from equilibra.data.conformations import Balance, ConformationData, Conformations, shares
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.errors import ConfigError, InputError
from equilibra.nn.frames import ROT, TRANS
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.protein.data.read import ProteinData, backbones_of
from equilibra.systems.protein.domain import check_features, identifier
from equilibra.systems.protein.network import network_values, protein_denoiser, protein_network_config, protein_process
from equilibra.systems.protein.providers import Provider
from equilibra.systems.protein.snapshots import ForceProgress
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig, twice_differentiated
from equilibra.train.fit import fit, start_choices, starting_model, tuned, weights_digest
from equilibra.train.protein_energy import OPTIMISER, ProteinEnergy, with_mean_forces
from equilibra.train.protein_features import (
    FeatureDropout,
    check_dropout,
    feature_options,
    featured,
    lacking,
    require_step,
    with_optional_features,
    without_need,
)
from equilibra.train.run import Progress

CROP = 128
"""Default largest number of residues of a training sample."""

BUDGET = 500_000
"""Default largest number of pairs of residues in a batch: training then needs a few GB for networks of the default size."""

TRANSFERABLE = 100
"""A model of more sequences than this is meant for sequences that it has not seen, too."""


@dataclass(frozen=True, kw_only=True)
class ProteinEntry:
    """One set of proteins in a training.

    Attributes:
        data: Where it is, or the backbones themselves.
        weight: Share of the samples that are drawn from it, relative to the other sets.
        balance: Within the set, `systems` draws every protein equally often, `frames` every frame, `sqrt` a protein in proportion to the root of its
            number of frames.
        plain: Whether it stays data alone, without snapshots and forces, in a training with an energy.
        provider: Source of this set's extra features in place of that of the whole training; `NoProvider()` for a set without any.

    Raises:
        ConfigError: If the weight is not positive.
    """

    data: ProteinData
    weight: float = 1.0
    balance: Balance = "systems"
    plain: bool = False
    provider: Provider | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise ConfigError(f"weight: got {self.weight}, expected a positive number")


def read_proteins(
    entry: ProteinEntry,
    *,
    provider: Provider | None = None,
    allow_missing_features: bool = False,
    check: Callable[[int], None] = lambda length: None,
) -> list[Conformations]:
    """Reads the training data of one set: for each protein its frames, fields `trans` and `rot`.

    Arguments:
        entry: The set.
        provider: Source of the residues' and pairs' extra features, unless the set has its own; by default there are none.
        allow_missing_features: Take proteins of which the provider has no features as they are.
        check: Called with the number of residues of the longest protein, before anything of the size of all pairs is made; it raises `InputError`.

    Raises:
        InputError: If the data cannot be read, or the provider has no features of a protein.
    """
    found = backbones_of(entry.data)
    check(max((backbones.system.length for backbones in found), default=0))
    source = provider if entry.provider is None else entry.provider
    return [
        backbones.conformations(featured(backbones.system, source, allow_missing=allow_missing_features)) for backbones in found
    ]


def protein_data(
    entries: Sequence[ProteinEntry],
    *,
    provider: Provider | None = None,
    feature_dropout: float = 0.0,
    allow_missing_features: bool = False,
    crop: int | None = CROP,
    budget: int | None = BUDGET,
    check: Callable[[int], None] = lambda longest: None,
) -> ConformationData:
    """Reads a mix of sets as training batches.

    Arguments:
        entries: The sets, each drawn from in proportion to its weight.
        provider: Source of extra features, for sets without a provider of their own.
        feature_dropout: Probability with which the features of a sample will be left out; the batches here still have all.
        allow_missing_features: Take proteins of which a provider has no features without them.
        crop: Largest number of residues of a sample; longer proteins are cut to random windows. None for no limit.
        budget: Largest number of pairs of residues in a batch. None for no limit.
        check: Called with the largest number of residues of a sample of each set, before any array of pairs is made; it raises `InputError`.

    Raises:
        InputError: If the data cannot be used.
        ConfigError: If an option is out of range.
    """
    return _protein_data(
        entries,
        provider=provider,
        feature_dropout=feature_dropout,
        allow_missing_features=allow_missing_features,
        crop=crop,
        budget=budget,
        check=check,
    )[0]


def _protein_data(
    entries: Sequence[ProteinEntry],
    *,
    provider: Provider | None,
    feature_dropout: float,
    allow_missing_features: bool,
    crop: int | None,
    budget: int | None,
    check: Callable[[int], None],
) -> tuple[ConformationData, list[bool]]:
    """Returns the batches of `protein_data`, and for each protein of them whether it is of a plain set."""
    check_dropout(feature_dropout)
    allowed = allow_missing_features or feature_dropout > 0.0
    conformations: list[Conformations] = []
    weights: list[float] = []
    plain: list[bool] = []
    for entry in entries:
        found = read_proteins(
            entry,
            provider=provider,
            allow_missing_features=allowed,
            check=lambda length: check(length if crop is None else min(length, crop)),
        )
        conformations += found
        weights += [entry.weight * share for share in shares([len(part) for part in found], entry.balance)]
        plain += [entry.plain] * len(found)
    conformations = with_optional_features(conformations, feature_dropout, allow_missing=allow_missing_features)
    spaces = {TRANS: CentredEuclidean(), ROT: SO3()}
    return ConformationData(conformations, weights=weights, crop=crop, budget=budget, spaces=spaces), plain


def train_protein(
    entries: Sequence[ProteinEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "protein",
    temperature: float | None = None,
    network: dict[str, int] | None = None,
    provider: Provider | None = None,
    feature_dropout: float = 0.0,
    allow_missing_features: bool = False,
    crop: int | None = CROP,
    budget: int | None = BUDGET,
    energy: ProteinEnergy | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    collecting: Callable[[ForceProgress], None] = lambda state: None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on structures and trajectories, from random weights; the same call goes on with an interrupted run.

    A training in stages, structures first and ensembles then, is this call and one of `fine_tune_protein` with another mix of sets.

    Arguments:
        entries: Sets of proteins.
        folder: Run folder; the model is written to `folder/model`. With an energy, `folder/mean-forces` keeps the snapshots, and `folder/training` the
            checkpoint and the log.
        config: How to train. With an energy networks are not compiled, and run in single precision.
        name: Name of the model.
        temperature: Temperature of the data, in K, where they have one; that of the energy, where there is one.
        network: Changes of the network's size, by the names of `FrameNetworkConfig`; the widths of extra features follow from the data.
        provider: Source of extra features, for sets without a provider of their own.
        feature_dropout: Probability with which the features of a sample are left out, for one model that can be used with and without.
        allow_missing_features: Take proteins of which a provider has no features without them; so does a dropout. A warning names them.
        crop: Largest number of residues of a sample.
        budget: Largest number of pairs of residues in a batch.
        energy: Mean forces and the physics-informed loss, in addition to score matching on the data; none by default.
        sampler: The model's default sampler.
        card: Its card.
        collecting: Told after each snapshot how far the mean forces are.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or the energy cannot describe them.
        ConfigError: If an option is out of range.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training, or the dynamics of the mean forces, diverges; the last good checkpoint is kept.
    """
    config = config or TrainConfig()
    temperature = _temperature(temperature, energy)
    size = network_values(protein_network_config(**(network or {})))
    data, plain = _protein_data(
        entries,
        provider=provider,
        feature_dropout=feature_dropout,
        allow_missing_features=allow_missing_features,
        crop=crop,
        budget=budget,
        check=partial(require_step, network=size, config=config, budget=budget),
    )
    what = _summary(data, temperature)
    if energy is not None:
        identity = {"name": name, "start": "random"}
        made = with_mean_forces(data, plain, energy, Path(folder), identity=identity, progress=collecting)
        config, data, what = twice_differentiated(config), made.data, f"{what}, and {made.summary(energy.forces)}"
    network_config = protein_network_config(**{**feature_options(data), **(network or {})})
    denoiser = protein_denoiser(protein_process(round(data.scale(TRANS), 4)), network_config, seed=config.seed)
    model = Model(
        name=name,
        domain="protein",
        denoiser=denoiser,
        network=network_values(network_config),
        sampler=sampler or SamplerConfig(),
        scope=_scope(data, temperature),
        card=card or Card(summary=f"Trained on {what}."),
    )
    return _fit(model, data, Path(folder), config, progress, energy, dropout=feature_dropout)


def fine_tune_protein(
    model: Model,
    entries: Sequence[ProteinEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    temperature: float | None = None,
    provider: Provider | None = None,
    feature_dropout: float = 0.0,
    allow_missing_features: bool = False,
    crop: int | None = CROP,
    budget: int | None = BUDGET,
    energy: ProteinEnergy | None = None,
    card: Card | None = None,
    collecting: Callable[[ForceProgress], None] = lambda state: None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on other sets of proteins; the given model is left as it is.

    Arguments:
        model: Where to start.
        entries: Sets of proteins; to keep what the model knows, its own data may be among them.
        folder: Run folder; the new model is written to `folder/model`, and the rest as by `train_protein`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        temperature: Temperature of the data, in K, where they have one. A model of several temperatures is trained further at this one, by default
            the one that it is meant for, and knows no other afterwards. That of the energy, where there is one.
        provider: Source of the extra features, of the kind that the model was trained with, for sets without a provider of their own.
        feature_dropout: Probability with which the features of a sample are left out, as for `train_protein`.
        allow_missing_features: Take proteins of which a provider has no features without them; so does a dropout. A warning names them.
        crop: Largest number of residues of a sample.
        budget: Largest number of pairs of residues in a batch.
        energy: Mean forces and the physics-informed loss, in addition to score matching on the data; none by default.
        card: Card of the new model.
        collecting: Told after each snapshot how far the mean forces are.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or have other features than the model was made for, or a temperature outside the range of a model
            of several, or the energy cannot describe them.
        ConfigError: If an option is out of range.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training, or the dynamics of the mean forces, diverges; the last good checkpoint is kept.
    """
    config = config or FINE_TUNING
    temperature = _temperature(temperature, energy)
    start = starting_model(model, "protein", temperature)
    if start is not model:
        temperature = start.scope.temperature
    data, plain = _protein_data(
        entries,
        provider=provider,
        feature_dropout=feature_dropout,
        allow_missing_features=allow_missing_features,
        crop=crop,
        budget=budget,
        check=partial(require_step, network=model.network, config=config, budget=budget),
    )
    for system in _systems(data):
        check_features(system, model.network, model.name)
    what, choices = _summary(data, temperature), start_choices(model, start)
    start = without_need(start) if feature_options(data)["optional_features"] else start
    if energy is not None:
        identity = {"name": name, "start": model.sha256, **choices}
        made = with_mean_forces(data, plain, energy, Path(folder), identity=identity, progress=collecting)
        config, data, what = twice_differentiated(config), made.data, f"{what}, and {made.summary(energy.forces)}"
    forgotten = f"Anything but the proteins of its training; those of '{model.name}' may have been forgotten."
    copy = tuned(
        start,
        name=name,
        scope=_scope(data, temperature),
        card=card or Card(summary=f"{model.name}, trained further on {what}.", not_good_for=forgotten),
    )
    return _fit(copy, data, Path(folder), config, progress, energy, dropout=feature_dropout, start=model.sha256, **choices)


def _fit(
    model: Model,
    data: ConformationData,
    folder: Path,
    config: TrainConfig,
    progress: Progress,
    energy: ProteinEnergy | None,
    *,
    dropout: float,
    **choices: Any,
) -> Model:
    """Trains the model in its run folder."""
    choices["batches"] = _batches(data, dropout)
    data = FeatureDropout.of(data, dropout) if dropout else data
    if energy is None:
        return fit(model, data, folder, config, progress, **choices)
    objective = energy.objective(model.denoiser, config)
    described = dataclasses.asdict(energy)
    return fit(
        model, data, folder, config, progress, objective=objective, optimiser=folder / OPTIMISER, energy=described, **choices
    )


def _systems(data: ConformationData) -> list[ProteinSystem]:
    return [cast(ProteinSystem, entry.system) for entry in data.entries]


def _scope(data: ConformationData, temperature: float | None) -> Scope:
    sequences = {identifier(system) for system in _systems(data)}
    return Scope(systems=tuple(sorted(sequences)), temperature=temperature, transferable=len(sequences) > TRANSFERABLE)


def _summary(data: ConformationData, temperature: float | None) -> str:
    sequences, without = len({identifier(system) for system in _systems(data)}), lacking(data)
    bare = f", {without} of them without features" if without else ""
    return (
        f"{data.frames} conformations of {sequences} protein(s){bare}{'' if temperature is None else f' at {temperature:g} K'}"
    )


def _batches(data: ConformationData, dropout: float) -> dict[str, object]:
    """What of the drawing of batches defines a run."""
    return {
        "crop": data.crop,
        "budget": data.budget,
        "weights": weights_digest(data),
        **({"feature_dropout": dropout} if dropout else {}),
    }


def _temperature(temperature: float | None, energy: ProteinEnergy | None) -> float | None:
    """Returns the temperature of a training: that of the data, and of the energy."""
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature: got {temperature}, expected a positive number in K")
    if energy is None:
        return temperature
    if temperature is not None and temperature != energy.forces.temperature:
        raise InputError(
            f"temperature: got {temperature:g} K for the data and {energy.forces.temperature:g} K for the energy; a model has one temperature"
        )
    return energy.forces.temperature
