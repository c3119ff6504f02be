r"""Walkers: conformations with their reduced energies and forces, so that no engine asks for the same energy twice.

An engine works on (n, items, axes) walkers at once and asks for their energies in one call. Where the energy is translation invariant, walkers live
on the mean-free space :math:`\{x : \sum_i x_i = 0\}` and are moved there whenever they are evaluated.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equilibra.errors import ShapeError

if TYPE_CHECKING:
    from equilibra.energies.energy import ReducedEnergy


@dataclass(frozen=True, eq=False)
class Walkers:
    r"""Conformations of one system with :math:`u(x)` and :math:`-\nabla u(x)`, at the temperature of the reduced energy they were evaluated with.

    Attributes:
        x: Positions (n, items, axes).
        u: Reduced energies (n,); infinite where the energy or the force is not finite.
        force: Forces :math:`-\partial u/\partial x`, with the shape (n, items, axes); zero where u is infinite.
    """

    x: Tensor
    u: Tensor
    force: Tensor

    def __len__(self) -> int:
        return self.x.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Walkers:
        """Returns the walkers of an index, a mask or a slice."""
        return Walkers(self.x[index], self.u[index], self.force[index])


def centred(x: Tensor) -> Tensor:
    """Returns positions (n, items, axes) with the mean of the items at the origin."""
    return x - x.mean(1, keepdim=True)


def evaluate(x: Tensor, reduced: ReducedEnergy) -> Walkers:
    """Asks once for the energies and forces of a batch.

    Arguments:
        x: Positions (n, items, axes); moved to the mean-free space where the energy is translation invariant.
        reduced: The reduced energy; n calls are counted.

    Returns:
        The walkers. An energy or a force that is not finite becomes u = +inf with zero force: a proposal that every Metropolis test rejects.

    Raises:
        ShapeError: If the positions have another shape than the energy expects.
    """
    items, axes = reduced.energy.items, reduced.energy.axes
    if x.ndim != 3 or tuple(x.shape[1:]) != (items, axes):
        raise ShapeError(f"walkers of the energy '{reduced.energy.name}'", tuple(x.shape), f"(n, {items}, {axes})")
    x = x.detach()
    if reduced.energy.invariant:
        x = centred(x)
    u, force = reduced.with_force(x)
    if reduced.energy.invariant:
        force = centred(force)  # zero but for rounding: keeps the total momentum exactly zero over long runs
    good = torch.isfinite(u) & torch.isfinite(force).flatten(1).all(1)
    return Walkers(x, torch.where(good, u, torch.inf), torch.where(good[:, None, None], force, 0.0))


def select(mask: Tensor, one: Walkers, other: Walkers) -> Walkers:
    """Returns `one` where the mask (n,) is true and `other` elsewhere."""
    wide = mask[:, None, None]
    return Walkers(
        torch.where(wide, one.x, other.x), torch.where(mask, one.u, other.u), torch.where(wide, one.force, other.force)
    )


def per_walker(value: float | Tensor | None, like: Tensor, name: str) -> Tensor:
    """Returns a number per walker (n,), from one number for all, one for each, or None for 1.

    Raises:
        ShapeError: If there are neither 1 nor n numbers.
    """
    given = torch.as_tensor(1.0 if value is None else value, dtype=like.dtype, device=like.device)
    if given.ndim > 1 or (given.ndim == 1 and given.shape[0] not in (1, like.shape[0])):
        raise ShapeError(name, tuple(given.shape), f"one number, or one per walker ({like.shape[0]},)")
    return given.expand(like.shape[0])
