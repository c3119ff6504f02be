r"""Scalar Fokker-Planck training: a log-density that is pinned at both ends and transported in between.

For :math:`\Phi = -\ln q` of a conservative denoiser, in :math:`\ell = \ln \sigma`,

.. math::
    \partial_\ell \Phi = \sigma^2 (\Delta \Phi - |\nabla \Phi|^2), \qquad \Phi(x, \sigma_{min}) = u(x) + \ln Z, \qquad
    \Phi(x, \sigma_{max}) = -\ln q_0(x, \sigma_{max})

with the reduced energy u, a learned number :math:`\ln Z`, and the moment-matched Gaussian (the uniform law on closed Spaces). The score alone is
blind to the weights of separated modes; here the pin at small noise knows the energies of both, and the equation carries weights and
:math:`\ln Z` to the prior. The loss is a sum of parts with weights:

============  ==================================================================================================
score         denoising (and target) score matching, on the whole batch
residual      product of two weak residuals over :math:`D_{eff}^2`, at small noise
clean_pin     Huber loss of :math:`\Phi(x, \sigma_{min}) - u(x) - \ln Z`, over :math:`D_{eff}`, on clean samples
prior_pin     Huber loss of :math:`\Phi(x, \sigma_{max}) + \ln q_0`, over :math:`D_{eff}`
semigroup     Huber loss of the finite-step condition, over :math:`D_{eff}` (`semigroup`)
info_nce      cross-entropy of telling noise levels apart (`info_nce`)
============  ==================================================================================================

All but the first see a fraction of the batch. The pin ignores that the density at the smallest noise is smoothed, by
:math:`\tfrac12 \sigma_{min}^2 \Delta p / p`: keep :math:`\sigma_{min}` below a tenth of the stiffest standard deviation.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor, nn

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.fokker_planck import weak_residuals
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.capped_energy import capped_energy
from equilibra.diffusion.objectives.info_nce import time_info_nce
from equilibra.diffusion.objectives.noise_levels import NoiseLevels, log_uniform_times
from equilibra.diffusion.objectives.score_matching import ScoreMatching, TargetMixture
from equilibra.diffusion.objectives.semigroup import semigroup_target
from equilibra.diffusion.process import Process
from equilibra.errors import ConfigError

LOG_Z_UNIT = 10.0
"""One unit of the learned parameter in nats: ln Z moves this much faster than a weight of the network at the same learning rate."""


@dataclass(frozen=True, kw_only=True)
class FokkerPlanckConfig:
    r"""Weights and settings of `FokkerPlanck`; a weight of zero switches a part off.

    Attributes:
        score: Weight of score matching.
        residual: Weight of the Fokker-Planck residual.
        clean_pin: Weight of the pin on the energy, at the smallest noise.
        prior_pin: Weight of the pin on the prior, at the largest noise.
        semigroup: Weight of the finite-step condition.
        info_nce: Weight of the classification of noise levels.
        fraction: Part of the batch that all terms but the score see.
        residual_sigma: Largest noise of the residual, in units of the data scale.
        probe: Step of the residual's probes, in units of sigma.
        huber: Error in nats beyond which pins grow linearly.
        energy_cut: Reduced energy above which the pin's target grows logarithmically; None for no cap.
        semigroup_sigma: Smallest and largest noise of the finite-step condition, in units of the data scale.
        semigroup_step: Width of its averaging in units of :math:`\sigma / \sqrt{D_{eff}}`, which keeps the variance of the average.
        semigroup_samples: Points per State of its average.
        candidates: Noise levels per sample of the classification.
        spread: Their scatter; see `time_info_nce`.
    """

    score: float = 1.0
    residual: float = 1.0
    clean_pin: float = 1.0
    prior_pin: float = 1.0
    semigroup: float = 0.0
    info_nce: float = 0.0
    fraction: float = 0.1
    residual_sigma: float = 0.5
    probe: float = 1e-2
    huber: float = 1.0
    energy_cut: float | None = None
    semigroup_sigma: tuple[float, float] = (0.1, 3.0)
    semigroup_step: float = 0.5
    semigroup_samples: int = 8
    candidates: int = 4
    spread: float = 2.0

    def __post_init__(self) -> None:
        weights = ("score", "residual", "clean_pin", "prior_pin", "semigroup", "info_nce")
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in weights:
            if not known[name] >= 0.0:
                raise ConfigError(f"FokkerPlanckConfig: {name} is {known[name]}, expected a weight of zero or more")
        if not any(known[name] > 0.0 for name in weights):
            raise ConfigError("FokkerPlanckConfig: all weights are zero, expected at least one that is not")
        if not 0.0 < self.fraction <= 1.0:
            raise ConfigError(f"FokkerPlanckConfig: fraction is {self.fraction}, expected a number above 0 and up to 1")
        for name in ("residual_sigma", "probe", "huber", "semigroup_step"):
            if not known[name] > 0.0:
                raise ConfigError(f"FokkerPlanckConfig: {name} is {known[name]}, expected a positive number")


class FokkerPlanck(nn.Module):
    r"""Loss of scalar Fokker-Planck training; see the module.

    Arguments:
        process: Forward process.
        noise_levels: Distribution of the noise of score matching.
        config: Weights and settings.
        forces: Whether score matching mixes in target score matching.
        classes: Number of atom classes for that mixture.
        ensembles: Number of ensembles in the data, each with its own :math:`\ln Z`.

    Attributes:
        log_z_shift: The learned part of :math:`\ln Z` of each ensemble, to be optimised together with the denoiser's parameters.
    """

    log_z_start: Tensor
    started: Tensor

    def __init__(
        self,
        process: Process,
        noise_levels: NoiseLevels,
        config: FokkerPlanckConfig | None = None,
        *,
        forces: bool = False,
        classes: int = 128,
        ensembles: int = 1,
    ) -> None:
        super().__init__()
        self.process = process
        self.config = config or FokkerPlanckConfig()
        self.score_matching = ScoreMatching(process, noise_levels, forces=forces, classes=classes)
        self.log_z_shift = nn.Parameter(torch.zeros(ensembles))
        self.register_buffer("log_z_start", torch.zeros(ensembles, dtype=torch.float64))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))

    @property
    def mixture(self) -> TargetMixture | None:
        """The mixture of targets of score matching, or None."""
        return self.score_matching.mixture

    @property
    def log_z(self) -> Tensor:
        r"""Present estimate of :math:`\ln Z` of each ensemble (ensembles,), in nats, differentiable."""
        return self.log_z_start + LOG_Z_UNIT * self.log_z_shift.double()

    def forward(self, denoiser: ConservativeDenoiser, batch: TrainingBatch, *, generator: Generator) -> dict[str, Tensor]:
        """Returns `loss`, and detached parts for the log: each term, the residual's root mean square and `log_z`.

        Raises:
            ConfigError: If the denoiser gives no log-density, or the batch no energies for the pin.
        """
        config = self.config
        if not hasattr(denoiser, "log_density"):
            raise ConfigError("scalar-fp: the denoiser gives no log-density; use a conservative denoiser (an energy head)")
        part = batch.rows(slice(0, max(1, math.ceil(config.fraction * batch.state.batch_size))))
        terms: dict[str, Tensor] = {}
        log: dict[str, Tensor] = {}
        if config.score > 0.0:
            scores = self.score_matching(denoiser, batch, generator=generator)
            terms["score"] = scores.pop("loss")
            log |= scores
        if config.residual > 0.0:
            terms["residual"] = self._residual(denoiser, part, generator)
        if config.clean_pin > 0.0:
            terms["clean_pin"] = self._clean_pin(denoiser, part)
            log["log_z"] = self.log_z.detach()[0]
        if config.prior_pin > 0.0:
            terms["prior_pin"] = self._prior_pin(denoiser, part, generator)
        if config.semigroup > 0.0:
            terms["semigroup"], log["semigroup_bias"] = self._semigroup(denoiser, part, generator)
        if config.info_nce > 0.0:
            terms["info_nce"] = time_info_nce(
                denoiser.log_density,
                self.process,
                part.state,
                part.features,
                candidates=config.candidates,
                spread=config.spread,
                generator=generator,
            ).mean()
        loss = torch.stack([getattr(config, name) * value for name, value in terms.items()]).sum()
        return {"loss": loss, **{f"loss_{name}": value.detach() for name, value in terms.items()}, **log}

    def _levels(self, low: float, high: float, part: TrainingBatch, generator: Generator) -> Tensor:
        """Draws times with the noise uniform in its logarithm between bounds in units of the data scale."""
        scale, state = self.process.fields[self.process.reference].data_scale, part.state
        times = log_uniform_times(
            self.process, low * scale, high * scale, state.batch_size, generator=generator, device=state.device
        )
        return times.to(state.dtype)

    def _residual(self, denoiser: ConservativeDenoiser, part: TrainingBatch, generator: Generator) -> Tensor:
        t = self._levels(0.0, self.config.residual_sigma, part, generator)
        noisy = self.process.noise(part.state, t, generator=generator)
        one, two = weak_residuals(denoiser, self.process, noisy, t, part.features, size=self.config.probe, generator=generator)
        return (one * two / self.process.degrees(part.state) ** 2).mean()

    def _huber(self, error: Tensor, part: TrainingBatch) -> Tensor:
        loss = nn.functional.huber_loss(error, torch.zeros_like(error), reduction="none", delta=self.config.huber)
        return (loss / self.process.degrees(part.state)).mean()

    def _clean_pin(self, denoiser: ConservativeDenoiser, part: TrainingBatch) -> Tensor:
        if part.energies is None:
            raise ConfigError(
                "scalar-fp: the batch has no energies, which the pin at the smallest noise needs; train with an energy, or set clean_pin to 0"
            )
        t = torch.full_like(part.energies, self.process.t_min, dtype=part.state.dtype)
        u = capped_energy(part.energies, self.config.energy_cut).to(t.dtype)
        value = denoiser.log_density(part.state, t, part.features)
        which = torch.zeros_like(u, dtype=torch.long) if part.ensembles is None else part.ensembles
        if self.training and not bool(self.started):
            with torch.no_grad():
                everywhere = (-value - u).double()
                for number in range(len(self.log_z_start)):
                    own = everywhere[which == number]
                    self.log_z_start[number] = (own if len(own) else everywhere).median()
                self.started.fill_(True)
        return self._huber(value + u + self.log_z.to(value.dtype)[which], part)

    def _prior_pin(self, denoiser: ConservativeDenoiser, part: TrainingBatch, generator: Generator) -> Tensor:
        t = torch.ones(part.state.batch_size, dtype=part.state.dtype, device=part.state.device)
        noisy = self.process.noise(part.state, t, generator=generator)
        expected = self.process.log_prior(noisy).to(t.dtype)
        return self._huber(denoiser.log_density(noisy, t, part.features) - expected, part)

    def _semigroup(self, denoiser: ConservativeDenoiser, part: TrainingBatch, generator: Generator) -> tuple[Tensor, Tensor]:
        t = self._levels(*self.config.semigroup_sigma, part, generator)
        noisy = self.process.noise(part.state, t, generator=generator)
        target, bias = semigroup_target(
            denoiser.log_density,
            self.process,
            noisy,
            t,
            part.features,
            step=(self.config.semigroup_step / torch.sqrt(self.process.degrees(part.state))).clamp(max=0.9),
            samples=self.config.semigroup_samples,
            generator=generator,
        )
        return self._huber(denoiser.log_density(noisy, t, part.features) - target, part), bias.mean()
