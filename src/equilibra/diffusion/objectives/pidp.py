r"""PIDP: physics-informed diffusion pre-training, the score equation with the force as its initial condition.

Structures :math:`R_0` are noised to :math:`R_t`, where the score has to obey its Fokker-Planck equation; at the smallest noise it has to be the
force. Eq. (4) of Zheng et al. (2023), https://arxiv.org/abs/2306.05445, in the rescaled variable (see `diffusion.fokker_planck`):

.. math::
    L = \Big\langle w_t \Big| \nabla \sum_b \kappa_b (\mathrm{div}_b s_b + |s_b|^2) - \partial_t s \Big|^2 \Big\rangle
      + \lambda_1 \big\langle | s(R_0, t_1) + \nabla u(R_0) |^2 \big\rangle + \lambda_D\, L_{data}

For a variance-preserving process the paper's residual
:math:`\tfrac{\beta}{2}[\nabla(R \cdot s) + \nabla |s|^2 + \nabla(\nabla \cdot s)] - \partial_t s` is exactly :math:`1/\alpha_t` times the one above: the
drift's terms are the change of variable. So :math:`w_t = 1/\alpha_t^2` is the paper's weighting on variance-preserving fields, and
:math:`w_t = 1` on variance-exploding ones.

Note:
    What is wrong with the published form, and stays so in `PIDPConfig.faithful()`: a score is blind to the weights of separated modes; the
    direction of a force does not know the temperature; each field sees its own terms only, eqs. (A14) and (A19), where the exact equation couples
    them; the rotations' rate, eq. (A14), is half that of their kernel, eq. (A12). The defaults mend all but the first, which needs a density:
    see `fokker_planck`. The force is compared at the clean structure, where it is known, not at :math:`R_1`: both hold, and no
    energy is called in training.

At the smallest noise the score is that of a density which is smoothed by it: where a mode is as narrow as that noise, it is smaller than the force,
by :math:`\tau^2/(\tau^2 + \sigma^2)` for a Gaussian of variance :math:`\tau^2`. With `smoothed` the force of :math:`R_0` is compared with the score at the
noised :math:`R_1` instead. Its mean given :math:`R_1` is the smoothed score itself, for displacements on flat Spaces and turns in the global frame alike
(target score matching), if structures are locally at equilibrium.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Generator, Tensor, nn

from equilibra.diffusion.fokker_planck import (
    Blocks,
    DenoiserFunction,
    level_rate,
    rademacher_probes,
    score_rates,
    transported_scores,
)
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.growth_factor import GrowthFactor
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching, TargetMixture
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import SO3, expand
from equilibra.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class PIDPConfig:
    r"""Weights and settings of `PIDP`.

    Attributes:
        residual: Weight of the score equation.
        force: Weight :math:`\lambda_1` of the force at the smallest noise.
        data: Weight of score matching on the same batch; zero where there is no data to trust.
        weighting: `level` compares residuals per unit of :math:`\ln\sigma` and forces in units of the network's output, at the noise levels of
            training; `time` is the paper's: per unit of time, at times that are uniform, in units of the data scale.
        blocks: `joint` is the exact equation; `separate` is the published one, with a field's own terms only.
        rotation_rate: `exact`, or `published`: half of it.
        direction_only: Match the direction of the force alone, as published.
        smoothed: Match the force where its structure is noised by the smallest noise, for structures at equilibrium whose stiffest modes are not wide
            compared with it, instead of at the clean structure.
        growth: Divide the residuals by their fitted growth with the time, as published.
        force_decades: Use only structures whose force is within so many decades of the smallest seen (3 as published); None for all.
        probes: Random signs per structure for the divergence.
        fraction: Part of the batch that the score equation and the force see.
        step: Half-width in :math:`\ln\sigma` of the difference in time.
    """

    residual: float = 1.0
    force: float = 1.0
    data: float = 1.0
    weighting: Literal["level", "time"] = "level"
    blocks: Blocks = "joint"
    rotation_rate: Literal["exact", "published"] = "exact"
    direction_only: bool = False
    smoothed: bool = False
    growth: bool = False
    force_decades: float | None = None
    probes: int = 1
    fraction: float = 0.2
    step: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("residual", "force", "data"):
            if not getattr(self, name) >= 0.0:
                raise ConfigError(f"PIDPConfig: {name} is {getattr(self, name)}, expected a weight of zero or more")
        if self.residual == self.force == self.data == 0.0:
            raise ConfigError("PIDPConfig: all weights are zero, expected at least one that is not")
        choices = {"weighting": ("level", "time"), "blocks": ("joint", "separate"), "rotation_rate": ("exact", "published")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ConfigError(f"PIDPConfig: {name} is '{getattr(self, name)}', expected one of {', '.join(allowed)}")
        if self.probes < 1 or not 0.0 < self.fraction <= 1.0 or not self.step > 0.0:
            raise ConfigError(
                f"PIDPConfig: got probes {self.probes}, fraction {self.fraction}, step {self.step}; expected at least one probe, a fraction above 0 "
                "and up to 1, and a positive step"
            )
        if self.force_decades is not None and not self.force_decades > 0.0:
            raise ConfigError(f"PIDPConfig: force_decades is {self.force_decades}, expected a positive number or None")

    @classmethod
    def faithful(cls, *, corrected: bool = False) -> Self:
        """Returns the published settings; `corrected` couples the fields and takes the rotations' exact rate."""
        return cls(
            weighting="time",
            blocks="joint" if corrected else "separate",
            rotation_rate="exact" if corrected else "published",
            direction_only=True,
            growth=True,
            force_decades=3.0,
            fraction=1.0,
        )


