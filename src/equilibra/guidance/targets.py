r"""What a property should be: likelihoods :math:`p(c \mid h)` of a wish c, for a value h that is known up to a variance V.

==============  ==============================================  =====================================================================
wish            :math:`\ln p(c \mid h)` at V = 0                at a Gaussian uncertainty V of h, the exact average over it
==============  ==============================================  =====================================================================
value y ± r     :math:`-\tfrac12 (h - y)^2 / r^2`               :math:`-\tfrac12 (h - y)^2 / (r^2 + V) - \tfrac12 \ln(1 + V / r^2)`
range a..b      :math:`\ln[\Phi(\tfrac{b - h}{r}) -             the same with :math:`r^2 + V` for :math:`r^2`
                \Phi(\tfrac{a - h}{r})]`
max, min        :math:`\pm h / r`                               :math:`\pm h / r + \tfrac12 V / r^2`, with V up to :math:`4 r^2`
==============  ==============================================  =====================================================================

Averaging over the uncertainty is what :math:`p_t(c \mid x_t) = \mathrm E[p(c \mid x_0) \mid x_t]` asks for; a plug-in of the mean, V = 0, pulls too hard.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.errors import InputError

_MOST = 4.0
"""Largest variance of an exponential wish, in units of its width squared."""


@dataclass(frozen=True)
class Target(ABC):
    """Abstract wish.

    Attributes:
        width: Tolerance r, in the unit of the property; how soft the wish is.
    """

    width: float

    def __post_init__(self) -> None:
        if not 0.0 < self.width < math.inf:
            raise InputError(f"target: got the width {self.width}, expected a positive number in the unit of the property")

    @abstractmethod
    def log_likelihood(self, value: Tensor, variance: Tensor) -> Tensor:
        """Returns the log of the average likelihood (batch,) for values (batch,) with variances (batch,), up to a constant."""

    @property
    @abstractmethod
    def bounds(self) -> tuple[float, float] | None:
        """Lowest and highest value that fulfil the wish, or None where more is always better."""

    @property
    @abstractmethod
    def named(self) -> tuple[float, ...]:
        """Finite values that the wish names."""

    @abstractmethod
    def describe(self, unit: str) -> str:
        """Returns the wish in words."""


@dataclass(frozen=True)
class Value(Target):
    """A value within a tolerance of one standard deviation.

    Attributes:
        value: The value y.
    """

    value: float

    def log_likelihood(self, value: Tensor, variance: Tensor) -> Tensor:  # noqa: D102
        total = self.width**2 + variance
        return -0.5 * (value - self.value) ** 2 / total - 0.5 * torch.log(total / self.width**2)

    @property
    def bounds(self) -> tuple[float, float]:  # noqa: D102
        return self.value - self.width, self.value + self.width

    @property
    def named(self) -> tuple[float, ...]:  # noqa: D102
        return (self.value,)

    def describe(self, unit: str) -> str:  # noqa: D102
        return f"{self.value:g} ± {self.width:g} {unit}".strip()


@dataclass(frozen=True)
class Range(Target):
    """Any value between two bounds, whose edges are as soft as the width.

    Attributes:
        low: Lower bound a; minus infinity for none.
        high: Upper bound b; infinity for none.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.low < self.high or (self.low, self.high) == (-math.inf, math.inf):
            raise InputError(
                f"target: got the range {self.low:g}..{self.high:g}, expected a lower and a higher bound, at least one of them finite"
            )

    def log_likelihood(self, value: Tensor, variance: Tensor) -> Tensor:  # noqa: D102
        spread = torch.sqrt(self.width**2 + variance)
        below, above = (value - self.low) / spread, (self.high - value) / spread
        if math.inf in (-self.low, self.high):
            return torch.special.log_ndtr(below if self.high == math.inf else above)
        # the tail that is nearer decides, so that the difference of two numbers near one never appears
        near, far = torch.minimum(below, above), torch.maximum(below, above)
        inner = torch.special.log_ndtr(near)
        outer = torch.special.log_ndtr(-far)
        return inner + torch.log1p(-torch.exp((outer - inner).clamp(max=-1e-12)))

    @property
    def bounds(self) -> tuple[float, float]:  # noqa: D102
        return self.low, self.high

    @property
    def named(self) -> tuple[float, ...]:  # noqa: D102
        return tuple(end for end in (self.low, self.high) if math.isfinite(end))

    def describe(self, unit: str) -> str:  # noqa: D102
        if self.low == -math.inf:
            return f"at most {self.high:g} {unit}".strip()
        if self.high == math.inf:
            return f"at least {self.low:g} {unit}".strip()
        return f"{self.low:g} to {self.high:g} {unit}".strip()


@dataclass(frozen=True)
class Extreme(Target):
    r"""As large or as small as possible: the distribution times :math:`e^{\pm h / r}`.

    Attributes:
        sign: 1 for large, -1 for small values.
    """

    sign: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sign not in (1, -1):
            raise InputError(f"target: got the sign {self.sign}, expected 1 for large or -1 for small values")

    def log_likelihood(self, value: Tensor, variance: Tensor) -> Tensor:  # noqa: D102
        # beyond a few widths the average is one of rare events that nothing is known of: it would drown the values themselves
        return self.sign * value / self.width + 0.5 * variance.clamp(max=_MOST * self.width**2) / self.width**2

    @property
    def bounds(self) -> None:  # noqa: D102
        return None

    @property
    def named(self) -> tuple[float, ...]:  # noqa: D102
        return ()

    def describe(self, unit: str) -> str:  # noqa: D102
        return f"{'large' if self.sign > 0 else 'small'}, e-fold per {self.width:g} {unit}".strip()


def read_target(text: str, width: float | None = None) -> Target:
    """Reads a wish: `3.0`, `3.0+-0.2`, `2.5..3.5`, `2.5..`, `..3.5`, `max` or `min`.

    Arguments:
        text: The wish.
        width: Tolerance where the text has none.

    Raises:
        InputError: If the text is none of these, or no tolerance is known.
    """
    body, _, own = _parts(text)
    body = body.strip().lower()
    try:
        known = float(own) if own.strip() else width
        low, dots, high = body.partition("..")
        bounds = (float(low) if low else -math.inf, float(high) if high else math.inf) if dots else None
        value = float(body) if bounds is None and body not in ("max", "min") else math.nan
    except ValueError:
        raise InputError(
            f"target: got '{text}', expected a value such as 3.0 or 3.0+-0.2, a range such as 2.5..3.5, max or min"
        ) from None
    if known is None:
        raise InputError(f"target: '{text}' has no tolerance; give one, such as {body}+-0.2")
    if bounds is not None:
        return Range(known, *bounds)
    if body in ("max", "min"):
        return Extreme(known, 1 if body == "max" else -1)
    if not math.isfinite(value):
        raise InputError(f"target: got '{text}', expected a finite value")
    return Value(known, value)


def has_width(text: str) -> bool:
    """Tells whether a wish names its own tolerance, as `3.0+-0.2` does."""
    return bool(_parts(text)[2].strip())


def _parts(text: str) -> tuple[str, str, str]:
    return text.strip().replace("±", "+-").partition("+-")
