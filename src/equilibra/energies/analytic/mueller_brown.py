"""The Mueller-Brown surface: three minima and two curved saddles in the plane."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from equilibra.energies.analytic.solved import ThermalEnergy, check_positions, check_positive
from equilibra.errors import InputError

# amplitude, a, b, c, x0, y0 of each term
_TERMS = (
    (-200.0, -1.0, 0.0, -10.0, 1.0, 0.0),
    (-100.0, -1.0, 0.0, -10.0, 0.0, 0.5),
    (-170.0, -6.5, 11.0, -6.5, -0.5, 1.5),
    (15.0, 0.7, 0.6, 0.7, -1.0, 1.0),
)
_NEGLIGIBLE = 45.0


class MuellerBrown(ThermalEnergy):
    r"""Sum of four exponentials of quadratic forms, times a scale: shape (batch, 1, 2).

    .. math:: u = s \sum_k A_k \exp[a_k (x - x_k)^2 + b_k (x - x_k)(y - y_k) + c_k (y - y_k)^2]

    The deepest minimum of the unscaled surface is -146.7, its highest saddle on the way to the second one -40.7: a scale of 0.05 to 0.1
    makes it a hard but sensible target at kT = 1.

    Arguments:
        scale: Factor s.
        cells: Cells per axis of the grid behind `log_z`, `mean_energy` and `sample`.

    Raises:
        InputError: If the scale is not positive.

    References:
        | Location of saddle points and minimum energy paths by a constrained simplex optimization procedure (Mueller and Brown, 1979)
        | https://doi.org/10.1007/BF00547608
    """

    items = 1
    axes = 2
    invariant = False
    minima: tuple[tuple[float, float], ...] = ((-0.558224, 1.441726), (0.623499, 0.028038), (-0.050011, 0.466694))

    def __init__(self, scale: float = 1.0, *, cells: int = 1000) -> None:
        self.scale = check_positive("scale", scale)
        self.cells = cells
        self.name = "mueller-brown"

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        check_positions(self, x)
        return self._surface(x[:, 0, 0], x[:, 0, 1])

    def _surface(self, x: Tensor, y: Tensor) -> Tensor:
        total = torch.zeros_like(x)
        for amplitude, a, b, c, x0, y0 in _TERMS:
            dx, dy = x - x0, y - y0
            total = total + amplitude * torch.exp(a * dx.square() + b * dx * dy + c * dy.square())
        return self.scale * total

    def _box(self) -> tuple[float, float, float, float]:
        """Returns the rectangle outside of which the density is negligible."""
        points = torch.linspace(-6.0, 6.0, 601, dtype=torch.float64)
        u = self._surface(*torch.meshgrid(points, points, indexing="ij"))
        deepest = torch.tensor(self.minima, dtype=torch.float64)
        near = points[(u - u.min() < _NEGLIGIBLE).nonzero()]
        both = torch.cat([near, deepest])
        low, high = both.amin(0) - 0.04, both.amax(0) + 0.04
        return float(low[0]), float(high[0]), float(low[1]), float(high[1])

    def _grid(self) -> tuple[Tensor, Tensor, Tensor, float]:
        """Returns cell middles along x and y, the energies there (cells, cells), and the area of a cell."""
        left, right, bottom, top = self._box()
        index = (torch.arange(self.cells, dtype=torch.float64) + 0.5) / self.cells
        x, y = left + (right - left) * index, bottom + (top - bottom) * index
        return x, y, self._surface(x[:, None], y[None, :]), (right - left) * (top - bottom) / self.cells**2

    def log_z(self) -> float:
        r"""Returns :math:`\ln Z` by the mid-point rule, whose error falls faster than any power of the cell for a smooth decaying density.

        Raises:
            InputError: If the grid is too coarse for the scale.
        """
        _, _, u, area = self._grid()
        total = float(torch.logsumexp(-u.flatten(), 0))
        # every second cell in each direction is a grid of its own
        coarse = float(torch.logsumexp(-u[::2, ::2].flatten(), 0)) + math.log(u.numel() / u[::2, ::2].numel())
        if abs(coarse - total) > 1e-4:
            raise InputError(
                f"mueller-brown: {self.cells} cells per axis do not resolve the wells at scale {self.scale:g}; give more cells"
            )
        return total + math.log(area)

    def mean_energy(self) -> float:  # noqa: D102
        _, _, u, _ = self._grid()
        return float((torch.softmax(-u.flatten(), 0) * u.flatten()).sum())

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Draws n independent samples (n, 1, 2), in float64, from the density that is constant in each cell of the grid."""
        x, y, u, _ = self._grid()
        cumulative = torch.exp(-(u - u.min())).flatten().cumsum(0)
        uniform = torch.rand(n, generator=generator, dtype=torch.float64) * cumulative[-1]
        cell = torch.searchsorted(cumulative, uniform).clamp(max=len(cumulative) - 1)
        middle = torch.stack([x[cell // self.cells], y[cell % self.cells]], dim=-1)
        within = torch.rand(n, 2, generator=generator, dtype=torch.float64) - 0.5
        step = torch.stack([x[1] - x[0], y[1] - y[0]])
        return (middle + within * step)[:, None]
