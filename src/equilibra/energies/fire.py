r"""FIRE: relaxation of many structures at once to the nearest minimum of an energy.

Each structure moves like a particle on the energy that is steered along its force while that helps, with growing steps, and stopped where it does not:

.. math:: v \leftarrow (1 - a)\, v + a\, |v|\, f / |f| \text{ if } f \cdot v > 0, \text{ else } 0, \qquad v \leftarrow v + h f, \qquad x \leftarrow x + h v

References:
    | Structural relaxation made simple (Bitzek et al., 2006), https://doi.org/10.1103/PhysRevLett.97.170201
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equilibra.energies.energy import Energy

_LONGEST = 0.2  # Å that an atom moves in a step
_TIME, _MOST_TIME = 0.1, 1.0


@dataclass(frozen=True, eq=False)
class Minima:
    """Relaxed structures.

    Attributes:
        x: Positions (batch, items, 3), in Å.
        energy: Energies (batch,), in eV; not finite where the energy failed.
        largest: Largest force (batch,) of an atom, in eV/Å; not finite where forces failed.
        calls: Energy calls (batch,) of each.
        converged: Whether that force of each (batch,) is as small as was wanted.
    """

    x: Tensor
    energy: Tensor
    largest: Tensor
    calls: Tensor
    converged: Tensor


def minimise(
    energy: Energy,
    positions: Tensor,
    *,
    force: float,
    steps: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Minima:
    """Relaxes structures, all of a batch at once; those that are done, or whose energy is not finite, are not asked for again.

    Arguments:
        energy: The energy, in eV.
        positions: Starting points (batch, items, 3), in Å.
        force: Largest force of an atom at the end, in eV/Å.
        steps: Most steps.
        progress: Called with the number of finished steps and of all.
    """
    x = positions.double().clone()
    v = torch.zeros_like(x)
    time = torch.full((len(x),), _TIME, dtype=torch.float64)
    mixing, uphill = torch.full_like(time, 0.1), torch.zeros(len(x))
    calls = torch.zeros(len(x), dtype=torch.int64)
    u, f = (torch.zeros(len(x), dtype=torch.float64), torch.zeros_like(x))
    largest = torch.zeros_like(u)
    active = torch.arange(len(x))
    for step in range(steps + 1):
        u[active], f[active] = energy.energy_and_force(x[active])
        calls[active] += 1
        largest[active] = torch.linalg.vector_norm(f[active], dim=-1).amax(1)
        failed = ~(torch.isfinite(u) & torch.isfinite(largest))
        active = active[(largest[active] > force) & ~failed[active]]
        progress(step, steps)
        if not len(active) or step == steps:
            break
        power = (f[active] * v[active]).flatten(1).sum(1)
        good = power > 0
        uphill[active] = torch.where(good, uphill[active] + 1, 0.0)
        speed = torch.linalg.vector_norm(v[active].flatten(1), dim=1) / torch.linalg.vector_norm(
            f[active].flatten(1), dim=1
        ).clamp(min=1e-12)
        a = mixing[active]
        steered = (1 - a)[:, None, None] * v[active] + (a * speed)[:, None, None] * f[active]
        v[active] = torch.where(good[:, None, None], steered, 0.0)
        faster = good & (uphill[active] > 5)
        grown = torch.where(faster, (time[active] * 1.1).clamp(max=_MOST_TIME), time[active])
        time[active] = torch.where(good, grown, time[active] * 0.5)
        mixing[active] = torch.where(good, torch.where(faster, a * 0.99, a), 0.1)
        v[active] = v[active] + time[active][:, None, None] * f[active]
        move = time[active][:, None, None] * v[active]
        length = torch.linalg.vector_norm(move, dim=-1).amax(1).clamp(min=1e-12)
        x[active] = x[active] + move * (_LONGEST / length).clamp(max=1.0)[:, None, None]
    return Minima(x, u, largest, calls, (largest <= force) & ~failed)
