"""Training of crystals: from files of structures to a model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.diffusion.space import SymmetricMatrices, Torus
from equilibra.errors import ConfigError, InputError
from equilibra.nn.crystal import CELL, FRAC
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.formula import formula_of
from equilibra.systems.crystal.network import crystal_denoiser, crystal_network_config, crystal_process, network_values
from equilibra.systems.crystal.structures import Structure, fields_of
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import fit, starting_model, tuned
from equilibra.train.run import Progress

TRANSFERABLE = 100
"""A model of more compositions than this is meant for compositions that it has not seen, too."""

DEFAULT = TrainConfig(noise_median=0.15, noise_width=1.2, compile=False)
"""How crystals are trained by default: most at a noise of 0.01 to 0.15 in fractional coordinates, where a structure is chosen. The number of neighbours changes from batch to
batch, so that networks are not compiled.
"""

TUNING = dataclasses.replace(FINE_TUNING, noise_median=DEFAULT.noise_median, noise_width=DEFAULT.noise_width, compile=False)
"""How models of crystals are trained further by default."""

BUCKET = 4
"""Cells are padded to a multiple of so many atoms."""

_SHOWN = 3  # bad records that a warning names


@dataclasses.dataclass(frozen=True, kw_only=True)
class CrystalEntry:
    """One set of structures in a training.

    Attributes:
        data: A file or folder that `read_structures` reads, or the structures themselves.
        weight: Share of the samples that are drawn from it, relative to the other sets.

    Raises:
        ConfigError: If the weight is not positive.
    """

    data: str | Path | Sequence[Structure]
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.weight < float("inf"):
            raise ConfigError(f"weight: got {self.weight}, expected a positive number")


def crystal_data(entries: Sequence[CrystalEntry]) -> ConformationData:
    """Reads a mix of sets as training batches: every structure in its Niggli cell, upright, all of one composition together.

    Bad records are left out; a warning names the first of them.

    Raises:
        InputError: If a set cannot be read, or has no good record.
    """
    conformations: list[Conformations] = []
    weights: list[float] = []
    for entry in entries:
        structures = _structures(entry)
        groups: dict[str, list[Structure]] = {}
        for structure in structures:
            groups.setdefault(structure.formula, []).append(structure)
        for group in groups.values():
            frac, cell = fields_of(group)
            system = CrystalSystem.of(group[0].numbers.tolist())
            conformations.append(Conformations(system, {FRAC: frac.float(), CELL: cell.float()}, whole=(CELL,)))
            weights.append(entry.weight * len(group) / len(structures))
    spaces = {FRAC: Torus(period=1.0, centred=True), CELL: SymmetricMatrices()}
    return ConformationData(conformations, bucket=BUCKET, weights=weights, spaces=spaces)


def train_crystal(
    entries: Sequence[CrystalEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "crystal",
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on structures, from random weights; the same call goes on with an interrupted run.

    Arguments:
        entries: Sets of structures.
        folder: Run folder; the model is written to `folder/model`.
        config: How to train, by default `DEFAULT`; networks of crystals are never compiled.
        name: Name of the model.
        network: Changes of the network's size, by the names of `CrystalNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or DEFAULT, compile=False)
    data = crystal_data(entries)
    network_config = crystal_network_config(**(network or {}))
    denoiser = crystal_denoiser(crystal_process(*cell_moments(data)), network_config, seed=config.seed)
    scope = _scope(data)
    model = Model(
        name=name,
        domain="crystal",
        denoiser=denoiser,
        network=network_values(network_config),
        sampler=sampler or SamplerConfig(),
        scope=scope,
        card=card or Card(summary=f"Trained on {data.frames} structures of {len(scope.systems)} composition(s)."),
    )
    return fit(model, data, Path(folder), config, progress, weights=_weights_digest(data))


def fine_tune_crystal(
    model: Model,
    entries: Sequence[CrystalEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on other structures; the given model is left as it is.

    Arguments:
        model: Where to start. Its prior of cells stays, whatever the density of the new structures.
        entries: Sets of structures; to keep what the model knows, its own data may be among them.
        folder: Run folder; the new model is written to `folder/model`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or have an element that the model has never seen.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or TUNING, compile=False)
    start = starting_model(model, "crystal", None)
    data = crystal_data(entries)
    scope = _scope(data)
    unknown = sorted(set(scope.elements) - set(model.scope.elements))
    if unknown:
        raise InputError(
            f"fine-tune: the data have {formula_of(unknown)}, which '{model.name}' has never seen; train a model from the start instead"
        )
    copy = tuned(
        start,
        name=name,
        scope=scope,
        card=Card(
            summary=f"{model.name}, trained further on {data.frames} structures of {len(scope.systems)} composition(s).",
            not_good_for=f"Anything but the compositions of its training; those of '{model.name}' may have been forgotten.",
        ),
    )
    return fit(copy, data, Path(folder), config, progress, start=model.sha256, weights=_weights_digest(data))


def cell_moments(data: ConformationData) -> tuple[float, float]:
    """Returns the centre and the scale of the cells of a training, in Å: mean of the diagonal of L/n^(1/3), and standard deviation per axis about it."""
    total = sum(data.weights)
    means = [float(entry.fields[CELL].double().diagonal(dim1=-2, dim2=-1).mean()) for entry in data.entries]
    centre = float(np.dot(data.weights, means) / total)
    identity = torch.eye(3, dtype=torch.float64)
    squares = [float((entry.fields[CELL].double() - centre * identity).square().sum((-1, -2)).mean()) for entry in data.entries]
    scale = float(np.sqrt(np.dot(data.weights, squares) / total / 6.0))
    # a single structure has a width of its own: that of its cell about a cube, or of one part in a hundred of it
    return round(centre, 4), max(round(scale, 4), round(0.01 * centre, 4))


def _weights_digest(data: ConformationData) -> str:
    return hashlib.sha256(json.dumps([float(weight).hex() for weight in data.weights]).encode()).hexdigest()


def _structures(entry: CrystalEntry) -> list[Structure]:
    problems: list[InputError] = []
    structures = read_structures(entry.data, problems.append) if isinstance(entry.data, str | Path) else list(entry.data)
    canonical = []
    for structure in structures:
        try:
            canonical.append(structure.canonical())
        except InputError as error:
            problems.append(error)
    if problems:
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        logging.getLogger(__name__).warning("%d records were left out: %s%s", len(problems), shown, more)
    if not canonical:
        raise InputError("training data: got no structure, expected at least one")
    return canonical


def _scope(data: ConformationData) -> Scope:
    systems = [cast(CrystalSystem, entry.system) for entry in data.entries]
    counts: Counter[int] = Counter()
    for system, entry in zip(systems, data.entries, strict=True):
        counts[system.atoms] += len(entry)
    formulas = {system.formula for system in systems}
    return Scope(
        systems=tuple(sorted(formulas)),
        elements=tuple(sorted({number for system in systems for number in system.numbers})),
        transferable=len(formulas) > TRANSFERABLE,
        atoms=tuple(sorted(counts.items())),
    )
