r"""Denoising and target score matching, and their variance-optimal mixture.

Denoising score matching (Vincent, 2011) regresses on the kernel's displacement :math:`y_D = \sigma^2 \nabla \ln p(x_t | x_0)`. Target score
matching (De Bortoli et al., 2024, https://arxiv.org/abs/2402.08667) regresses on the data's own score,

.. math:: y_T = \sigma^2 \, (-\nabla u(x_0)), \qquad y = (1 - c)\, y_D + c\, y_T .

Both have the same conditional mean on flat Spaces, on tori and on SO(3), where noise is a random element of the group that acts on :math:`x_0` from either side
(De Bortoli et al.; the tangent vectors of :math:`-\nabla u` at :math:`x_0` are taken as those at :math:`x_t`), so that every c that depends on the noise level (and the class of the atom) alone is
unbiased. The first is noisy at small sigma, the second at large sigma. The variance-optimal c is estimated online from residuals
:math:`r = y - \delta_\theta`:

.. math:: c^* = \langle r_D \cdot (r_D - r_T) \rangle / \langle |r_D - r_T|^2 \rangle .

For Gaussian data of variance :math:`\tau^2` this is :math:`\tau^2/(\tau^2 + \sigma^2)`, with no variance left. Forces must come from the
distribution of the data: unconstrained molecular dynamics at equilibrium, at the temperature that reduced them. Samples whose forces are not known
(`TrainingBatch.known`) keep c = 0: they are denoised, and teach the mixture nothing.
"""

import math
from typing import cast

import torch
from torch import Generator, Tensor, nn

from equilibra.diffusion.denoiser import NetworkDenoiser, Prediction
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import expand
from equilibra.errors import ConfigError


class TargetMixture(nn.Module):
    r"""Online estimate of the optimal weight c per noise level and atom class.

    Arguments:
        process: Gives the range of noise levels.
        classes: Number of atom classes.
        bins: Bins of :math:`\ln \sigma`.
        memory: Decay of the running averages per update.
        field: Whose noise levels they are; the reference field by default.
    """

    numerator: Tensor
    denominator: Tensor

    def __init__(
        self, process: Process, classes: int, bins: int = 24, memory: float = 0.99, *, field: str | None = None
    ) -> None:
        super().__init__()
        own = process.fields[process.reference if field is None else field]
        schedule = own.schedule
        self.low, self.high = math.log(schedule.sigma_min), math.log(schedule.sigma_max)
        self.bins, self.memory = bins, memory
        # before any data: stiff modes of a thirtieth of the data scale
        stiff = own.data_scale / 30.0
        sigma = torch.exp(self.low + (torch.arange(bins) + 0.5) / bins * (self.high - self.low))
        start = (stiff**2 / (stiff**2 + sigma**2))[:, None].expand(bins, classes)
        self.register_buffer("numerator", 1e-3 * start.clone())
        self.register_buffer("denominator", 1e-3 * torch.ones(bins, classes))

    def cells(self, sigma: Tensor, classes: Tensor) -> Tensor:
        """Returns the flat cell index of each item, with shape (batch, items), for sigma (batch,) and classes (batch or 1, items)."""
        position = (torch.log(sigma) - self.low) / (self.high - self.low) * self.bins
        return position.long().clamp(0, self.bins - 1)[:, None] * self.numerator.shape[1] + classes

    def weight(self, cells: Tensor) -> Tensor:
        """Returns c in [0, 1] for each item."""
        # classes of padding bring no residuals: their averages decay to zero
        return (self.numerator / self.denominator.clamp(min=1e-30)).clamp(0.0, 1.0).flatten()[cells]

    @torch.no_grad()
    def update(self, cells: Tensor, residual_dsm: Tensor, residual_tsm: Tensor, unit: Tensor) -> None:
        """Adds one batch of residuals (batch, items, ...), in units of `unit` (batch,), to the running averages."""
        difference = (residual_dsm - residual_tsm) / expand(unit, residual_dsm)
        scaled = residual_dsm / expand(unit, residual_dsm)
        flat = cells.flatten()
        top = torch.zeros_like(self.numerator).flatten().index_add_(0, flat, (scaled * difference).sum(-1).flatten().float())
        bottom = torch.zeros_like(self.denominator).flatten().index_add_(0, flat, (difference**2).sum(-1).flatten().float())
        seen = torch.zeros_like(bottom).index_add_(0, flat, torch.ones_like(flat, dtype=bottom.dtype)) > 0
        for running, new in ((self.numerator, top), (self.denominator, bottom)):
            mixed = self.memory * running.flatten() + (1.0 - self.memory) * new
            running.copy_(torch.where(seen, mixed, running.flatten()).reshape(running.shape))


