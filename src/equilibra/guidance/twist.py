r"""The twist: what is known at a noisy State of the likelihood of a wish, :math:`h_t(x) \approx \mathrm E[p(c \mid x_0) \mid x_t = x]`.

With the denoised estimate :math:`\hat x_0 = \exp_x(\delta)`, the value :math:`h(\hat x_0)` of the property is the mean of what the clean value can still be,
and its variance follows from the covariance of the posterior, :math:`\sigma^2\, \partial \hat x_0 / \partial x`:

.. math::
    V = \sum_f \sigma_f^2 \, \langle g_f, \nabla_f h \rangle, \qquad g_f = \nabla_{x_f} h(\hat x_0(x)), \qquad
    \ln h_t = \beta \, \lambda \ln \mathrm E_{N(h, V)}[p(c \mid \cdot)]

both gradients come from one backward pass, Riemannian on every Space. For Gaussian data and linear properties this is exact; elsewhere it is a guess that the
weights of `guidance.twisted` correct. Where noise has wrapped around a curved Space the estimate says nothing of the clean State:
:math:`\beta` fades the twist as the Space's own displacement fades, :math:`\beta = \min_f (\sqrt{\mathrm E|\delta_f|^2} / \sigma_f)^2`.

References: Chung et al. (2022), https://arxiv.org/abs/2209.14687; Song et al. (2023), https://openreview.net/forum?id=9_gsMA8MRKQ (broadening)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.diffusion.space import expand
from equilibra.errors import EquilibraError
from equilibra.guidance.guide import Guide
from equilibra.state.state import State


@dataclass(frozen=True, eq=False)
class Twist:
    """What a denoiser and guides say of a noisy State.

    Attributes:
        displacements: Displacements of the denoiser alone.
        pull: What the guides add to them: sigma squared times the Riemannian gradient of the log-twist, for each moving field.
        log_twist: Log-twist (batch,), float64; nan where a partial property cannot be evaluated at the denoised estimate, which then pulls nowhere.
        values: Value (batch,) of each differentiable property at the denoised estimate, in the order of the guides.
    """

    displacements: Mapping[str, Tensor]
    pull: Mapping[str, Tensor]
    log_twist: Tensor
    values: tuple[Tensor, ...]

    def rows(self, index: Tensor) -> Twist:
        """Returns what was said of some batch elements."""
        return self._mapped([self], lambda parts: parts[0][index])

    @classmethod
    def cat(cls, parts: Sequence[Twist]) -> Twist:
        """Joins what was said of the parts of a batch."""
        return cls._mapped(parts, torch.cat)

    @classmethod
    def _mapped(cls, parts: Sequence[Twist], function: Callable[[list[Tensor]], Tensor]) -> Twist:
        first = parts[0]
        return cls(
            {name: function([part.displacements[name] for part in parts]) for name in first.displacements},
            {name: function([part.pull[name] for part in parts]) for name in first.pull},
            function([part.log_twist for part in parts]),
            tuple(function([part.values[k] for part in parts]) for k in range(len(first.values))),
        )


def twist_at(
    denoiser: Denoiser, state: State, t: Tensor, guides: Sequence[Guide], *, broaden: bool = True, at_once: int | None = None
) -> Twist:
    """Asks a denoiser and differentiable guides about a noisy State.

    Arguments:
        denoiser: Source of scores; differentiable in the State.
        state: State in the rescaled variable.
        t: Times (batch,).
        guides: Guides; those whose property is not differentiable are left out here.
        broaden: Average over the uncertainty of the clean value; without, the plug-in that pulls too hard.
        at_once: Batch elements whose gradients are held in memory at once; None for all.

    Returns:
        The twist, detached.

    Raises:
        EquilibraError: If a value or a gradient of a property is not a number.
        InputError: If a property has no gradient, or values of another shape.
    """
    n = state.batch_size
    if at_once is None or n <= at_once:
        return _twist(denoiser, state, t, guides, broaden)
    cuts = [slice(start, start + at_once) for start in range(0, n, at_once)]
    return Twist.cat([_twist(denoiser.rows(rows), state[rows], t[rows], guides, broaden) for rows in cuts])


def _twist(denoiser: Denoiser, state: State, t: Tensor, guides: Sequence[Guide], broaden: bool) -> Twist:
    process = denoiser.process
    steering = [guide for guide in guides if guide.property.differentiable]
    with torch.set_grad_enabled(bool(steering)):
        starts = {name: _still(process, state, name) for name in process.moving}
        moved = process.retract(state, starts)
        displacements = dict(denoiser(moved, t).displacements)
        clean = process.retract(moved, displacements)
        ends = {name: _still(process, state, name) for name in process.moving}
        clean = process.retract(clean, ends)
        # SO(3) and tori: both gradients are tangent vectors in the frame that their field's displacements have
        leaves = [*starts.values(), *ends.values()]
        found = []
        for guide in steering:
            value = guide.property.with_gradient(clean)
            known = torch.isfinite(value.detach())
            whole = torch.where(known, value, 0.0).sum()
            gradients = torch.autograd.grad(whole, leaves, retain_graph=True, allow_unused=True)
            gradients = tuple(None if g is None else torch.where(expand(known, g), g, 0.0) for g in gradients)
            if not all(gradient is None or bool(torch.isfinite(gradient).all()) for gradient in gradients):
                raise EquilibraError(
                    f"property '{guide.property.name}': its gradient is not finite; check the property, such as roots at zero"
                )
            found.append((value.detach().to(state.dtype), gradients))
    count = len(starts)
    fade = _fade(process, state, t)
    log_twist = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    pull = {name: torch.zeros_like(value) for name, value in starts.items()}
    for guide, (value, gradients) in zip(steering, found, strict=True):
        variance = torch.zeros_like(value)
        slopes = {}
        for name, at_start, at_end in zip(starts, gradients[:count], gradients[count:], strict=True):
            space, sigma = process.fields[name].space, process.sigma(name, t)
            if at_start is None:
                continue
            slopes[name] = expand(sigma, at_start) ** 2 * space.project(at_start, state.mask(name))
            if broaden and at_end is not None:
                variance = variance + space.inner(slopes[name], space.project(at_end, state.mask(name)))
        variance = variance.clamp(min=0.0)
        known = torch.isfinite(value)
        with torch.enable_grad():
            leaf = value.requires_grad_()
            log_likelihood = guide.log_likelihood(leaf, variance)
            (push,) = torch.autograd.grad(log_likelihood.sum(), leaf)
        push = torch.where(known, push, 0.0)
        log_twist = log_twist + (fade * log_likelihood.detach()).double()
        for name, slope in slopes.items():
            pull[name] = pull[name].detach() + expand(fade * push, slope) * slope
    return Twist(
        {name: value.detach() for name, value in displacements.items()},
        {name: value.detach() for name, value in pull.items()},
        log_twist,
        tuple(value.detach() for value, _ in found),
    )


def log_likelihood(guides: Sequence[Guide], state: State) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Returns the exact log-likelihood (batch,) of clean States, in float64, and the value (batch,) of each guide's property.

    A State that a partial property cannot evaluate has the likelihood zero.
    """
    total = torch.zeros(state.batch_size, dtype=torch.float64, device=state.device)
    values = []
    with torch.no_grad():
        for guide in guides:
            value = guide.property(state)
            values.append(value)
            found = guide.log_likelihood(value.double())
            total = total + torch.where(torch.isnan(value), -torch.inf, found)
    return total, tuple(values)


def _still(process: Process, state: State, name: str) -> Tensor:
    """Returns the zero tangent vector of a field, with a gradient."""
    x = state.fields[name].detach()
    return torch.zeros_like(process.fields[name].space.log(x, x)).requires_grad_()


def _fade(process: Process, state: State, t: Tensor) -> Tensor:
    """Returns beta (batch,): 1 while the noise of no curved field has wrapped."""
    fade = torch.ones(state.batch_size, dtype=state.dtype, device=state.device)
    for name in process.moving:
        part = process.fields[name]
        if part.space.linear:
            continue
        sigma = process.sigma(name, t)
        scale = part.space.preconditioning(sigma, part.data_scale).c_out
        least = scale.flatten(1).amin(1) if scale.ndim > 1 else scale
        fade = torch.minimum(fade, ((least / sigma) ** 2).clamp(max=1.0).to(fade.dtype))
    return fade
