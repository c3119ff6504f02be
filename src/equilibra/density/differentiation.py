"""Products of the Jacobian of a displacement field with tangent vectors, by several ways of automatic differentiation."""

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Generator, Tensor
from torch.autograd import forward_ad

from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.space import expand
from equilibra.errors import EquilibraError
from equilibra.state.state import State

Mode = Literal["auto", "vmap", "forward", "reverse"]
"""`vmap` and `forward` are forward mode, over directions that share one evaluation or over copies of the batch; `reverse` is backpropagation."""

Tangents = Mapping[str, Tensor]
"""Tangent vectors (k, batch, ...) of each moving field."""


def _displaced(denoiser: Denoiser, state: State, t: Tensor, v: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns the displacements at the points reached along tangent vectors."""
    fields = denoiser.process.fields
    there = state.replace(**{name: fields[name].space.retract(state.fields[name], u) for name, u in v.items()})
    displacements = denoiser(there, t).displacements
    return {name: displacements[name] for name in v}


def _many(denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents) -> tuple[Denoiser, State, Tensor, dict[str, Tensor]]:
    """Returns the problem with a copy of the batch for each direction."""
    count, batch = len(next(iter(tangents.values()))), state.batch_size
    index = torch.arange(batch, device=state.device).repeat(count)
    return denoiser.rows(index), state[index], t[index], {name: v.flatten(0, 1) for name, v in tangents.items()}


def _by_vmap(denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents) -> dict[str, Tensor]:
    zeros = {name: torch.zeros_like(v[0]) for name, v in tangents.items()}

    def push(v: dict[str, Tensor]) -> dict[str, Tensor]:
        return torch.func.jvp(lambda u: _displaced(denoiser, state, t, u), (zeros,), (v,))[1]

    return torch.vmap(push)(dict(tangents))


def _by_forward(denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents) -> dict[str, Tensor]:
    many, states, times, v = _many(denoiser, state, t, tangents)
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(torch.zeros_like(u), u) for name, u in v.items()}
        pushed = {name: forward_ad.unpack_dual(d).tangent for name, d in _displaced(many, states, times, duals).items()}
    filled = {name: torch.zeros_like(v[name]) if u is None else u for name, u in pushed.items()}
    return {name: u.reshape(tangents[name].shape) for name, u in filled.items()}


def _by_reverse(denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents) -> dict[str, Tensor]:
    # the transposed product v J; its scalar product with v is the same
    many, states, times, v = _many(denoiser, state, t, tangents)
    with torch.enable_grad():
        points = {name: torch.zeros_like(u).requires_grad_(True) for name, u in v.items()}
        values = _displaced(many, states, times, points)
        names = [name for name in v if values[name].requires_grad]
        if not names:
            raise RuntimeError("the displacements do not depend on the state in the graph of automatic differentiation")
        pulled = torch.autograd.grad(
            [values[name] for name in names],
            list(points.values()),
            [v[name].to(values[name].dtype) for name in names],
            allow_unused=True,
        )
    filled = [torch.zeros_like(u) if p is None else p for p, u in zip(pulled, v.values(), strict=True)]
    return {name: p.reshape(tangents[name].shape) for name, p in zip(v, filled, strict=True)}


Differentiation = Callable[[Denoiser, State, Tensor, Tangents], dict[str, Tensor]]
DIFFERENTIATIONS: dict[str, Differentiation] = {"vmap": _by_vmap, "forward": _by_forward, "reverse": _by_reverse}
"""Ways to get the products of the Jacobian, or of its transpose, with tangent vectors, in the order of their speed."""


def directional_products(
    denoiser: Denoiser, state: State, t: Tensor, tangents: Tangents, differentiate: Differentiation
) -> dict[str, Tensor]:
    """Returns v . J v of each field in float64, with shape (k, batch), for tangent vectors (k, batch, ...)."""
    with torch.no_grad():
        products = differentiate(denoiser, state, t, tangents)
    return {name: (v * products[name]).flatten(2).sum(-1, dtype=torch.float64) for name, v in tangents.items()}


def differentiation(denoiser: Denoiser, state: State, t: Tensor, mode: Mode, *, generator: Generator) -> Mode:
    """Finds a way of differentiation that works for a denoiser.

    Some programs lose derivatives silently (a compiled network in forward mode, a call without gradients in reverse mode), so that the
    result in one random direction at one state is compared with a difference quotient.

    Arguments:
        denoiser: Source of displacements.
        state: Its first batch element is used.
        t: Times (batch,), of a noise comparable to the width of the data.
        mode: `auto`, or the only one to be tried.
        generator: The only source of randomness.

    Raises:
        EquilibraError: If none works; the message says why each failed.
    """
    denoiser, state, t = denoiser.rows(slice(0, 1)), state[:1], t[:1]
    fields, tangents = denoiser.process.fields, {}
    for name in denoiser.process.moving:
        x, space = state.fields[name], fields[name].space
        noise = space.tangent_noise(x, state.mask(name), generator=generator)
        tangents[name] = (noise * expand(denoiser.process.sigma(name, t), noise))[None]
    step = 1e-2
    with torch.no_grad():
        ahead, behind = (
            _displaced(denoiser, state, t, {name: sign * step * v[0] for name, v in tangents.items()}) for sign in (1, -1)
        )
        expected = sum(float(((ahead[n] - behind[n]) / (2 * step) * v[0]).sum()) for n, v in tangents.items())
    scale = sum(float((v * v).sum()) for v in tangents.values())
    size = max(float(x.abs().max()) for x in (*state.fields.values(), *ahead.values()))
    rounding = 10.0 * torch.finfo(state.dtype).eps * size / step * scale**0.5
    reasons = []
    for name in DIFFERENTIATIONS if mode == "auto" else (mode,):
        try:
            products = directional_products(denoiser, state, t, tangents, DIFFERENTIATIONS[name])
        except (RuntimeError, ValueError, TypeError) as error:
            reasons.append(f"{name}: {str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__}")
            continue
        found = sum(float(value.sum()) for value in products.values())
        if abs(found - expected) <= 0.02 * max(abs(expected), abs(found), 0.1 * scale) + rounding:
            return name  # type: ignore[return-value]
        reasons.append(f"{name}: the derivative {found:.4g} disagrees with the difference quotient {expected:.4g}")
    raise EquilibraError(
        "the divergence of the denoiser cannot be computed; "
        + "; ".join(reasons)
        + ". Its network must be differentiable in its input: "
        "no detached or in-place steps and no inference mode; use the network that is not compiled"
    )
