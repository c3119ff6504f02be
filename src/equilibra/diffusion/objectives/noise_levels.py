r"""Distribution of noise levels in training."""

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    r"""Log-normal noise levels of the reference field, cut to the range of its schedule.

    :math:`\ln \sigma \sim N(\ln \sigma_{median}, w^2)`, stratified over the batch: each batch element draws from its own quantile range, which
    lowers the variance of the loss without bias. Reference: Karras et al. (2022), Table 1.

    Attributes:
        median: Median sigma in units of the data scale.
        width: Standard deviation w of ln sigma.
    """

    median: float = 0.15
    width: float = 1.6

    def __post_init__(self) -> None:
        if not self.median > 0 or not self.width > 0:
            raise ConfigError(f"NoiseLevels: got median {self.median}, width {self.width}; expected positive numbers")

    def times(self, process: Process, batch: int, *, generator: Generator, device: torch.device) -> Tensor:
        """Draws diffusion times (batch,)."""
        field = process.fields[process.reference]
        centre = math.log(self.median * field.data_scale)
        low, high = (
            0.5 * (1.0 + math.erf((math.log(s) - centre) / (self.width * math.sqrt(2.0))))
            for s in (field.schedule.sigma_min, field.schedule.sigma_max)
        )
        jitter = torch.rand(batch, generator=generator, dtype=torch.float64, device=device)
        quantile = low + (high - low) * (torch.randperm(batch, generator=generator, device=device) + jitter) / batch
        normal = math.sqrt(2.0) * torch.erfinv((2.0 * quantile - 1.0).clamp(-1.0 + 1e-12, 1.0 - 1e-12))
        return field.schedule.time(torch.exp(centre + self.width * normal)).clamp(process.t_min, 1.0)


def log_uniform_times(
    process: Process, low: float, high: float, batch: int, *, generator: Generator, device: torch.device
) -> Tensor:
    r"""Draws diffusion times (batch,) with :math:`\ln \sigma` of the reference field uniform from low to high, stratified over the batch.

    Bounds outside the range of the schedule are moved into it.

    Raises:
        ConfigError: If nothing is left between the bounds.
    """
    schedule = process.fields[process.reference].schedule
    low, high = max(low, schedule.sigma_min), min(high, schedule.sigma_max)
    if not low < high:
        raise ConfigError(
            f"noise levels: got the range from {low:g} to {high:g} within the schedule's ({schedule.sigma_min:g}, {schedule.sigma_max:g}); expected "
            "low < high"
        )
    jitter = torch.rand(batch, generator=generator, dtype=torch.float64, device=device)
    quantile = (torch.randperm(batch, generator=generator, device=device) + jitter) / batch
    return schedule.time(low * (high / low) ** quantile).clamp(process.t_min, 1.0)
