"""What an objective sees of the data: a batch of clean States with their features and, where known, their forces."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from equilibra.state.features import Features
from equilibra.state.state import State


@dataclass(frozen=True)
class TrainingBatch:
    r"""A batch of data.

    Attributes:
        state: Clean States.
        features: Their features.
        forces: For some fields the data score :math:`-\nabla u = F/kT`, in the unit of the field's inverse. Empty without forces.
        classes: Integer class of each item (batch or 1, items) for the mixture of targets; elements, for example.
        energies: Reduced energies u (batch,) of the clean States, where known.
        weights: Importance of each sample (batch,), of mean one over the data; None where all count the same.
        ensembles: Number (batch,) of the ensemble, a temperature for example, that each sample is of; None where there is one. Each has a log Z of its own.
        known: True for the samples (batch,) whose forces are known; those of the others are zeros without a meaning, which no loss may count. None
            where all are known.
    """

    state: State
    features: Features
    forces: Mapping[str, Tensor] = field(default_factory=dict)
    classes: Tensor | None = None
    energies: Tensor | None = None
    weights: Tensor | None = None
    ensembles: Tensor | None = None
    known: Tensor | None = None

    def to(self, device: torch.device | str) -> Self:
        """Returns the batch on another device."""
        return type(self)(
            self.state.to(device),
            self.features.to(device),
            {name: value.to(device) for name, value in self.forces.items()},
            None if self.classes is None else self.classes.to(device),
            None if self.energies is None else self.energies.to(device),
            None if self.weights is None else self.weights.to(device),
            None if self.ensembles is None else self.ensembles.to(device),
            None if self.known is None else self.known.to(device),
        )

    def rows(self, index: slice | Tensor) -> Self:
        """Returns some of the samples; shared features and classes stay shared."""
        shared = self.classes is None or self.classes.shape[0] == 1 < self.state.batch_size
        return type(self)(
            self.state[index],
            self.features.rows(index),
            {name: value[index] for name, value in self.forces.items()},
            self.classes if self.classes is None or shared else self.classes[index],
            None if self.energies is None else self.energies[index],
            None if self.weights is None else self.weights[index],
            None if self.ensembles is None else self.ensembles[index],
            None if self.known is None else self.known[index],
        )
