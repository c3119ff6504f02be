"""What the trainings of all domains share: the run of a model on conformations, and the copy that a fine-tuning starts from."""

from __future__ import annotations

import dataclasses
import hashlib
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


def fit(
    model: Model,
    data: ConformationData,
    folder: Path,
    config: TrainConfig,
    progress: Progress,
    *,
    start: str = "random",
    objective: torch.nn.Module | None = None,
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
    weights = train_denoiser(model.denoiser, data, config, folder, identity=identity, objective=objective, progress=progress)
    network = {key.removeprefix("network."): value for key, value in weights.items()}
    return model.with_weights(network).save(folder / "model")


def tuned(model: Model, *, name: str | None, scope: Scope, card: Card) -> Model:
    """Returns a copy of a model, to be trained further; the model is left as it is.

    Arguments:
        model: Where to start.
        name: Name of the copy; by default that of the model with `-tuned`.
        scope: What the copy will be trained on.
        card: Its card.
    """
    copy = dataclasses.replace(
        model.with_weights(model.denoiser.network.state_dict()), name=name or f"{model.name}-tuned", scope=scope, card=card
    )
    copy.denoiser.requires_grad_(True).train()
    return copy


def check_domain(model: Model, domain: str) -> None:
    """Checks that a model can be trained further on data of one domain and one temperature.

    Raises:
        InputError: If it is of another domain, or knows a range of temperatures.
    """
    if model.domain != domain:
        raise InputError(f"fine-tune: the model '{model.name}' is of the domain '{model.domain}', expected '{domain}'")
    if model.scope.temperatures is not None:
        raise InputError(
            f"fine-tune: the model '{model.name}' knows a range of temperatures, which data of one cannot keep up; train it further with "
            "`equilibra train --energy`, its trajectories as --trajectory to start from"
        )


def data_digest(data: ConformationData) -> str:
    """Returns a hash of all conformations and forces."""
    digest = hashlib.sha256()
    for entry in data.entries:
        for tensor in (*entry.fields.values(), *entry.scores.values(), entry.observed):
            if tensor is not None:
                digest.update(np.ascontiguousarray(tensor.numpy()).tobytes())
    return digest.hexdigest()
