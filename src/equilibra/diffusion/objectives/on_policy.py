r"""On-policy targets: the score from an energy alone, at points where the model itself goes.

The batch holds samples :math:`x_0` of the model (or of a buffer), which are noised to :math:`x_t`; the target of the displacement is one of

========  ====================================================================================================
idem      :math:`\sigma^2 \sum_k w_k\, (-\nabla u(x_0^k))`, with :math:`x_0^k \sim N(x_t, \sigma^2)` and :math:`w \propto e^{-u(x_0^k)}`
adjoint   :math:`(1-c)(x_0 - x_t) + c\, \sigma^2 (-\nabla u(x_0))`, with :math:`c = \nu/(\nu + \sigma^2)`
========  ====================================================================================================

**idem** (iDEM: Akhound-Sadegh et al., 2024, https://arxiv.org/abs/2402.06121) is valid wherever the points come from, and biased by O(1/K): it
is useless where :math:`\sigma` is wider than a basin. It costs K energies per point.

**adjoint** (adjoint sampling: Havens et al., 2025, https://arxiv.org/abs/2504.11713) is right at its fixed point, where the samples are those of the
energy. With a memoryless process over the base law :math:`r = N(0, \nu)` it regresses the drift relative to the base on
:math:`-\nabla u(x_0) + x_0/\nu`. Since :math:`\nabla \ln(q_\sigma/r_\sigma) = \frac{\nu}{\nu + \sigma^2}\, \mathrm{E}[-\nabla u + x_0/\nu]` and
:math:`\nabla \ln r_\sigma = -x/(\nu + \sigma^2)`, the displacement that belongs to it is the line of the table: denoising and target score matching,
mixed with the weight that is optimal for Gaussian data of variance :math:`\nu`. An infinite :math:`\nu` is pure target score matching.

Clipping forces is a bias: the fraction of clipped items is reported as `clipped`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn

from equilibra.diffusion.fokker_planck import DenoiserFunction
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import TargetMixture, loss_by_noise
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import expand
from equilibra.errors import ConfigError, ShapeError, SpaceError

Reduced = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Reduced energies u (batch,) and forces -du/dx of positions (batch, items, axes), such as `ReducedEnergy.with_force`."""


@dataclass(frozen=True, kw_only=True)
class OnPolicyConfig:
    r"""Settings of `OnPolicy`.

    Attributes:
        target: `idem` or `adjoint`; see the module.
        samples: Energies per point of `idem`.
        clip: Largest force of an item that enters a target, in units of the inverse field; None for no clipping. iDEM clips at 20.
        base: Standard deviation :math:`\sqrt\nu` of the base law of `adjoint`, in units of the data scale; infinite for pure target score matching.
    """

    target: Literal["idem", "adjoint"] = "adjoint"
    samples: int = 64
    clip: float | None = None
    base: float = 1.0

    def __post_init__(self) -> None:
        if self.target not in ("idem", "adjoint"):
            raise ConfigError(f"OnPolicyConfig: target is '{self.target}', expected idem or adjoint")
        if self.samples < 1 or not self.base > 0.0 or not (self.clip is None or self.clip > 0.0):
            raise ConfigError(
                f"OnPolicyConfig: got samples {self.samples}, base {self.base}, clip {self.clip}; expected at least one sample, and positive numbers"
            )


