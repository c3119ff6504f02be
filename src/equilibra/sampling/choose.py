"""Samplers by name, as configurations, checkpoints and the command line give them."""

from dataclasses import dataclass, field
from typing import Any, Literal, Self

from equilibra.configuration import read_fields
from equilibra.errors import ConfigError, unknown_key_message
from equilibra.sampling.churn import Churn
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig
from equilibra.sampling.langevin import LangevinCorrected
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import Sampler
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.sampling.sde_dpm_solver import SDEDPMSolver2M

SamplerName = Literal["dpm2m", "heun", "euler", "sde", "sde2m"]
SAMPLERS: tuple[SamplerName, ...] = ("dpm2m", "heun", "euler", "sde", "sde2m")


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Which sampler, on which grid.

    Attributes:
        name: `dpm2m`, `heun`, `euler` (probability flow), `sde` (reverse diffusion) or `sde2m` (the same, of second order).
        grid: Noise levels.
        eta: Stochasticity of `sde`.
        churn: Relative noise increase before each step; 0 for none. Not with `dpm2m` and `sde2m`, which need the past of an undisturbed path.
        noise_scale: Width of the churned noise; see `Churn`.
        corrections: Langevin steps after each step.
        correction_size: Their size in units of sigma squared.
    """

    name: SamplerName = "dpm2m"
    grid: GridConfig = field(default_factory=GridConfig)
    eta: float = 1.0
    churn: float = 0.0
    noise_scale: float = 1.0
    corrections: int = 0
    correction_size: float = 0.1

    def __post_init__(self) -> None:
        if self.name not in SAMPLERS:
            raise ConfigError(unknown_key_message("sampler", self.name, SAMPLERS))
        if self.name in ("dpm2m", "sde2m") and (self.churn > 0 or self.corrections > 0):
            raise ConfigError(
                f"sampler '{self.name}' cannot be combined with churn or corrections; use 'heun', 'euler' or 'sde'"
            )
        if self.churn == 0 and self.noise_scale != 1.0:
            raise ConfigError(f"noise_scale: got {self.noise_scale} without churn, where it has no effect; set churn too")

    def make(self) -> Sampler:
        """Makes the sampler."""
        sampler: Sampler
        if self.name == "dpm2m":
            sampler = DPMSolver2M()
        elif self.name == "heun":
            sampler = Heun()
        elif self.name == "euler":
            sampler = Euler()
        elif self.name == "sde2m":
            sampler = SDEDPMSolver2M()
        else:
            sampler = ReverseDiffusion(eta=self.eta)
        if self.churn > 0:
            sampler = Churn(sampler, gamma=self.churn, noise_scale=self.noise_scale)
        if self.corrections > 0:
            sampler = LangevinCorrected(sampler, corrections=self.corrections, step_size=self.correction_size)
        return sampler

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Reads a configuration from its text form; an unknown key is an error that names the nearest known one."""
        values = dict(values)
        if isinstance(values.get("grid"), dict):
            values["grid"] = read_fields(GridConfig, values["grid"])
        return read_fields(cls, values)
