r"""Independent quartic double wells: one for mode weights, many for mode coverage.

.. math:: u(x) = \sum_i \Big[ a x_{i1}^4 - b x_{i1}^2 + c \, x_{i1} + h + \tfrac k2 \sum_{\alpha > 1} x_{i\alpha}^2 \Big]

Every item is one well along its first axis; its other axes are harmonic. All wells are alike and independent, so that one-dimensional
quadrature gives everything: :math:`\ln Z`, means, and the population of each side.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from equilibra.energies.analytic.solved import ThermalEnergy, check_positions, check_positive
from equilibra.errors import InputError

# beyond this many kT above the minimum nothing contributes to an integral in double precision
_NEGLIGIBLE = 60.0
_CELLS = 200_000


class ManyWell(ThermalEnergy):
    r"""Several alike, independent double wells.

    Arguments:
        count: Number of wells, the items.
        a: Quartic coefficient, positive.
        b: Quadratic coefficient; the wells of c = 0 are at :math:`\pm\sqrt{b/2a}`, their barrier is :math:`b^2/4a`.
        c: Tilt; a positive one favours the left side.
        axes: One for the well itself, and any number of harmonic ones.
        stiffness: Spring constant k of the harmonic axes.
        offset: Constant h per well.
        name: What it is called.

    Raises:
        InputError: If `a`, `stiffness` or a count is not positive.
    """

    invariant = False

    def __init__(
        self,
        count: int,
        a: float = 1.0,
        b: float = 6.0,
        c: float = -0.5,
        *,
        axes: int = 1,
        stiffness: float = 1.0,
        offset: float = 0.0,
        name: str = "many-well",
    ) -> None:
        if count < 1 or axes < 1:
            raise InputError(f"{name}: got {count} wells with {axes} axes, expected at least one of each")
        self.items, self.axes, self.name = count, axes, name
        self.a, self.b, self.c, self.offset = check_positive("a", a), float(b), float(c), float(offset)
        self.stiffness = check_positive("stiffness", stiffness)
        turning = np.roots([4.0 * self.a, 0.0, -2.0 * self.b, self.c])
        self._turning_points = np.sort(turning[np.abs(turning.imag) < 1e-9].real)
        self._lowest = float(self._well(self._turning_points).min())
        self._bound = 1.0
        while min(self._well(self._bound), self._well(-self._bound)) - self._lowest < _NEGLIGIBLE:
            self._bound *= 1.25

    def _well(self, x: float | np.ndarray) -> np.ndarray:
        x = np.asarray(x, dtype=np.float64)
        return self.a * x**4 - self.b * x**2 + self.c * x + self.offset

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        check_positions(self, x)
        well, rest = x[..., 0], x[..., 1:]
        square = well.square()
        quartic = square * (self.a * square - self.b) + self.c * well + self.offset
        return (quartic + 0.5 * self.stiffness * rest.square().sum(-1)).sum(-1)

    def _integral(self, weight: Callable[[float], float], low: float = -math.inf, high: float = math.inf) -> float:
        """Returns the integral of weight(x) exp(-(u(x) - u_min)) over one well's own axis."""
        from scipy.integrate import quad

        low, high = max(low, -self._bound), min(high, self._bound)
        if low >= high:
            return 0.0
        inside = [float(p) for p in self._turning_points if low < p < high]
        value, _ = quad(
            lambda x: weight(x) * math.exp(self._lowest - float(self._well(x))),
            low,
            high,
            points=inside or None,
            limit=500,
            epsabs=0.0,
            epsrel=1e-11,
        )
        return float(value)

    def log_z(self) -> float:
        r"""Returns :math:`\ln Z` by adaptive quadrature, to about 1e-10."""
        one = math.log(self._integral(lambda x: 1.0)) - self._lowest
        return self.items * (one + 0.5 * (self.axes - 1) * math.log(2.0 * math.pi / self.stiffness))

    def mean_energy(self) -> float:
        r"""Returns :math:`\langle u \rangle` by quadrature, to about 1e-10."""
        above = self._integral(lambda x: float(self._well(x)) - self._lowest) / self._integral(lambda x: 1.0)
        return self.items * (above + self._lowest + 0.5 * (self.axes - 1))

    def probability(self, low: float = -math.inf, high: float = math.inf) -> float:
        """Returns the probability that one well's first coordinate lies between two numbers."""
        return self._integral(lambda x: 1.0, low, high) / self._integral(lambda x: 1.0)

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Draws n independent samples (n, items, axes), in float64: wells by their inverted distribution function on 2e5 cells."""
        edges = torch.linspace(-self._bound, self._bound, _CELLS + 1, dtype=torch.float64)
        middle = 0.5 * (edges[1:] + edges[:-1])
        cumulative = torch.from_numpy(np.exp(self._lowest - self._well(middle.numpy()))).cumsum(0)
        cumulative = cumulative / cumulative[-1]
        uniform = torch.rand(n, self.items, generator=generator, dtype=torch.float64)
        cell = torch.searchsorted(cumulative, uniform).clamp(max=_CELLS - 1)
        within = torch.rand(n, self.items, generator=generator, dtype=torch.float64)
        well = edges[cell] + within * (edges[1] - edges[0])
        rest = torch.randn(n, self.items, self.axes - 1, generator=generator, dtype=torch.float64) / math.sqrt(self.stiffness)
        return torch.cat([well[..., None], rest], dim=-1)


class DoubleWell(ManyWell):
    r"""One double well: :math:`u = a x_1^4 - b x_1^2 + c x_1 + \frac k2 \sum_{\alpha>1} x_\alpha^2`, shape (batch, 1, axes).

    Arguments:
        a: Quartic coefficient, positive.
        b: Quadratic coefficient.
        c: Tilt.
        axes: One for the well, the others are harmonic.
        stiffness: Spring constant of the harmonic axes.
        name: What it is called.
    """

    def __init__(
        self,
        a: float = 1.0,
        b: float = 6.0,
        c: float = -0.5,
        *,
        axes: int = 1,
        stiffness: float = 1.0,
        name: str = "double-well",
    ) -> None:
        super().__init__(1, a, b, c, axes=axes, stiffness=stiffness, name=name)


def many_well_5() -> ManyWell:
    r"""Returns MW-5: :math:`u = \sum_{i \le 5} (x_i^2 - 4)^2`, 32 modes of equal weight, shape (batch, 5, 1)."""
    return ManyWell(5, 1.0, 8.0, 0.0, offset=16.0, name="many-well-5")


def many_well_32() -> ManyWell:
    r"""Returns Many-well-32: sixteen times :math:`x_1^4 - 6 x_1^2 - \frac12 x_1 + \frac12 x_2^2`, shape (batch, 16, 2).

    References:
        | Flow Annealed Importance Sampling Bootstrap (Midgley et al., 2023)
        | https://arxiv.org/abs/2208.01893
    """
    return ManyWell(16, 1.0, 6.0, -0.5, axes=2, name="many-well-32")
