r"""The integral over the log-noise from few traces: the trapezoidal rule where the integrand is smooth, more nodes where it is not.

For a Gaussian of the width :math:`\tau` the integrand is :math:`\sigma^2/(\sigma^2 + \tau^2)`, which in :math:`\ell = \ln\sigma` has its nearest poles at :math:`\mathrm{Im}\,\ell = \pm\pi/2`.
The trapezoidal rule of the spacing h is then wrong by :math:`O(e^{-\pi^2/h})` in the interior, :math:`10^{-8}` at h = 0.53, and needs corrections at the ends only:
Gregory's, from backward and forward differences there,

.. math::
    \int f\, d\ell \approx h \Big[\tfrac12 f_0 + f_1 + \dots + \tfrac12 f_n + \sum_{k=1}^4 G_k (\nabla^k f_n + (-\Delta)^k f_0)\Big], \qquad
    G = -\tfrac1{12}, -\tfrac1{24}, -\tfrac{19}{720}, -\tfrac3{160}.

Where a trajectory passes from one basin to another, the integrand has a bump as narrow as the passage is sharp, and no fixed spacing serves.
The integrand is therefore interpolated through six neighbours (Deslauriers and Dubuc), level by level: a value at a mid-point only matters by its
surplus :math:`f - If`, of the weight h/2, and where the surplus is small it is left out, that is, interpolated. With all values this is the rule above at half the spacing.

Which surpluses matter is told in advance by the trajectory, which costs no trace: the bump of the trace comes from the same passage as
that of the scaled displacement :math:`q = \delta/\sigma`, and :math:`|f - If| \approx \kappa\, |q - Iq|` with a factor that the evaluated nodes give; between 2 and 5 for mixtures of
narrow and wide Gaussians at any spacing. A surplus is also expected to be no smaller than its parents' times their decay from level to level.

References: Trefethen and Weideman (2014), https://doi.org/10.1137/130932132; Fornberg (2021), https://doi.org/10.1137/20M1353010 (end corrections);
Deslauriers and Dubuc (1989), https://doi.org/10.1007/BF01889598; Donoho (1992), interpolating wavelet transforms
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

GREGORY = (-1 / 12, -1 / 24, -19 / 720, -3 / 160)
"""Coefficients of the differences at the ends, the first to the fourth."""

_NEIGHBOURS = 6
_FIRST_FACTOR = 6.0  # kappa before any mid-point is known
_FACTORS = (3.0, 40.0)
_SAFETY = 2.0  # on the factor that the evaluated nodes give
_GROWTH = 1.3  # of the factor from level to level
_DECAYS = (0.1, 0.7)
_BEYOND = 0.25  # surpluses past the finest level, in units of those expected at it
_ROUNDS = 6


def gregory_weights(intervals: int) -> Tensor:
    """Returns the weights (intervals + 1,) of the trapezoidal rule with Gregory's end corrections, for the spacing 1; needs 4 intervals."""
    weights = torch.ones(intervals + 1, dtype=torch.float64)
    weights[0] = weights[-1] = 0.5
    for k, g in enumerate(GREGORY, start=1):
        for i in range(k + 1):
            term = g * (-1) ** i * math.comb(k, i)
            weights[i] += term
            weights[intervals - i] += term
    return weights


