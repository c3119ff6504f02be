"""Training of proteins: from structures and trajectories to a model, and from a model to a better one for a user's own proteins."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from equilibra.data.conformations import Balance, ConformationData, Conformations, shares
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.errors import ConfigError, InputError
from equilibra.nn.frames import ROT, TRANS
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.protein.data.read import ProteinData, backbones_of
from equilibra.systems.protein.domain import check_features, identifier
from equilibra.systems.protein.network import protein_denoiser, protein_network_config, protein_process
from equilibra.systems.protein.providers import Provider, condition
from equilibra.systems.protein.system import ProteinSystem
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import check_domain, fit, tuned
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

    Raises:
        ConfigError: If the weight is not positive.
    """

    data: ProteinData
    weight: float = 1.0
    balance: Balance = "systems"

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise ConfigError(f"weight: got {self.weight}, expected a positive number")


def read_proteins(entry: ProteinEntry, *, provider: Provider | None = None) -> list[Conformations]:
    """Reads the training data of one set: for each protein its frames, fields `trans` and `rot`.

    Arguments:
        entry: The set.
        provider: Source of the residues' and pairs' extra features; by default there are none.

    Raises:
        InputError: If the data cannot be read, or the provider has no features of a protein.
    """
    return [backbones.conformations(condition(backbones.system, provider)) for backbones in backbones_of(entry.data)]


def protein_data(
    entries: Sequence[ProteinEntry], *, provider: Provider | None = None, crop: int | None = CROP, budget: int | None = BUDGET
) -> ConformationData:
    """Reads a mix of sets as training batches.

    Arguments:
        entries: The sets, each drawn from in proportion to its weight.
        provider: Source of extra features.
        crop: Largest number of residues of a sample; longer proteins are cut to random windows. None for no limit.
        budget: Largest number of pairs of residues in a batch. None for no limit.

    Raises:
        InputError: If the data cannot be used.
        ConfigError: If an option is out of range.
    """
    conformations: list[Conformations] = []
    weights: list[float] = []
    for entry in entries:
        found = read_proteins(entry, provider=provider)
        conformations += found
        weights += [entry.weight * share for share in shares([len(part) for part in found], entry.balance)]
    spaces = {TRANS: CentredEuclidean(), ROT: SO3()}
    return ConformationData(conformations, weights=weights, crop=crop, budget=budget, spaces=spaces)


def train_protein(
    entries: Sequence[ProteinEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "protein",
    temperature: float | None = None,
    network: dict[str, int] | None = None,
    provider: Provider | None = None,
    crop: int | None = CROP,
    budget: int | None = BUDGET,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on structures and trajectories, from random weights; the same call goes on with an interrupted run.

    A training in stages, structures first and ensembles then, is this call and one of `fine_tune_protein` with another mix of sets.

    Arguments:
        entries: Sets of proteins.
        folder: Run folder; the model is written to `folder/model`.
        config: How to train.
        name: Name of the model.
        temperature: Temperature of the data, in K, where they have one.
        network: Changes of the network's size, by the names of `FrameNetworkConfig`; the widths of extra features follow from the data.
        provider: Source of extra features.
        crop: Largest number of residues of a sample.
        budget: Largest number of pairs of residues in a batch.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        ConfigError: If an option is out of range.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = config or TrainConfig()
    _check_temperature(temperature)
    data = protein_data(entries, provider=provider, crop=crop, budget=budget)
    network_config = protein_network_config(**{**_widths(data), **(network or {})})
    denoiser = protein_denoiser(protein_process(round(data.scale(TRANS), 4)), network_config, seed=config.seed)
    model = Model(
        name=name,
        domain="protein",
        denoiser=denoiser,
        network=dataclasses.asdict(network_config),
        sampler=sampler or SamplerConfig(),
        scope=_scope(data, temperature),
        card=card or Card(summary=f"Trained on {_summary(data, temperature)}."),
    )
    return fit(model, data, Path(folder), config, progress, batches=_batches(data))


def fine_tune_protein(
    model: Model,
    entries: Sequence[ProteinEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    temperature: float | None = None,
    provider: Provider | None = None,
    crop: int | None = CROP,
    budget: int | None = BUDGET,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on other sets of proteins; the given model is left as it is.

    Arguments:
        model: Where to start.
        entries: Sets of proteins; to keep what the model knows, its own data may be among them.
        folder: Run folder; the new model is written to `folder/model`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        temperature: Temperature of the data, in K, where they have one.
        provider: Source of the extra features, of the kind that the model was trained with.
        crop: Largest number of residues of a sample.
        budget: Largest number of pairs of residues in a batch.
        card: Card of the new model.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or have other features than the model was made for.
        ConfigError: If an option is out of range.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = config or FINE_TUNING
    check_domain(model, "protein")
    _check_temperature(temperature)
    data = protein_data(entries, provider=provider, crop=crop, budget=budget)
    for system in _systems(data):
        check_features(system, model.network, model.name)
    forgotten = f"Anything but the proteins of its training; those of '{model.name}' may have been forgotten."
    copy = tuned(
        model,
        name=name,
        scope=_scope(data, temperature),
        card=card or Card(summary=f"{model.name}, trained further on {_summary(data, temperature)}.", not_good_for=forgotten),
    )
    return fit(copy, data, Path(folder), config, progress, start=model.sha256, batches=_batches(data))


def _widths(data: ConformationData) -> dict[str, int]:
    """Widths of the extra features, by the names of the network's configuration."""
    found = {}
    for option, scope in (("extra_node", "node"), ("extra_pair", "pair")):
        widths = set()
        for entry in data.entries:
            values = getattr(entry.system.features, scope)
            widths.add(int(values["extra"].shape[-1]) if "extra" in values else 0)
        if len(widths) > 1:
            raise InputError(
                f"training data: the extra {scope} features of proteins have the widths {sorted(widths)}, expected one width for all"
            )
        found[option] = widths.pop()
    return found


def _systems(data: ConformationData) -> list[ProteinSystem]:
    return [cast(ProteinSystem, entry.system) for entry in data.entries]


def _scope(data: ConformationData, temperature: float | None) -> Scope:
    sequences = {identifier(system) for system in _systems(data)}
    return Scope(systems=tuple(sorted(sequences)), temperature=temperature, transferable=len(sequences) > TRANSFERABLE)


def _summary(data: ConformationData, temperature: float | None) -> str:
    sequences = len({identifier(system) for system in _systems(data)})
    return f"{data.frames} conformations of {sequences} protein(s){'' if temperature is None else f' at {temperature:g} K'}"


def _batches(data: ConformationData) -> dict[str, object]:
    """What of the drawing of batches defines a run."""
    weights = json.dumps([float(weight).hex() for weight in data.weights])
    return {"crop": data.crop, "budget": data.budget, "weights": hashlib.sha256(weights.encode()).hexdigest()}


def _check_temperature(temperature: float | None) -> None:
    if temperature is not None and not temperature > 0:
        raise InputError(f"temperature: got {temperature}, expected a positive number in K")