class PIDP(nn.Module):
    """Loss of physics-informed diffusion pre-training; see the module.

    Samples whose forces are not known (`TrainingBatch.known`) are data alone: neither the score equation nor the force sees them.

    Arguments:
        process: Forward process, on any Spaces.
        noise_levels: Distribution of training noise.
        config: Weights and settings.
        forces: Whether the data's score matching mixes in target score matching.
        classes: Number of atom classes for that mixture.
    """

    least_force: Tensor

    def __init__(
        self,
        process: Process,
        noise_levels: NoiseLevels,
        config: PIDPConfig | None = None,
        *,
        forces: bool = False,
        classes: int = 128,
    ) -> None:
        super().__init__()
        self.process = process
        self.noise_levels = noise_levels
        self.config = config or PIDPConfig()
        self.score_matching = ScoreMatching(process, noise_levels, forces=forces, classes=classes)
        self.growth = GrowthFactor() if self.config.growth else None
        # the largest number stands for none seen: checkpoints refuse infinities
        self.register_buffer("least_force", torch.tensor(torch.finfo(torch.float32).max))

    @property
    def mixture(self) -> TargetMixture | None:
        """The mixture of targets of score matching, or None."""
        return self.score_matching.mixture

    def forward(self, denoiser: DenoiserFunction, batch: TrainingBatch, *, generator: Generator) -> dict[str, Tensor]:
        """Returns `loss`, and detached parts for the log: each term, and the fraction of structures, of those drawn for them, that the physical terms see.

        Raises:
            ConfigError: If the force is to be matched and the batch has none.
        """
        config = self.config
        part = self._part(batch)
        terms: dict[str, Tensor] = {}
        log: dict[str, Tensor] = {}
        if config.data > 0.0:
            data = self.score_matching(denoiser, batch, generator=generator)
            terms["data"] = data.pop("loss")
            log |= data
        keep = self._kept(part)
        log["kept"] = keep.mean()
        share = keep / keep.sum().clamp(min=1.0)
        if config.residual > 0.0:
            terms["residual"] = (share * self._residuals(denoiser, part, generator)).sum()
        if config.force > 0.0:
            terms["force"] = (share * self._force_errors(denoiser, part, generator)).sum()
        loss = torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()
        return {"loss": loss, **{f"loss_{name}": value.detach() for name, value in terms.items()}, **log}

    def _part(self, batch: TrainingBatch) -> TrainingBatch:
        """Returns the rows that the physical terms see: always as many, those with forces first."""
        size = max(1, math.ceil(self.config.fraction * batch.state.batch_size))
        if batch.known is None:
            return batch.rows(slice(0, size))
        return batch.rows(torch.argsort(batch.known, descending=True, stable=True)[:size])

    def _kept(self, part: TrainingBatch) -> Tensor:
        """Returns 1 for the structures to use and 0 for those without a force, or with too large a one (batch,)."""
        state = part.state
        known = torch.ones(state.batch_size, dtype=torch.bool, device=state.device) if part.known is None else part.known
        if self.config.force_decades is None:
            return known.to(state.dtype)
        square = torch.stack([f.flatten(1).square().sum(1) for f in self._forces(part).values()]).sum(0)
        norm = torch.sqrt(square).to(self.least_force.dtype)
        if self.training:
            unseen = torch.full_like(norm, torch.finfo(norm.dtype).max)
            self.least_force.copy_(torch.minimum(self.least_force, torch.where(known, norm, unseen).min()))
        return (known & (norm <= 10.0**self.config.force_decades * self.least_force)).to(state.dtype)

    def _forces(self, part: TrainingBatch) -> Mapping[str, Tensor]:
        missing = [name for name in self.process.moving if name not in part.forces]
        if missing:
            raise ConfigError(
                f"pidp: the batch has no forces of {', '.join(missing)}, which are the initial condition; train with an energy, or with data that "
                "hold forces"
            )
        return {name: part.forces[name] for name in self.process.moving}

    def _residuals(self, denoiser: DenoiserFunction, part: TrainingBatch, generator: Generator) -> Tensor:
        """Returns the weighted square of the score equation's residual per degree of freedom (batch,)."""
        config, process, state = self.config, self.process, part.state
        if config.weighting == "time":
            jitter = torch.rand(state.batch_size, generator=generator, dtype=torch.float64, device=state.device)
            t = (process.t_min + (1.0 - process.t_min) * jitter).to(state.dtype)
        else:
            t = self.noise_levels.times(process, state.batch_size, generator=generator, device=state.device).to(state.dtype)
        noisy = process.noise(state, t, generator=generator)
        probes = [rademacher_probes(process, noisy, generator=generator) for _ in range(config.probes)]
        transported = transported_scores(denoiser, process, noisy, t, part.features, probes, blocks=config.blocks)
        rates = score_rates(denoiser, process, noisy, t, part.features, step=config.step)
        total = torch.zeros_like(t)
        for name in process.moving:
            own = process.fields[name]
            share = 0.5 if config.rotation_rate == "published" and isinstance(own.space, SO3) else 1.0
            residual = share * transported[name] - rates[name]
            sigma = own.schedule.sigma(t)
            if config.weighting == "level":
                unit = own.space.preconditioning(sigma, own.data_scale).c_out
                scaled = residual * expand(sigma**2 / level_rate(process, t), residual) / expand(unit, residual)
            else:
                scale = own.data_scale if own.space.linear else 1.0
                scaled = residual * expand(scale / own.schedule.alpha(t), residual)
            total = total + own.space.inner(scaled, scaled)
        per_sample = total / process.degrees(state)
        if self.growth is None:
            return per_sample
        factor = self.growth(t)
        rows = slice(None) if part.known is None else part.known
        if self.training and len(t[rows]):
            self.growth.update(t[rows], per_sample.detach()[rows])
        return per_sample / factor

    def _force_errors(self, denoiser: DenoiserFunction, part: TrainingBatch, generator: Generator) -> Tensor:
        """Returns the squared error of the force, or of its direction, at the smallest noise (batch,), per degree of freedom."""
        process, state, forces = self.process, part.state, self._forces(part)
        t = torch.full((state.batch_size,), process.t_min, dtype=state.dtype, device=state.device)
        seen = process.noise(state, t, generator=generator) if self.config.smoothed else state
        prediction = denoiser(seen, t, part.features)
        total = torch.zeros_like(t)
        for name in process.moving:
            own = process.fields[name]
            sigma = own.schedule.sigma(t)
            force = own.space.project(forces[name], state.mask(name))
            score = prediction.score(name, sigma)
            if self.config.direction_only:
                floor = torch.finfo(force.dtype).tiny
                force, score = (v / expand(torch.sqrt(own.space.inner(v, v) + floor), v) for v in (force, score))
                error = score - force
            elif self.config.weighting == "level":
                unit = own.space.preconditioning(sigma, own.data_scale).c_out
                error = (score - force) * expand(sigma**2, force) / expand(unit, force)
            else:
                error = (score - force) * (own.data_scale if own.space.linear else 1.0)
            total = total + own.space.inner(error, error)
        return total if self.config.direction_only else total / process.degrees(state)
