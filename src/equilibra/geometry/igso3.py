r"""The heat kernel on SO(3), known as the isotropic Gaussian IGSO(3), in terms of the heat time :math:`\tau`.

With :math:`\partial_\tau f = \Delta f` and the Haar measure of total mass one, the density at the angle :math:`\omega` of
:math:`R_t R_0^\top` has two forms,

.. math::
    f(\omega; \tau) &= \sum_{l \ge 0} (2l+1)\, e^{-l(l+1)\tau}\, \frac{\sin((l + \tfrac12)\omega)}{\sin(\omega/2)} \\
    &= \frac{\sqrt\pi\, \tau^{-3/2} e^{\tau/4}}{2 \sin(\omega/2)} \sum_n (-1)^n (\omega - 2\pi n)\, e^{-(\omega - 2\pi n)^2 / 4\tau}

The second (images) is used for :math:`\tau < 1`, where the first loses all digits in the tail, the first otherwise. The law of
:math:`\omega` is :math:`f(\omega;\tau)(1 - \cos\omega)/\pi` on :math:`[0, \pi]`. For small :math:`\tau` the rotation vector is
Gaussian with variance :math:`2\tau` per axis: a noise of small-angle variance :math:`\sigma^2` has :math:`\tau = \sigma^2/2`.

Everything is an explicit formula, hence differentiable in the angle; tables serve random draws and the mean squared score only,
are built on first use and kept in memory.

References:
    | Denoising diffusion probabilistic models on SO(3) for rotational alignment (Leach et al., 2022)
    | SE(3) diffusion model with application to protein backbone generation (Yim et al., 2023), https://arxiv.org/abs/2302.02277

Note:
    The paper of Distributional Graphormer uses :math:`\tau = \sigma^2` in its kernel (A12) and :math:`\tau = \sigma^2/2` in
    its dynamics (A11, A14). Here there is only :math:`\tau`.
"""

import functools
import math

import numpy as np
import torch

from equilibra.geometry import lookup, so3
from equilibra.types import Float, Tensor

_IMAGES = 3
_DEGREES = 7
_SERIES_FROM = 1.0

_SCORE_GRID = lookup.LogGrid(low=1e-2, high=10.0, nodes=1024)
_DRAW_GRID = lookup.LogGrid(low=1e-4, high=10.0, nodes=256)
_RADIUS_MAX, _RADIUS_NODES = 8.0, 513


