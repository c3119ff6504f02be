r"""Schedules: diffusion time to signal and noise.

The forward kernel is :math:`x_t = \alpha_t x_0 + \alpha_t \sigma_t \varepsilon` with :math:`t \in [0, 1]`. In the rescaled variable
:math:`\bar x = x_t / \alpha_t` every linear process is the variance-exploding one, :math:`\bar x = x_0 + \sigma_t \varepsilon`. The package
computes in :math:`(\bar x, \sigma)`; a schedule is the only place that knows whether a process is variance-preserving or -exploding.

:math:`\sigma_t^2` is the small-noise variance per axis on every Space. On SO(3) it is twice the heat time, :math:`\tau = \sigma^2/2`.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from equilibra.errors import ConfigError


class Schedule(ABC):
    """Abstract map from time to signal and noise. Every schedule is monotone in time and has an inverse."""

    preserves_variance: ClassVar[bool]
    sigma_min: float
    sigma_max: float

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        r"""Returns the noise-to-signal ratio :math:`\sigma_t`, in the unit of the field, elementwise."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        r"""Returns the signal coefficient :math:`\alpha_t`, elementwise."""

    @abstractmethod
    def time(self, sigma: Tensor) -> Tensor:
        r"""Returns the time at which :math:`\sigma_t` has the given value, elementwise."""


@dataclass(frozen=True, kw_only=True)
class VarianceExploding(Schedule):
    r"""Geometric variance-exploding schedule: :math:`\sigma_t = \sigma_{min}^{1-t} \sigma_{max}^t`, :math:`\alpha_t = 1`.

    References:
        | Zheng et al. (2023), eq. (A18); Song et al. (2021), https://arxiv.org/abs/2011.13456

    Attributes:
        sigma_min: Smallest noise, in the unit of the field.
        sigma_max: Largest noise.
        convention: `B`: sigma is the small-noise standard deviation per axis. `A`: the rotation convention of DiG's eq. (A12), whose kernel
            exp(-l(l+1) sigma^2) has the small-noise variance 2 sigma^2. `sigma(t)` always returns convention B.
    """

    sigma_min: float
    sigma_max: float
    convention: Literal["A", "B"] = "B"
    preserves_variance: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0.0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"VarianceExploding: got sigma_min {self.sigma_min}, sigma_max {self.sigma_max}; expected 0 < min < max"
            )
        if self.convention == "A":
            object.__setattr__(self, "sigma_min", math.sqrt(2.0) * self.sigma_min)
            object.__setattr__(self, "sigma_max", math.sqrt(2.0) * self.sigma_max)
            object.__setattr__(self, "convention", "B")

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.ones_like(t)

    def time(self, sigma: Tensor) -> Tensor:  # noqa: D102
        return torch.log(sigma / self.sigma_min) / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True, kw_only=True)
class VarianceLinear(Schedule):
    r"""Variance-preserving Ornstein-Uhlenbeck schedule with a linear rate.

    .. math:: \ln \alpha_t = -\tfrac14 t^2 (\beta_1 - \beta_0) - \tfrac12 t \beta_0, \qquad \sigma_t = s \sqrt{\alpha_t^{-2} - 1}

    with the data scale :math:`s`, so that the stationary law has the standard deviation s.

    Attributes:
        scale: Data scale s in the unit of the field.
        beta_0: Rate at t = 0.
        beta_1: Rate at t = 1.
        t_min: Smallest time in use, which sets `sigma_min`.
    """

    scale: float = 1.0
    beta_0: float = 0.1
    beta_1: float = 20.0
    t_min: float = 1e-3
    preserves_variance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.scale > 0.0 and 0.0 <= self.beta_0 <= self.beta_1 and self.beta_1 > 0.0 and 0.0 < self.t_min < 1.0):
            raise ConfigError(
                f"VarianceLinear: got scale {self.scale}, beta_0 {self.beta_0}, beta_1 {self.beta_1}, t_min {self.t_min}; "
                "expected scale > 0, 0 <= beta_0 <= beta_1, beta_1 > 0 and 0 < t_min < 1"
            )

    def _log_alpha(self, t: Tensor) -> Tensor:
        return -0.25 * t**2 * (self.beta_1 - self.beta_0) - 0.5 * t * self.beta_0

    @property
    def sigma_min(self) -> float:  # type: ignore[override]
        """Smallest noise in use."""
        return float(self.sigma(torch.tensor(self.t_min, dtype=torch.float64)))

    @property
    def sigma_max(self) -> float:  # type: ignore[override]
        """Noise at t = 1."""
        return float(self.sigma(torch.tensor(1.0, dtype=torch.float64)))

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return self.scale * torch.sqrt(torch.expm1(-2.0 * self._log_alpha(t)))

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.exp(self._log_alpha(t))

    def time(self, sigma: Tensor) -> Tensor:  # noqa: D102
        # -2 ln alpha = ln(1 + sigma^2/s^2) is a quadratic in t; its root in the form that holds for a constant rate too
        target = torch.log1p((sigma / self.scale) ** 2)
        slope = self.beta_1 - self.beta_0
        return 2.0 * target / (torch.sqrt(self.beta_0**2 + 2.0 * slope * target) + self.beta_0)


@dataclass(frozen=True, kw_only=True)
class VarianceSigmoid(Schedule):
    r"""DiG's discrete Langevin schedule, interpolated in :math:`\ln \alpha`.

    .. math:: \beta_i = \frac{\beta_{end} - \beta_{start}}{1 + e^{12(1/2 - i/N)}} + \beta_{start}, \qquad \alpha_i = \prod_{j \le i} \sqrt{1 - \beta_j}

    at :math:`t = i/N`, :math:`\alpha_0 = 1`. References: Zheng et al. (2023), eqs. (1)-(3), and its Appendix A.1.

    Attributes:
        steps: Number of steps N: 500 for DiG's ligands and carbon, 5000 for its catalysts.
        beta_end: Rate at the end: 0.02 and 0.002.
        beta_start: Rate at the start.
        scale: Data scale in the unit of the field.
    """

    steps: int = 500
    beta_end: float = 0.02
    beta_start: float = 1e-7
    scale: float = 1.0
    preserves_variance: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not (self.steps >= 2 and 0.0 < self.beta_start < self.beta_end < 1.0 and self.scale > 0.0):
            raise ConfigError(
                f"VarianceSigmoid: got {self.steps} steps, beta from {self.beta_start} to {self.beta_end}, scale {self.scale}; "
                "expected at least 2 steps, 0 < beta_start < beta_end < 1 and scale > 0"
            )

    @cached_property
    def log_alpha(self) -> Tensor:
        """Returns ln alpha_i for i = 0..N, with shape (N + 1,), in float64."""
        i = torch.arange(1, self.steps + 1, dtype=torch.float64)
        beta = (self.beta_end - self.beta_start) / (1.0 + torch.exp(12.0 * (0.5 - i / self.steps))) + self.beta_start
        return torch.cat([torch.zeros(1, dtype=torch.float64), 0.5 * torch.cumsum(torch.log1p(-beta), 0)])

    def _interpolate(self, t: Tensor) -> Tensor:
        table = self.log_alpha.to(t.device)
        position = t.double().clamp(0.0, 1.0) * self.steps
        low = position.floor().clamp(max=self.steps - 1).long()
        fraction = position - low
        return table[low] * (1.0 - fraction) + table[low + 1] * fraction

    @property
    def sigma_min(self) -> float:  # type: ignore[override]
        """Noise after the first step."""
        return float(self.sigma(torch.tensor(1.0 / self.steps, dtype=torch.float64)))

    @property
    def sigma_max(self) -> float:  # type: ignore[override]
        """Noise after the last step."""
        return float(self.sigma(torch.tensor(1.0, dtype=torch.float64)))

    def sigma(self, t: Tensor) -> Tensor:  # noqa: D102
        return (self.scale * torch.sqrt(torch.expm1(-2.0 * self._interpolate(t)))).to(t.dtype)

    def alpha(self, t: Tensor) -> Tensor:  # noqa: D102
        return torch.exp(self._interpolate(t)).to(t.dtype)

    def time(self, sigma: Tensor) -> Tensor:  # noqa: D102
        table = self.log_alpha.to(sigma.device)
        target = -0.5 * torch.log1p((sigma.double() / self.scale) ** 2)
        high = torch.searchsorted(-table, -target.contiguous()).clamp(1, self.steps)
        fraction = (target - table[high - 1]) / (table[high] - table[high - 1])
        return ((high - 1 + fraction) / self.steps).to(sigma.dtype)
