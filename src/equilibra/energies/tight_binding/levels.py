r"""Levels of Bloch Hamiltonians, their filling, and the edges of the gap, with derivatives that degenerate levels do not spoil.

Everything that is differentiated is a function of the levels alone, and :math:`\partial \varepsilon_n / \partial H = u_n u_n^\dagger` (Hellmann and Feynman), so
eigenvectors are never differentiated: :math:`\partial / \partial H \sum_n c_n \varepsilon_n = U\, \mathrm{diag}(c)\, U^\dagger`. Within a degenerate level that is
well defined if its states have equal coefficients, as they have here.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from equilibra.errors import InputError

_BISECTIONS = 60
"""Enough to narrow a hundred eV down to rounding."""

_DEGENERATE = 1e-3
"""States that are this close to an edge of the gap share its derivative, in eV."""


class _Levels(torch.autograd.Function):
    """Eigenvalues of Hermitian matrices with their derivative by Hellmann and Feynman; the eigenvectors have none."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, anchor: Tensor) -> tuple[Tensor, Tensor]:
        levels, states = torch.linalg.eigh(h)
        ctx.save_for_backward(states, anchor)
        ctx.mark_non_differentiable(states)
        return levels, states

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        states, anchor = ctx.saved_tensors
        density = (states * gradients[0][..., None, :]) @ states.mH
        return _Once.apply(density, anchor), None


class _Once(torch.autograd.Function):
    """Hands a first derivative on, and refuses to be differentiated: by an anchor that depends on what levels depend on."""

    @staticmethod
    def forward(ctx: Any, derivative: Tensor, anchor: Tensor) -> Tensor:
        return derivative.view_as(derivative)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        raise InputError(
            "tight binding: got a second derivative to compute, which it does not have; detach forces and derivatives of gaps before they enter what is "
            "differentiated, or differentiate them by differences"
        )


def diagonalise(h: Tensor) -> tuple[Tensor, Tensor]:
    """Diagonalises Hermitian matrices.

    A second derivative would need the response of the filling, which is held constant here; it is refused where autograd would return a part of it.

    Arguments:
        h: With shape (matrices, n, n).

    Returns:
        Levels, ascending, with shape (matrices, n), differentiable once; states in columns, with shape (matrices, n, n), not differentiable.

    Raises:
        InputError: When a derivative of the levels is differentiated.
    """
    # a number that depends on h keeps the matrices themselves out of what is saved
    levels, states = _Levels.apply(h, h.real.sum())
    return levels, states


class Filling(NamedTuple):
    """Electrons in the levels of crystals.

    Attributes:
        occupations: Between 0 and 1 (crystals, points, n).
        entropy: Of each level of one spin, in units of Boltzmann's constant (crystals, points, n).
        fermi_level: In eV (crystals,).
    """

    occupations: Tensor
    entropy: Tensor
    fermi_level: Tensor


@torch.no_grad()
def fill(levels: Tensor, weights: Tensor, filled: int, smearing: float) -> Filling:
    r"""Fills levels by the distribution of Fermi and Dirac.

    The Fermi level balances electrons above against holes below: :math:`\sum_k w_k \sum_{n > \text{filled}} f_n = \sum_k w_k \sum_{n \le \text{filled}} (1 - f_n)`, which stays
    accurate where a gap makes both tiny.

    Arguments:
        levels: With shape (crystals, points, n), ascending, in eV.
        weights: Of the points, with shape (crystals, points); each row adds up to one, and may hold zeros.
        filled: Number of bands that the electrons of a crystal would fill.
        smearing: Temperature kT, in eV.
    """
    e, w = levels.double() / smearing, weights.double()[..., None]
    present = (w > 0).expand_as(e)
    low = torch.where(present, e, torch.inf).amin((1, 2), keepdim=True)
    high = torch.where(present, e, -torch.inf).amax((1, 2), keepdim=True)
    # electrons count above the filled bands, holes with the other sign in them
    sign = torch.ones(e.shape[-1], dtype=e.dtype, device=e.device)
    sign[:filled] = -1.0
    signed_levels, signed_weights = sign * e, sign * w
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        surplus = (signed_weights * torch.sigmoid(sign * middle - signed_levels)).sum((1, 2), keepdim=True)
        low, high = torch.where(surplus < 0, middle, low), torch.where(surplus < 0, high, middle)
    middle = (low + high) / 2
    x, fermi_level = middle - e, smearing * middle[:, 0, 0]
    occupations, empty = torch.sigmoid(x), torch.sigmoid(-x)
    entropy = torch.special.entr(occupations) + torch.special.entr(empty)
    return Filling(occupations.to(levels.dtype), entropy.to(levels.dtype), fermi_level.to(levels.dtype))


def free_energy(levels: Tensor, weights: Tensor, filling: Filling, smearing: float) -> Tensor:
    r"""Computes the free energy of the electrons, :math:`2 \sum_k w_k \sum_n (f_n \varepsilon_n - kT s_n)`.

    At a given number of electrons it is stationary in the occupations, so its derivative is exact although they are held constant.

    Arguments:
        levels: With shape (crystals, points, n), in eV; differentiable.
        weights: With shape (crystals, points).
        filling: How the levels are filled.
        smearing: Temperature kT, in eV.

    Returns:
        Free energies, with shape (crystals), in eV.
    """
    terms = filling.occupations * levels - smearing * filling.entropy
    return 2 * (weights[..., None] * terms).sum((1, 2))


def signed_gap(levels: Tensor, weights: Tensor, filled: int) -> Tensor:
    """Computes the lowest empty level minus the highest filled one, over all points; negative where bands overlap.

    States within 1 meV of an edge share its derivative by their weights, which makes that of a symmetric crystal symmetric.

    Arguments:
        levels: With shape (crystals, points, n), ascending, in eV; differentiable.
        weights: With shape (crystals, points); points of weight zero are left out.
        filled: Number of filled bands.

    Returns:
        Signed gaps, with shape (crystals), in eV.
    """
    return -_top(-levels[..., filled:], weights) - _top(levels[..., :filled], weights)


def _top(levels: Tensor, weights: Tensor) -> Tensor:
    """Returns the largest of the levels (crystals,), with the mean derivative of those close to it."""
    w = weights[..., None].expand_as(levels)
    with torch.no_grad():
        largest = torch.where(w > 0, levels, -torch.inf).amax((1, 2))
        share = torch.where(levels > largest[:, None, None] - _DEGENERATE, w, 0.0)
        share = share / share.sum((1, 2), keepdim=True)
    return largest + (share * (levels - levels.detach())).sum((1, 2))
