"""Differentiable linear interpolation in tables on uniform and logarithmic grids."""

import dataclasses
import math

import torch

from equilibra.types import Float, Int, Tensor


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogGrid:
    """Positive numbers with equal ratios.

    Arguments:
        low: The first node.
        high: The last node.
        nodes: The number of nodes.
    """

    low: float
    high: float
    nodes: int

    def points(self) -> Float[Tensor, " nodes"]:
        """Returns the nodes, in float64."""
        return torch.linspace(math.log(self.low), math.log(self.high), self.nodes, dtype=torch.float64).exp()

    def position(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Returns where numbers lie on the grid, in units of its spacing: 0 at `low`, nodes - 1 at `high`."""
        return (x.log() - math.log(self.low)) * ((self.nodes - 1) / math.log(self.high / self.low))


def _cell(position: Float[Tensor, "..."], n: int) -> tuple[Int[Tensor, "..."], Float[Tensor, "..."]]:
    position = position.clamp(0, n - 1)
    index = position.detach().floor().long().clamp(max=n - 2)
    return index, position - index.to(position.dtype)


def linear(values: Float[Tensor, " n"], position: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Interpolates a table linearly.

    Arguments:
        values: The table on the grid 0, 1, ..., n - 1, with shape (n).
        position: Where to interpolate, in units of the grid spacing; beyond the ends the end values hold.

    Returns:
        The interpolated values, with the shape of `position`; differentiable in both arguments.
    """
    i, w = _cell(position, values.shape[0])
    return values[i] * (1 - w) + values[i + 1] * w


def bilinear(values: Float[Tensor, "m n"], row: Float[Tensor, "..."], column: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Interpolates a two-dimensional table bilinearly.

    Arguments:
        values: The table, with shape (m, n).
        row: Positions along the first axis, in units of its spacing; beyond the ends the end values hold.
        column: Positions along the second axis, with the shape of `row`.

    Returns:
        The interpolated values, with the shape of `row`; differentiable in all arguments.
    """
    m, n = values.shape
    i, u = _cell(row, m)
    j, w = _cell(column, n)
    flat = values.reshape(-1)
    k = i * n + j
    low = flat[k] * (1 - w) + flat[k + 1] * w
    high = flat[k + n] * (1 - w) + flat[k + n + 1] * w
    return low * (1 - u) + high * u
