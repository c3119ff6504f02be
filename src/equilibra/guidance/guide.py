"""Guides: a property of clean States, and what it should be."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import EquilibraError, InputError
from equilibra.guidance.targets import Target
from equilibra.state.state import State


@dataclass(frozen=True)
class Property:
    """A number that follows from a clean State.

    Attributes:
        name: Name.
        compute: Returns the values (batch,) of a State in the rescaled variable.
        unit: Unit of the values; empty for pure numbers.
        differentiable: Whether `compute` can be differentiated by PyTorch. One that cannot steers by weights alone.
        known: Range of values in which `compute` is to be trusted, None where it is exact.
        content: Hash of the files that `compute` was made from; empty for none.
        partial: Whether `compute` may return nan for a State that it cannot evaluate. Such a State is not steered while it has noise, and has no likelihood at the end.
    """

    name: str
    compute: Callable[[State], Tensor]
    unit: str = ""
    differentiable: bool = True
    known: tuple[float, float] | None = None
    content: str = ""
    partial: bool = False

    def __call__(self, state: State) -> Tensor:
        """Returns the values (batch,); of a partial property nan, and nothing else that is not finite, for States that it cannot evaluate.

        Raises:
            EquilibraError: If a value is not a number, and the property is not partial.
            InputError: If the values have another shape.
        """
        values = self.compute(state)
        if not isinstance(values, Tensor) or values.shape != (state.batch_size,):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise InputError(
                f"property '{self.name}': got {got}, expected a tensor with one value for each of {state.batch_size} samples"
            )
        if self.partial:
            return torch.where(torch.isfinite(values), values, torch.nan)
        bad = int(torch.isnan(values).sum())
        if bad:
            raise EquilibraError(f"property '{self.name}': {bad} of {len(values)} values are not a number; check the property")
        return values

    def with_gradient(self, state: State) -> Tensor:
        """Returns the values (batch,) of a State that has gradients.

        Raises:
            EquilibraError: If a value is not a number.
            InputError: If the values have another shape, or no gradient.
        """
        values = self(state)
        if not values.requires_grad:
            raise InputError(
                f"property '{self.name}': its values have no gradient; compute them in PyTorch from the fields of the State, or declare the property with "
                "differentiable=False, when it steers by weights alone"
            )
        return values


@dataclass(frozen=True)
class Guide:
    """A property and a wish.

    Attributes:
        property: The property.
        target: What it should be.
        strength: Exponent of the likelihood; 1 is Bayes' rule.
    """

    property: Property
    target: Target
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 < self.strength < float("inf"):
            raise InputError(f"guide '{self.property.name}': got the strength {self.strength}, expected a positive number")

    def log_likelihood(self, value: Tensor, variance: Tensor | None = None) -> Tensor:
        """Returns the log-likelihood (batch,) of values (batch,) with variances (batch,), times the strength; nan where a value is."""
        return self.strength * self.target.log_likelihood(value, torch.zeros_like(value) if variance is None else variance)

    def describe(self) -> str:
        """Returns the guide in words."""
        power = "" if self.strength == 1.0 else f", to the power of {self.strength:g}"
        return f"{self.property.name}: {self.target.describe(self.property.unit)}{power}"

    def doubts(self) -> str | None:
        """Returns a sentence if the wish lies outside the values that the property is to be trusted at."""
        low, high = self.property.known or (-math.inf, math.inf)
        outside = [value for value in self.target.named if not low <= value <= high]
        if not outside:
            return None
        got = f"{' and '.join(f'{value:g}' for value in outside)} {self.property.unit}".strip()
        verb = "lies" if len(outside) == 1 else "lie"
        return f"{self.property.name}: {got} {verb} outside {low:g} to {high:g}, where the property is known; its values there are extrapolations"