def _tau_like(tau: Float[Tensor, "..."] | float, like: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    return torch.as_tensor(tau, dtype=like.dtype, device=like.device)


def _log_chord(omega: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Returns ln(ω / 2 sin(ω/2)) and its derivative, smooth at ω = 0."""
    t = omega.square()
    small = t < 0.25
    w = torch.where(small, torch.ones_like(omega), omega)
    series = t / 24 * (1 + t / 120 * (1 + t / 63 * (1 + t * 3 / 160 * (1 + t * 2 / 99))))
    slope = omega / 12 * (1 + t / 60 * (1 + t / 42 * (1 + t / 40 * (1 + t * 10 / 396 * (1 + t * 691 * 3 / 81900)))))
    half = w / 2
    return (
        torch.where(small, series, torch.log(half / half.sin())),
        torch.where(small, slope, 1 / w - half.cos() / (2 * half.sin())),
    )


def _images(omega: Float[Tensor, "..."], tau: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Returns ln f and its slope from the images, paired as ±n so that the limit ω → 0 needs no cancellation.

    Factored as f = √π τ^(-3/2) exp(τ/4 - ω²/4τ) · (ω / 2 sin(ω/2)) · B with
    B = 1 + 2 Σ_{n≥1} (-1)^n exp(-π²n²/τ) [cosh z - (2π²n²/τ) sinh(z)/z], z = πnω/τ.
    """
    bracket, slope = torch.ones_like(omega * tau), torch.zeros_like(omega * tau)
    for n in range(1, _IMAGES + 1):
        rate = math.pi * n / tau
        z = rate * omega
        near, far = torch.exp(-rate * (math.pi * n - omega)), torch.exp(-rate * (math.pi * n + omega))
        cosh, sinh = (near + far) / 2, (near - far) / 2
        small = z.abs() < 0.5
        y = torch.where(small, z, torch.zeros_like(z))
        t, unit = y.square(), torch.exp(-rate * math.pi * n)
        large = torch.where(small, torch.ones_like(z), z)
        sinhc_series = unit * (1 + t / 6 * (1 + t / 20 * (1 + t / 42 * (1 + t / 72 * (1 + t / 110)))))
        slope_series = unit * y / 3 * (1 + t / 10 * (1 + t / 28 * (1 + t / 54 * (1 + t / 88 * (1 + t / 130)))))
        sinhc = torch.where(small, sinhc_series, sinh / large)
        sinhc_slope = torch.where(small, slope_series, (cosh - sinh / large) / large)
        weight = 2 * math.pi * n * rate
        sign = 2.0 * (-1) ** n
        bracket = bracket + sign * (cosh - weight * sinhc)
        slope = slope + sign * rate * (sinh - weight * sinhc_slope)
    chord, chord_slope = _log_chord(omega)
    prefactor = 0.5 * math.log(math.pi) - 1.5 * tau.log() + tau / 4 - omega.square() / (4 * tau)
    return prefactor + chord + bracket.log(), -omega / (2 * tau) + chord_slope + slope / bracket


def _series(omega: Float[Tensor, "..."], tau: Float[Tensor, "..."]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Returns ln f and its slope from the characters, written as the cosine polynomials 1 + 2 Σ_{k≤l} cos kω."""
    excess, slope, tail = torch.zeros_like(omega * tau), torch.zeros_like(omega * tau), torch.zeros_like(tau)
    for k in range(_DEGREES, 0, -1):
        tail = tail + (2 * k + 1) * torch.exp(-k * (k + 1) * tau)
        excess = excess + 2 * tail * torch.cos(k * omega)
        slope = slope - 2 * k * tail * torch.sin(k * omega)
    excess = excess + tail
    return torch.log1p(excess), slope / (1 + excess)


def _log_density_and_slope(
    omega: Float[Tensor, "..."], tau: Float[Tensor, "..."] | float
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    tau = _tau_like(tau, omega)
    early = tau < _SERIES_FROM
    images = _images(omega, torch.where(early, tau, torch.full_like(tau, 0.5)))
    series = _series(omega, torch.where(early, torch.full_like(tau, 2.0), tau))
    return torch.where(early, images[0], series[0]), torch.where(early, images[1], series[1])


def log_density(omega: Float[Tensor, "..."], tau: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
    r"""Computes :math:`\ln f(\omega; \tau)`, the log-density with respect to the uniform law.

    Computed in log space: tails far below the smallest float are exact.

    Arguments:
        omega: Rotation angles in :math:`[0, \pi]`, in radians.
        tau: Heat times, positive; broadcast against `omega`.

    Returns:
        The log-density, with the broadcast shape; differentiable in both arguments.
    """
    return _log_density_and_slope(omega, tau)[0]


def score_magnitude(omega: Float[Tensor, "..."], tau: Float[Tensor, "..."] | float) -> Float[Tensor, "..."]:
    r"""Computes the slope :math:`\partial_\omega \ln f(\omega; \tau)`.

    It is :math:`-\omega/2\tau + \omega/12 + O(\omega^3)` near zero and vanishes at :math:`\pi`.

    Arguments:
        omega: Rotation angles in :math:`[0, \pi]`, in radians.
        tau: Heat times, positive; broadcast against `omega`.

    Returns:
        The slope, in 1/rad, with the broadcast shape; differentiable in both arguments.
    """
    return _log_density_and_slope(omega, tau)[1]


def score(r: Float[Tensor, "... 3 3"], tau: Float[Tensor, "..."] | float) -> Float[Tensor, "... 3"]:
    r"""Computes the score of the heat kernel, :math:`s = (\partial_\omega \ln f)\, n`.

    Arguments:
        r: The rotations :math:`R_t R_0^\top`, with shape (..., 3, 3).
        tau: Heat times, positive; broadcast against the leading axes.

    Returns:
        Global-frame scores, with shape (..., 3), in 1/rad. The axis is the same in the body frame of :math:`R_t R_0^\top`;
        the body-frame score at :math:`R_t` is :math:`R_t^\top s`. At half turns the score is zero.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    v = so3.log(r)
    t = v.square().sum(-1)
    tiny = t < 1e-12
    omega = torch.where(tiny, torch.full_like(t, 1e-12), t).sqrt()
    return (score_magnitude(omega, tau) / omega)[..., None] * v


@functools.lru_cache(maxsize=1)
@torch.inference_mode(mode=False)
def _mean_squared_score_table() -> Float[Tensor, " n"]:
    """Tabulates ln E|s|² + 4τ over uniform ln τ by Gauss-Legendre quadrature; the added term makes it flat at large τ."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(96))
    tau = _SCORE_GRID.points()[:, None]
    top = (13 * tau.sqrt()).clamp(max=math.pi)
    omega = top * (nodes + 1) / 2
    log_f, slope = _log_density_and_slope(omega, tau)
    integrand = log_f.exp() * slope.square() * 2 * (omega / 2).sin().square() / math.pi
    return torch.log((integrand * weights).sum(-1) * top[:, 0] / 2) + 4 * tau[:, 0]


def mean_squared_score(tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""Computes :math:`\mathrm{E}|s|^2` under the heat kernel, the inverse of the usual loss weight.

    It is :math:`3/2\tau - 3/4` for small :math:`\tau` and :math:`18 e^{-4\tau}` for large; interpolated in between with a relative
    error below 1e-4.

    Arguments:
        tau: Heat times, positive, with any shape.

    Returns:
        The mean squared norm of the score, in 1/rad², with the shape of `tau`.
    """
    table = _mean_squared_score_table().to(tau.device, tau.dtype)
    tabulated = torch.exp(lookup.linear(table, _SCORE_GRID.position(tau)) - 4 * tau)
    return torch.where(tau < _SCORE_GRID.low, 1.5 / tau - 0.75, tabulated)


@functools.lru_cache(maxsize=1)
@torch.inference_mode(mode=False)
def _transport_table() -> Float[Tensor, "m n"]:
    r"""Tabulates the monotone map of Gaussian radii to angles, divided by :math:`\sqrt{2\tau}`.

    If :math:`z \sim N(0, I_3)` then :math:`\omega = T_\tau(|z|)` with equal cumulative probabilities has the law of the angle. Rows are
    uniform in ln τ, columns in r. Cumulative probabilities are inverted linearly in their cube root below the median and in the
    upper tail probability above it, so both ends keep their relative precision.
    """
    cells = 600
    tau = _DRAW_GRID.points()[:, None]
    width = (13.5 * tau.sqrt()).clamp(max=math.pi) / cells
    edges = width * torch.arange(cells + 1, dtype=torch.float64)
    mass = torch.zeros(_DRAW_GRID.nodes, cells, dtype=torch.float64)
    for node in (0.5 - math.sqrt(1 / 12), 0.5 + math.sqrt(1 / 12)):
        omega = edges[:, :-1] + node * width
        mass = mass + (log_density(omega, tau).exp() * (omega / 2).sin().square() * width / math.pi)
    mass = mass / mass.sum(-1, keepdim=True)
    lower = torch.nn.functional.pad(mass.cumsum(-1), (1, 0))
    upper = torch.nn.functional.pad(mass.flip(-1).cumsum(-1).flip(-1), (0, 1))
    radius = torch.linspace(0, _RADIUS_MAX, _RADIUS_NODES, dtype=torch.float64)
    tail = torch.erfc(radius / math.sqrt(2)) + math.sqrt(2 / math.pi) * radius * torch.exp(-radius.square() / 2)
    below = _interpolate_rows(lower.pow(1 / 3), edges, (1 - tail).clamp(min=0).pow(1 / 3))
    above = _interpolate_rows(-upper, edges, -tail)
    return torch.where(tail > 0.5, below, above) / (2 * tau).sqrt()


def _interpolate_rows(x: Float[Tensor, "m k"], y: Float[Tensor, "m k"], query: Float[Tensor, " n"]) -> Float[Tensor, "m n"]:
    """Interpolates y(x) linearly, row by row; x increases along a row."""
    q = query.expand(x.shape[0], -1).contiguous()
    i = torch.searchsorted(x.contiguous(), q, right=True).clamp(1, x.shape[1] - 1)
    x0, x1, y0, y1 = x.gather(1, i - 1), x.gather(1, i), y.gather(1, i - 1), y.gather(1, i)
    w = ((q - x0) / (x1 - x0).clamp(min=1e-300)).clamp(0, 1)
    return y0 + w * (y1 - y0)


def _angle_per_radius(radius: Float[Tensor, "..."], tau: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Returns T_τ(r)/r; below the table the Gaussian limit √2τ, above it the uniform law."""
    tau = tau.clamp(max=_DRAW_GRID.high)
    radius = radius.clamp(min=1e-6)
    table = _transport_table().to(tau.device, tau.dtype)
    column = radius * ((_RADIUS_NODES - 1) / _RADIUS_MAX)
    angle = lookup.bilinear(table, _DRAW_GRID.position(tau), column) * (2 * tau).sqrt()
    return angle.clamp(max=math.pi) / radius


def sample(tau: Float[Tensor, "..."], *, generator: torch.Generator) -> Float[Tensor, "... 3 3"]:
    r"""Draws rotations from the heat kernel started at the identity.

    A Gaussian vector gives the axis and, through the tabulated monotone map of its length, the angle: inverse-CDF sampling that
    becomes exactly Gaussian for small :math:`\tau`. To noise an orientation, multiply: :math:`R_t = N R_0`.

    Arguments:
        tau: The heat time of each draw, positive, with any shape (...).
        generator: The only source of randomness; numbers are drawn on its device.

    Returns:
        Rotation matrices, with shape (..., 3, 3), with the dtype and on the device of `tau`.
    """
    z = torch.randn((*tau.shape, 3), generator=generator, dtype=tau.dtype, device=generator.device).to(tau.device)
    radius = torch.linalg.vector_norm(z, dim=-1)
    return so3.exp(_angle_per_radius(radius, tau)[..., None] * z)