def loss_by_noise(per_sample: Tensor, sigma: Tensor) -> dict[str, Tensor]:
    """Returns the mean of a loss (batch,) over the thirds of the batch with the smallest, middle and largest noise, for the log."""
    names = ("loss_small_noise", "loss_middle_noise", "loss_large_noise")
    order = torch.argsort(sigma.detach())
    thirds = per_sample.detach()[order].tensor_split(3) if len(sigma) >= 3 else (per_sample.detach(),) * 3
    return {name: part.mean() for name, part in zip(names, thirds, strict=True)}


class ScoreMatching(nn.Module):
    r"""Score-matching loss of all moving fields.

    .. math:: L = \frac{1}{D_{eff}} \sum_{\text{fields}} \frac{|\delta_\theta - y|^2}{c_{out}^2}

    with the Space's own :math:`c_{out}`, so that every noise level starts with a loss near one.

    Arguments:
        process: Forward process.
        noise_levels: Distribution of training noise.
        forces: Whether to mix in target score matching for fields whose forces the batch brings.
        classes: Number of atom classes for the mixture, of a process with one field; the items of several fields are of one class each.
    """

    def __init__(self, process: Process, noise_levels: NoiseLevels, *, forces: bool = False, classes: int = 128) -> None:
        super().__init__()
        self.process = process
        self.noise_levels = noise_levels
        several = len(process.moving) > 1
        unfit = [name for name in process.moving if not process.fields[name].space.has_kernel]
        if forces and unfit:
            raise ConfigError(
                f"target score matching: forces of the field '{unfit[0]}', whose origin is arbitrary, are not known; train without forces"
            )
        self.mixture = TargetMixture(process, classes) if forces and not several else None
        self.mixtures = nn.ModuleDict(
            {name: TargetMixture(process, 1, field=name) for name in process.moving} if forces and several else {}
        )

    def forward(self, denoiser: NetworkDenoiser, batch: TrainingBatch, *, generator: Generator) -> dict[str, Tensor]:
        """Returns `loss`, and detached parts for the log: the loss at small, middle and large noise."""
        state = batch.state
        t = self.noise_levels.times(self.process, state.batch_size, generator=generator, device=state.device).to(state.dtype)
        noisy = self.process.noise(state, t, generator=generator)
        prediction: Prediction = denoiser(noisy, t, batch.features)
        total = torch.zeros(state.batch_size, dtype=state.dtype, device=state.device)
        for name in self.process.moving:
            field = self.process.fields[name]
            sigma = field.schedule.sigma(t)
            mask = state.mask(name)
            target = field.space.project(field.space.kernel_displacement(state.fields[name], noisy.fields[name], sigma), mask)
            predicted = prediction.displacements[name]
            unit = field.space.preconditioning(sigma, field.data_scale).c_out
            mixture = self.mixture
            if name in self.mixtures:
                mixture = cast("TargetMixture", self.mixtures[name])
            if mixture is not None and name in batch.forces:
                classes = batch.classes
                if mixture is not self.mixture:
                    classes = torch.zeros(1, target.shape[1], dtype=torch.int64, device=target.device)
                elif classes is None:
                    raise ConfigError("the mixture of targets needs the class of each item in the batch")
                forces = field.space.project(expand(sigma, target) ** 2 * batch.forces[name], mask)
                cells = mixture.cells(sigma, classes)
                weight = mixture.weight(cells).to(target.dtype)
                rows = slice(None) if batch.known is None else batch.known
                if self.training:
                    dsm, tsm = ((wanted - predicted.detach())[rows] for wanted in (target, forces))
                    mixture.update(cells[rows], dsm, tsm, unit[rows])
                if batch.known is not None:
                    weight = weight * batch.known[:, None]
                c = expand(weight, target)
                target = (1.0 - c) * target + c * forces
            residual = (predicted - target) / expand(unit, target)
            total = total + field.space.inner(residual, residual)
        per_sample = total / self.process.degrees(state)
        loss = per_sample if batch.weights is None else batch.weights * per_sample
        return {"loss": loss.mean(), **loss_by_noise(per_sample, self.process.sigma(self.process.reference, t))}