class OnPolicy(nn.Module):
    """Loss of on-policy training for one field on a flat Space.

    Arguments:
        process: Forward process with one moving field.
        noise_levels: Distribution of training noise.
        reduced: Reduced energies and forces.
        config: Settings.
        betas: Inverse temperature, relative to that of the reduced energy, of each ensemble that a batch may name.

    Raises:
        SpaceError: If the process has more than one moving field, or one that is not flat.
    """

    mixture: TargetMixture | None = None

    def __init__(
        self,
        process: Process,
        noise_levels: NoiseLevels,
        reduced: Reduced,
        config: OnPolicyConfig | None = None,
        *,
        betas: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__()
        self.config = config or OnPolicyConfig()
        spaces = {name: process.fields[name].space for name in process.moving}
        if len(spaces) > 1 or not all(space.linear for space in spaces.values()):
            listed = ", ".join(f"{name} on {type(space).__name__}" for name, space in spaces.items())
            raise SpaceError(f"{self.config.target}: got the moving fields {listed}; expected one field on a flat Space")
        self.process = process
        self.noise_levels = noise_levels
        self.reduced = reduced
        self.betas = tuple(betas)

    @property
    def calls_per_sample(self) -> int:
        """Energy calls for each sample of a batch that brings its forces."""
        return self.config.samples if self.config.target == "idem" else 0

    def forward(self, denoiser: DenoiserFunction, batch: TrainingBatch, *, generator: Generator) -> dict[str, Tensor]:
        """Returns `loss`, and detached parts for the log: the loss by noise, `clipped`, and for `idem` the relative `ess` of its weights.

        Raises:
            ShapeError: If the batch is padded.
        """
        name, state = self.process.reference, batch.state
        if state.mask(name) is not None and not bool(state.masks[name].all()):
            raise ShapeError(f"{self.config.target}: field '{name}'", "a padded batch", "samples of one system")
        own = self.process.fields[name]
        t = self.noise_levels.times(self.process, state.batch_size, generator=generator, device=state.device).to(state.dtype)
        noisy, sigma = self.process.noise(state, t, generator=generator), own.schedule.sigma(t)
        beta = None
        if batch.ensembles is not None:
            beta = torch.tensor(self.betas, dtype=state.dtype, device=state.device)[batch.ensembles]
        log: dict[str, Tensor] = {}
        if self.config.target == "idem":
            target, log["clipped"], log["ess"] = self.idem_target(noisy.fields[name], sigma, beta, generator=generator)
        else:
            force = batch.forces.get(name) if batch.known is None else None
            target, log["clipped"] = self.adjoint_target(state.fields[name], noisy.fields[name], sigma, force, beta)
        predicted = denoiser(noisy, t, batch.features).displacements[name]
        unit = own.space.preconditioning(sigma, own.data_scale).c_out
        residual = (predicted - target) / expand(unit, target)
        per_sample = own.space.inner(residual, residual) / self.process.degrees(state)
        loss = per_sample if batch.weights is None else batch.weights * per_sample
        return {"loss": loss.mean(), **loss_by_noise(per_sample, sigma), **log}

    @torch.no_grad()
    def idem_target(
        self, x: Tensor, sigma: Tensor, beta: Tensor | None = None, *, generator: Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the displacement of points x (batch, ...), the fraction of clipped items, and the mean relative ESS of the weights.

        Points whose K energies are all infinite have the target zero, and count as clipped.

        Arguments:
            x: Points.
            sigma: Noise (batch,).
            beta: Inverse temperature (batch,) relative to that of the reduced energy; 1 by default.
            generator: The only source of randomness.
        """
        space, k = self.process.fields[self.process.reference].space, self.config.samples
        index = torch.arange(len(x), device=x.device).repeat_interleave(k)
        points = space.perturb(x[index], sigma[index], None, generator=generator)
        u, force = self.reduced(points)
        if beta is not None:
            u, force = beta[index] * u, expand(beta[index], force) * force
        finite = torch.isfinite(u) & torch.isfinite(force).flatten(1).all(1)
        u = torch.where(finite, u, torch.full_like(u, math.inf)).reshape(len(x), k)
        force = torch.where(expand(finite, force), force, torch.zeros_like(force))
        hopeless = torch.isinf(u).all(1)
        weight = torch.softmax(torch.where(hopeless[:, None], torch.zeros_like(u), -u), dim=1).to(x.dtype)
        force = force.reshape(len(x), k, *x.shape[1:])
        score = (expand(weight, force) * force).sum(1)
        score, clipped = self._clipped(space.project(score, None))
        clipped = clipped | hopeless.reshape(-1, *(1,) * (clipped.ndim - 1))
        ess = (1.0 / weight.square().sum(1)).mean() / k
        return expand(sigma, score) ** 2 * score, clipped.to(x.dtype).mean(), ess

    @torch.no_grad()
    def adjoint_target(
        self, clean: Tensor, x: Tensor, sigma: Tensor, force: Tensor | None = None, beta: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Returns the displacement of points x (batch, ...) noised from clean samples, and the fraction of clipped items.

        Arguments:
            clean: Samples of the model (batch, ...).
            x: The same, noised.
            sigma: Noise (batch,).
            force: Forces at the clean samples, reduced at their own temperature, where they are known; asked for otherwise.
            beta: Inverse temperature (batch,) for forces that are asked for, relative to that of the reduced energy; 1 by default.
        """
        own = self.process.fields[self.process.reference]
        if force is None:
            force = self.reduced(clean)[1]
            force = force if beta is None else expand(beta, force) * force
        score, clipped = self._clipped(own.space.project(force.to(x.dtype), None))
        wide = expand(sigma, x)
        c = 1.0 / (1.0 + wide**2 / (self.config.base * own.data_scale) ** 2)
        return (1.0 - c) * (clean - x) + c * wide**2 * score, clipped.to(x.dtype).mean()

    def _clipped(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Returns scores of bounded length per item, and where the bound was met."""
        event = tuple(range(score.ndim - self.process.fields[self.process.reference].space.event_ndim, score.ndim))
        norm = torch.sqrt(score.square().sum(event, keepdim=True))
        if self.config.clip is None:
            return score, torch.zeros_like(norm, dtype=torch.bool)
        return score * (self.config.clip / norm.clamp(min=self.config.clip)), norm > self.config.clip
