r"""Momenta with the Maxwell-Boltzmann distribution :math:`p_i \sim N(0, m_i/\beta)`, without total momentum where the energy is translation invariant.

Removing the velocity of the centre of mass, :math:`p_i \to p_i - (m_i/M) \sum_j p_j`, turns independent momenta into the Gaussian conditioned on
:math:`\sum_j p_j = 0`. The flow then keeps the centre of mass, so it never leaves the mean-free space up to a translation that the energy does not see.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from equilibra.errors import InputError, ShapeError


def item_masses(masses: Tensor | None, x: Tensor) -> Tensor:
    """Returns masses (items, 1) that go with positions (n, items, axes); ones by default.

    Raises:
        ShapeError: If there is not one mass per item.
        InputError: If a mass is not positive.
    """
    if masses is None:
        return x.new_ones(x.shape[1], 1)
    if masses.shape != (x.shape[1],):
        raise ShapeError("masses", tuple(masses.shape), f"one per item, ({x.shape[1]},)")
    if not bool((masses > 0).all()):
        raise InputError(f"masses: the smallest is {float(masses.min()):g}, expected positive numbers; leave virtual sites out")
    return masses.to(x)[:, None]


def without_drift(p: Tensor, masses: Tensor) -> Tensor:
    """Returns momenta (n, items, axes) without the velocity of the centre of mass; masses (items, 1)."""
    return p - masses * (p.sum(1, keepdim=True) / masses.sum())


def draw_momenta(x: Tensor, masses: Tensor, beta: Tensor, *, drift_free: bool, generator: Generator) -> Tensor:
    r"""Draws momenta for walkers.

    Arguments:
        x: Positions (n, items, axes), for their shape, type and device.
        masses: Masses (items, 1).
        beta: Inverse temperatures (n,): :math:`\langle p_i^2 \rangle = m_i/\beta` per axis.
        drift_free: Whether the total momentum is zero.
        generator: The only source of randomness.

    Returns:
        Momenta (n, items, axes).
    """
    z = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
    p = z * (masses[None] / beta[:, None, None]).sqrt()
    return without_drift(p, masses) if drift_free else p


def kinetic(p: Tensor, masses: Tensor) -> Tensor:
    r"""Returns the kinetic energies :math:`\sum_i p_i^2/2 m_i` (n,)."""
    return 0.5 * (p.square() / masses).flatten(1).sum(1)
