r"""The flat torus, for fractional coordinates (period 1) and torsions (period :math:`2\pi`), and its wrapped normal law.

Per component, with period one,

.. math::
    p(v; \sigma) = \sum_n N(v + n; 0, \sigma^2) = 1 + 2 \sum_{k \ge 1} e^{-2\pi^2\sigma^2k^2} \cos(2\pi k v)

The first form (images) is used for :math:`\sigma \le 0.3`, the second above. All functions take the period as a keyword and treat
every component by itself; :math:`\sigma` is in the units of :math:`v`.

References:
    | Torsional diffusion for molecular conformer generation (Jing et al., 2022), https://arxiv.org/abs/2206.01729
    | Crystal structure prediction by joint equivariant diffusion (Jiao et al., 2023), https://arxiv.org/abs/2309.04475
"""

import functools
import math

import torch

from equilibra.geometry import lookup
from equilibra.types import Bool, Float, Tensor

_IMAGES = 4
_HARMONICS = 5
_FOURIER_FROM = 0.3
_SCORE_GRID = lookup.LogGrid(low=0.04, high=1.5, nodes=1024)


def wrap(x: Float[Tensor, "..."], *, period: float = 1.0) -> Float[Tensor, "..."]:
    r"""Maps coordinates to the fundamental cell :math:`[-P/2, P/2)`.

    Arguments:
        x: Coordinates, with any shape.
        period: The period :math:`P`, in the units of `x`.

    Returns:
        The representatives, with the shape of `x`; the gradient is that of the identity.
    """
    y = x - period * torch.floor(x.detach() / period + 0.5)
    y = torch.where(y >= period / 2, y - period, y)
    return torch.where(y < -period / 2, y + period, y)


def difference(x: Float[Tensor, "..."], y: Float[Tensor, "..."], *, period: float = 1.0) -> Float[Tensor, "..."]:
    r"""Computes the shortest way from `x` to `y`, the minimum image of :math:`y - x`.

    Arguments:
        x: Start coordinates.
        y: End coordinates; broadcast against `x`.
        period: The period :math:`P`, in the units of `x`.

    Returns:
        Differences in :math:`[-P/2, P/2)`, with the broadcast shape.
    """
    return wrap(y - x, period=period)


def _unit(
    v: Float[Tensor, "..."], sigma: Float[Tensor, "..."] | float, period: float
) -> tuple[Float[Tensor, "..."], Bool[Tensor, "..."], Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Returns v in units of the period, whether to use images, and widths that are safe for images and for the series."""
    s = torch.as_tensor(sigma, dtype=v.dtype, device=v.device) / period
    u = wrap(v, period=period) / period
    narrow = s <= _FOURIER_FROM
    return u, narrow, torch.where(narrow, s, torch.full_like(s, 0.1)), torch.where(narrow, torch.ones_like(s), s)


def _image_terms(
    u: Float[Tensor, "..."], s: Float[Tensor, "..."]
) -> tuple[Float[Tensor, "... images"], Float[Tensor, "... images"]]:
    """Returns the shifted coordinates v + n and the logarithms of their unnormalised Gaussian weights."""
    shifted = u[..., None] + torch.arange(-_IMAGES, _IMAGES + 1, dtype=u.dtype, device=u.device)
    return shifted, -shifted.square() / (2 * s.square())[..., None]


def _fourier(u: Float[Tensor, "..."], s: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Returns p - 1 and dp/du of the Fourier series."""
    excess, slope = torch.zeros_like(u * s), torch.zeros_like(u * s)
    for k in range(_HARMONICS, 0, -1):
        q = 2 * torch.exp(-2 * (math.pi * k * s).square())
        excess = excess + q * torch.cos(2 * math.pi * k * u)
        slope = slope - 2 * math.pi * k * q * torch.sin(2 * math.pi * k * u)
    return excess, slope


def wrapped_normal_log_density(
    v: Float[Tensor, "..."], sigma: Float[Tensor, "..."] | float, *, period: float = 1.0
) -> Float[Tensor, "..."]:
    r"""Computes :math:`\ln p(v; \sigma)` of the wrapped normal law, per component.

    Arguments:
        v: Displacements, any representative.
        sigma: Widths of the unwrapped normal law, positive, in the units of `v`; broadcast against it.
        period: The period, in the units of `v`.

    Returns:
        Log-densities with respect to :math:`dv`, with the broadcast shape; differentiable in `v` and `sigma`.
    """
    u, narrow, s_images, s_fourier = _unit(v, sigma, period)
    _, weight = _image_terms(u, s_images)
    images = torch.logsumexp(weight, dim=-1) - s_images.log() - 0.5 * math.log(2 * math.pi)
    fourier = torch.log1p(_fourier(u, s_fourier)[0])
    return torch.where(narrow, images, fourier) - math.log(period)


def wrapped_normal_score(
    v: Float[Tensor, "..."], sigma: Float[Tensor, "..."] | float, *, period: float = 1.0
) -> Float[Tensor, "..."]:
    r"""Computes the score :math:`\partial_v \ln p(v; \sigma)`, the posterior mean over images of :math:`-(v + n)/\sigma^2`.

    Arguments:
        v: Displacements, any representative.
        sigma: Widths of the unwrapped normal law, positive, in the units of `v`; broadcast against it.
        period: The period, in the units of `v`.

    Returns:
        Scores, in inverse units of `v`, with the broadcast shape; differentiable in `v` and `sigma`.
    """
    u, narrow, s_images, s_fourier = _unit(v, sigma, period)
    shifted, weight = _image_terms(u, s_images)
    images = -(torch.softmax(weight, dim=-1) * shifted).sum(-1) / s_images.square()
    excess, slope = _fourier(u, s_fourier)
    return torch.where(narrow, images, slope / (1 + excess)) / period


@functools.lru_cache(maxsize=1)
@torch.inference_mode(mode=False)
def _mean_squared_score_table() -> Float[Tensor, " n"]:
    """Tabulates ln E s² + 4π²σ² over uniform ln σ; the rectangle rule on a period converges exponentially."""
    sigma = _SCORE_GRID.points()[:, None]
    v = torch.arange(256, dtype=torch.float64) / 256 - 0.5
    integrand = wrapped_normal_log_density(v, sigma).exp() * wrapped_normal_score(v, sigma).square()
    return integrand.mean(-1).log() + (2 * math.pi * sigma[:, 0]).square()


def mean_squared_score(sigma: Float[Tensor, "..."], *, period: float = 1.0) -> Float[Tensor, "..."]:
    r"""Computes :math:`\mathrm{E}\, s^2` per component under the wrapped normal law, the inverse of the usual loss weight.

    It is :math:`1/\sigma^2` for small and :math:`8\pi^2 e^{-4\pi^2\sigma^2}` (period one) for large widths; interpolated in between with a
    relative error below 1e-4.

    Arguments:
        sigma: Widths of the unwrapped normal law, positive, with any shape.
        period: The period, in the units of `sigma`.

    Returns:
        Mean squared scores, in inverse squared units of `sigma`, with its shape.
    """
    s = sigma / period
    table = _mean_squared_score_table().to(s.device, s.dtype)
    tabulated = torch.exp(lookup.linear(table, _SCORE_GRID.position(s)) - (2 * math.pi * s).square())
    return torch.where(s < _SCORE_GRID.low, s.pow(-2), tabulated) / period**2
