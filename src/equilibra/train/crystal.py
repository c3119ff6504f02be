"""Training of crystals: from files of structures to a model."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections import Counter
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from equilibra.data.conformations import ConformationData, Conformations, Telling
from equilibra.diffusion.space import SymmetricMatrices, Torus
from equilibra.errors import ConfigError, InputError
from equilibra.nn.crystal import CELL, FRAC
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.card import Card
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.data.records import ENERGY
from equilibra.systems.crystal.network import crystal_denoiser, crystal_network_config, crystal_process, network_values
from equilibra.systems.crystal.structures import Structure, fields_of
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.labels import WIDTH, Label, conditions
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import check_elements, fit, starting_model, tuned, warn_left_out, weights_digest
from equilibra.train.run import Progress

TRANSFERABLE = 100
"""A model of more compositions than this is meant for compositions that it has not seen, too."""

DEFAULT = TrainConfig(noise_median=0.15, noise_width=1.2, compile=False)
"""How crystals are trained by default: most at a noise of 0.01 to 0.15 in fractional coordinates, where a structure is chosen. The number of neighbours changes from batch to
batch, so that networks are not compiled.
"""

TUNING = dataclasses.replace(FINE_TUNING, noise_median=DEFAULT.noise_median, noise_width=DEFAULT.noise_width, compile=False)
"""How models of crystals are trained further by default."""

LABEL_DROPOUT = 0.1
"""Share of the training that is told no label, from which the model without labels is learned."""

BUCKET = 4
"""Cells are padded to a multiple of so many atoms."""


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


def crystal_data(
    entries: Sequence[CrystalEntry],
    labels: Sequence[str | Label] = (),
    *,
    label_dropout: float = LABEL_DROPOUT,
) -> tuple[ConformationData, tuple[Label, ...]]:
    """Reads a mix of sets as training batches: every structure in its Niggli cell, upright, all of one composition together.

    Bad records are left out; a warning names the first of them.

    Arguments:
        entries: Sets of structures.
        labels: Names of values of the structures that a network is told; or labels as a model has them, of which the data need not have any.
        label_dropout: Share of the samples that are told none.

    Returns:
        The data, and the labels with what was measured of them.

    Raises:
        InputError: If a set cannot be read, or has no good record; if no structure has a label, or all have the same value.
        ConfigError: If the share is none.
    """
    names = [label.name if isinstance(label, Label) else label for label in labels]
    if len(set(names)) < len(names):
        raise InputError(f"labels: got {', '.join(names)}, expected each once")
    found: set[str] = set()
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
            values = torch.tensor([[_value(item, name) for name in names] for item in group], dtype=torch.float64)
            fields = {FRAC: frac.float(), CELL: cell.float()}
            conformations.append(Conformations(system, fields, whole=(CELL,), labels=values if names else None))
            weights.append(entry.weight * len(group) / len(structures))
            found.update(*(item.values for item in group), *({ENERGY} for item in group if item.energy is not None))
    measured = tuple(
        label if isinstance(label, Label) else _measured(label, place, conformations, weights, found)
        for place, label in enumerate(labels)
    )
    telling = Telling(partial(conditions, measured), label_dropout) if measured else None
    spaces = {FRAC: Torus(period=1.0, centred=True), CELL: SymmetricMatrices()}
    return ConformationData(conformations, bucket=BUCKET, weights=weights, spaces=spaces, telling=telling), measured


def train_crystal(
    entries: Sequence[CrystalEntry],
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "crystal",
    labels: Sequence[str] = (),
    label_dropout: float = LABEL_DROPOUT,
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
        labels: Numbers of the structures that the network is told, by the names that the files have for them, so that samples can be asked for
            values of them: `energy_per_atom`, or a column such as `band_gap`. Structures without a value are learned from, too.
        label_dropout: Share of the training that is told no label, from which the model without labels is learned.
        network: Changes of the network's size, by the names of `CrystalNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used, or have no such label.
        ConfigError: If the share without labels is none.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or DEFAULT, compile=False)
    data, measured = crystal_data(entries, labels, label_dropout=label_dropout)
    network_config = crystal_network_config(**(network or {}), conditions=WIDTH * len(measured))
    denoiser = crystal_denoiser(crystal_process(*cell_moments(data)), network_config, seed=config.seed)
    scope = _scope(data, measured)
    model = Model(
        name=name,
        domain="crystal",
        denoiser=denoiser,
        network=network_values(network_config),
        sampler=sampler or SamplerConfig(),
        scope=scope,
        card=card
        or Card(summary=f"Trained on {data.frames} structures of {len(scope.systems)} composition(s){_told(measured)}."),
    )
    return fit(model, data, Path(folder), config, progress, weights=weights_digest(data), **_choices(measured, label_dropout))


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
        model: Where to start. Its prior of cells and its labels stay, whatever the new structures are; they need not have values of these.
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
    data, measured = crystal_data(entries, model.scope.labels)
    scope = _scope(data, measured)
    check_elements(model, scope.elements)
    copy = tuned(
        start,
        name=name,
        scope=scope,
        card=Card(
            summary=f"{model.name}, trained further on {data.frames} structures of {len(scope.systems)} composition(s).",
            not_good_for=f"Anything but the compositions of its training; those of '{model.name}' may have been forgotten.",
        ),
    )
    choices: dict[str, Any] = {"weights": weights_digest(data), **_choices(measured, LABEL_DROPOUT)}
    return fit(copy, data, Path(folder), config, progress, start=model.sha256, **choices)


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


def _structures(entry: CrystalEntry) -> list[Structure]:
    problems: list[InputError] = []
    structures = read_structures(entry.data, problems.append) if isinstance(entry.data, str | Path) else list(entry.data)
    canonical = []
    for structure in structures:
        try:
            canonical.append(structure.canonical())
        except InputError as error:
            problems.append(error)
    warn_left_out(problems, "records")
    if not canonical:
        raise InputError("training data: got no structure, expected at least one")
    return canonical


def _value(structure: Structure, name: str) -> float:
    value = structure.energy if name == ENERGY else structure.values.get(name)
    return math.nan if value is None else value


def _measured(
    name: str, place: int, conformations: Sequence[Conformations], weights: Sequence[float], found: Collection[str]
) -> Label:
    if name not in found:
        near = difflib.get_close_matches(name, found, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise InputError(
            f"label '{name}': no structure has such a value{hint} (the data have {', '.join(sorted(found)) or 'none'}); give files with a column of it"
        )
    each = [entry.labels[:, place] for entry in conformations if entry.labels is not None]
    shares = [torch.full((len(values),), weight / len(values)) for values, weight in zip(each, weights, strict=True)]
    return Label.measured(name, torch.cat(each), torch.cat(shares))


def _told(labels: Sequence[Label]) -> str:
    return f", with the label {' and '.join(label.name for label in labels)}" if labels else ""


def _choices(labels: Sequence[Label], dropout: float) -> dict[str, Any]:
    """Returns what of labels defines a run; nothing where there is none."""
    return {"labels": [dataclasses.asdict(label) for label in labels], "label_dropout": dropout} if labels else {}


def _scope(data: ConformationData, labels: tuple[Label, ...]) -> Scope:
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
        labels=labels,
    )