@lru_cache(maxsize=64)
def midpoint_matrix(intervals: int, neighbours: int = _NEIGHBOURS) -> Tensor:
    """Returns the matrix (intervals, intervals + 1) from values at equidistant nodes to the polynomial through the nearest ones, at each mid-point."""
    count = min(neighbours, intervals + 1)
    matrix = torch.zeros(intervals, intervals + 1, dtype=torch.float64)
    for i in range(intervals):
        first = min(max(i - count // 2 + 1, 0), intervals + 1 - count)
        nodes = range(first, first + count)
        for a in nodes:
            matrix[i, a] = math.prod((i + 0.5 - b) / (a - b) for b in nodes if b != a)
    return matrix


def interpolate(values: Tensor) -> Tensor:
    """Returns the values at mid-points (n, ...) from those at nodes (n + 1, ...)."""
    matrix = midpoint_matrix(len(values) - 1).to(values.device)
    return torch.tensordot(matrix, values.double(), dims=1)


def base_intervals(width: float, spacing: float) -> int:
    """Returns the even number of intervals, at least 10, with which no spacing of the coarsest nodes is larger than `spacing`."""
    return max(10, 2 * math.ceil(width / (2.0 * spacing) - 1e-9))


def unresolved(scaled: Tensor, base: int, width: float) -> Tensor:
    """Returns the contribution (batch,) to expect of surpluses past the finest level of a trajectory, before any trace is known."""
    levels = _depth(len(scaled) - 1, base)
    finest = _surpluses(scaled, levels)[-1]
    weight = width / (len(scaled) - 1)
    return _BEYOND * _FIRST_FACTOR * _GROWTH ** (levels - 1) * weight * finest.square().sum(0).sqrt()


class Refinement:
    """The choice of nodes for one batch, and the integral from the values there. Nodes are numbered along the trajectory.

    Arguments:
        scaled: Scaled displacements q along the trajectory (base 2^levels + 1, batch, coordinates).
        base: Number of intervals between the coarsest nodes, even.
        width: Length of the integration range.
        tolerance: Wanted error in nats.
    """

    def __init__(self, scaled: Tensor, base: int, width: float, tolerance: float) -> None:
        self.base, self.width, self.tolerance = base, width, tolerance
        self.levels = _depth(len(scaled) - 1, base)
        self._expected = _surpluses(scaled, self.levels)
        self._weights = [width / base / 2 ** (j + 1) for j in range(self.levels)]
        batch = scaled.shape[1]
        self._known = torch.zeros(len(scaled), batch, dtype=torch.bool, device=scaled.device)
        self._values: Tensor | None = None
        self._rounds = 0

    def first(self) -> tuple[Tensor, Tensor]:
        """Returns the coarsest nodes, of all elements, as node and batch indices."""
        batch = self._known.shape[1]
        nodes = torch.arange(0, len(self._known), 2**self.levels, device=self._known.device)
        return nodes.repeat_interleave(batch), torch.arange(batch, device=nodes.device).repeat(len(nodes))

    def add(self, node: Tensor, element: Tensor, values: Tensor) -> None:
        """Takes the values (probes, pairs) of the integrand at pairs of node and batch element."""
        if self._values is None:
            self._values = torch.zeros(*self._known.shape, len(values), dtype=torch.float64, device=values.device)
        self._values[node, element] = values.double().T
        self._known[node, element] = True

    def wanted(self) -> tuple[Tensor, Tensor]:
        """Returns the nodes without which the error would exceed the tolerance, as node and batch indices; none when it is finished."""
        self._rounds += 1
        contributions = self._contributions()
        flat = torch.cat(contributions)
        ordered, order = flat.sort(0)
        wanted = torch.zeros_like(flat, dtype=torch.bool).scatter(0, order, ordered.square().cumsum(0).sqrt() > self.tolerance)
        if self._rounds > _ROUNDS:
            wanted = torch.zeros_like(wanted)
        nodes = torch.cat([self._midpoints(j) for j in range(self.levels)])
        row, element = torch.nonzero(wanted, as_tuple=True)
        return nodes[row], element

    def integral(self) -> Tensor:
        """Returns the integral (probes, batch) over the increasing level; nodes that were left out are interpolated."""
        filled = self._filled()[0]
        weights = gregory_weights(len(filled) - 1).to(filled.device) * (self.width / (len(filled) - 1))
        return torch.tensordot(weights, filled, dims=1).T

    def error(self) -> Tensor:
        """Returns the root sum of squares (batch,) of the contributions that are expected of all nodes left out, and past the finest level."""
        contributions = self._contributions()
        beyond = self._factor() * _GROWTH ** (self.levels - 1) * self._weights[-1] * self._expected[-1]
        total = torch.cat([*contributions, _BEYOND * beyond]).square().sum(0)
        return total.sqrt()

    def traces(self) -> int:
        """Returns the number of pairs of node and batch element that were evaluated."""
        return int(self._known.sum())

    def _midpoints(self, level: int) -> Tensor:
        """Returns the nodes that level adds."""
        stride = 2 ** (self.levels - level)
        return torch.arange(stride // 2, len(self._known), stride, device=self._known.device)

    def _filled(self) -> tuple[Tensor, list[Tensor]]:
        """Returns the values at all nodes (nodes, batch, probes), and the surpluses (mid-points, batch) of each level, zero where not evaluated."""
        assert self._values is not None  # `add` comes first
        values, surpluses = self._values[:: 2**self.levels], []
        for level in range(self.levels):
            nodes = self._midpoints(level)
            guess, known = interpolate(values), self._known[nodes]
            middle = torch.where(known[..., None], self._values[nodes], guess)
            surpluses.append((middle - guess).mean(-1).abs())
            joined = values.new_zeros(len(values) + len(middle), *values.shape[1:])
            joined[::2], joined[1::2] = values, middle
            values = joined
        return values, surpluses

    def _factor(self) -> Tensor:
        """Returns kappa (batch,), from the evaluated mid-points where there are any."""
        surpluses = self._filled()[1]
        known = [self._known[self._midpoints(j)] for j in range(self.levels)]
        found = torch.stack([s.square().sum(0) for s in surpluses]).sum(0)
        expected = torch.stack([(e * k).square().sum(0) for e, k in zip(self._expected, known, strict=True)]).sum(0)
        factor = (_SAFETY * (found / expected.clamp(min=1e-30)).sqrt()).clamp(*_FACTORS)
        return torch.where(expected > 0.0, factor, torch.full_like(factor, _FIRST_FACTOR))

    def _contributions(self) -> list[Tensor]:
        """Returns what the value at each mid-point is expected to change the integral by (mid-points, batch), zero where it is known."""
        assert self._values is not None  # `add` comes first
        surpluses, factor = self._filled()[1], self._factor()
        known = [self._known[self._midpoints(j)] for j in range(self.levels)]
        # the odd ones of the coarsest nodes against the even ones
        coarse = self._values[:: 2**self.levels].mean(-1)
        parents = torch.zeros_like(coarse)
        parents[1::2] = (coarse[1::2] - interpolate(coarse[::2])).abs()
        decay = self._decay(parents, surpluses, known)
        contributions = []
        for level, (surplus, expected, seen) in enumerate(zip(surpluses, self._expected, known, strict=True)):
            own = factor * _GROWTH**level * expected
            inherited = decay * torch.maximum(*_both_sides(parents))
            guess = torch.maximum(own, inherited)
            contributions.append(torch.where(seen, torch.zeros_like(guess), guess * self._weights[level]))
            following = parents.new_zeros(2 * len(parents) - 1, parents.shape[1])
            following[1::2] = torch.where(seen, surplus, guess)
            parents = following
        return contributions

    @staticmethod
    def _decay(coarsest: Tensor, surpluses: Sequence[Tensor], known: Sequence[Tensor]) -> Tensor:
        """Returns the largest ratio (batch,) of the surpluses of one level to those of the level before."""
        decay = torch.full_like(coarsest[0], _DECAYS[0])
        before, seen = coarsest.square().sum(0).sqrt(), torch.ones_like(decay, dtype=torch.bool)
        for surplus, mask in zip(surpluses, known, strict=True):
            size, any_known = surplus.square().sum(0).sqrt(), mask.any(0)
            ratio = size / before.clamp(min=1e-12)
            decay = torch.where(seen & any_known, torch.maximum(decay, ratio), decay)
            before, seen = size, any_known
        return decay.clamp(*_DECAYS)


def _both_sides(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the surplus at the left and the right end of each interval; nodes of older levels, the even ones, take the larger of their neighbours'."""
    padded = torch.nn.functional.pad(nodes, (0, 0, 1, 1))
    full = nodes.clone()
    full[::2] = torch.maximum(padded[:-2], padded[2:])[::2]
    return full[:-1], full[1:]


def _depth(intervals: int, base: int) -> int:
    """Returns the number of levels between the coarsest nodes and the trajectory."""
    return round(math.log2(intervals / base))


def _surpluses(scaled: Tensor, levels: int) -> list[Tensor]:
    """Returns |q - Iq| at the mid-points (mid-points, batch) of each level."""
    found = []
    for level in range(levels):
        stride = 2 ** (levels - level)
        found.append((scaled[stride // 2 :: stride] - interpolate(scaled[::stride])).norm(dim=-1))
    return found
