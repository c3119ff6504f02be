"""What the trainings of all domains share: the run of a model on conformations, and where a fine-tuning starts."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.data.conformations import ConformationData
from equilibra.errors import InputError
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import TrainConfig
from equilibra.train.run import Progress, train_denoiser

_SHOWN = 3  # records that a warning names


def fit(
    model: Model,
    data: ConformationData,
    folder: Path,
    config: TrainConfig,
    progress: Progress,
    *,
    start: str = "random",
    objective: torch.nn.Module | None = None,
    optimiser: Path | None = None,
    **choices: Any,
) -> Model:
    """Trains a model in a run folder, going on with an interrupted run, and writes it to `folder/model`.

    Arguments:
        model: The model, whose denoiser is trained in place.
        data: Conformations.
        folder: Run folder.
        config: How to train.
        progress: Called after each logged step with the step and the log values.
        start: Where the weights come from: the hash of another model's, or `random`.
        objective: What is minimised; by default score matching.
        optimiser: Folder of the optimiser's checkpoint and log, where the run folder holds more than these; by default the run folder itself.
        choices: What else defines the run, as JSON.

    Returns:
        The model with its averaged weights.
    """
    identity: dict[str, Any] = {
        "kind": f"training of a {model.domain} model",
        "name": model.name,
        "start": start,
        "systems": [entry.system.digest for entry in data.entries],
        "data": data_digest(data),
        "network": dict(model.network),
        **choices,
    }
    weights = train_denoiser(
        model.denoiser, data, config, optimiser or folder, identity=identity, objective=objective, progress=progress
    )
    return model.with_weights(network_weights(weights)).save(folder / "model")


def network_weights(averaged: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns the weights of a network by its own names, out of the averaged parameters of its denoiser."""
    return {key.removeprefix("network."): value for key, value in averaged.items() if key.startswith("network.")}


def tuned(model: Model, *, name: str | None, scope: Scope, card: Card) -> Model:
    """Returns a copy of a model, to be trained further; the model is left as it is.

    Arguments:
        model: Where to start: what `starting_model` returns.
        name: Name of the copy; by default that of the model with `-tuned`.
        scope: What the copy will be trained on.
        card: Its card.
    """
    copy = dataclasses.replace(
        model.with_weights(model.denoiser.network.state_dict()), name=name or f"{model.name}-tuned", scope=scope, card=card
    )
    copy.denoiser.requires_grad_(True).train()
    return copy


def starting_model(model: Model, domain: str, temperature: float | None) -> Model:
    """Returns the model that a further training on data of one temperature starts from.

    That is the given model if it has one temperature as well, even another one; of a model of several, what it is at the temperature of the data.

    Arguments:
        model: The given model; it is left as it is.
        domain: Domain of the data.
        temperature: Temperature of the data in K; by default, for a model of several, the one that it is meant for.

    Raises:
        InputError: If the model is of another domain, or the temperature is outside its range.
    """
    if model.domain != domain:
        raise InputError(f"fine-tune: the model '{model.name}' is of the domain '{model.domain}', expected '{domain}'")
    return model if model.scope.temperatures is None else model.at_temperature(temperature)


def check_elements(model: Model, found: Iterable[int]) -> None:
    """Checks that a model to be trained further has seen all elements of the data.

    Arguments:
        model: The model; one that is meant for any elements is taken as it is.
        found: Atomic numbers of the data.

    Raises:
        InputError: If there are others.
    """
    unknown = sorted(set(found) - set(model.scope.elements))
    if model.scope.elements and unknown:
        from ase.data import chemical_symbols

        raise InputError(
            f"fine-tune: the data have {', '.join(chemical_symbols[number] for number in unknown)}, which '{model.name}' has never seen; train a model from the start instead"
        )


def start_choices(model: Model, start: Model) -> dict[str, Any]:
    """Returns what defines a run besides the hash of the given model's weights, where it starts from what `starting_model` made of it."""
    return {} if start is model else {"start_temperature": start.scope.temperature}


def check_weights(model: Model, domain: str, network: Mapping[str, Any]) -> None:
    """Checks that a training from an energy can start from the weights of a model.

    Arguments:
        model: The model.
        domain: Domain of the training.
        network: JSON form of its network. Whether it is told a temperature may differ.

    Raises:
        InputError: If the model's network is of another kind or size.
    """
    if model.domain != domain:
        raise InputError(
            f"weights: got a model of the domain '{model.domain}', whose network is of another kind; take one of the domain '{domain}', or train from random weights"
        )
    if model.denoiser.parametrisation != "edm":
        raise InputError(
            f"weights: '{model.name}' is of the parametrisation '{model.denoiser.parametrisation}', expected 'edm'"
        )
    other = {key: value for key, value in model.network.items() if key != "conditions"}
    different = sorted(key for key, value in other.items() if network.get(key) != value)
    if different:
        sizes = ", ".join(f"{key} {other[key]}" for key in different)
        raise InputError(
            f"weights: the network of '{model.name}' is of another size ({sizes}); choose the same with --network, or leave it out"
        )


def take_weights(network: torch.nn.Module, model: Model) -> None:
    """Gives a network the weights of a model that `check_weights` found to fit; what that one was not told of, its temperature, keeps its random weights."""
    network.load_state_dict(dict(model.denoiser.network.state_dict()), strict=False)


def weights_digest(data: ConformationData) -> str:
    """Returns a hash of how often each entry is drawn."""
    return hashlib.sha256(json.dumps([float(weight).hex() for weight in data.weights]).encode()).hexdigest()


def warn_left_out(problems: Sequence[InputError], what: str) -> None:
    """Warns of records that a training leaves out, and names the first of them; says nothing if there are none.

    Arguments:
        problems: What is wrong with each.
        what: What they are, in the plural.
    """
    if problems:
        shown = "; ".join(str(problem) for problem in problems[:_SHOWN])
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        logging.getLogger(__name__).warning("%d %s were left out: %s%s", len(problems), what, shown, more)


def data_digest(data: ConformationData) -> str:
    """Returns a hash of all conformations, forces and labels."""
    digest = hashlib.sha256()
    for entry in data.entries:
        for tensor in (*entry.fields.values(), *entry.scores.values(), entry.observed, entry.labels):
            if tensor is not None:
                digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
