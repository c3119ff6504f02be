r"""Noise grids: the levels that a sampler visits, from the prior down to the data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError

Spacing = Literal["karras", "log"]
End = Literal["mean", "flow", "noisy"]


@dataclass(frozen=True)
class Level:
    """One noise level.

    Attributes:
        t: Time.
        sigma: Noise of each field; all are zero at the clean end.
        finish: At the clean end, the share of the displacement that the last step takes; see `GridConfig.end`.
    """

    t: float
    sigma: Mapping[str, float]
    finish: float = 1.0

    @property
    def clean(self) -> bool:
        """True for the level without noise, where no denoiser can be asked."""
        return all(value == 0.0 for value in self.sigma.values())


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    r"""Spacing of the noise levels of the reference field.

    At the last noise :math:`\sigma` a sample has the law of the data convolved with :math:`N(0, \sigma^2)`. Where the data have a width
    :math:`\tau \gg \sigma` the score is constant over the last stretch of the flow, which is then half the displacement; where
    :math:`\tau \ll \sigma` (constraints, point masses) the posterior mean is constant, and it is the whole displacement. A Gaussian of
    :math:`\tau = 2\sigma` ends with the width :math:`0.89 \tau` by the whole, :math:`1.006 \tau` by half, and :math:`1.12 \tau` by none.

    `log` is uniform in :math:`\ln \sigma`; `karras` is uniform in :math:`\sigma^{1/\rho}` (Karras et al., 2022, eq. (5)), denser at small noise.

    Attributes:
        steps: Number of steps with noise; the step to the clean end is one more.
        spacing: `karras` or `log`.
        rho: Exponent of `karras`.
        sigma_min: Last noisy level; by default the smallest at which every field has the smallest noise of its own schedule.
        sigma_max: First level; the schedule's largest by default.
        end: The last step: `mean` to the posterior mean, `flow` half way there, `noisy` for no step, when samples keep the noise of `sigma_min`.
    """

    steps: int = 25
    spacing: Spacing = "log"
    rho: float = 7.0
    sigma_min: float | None = None
    sigma_max: float | None = None
    end: End = "mean"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps: got {self.steps}, expected at least 1")
        if self.spacing not in ("karras", "log"):
            raise ConfigError(f"spacing: got '{self.spacing}', expected 'karras' or 'log'")
        if self.end not in ("mean", "flow", "noisy"):
            raise ConfigError(f"end: got '{self.end}', expected 'mean', 'flow' or 'noisy'")
        if not self.rho > 0:
            raise ConfigError(f"rho: got {self.rho}, expected a positive number")


def noise_grid(process: Process, config: GridConfig) -> list[Level]:
    """Returns the `steps` + 1 noisy levels in descending order, followed by the clean end if the configuration says so."""
    schedule = process.fields[process.reference].schedule
    earliest = float(schedule.sigma(torch.tensor(process.t_min, dtype=torch.float64)))
    low = earliest if config.sigma_min is None else config.sigma_min
    high = schedule.sigma_max if config.sigma_max is None else config.sigma_max
    if not 0.0 < low < high:
        raise ConfigError(f"noise grid: got sigma from {high} down to {low}, expected 0 < sigma_min < sigma_max")
    ramp = torch.linspace(0.0, 1.0, config.steps + 1, dtype=torch.float64)
    if config.spacing == "log":
        sigma = high * (low / high) ** ramp
    else:
        sigma = (high ** (1 / config.rho) + ramp * (low ** (1 / config.rho) - high ** (1 / config.rho))) ** config.rho
    times = process.time(sigma)
    levels = [Level(float(t), {name: float(process.sigma(name, t)) for name in process.moving}) for t in times.clamp(max=1.0)]
    if not all(value > 0.0 for value in levels[-1].sigma.values()):
        raise ConfigError(
            f"noise grid: at sigma_min {low} not every field has noise ({dict(levels[-1].sigma)}); expected at least {earliest:.4g}"
        )
    if config.end != "noisy":
        finish = 1.0 if config.end == "mean" else 0.5
        levels.append(Level(levels[-1].t, dict.fromkeys(process.moving, 0.0), finish))
    return levels
