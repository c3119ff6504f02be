"""Extra features of proteins in training: proteins with and without them in one model, samples whose features are left out, and the memory of a step."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from torch import Generator

from equilibra.data.conformations import ConformationData, Conformations
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.errors import ConfigError, InputError
from equilibra.systems.model import Model
from equilibra.systems.protein import domain, memory
from equilibra.systems.protein.providers import MissingFeaturesError, Provider, condition
from equilibra.systems.protein.system import ProteinSystem
from equilibra.train.config import TrainConfig

_NAMED = 20  # proteins without features that a message names
_logger = logging.getLogger(__name__)


def check_dropout(dropout: float) -> None:
    """Raises a `ConfigError` if a dropout is no probability below 1: a network that never sees features needs none."""
    if not 0.0 <= dropout < 1.0:
        raise ConfigError(f"feature_dropout: got {dropout}, expected a probability from 0 up to, but not including, 1")


def featured(system: ProteinSystem, provider: Provider | None, *, allow_missing: bool) -> ProteinSystem:
    """Returns a protein with the features of a provider, or as it is where the provider has none and that is allowed.

    Raises:
        MissingFeaturesError: If the provider has none and that is not allowed; the message says how to allow it.
        InputError: If the features do not fit.
    """
    try:
        return condition(system, provider)
    except MissingFeaturesError as error:
        if allow_missing:
            return system
        raise MissingFeaturesError(
            f"{error}; to train on proteins with and without features, allow it (--allow-missing-features), or leave out features of some samples as well "
            "(--feature-dropout 0.5)"
        ) from error


def with_optional_features(found: Sequence[Conformations], dropout: float, *, allow_missing: bool) -> list[Conformations]:
    """Returns training data whose proteins all tell the network whether they have features, where some have none or lose theirs in some samples.

    Where all proteins have features and keep them, or none has any, the data are returned as they are. Proteins without features are named in a warning.

    Arguments:
        found: Conformations of each protein.
        dropout: Probability with which the features of a sample will be left out.
        allow_missing: Whether providers may have had no features of some proteins.

    Raises:
        InputError: If proteins have features of different widths, or none has any although some may lack or lose them.
    """
    widths = [cast(ProteinSystem, part.system).extra_widths for part in found]
    given = [pair for pair in widths if any(pair)]
    for scope, index in (("residues", 0), ("pairs", 1)):
        values = sorted({pair[index] for pair in given})
        if len(values) > 1:
            raise InputError(
                f"training data: the extra features of {scope} have the widths {values}, expected one width for all proteins that have features"
            )
    if not given:
        if dropout or allow_missing:
            what = "feature_dropout" if dropout else "allow_missing_features"
            raise InputError(f"{what}: no protein of the training data has features; give some (--features), or leave it out")
        return list(found)
    without = sorted({part.system.name for part, pair in zip(found, widths, strict=True) if not any(pair)})
    if without:
        shown = ", ".join(without[:_NAMED]) + (f" and {len(without) - _NAMED} more" if len(without) > _NAMED else "")
        _logger.warning("no features of %d of %d proteins, and the network is told so: %s", len(without), len(found), shown)
    if not without and not dropout:
        return list(found)
    return [_told(part, *given[0]) for part in found]


def _told(part: Conformations, node_width: int, pair_width: int) -> Conformations:
    system = cast(ProteinSystem, part.system).with_optional_extra(node_width, pair_width)
    return Conformations(system, part.fields, part.scores or None, observed=part.observed)


def feature_options(data: ConformationData) -> dict[str, Any]:
    """Returns the widths of the data's features, and whether they are optional, by the names of the network's configuration."""
    system = cast(ProteinSystem, data.entries[0].system)
    node, pair = system.extra_widths
    return {"extra_node": node, "extra_pair": pair, "optional_features": system.extra_known is not None}


def lacking(data: ConformationData) -> int:
    """Returns how many proteins of the data have no features while others have some."""
    return len({entry.system.digest for entry in data.entries if cast(ProteinSystem, entry.system).extra_known is False})


def without_need(model: Model) -> Model:
    """Returns a model whose network takes proteins without features as well, to be trained further on such; its weights are the same.

    Raises:
        InputError: If its network has features in all its parts.
    """
    if "kind" in model.network:
        raise InputError(
            f"fine-tune: the network of '{model.name}' cannot do without features; give those of every protein, and leave feature_dropout out"
        )
    return dataclasses.replace(model, network={**model.network, "optional_features": True})


class FeatureDropout(ConformationData):
    """Training batches in which each sample loses its extra features with some probability: the network learns the distributions with and without them.

    Arguments:
        dropout: The probability.
        arguments: Those of `ConformationData`, its systems told whether they have features.
    """

    def __init__(self, *arguments: Any, dropout: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.dropout = dropout

    @classmethod
    def of(cls, data: ConformationData, dropout: float) -> Self:
        """Returns the same data with a dropout."""
        options = {"weights": data.weights, "crop": data.crop, "budget": data.budget, "spaces": data.spaces}
        return cls(data.entries, dropout=dropout, **options)

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch, see `ConformationData`, and of each sample whether its features are left out."""
        batch = super().batch(size, generator=generator)
        kept = (torch.rand(batch.state.batch_size, generator=generator) >= self.dropout).float()
        features = batch.features.with_extra_known(batch.features.graph["extra_known"] * kept)
        return dataclasses.replace(batch, features=features)


def require_step(longest: int, network: Mapping[str, Any], config: TrainConfig, budget: int | None) -> None:
    """Checks, before any array of pairs is made, that memory has room for the largest batch of a training on the CPU.

    The bound is what one call without derivatives needs; a step in single precision takes about twice as much.

    Arguments:
        longest: Largest number of residues of a sample.
        network: JSON form of the network.
        config: How to train.
        budget: Largest number of pairs of residues in a batch.

    Raises:
        InputError: If memory is too short.
    """
    if config.accelerator not in ("auto", "cpu") or torch.cuda.is_available():
        return
    size = config.batch_size if budget is None else max(1, min(config.batch_size, budget // longest**2))
    memory.require(
        domain.memory_needed(network, longest, size),
        f"training on {size} sample{'s' if size > 1 else ''} of {longest} residues at once",
        "cut longer proteins to windows (--crop 128), or lower --budget or --batch-size",
    )
