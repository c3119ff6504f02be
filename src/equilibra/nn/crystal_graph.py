r"""Crystals as one graph: the atoms of a batch in a row, and bonds to all images of atoms within a cut-off.

Networks that pass messages along bonds see nothing else of a crystal, so that their outputs depend neither on the origin, orientation and choice of the cell nor on
the order and padding of atoms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.geometry.lattice import volume
from equilibra.geometry.periodic import neighbours, plane_spacings
from equilibra.geometry.reduction import reduced_basis
from equilibra.types import Bool, Float, Int, Tensor

_THINNEST = 0.5
"""Least distance between lattice planes of a reduced cell that is worked with, in Å: the number of images grows as its inverse."""

_FLATTEST = 1e-6
"""Least volume of a cell in units of the product of its edges; flatter ones have no volume that rounding leaves."""

_ROUNDING = 64
"""Slack of the cut-off in units of its rounding: atoms exactly there count as neighbours in every choice of cell."""


@dataclass(frozen=True)
class CrystalGraph:
    """Atoms and bonds of a batch of crystals.

    Attributes:
        crystals: Number of crystals.
        usable: Crystals that have atoms and bonds here (crystals,): those with finite coordinates and lattice planes at least 0.5 Å apart.
        numbers: Atomic numbers (atoms,).
        crystal: Crystal of each atom (atoms,).
        receiver: The atom (bonds,) in the middle.
        sender: The atom (bonds,) that the image is of.
        length: Lengths of the bonds (bonds,), in Å, differentiable in coordinates and cells.
    """

    crystals: int
    usable: Tensor
    numbers: Tensor
    crystal: Tensor
    receiver: Tensor
    sender: Tensor
    length: Tensor

    @property
    def bond_crystal(self) -> Tensor:
        """Crystal of each bond (bonds,)."""
        return self.crystal[self.receiver]


def crystal_graph(
    numbers: Int[Tensor, "*batch atoms"],
    frac: Float[Tensor, "batch atoms 3"],
    cell: Float[Tensor, "batch 3 3"],
    cutoff: float,
    mask: Bool[Tensor, "batch atoms"] | None = None,
) -> CrystalGraph:
    """Makes the graph of crystals, with as many images as a cell of any shape needs.

    A crystal whose coordinates are not finite, or whose reduced cell has lattice planes closer than 0.5 Å, has no atoms in the graph and does not disturb the others.

    Arguments:
        numbers: Atomic numbers, with shape (batch, atoms), or (atoms) if all crystals have the same.
        frac: Fractional coordinates, wrapped or not, with shape (batch, atoms, 3).
        cell: Cell matrices, rows are lattice vectors, with shape (batch, 3, 3), in Å.
        cutoff: Longest bond, in Å.
        mask: Real atoms, with shape (batch, atoms); all by default. Whatever stands at the others is not looked at.

    Returns:
        The graph. Every bond is there in both directions.

    Raises:
        ShapeError: If the shapes do not fit.
    """
    if frac.ndim != 3 or frac.shape[-1] != 3:
        raise ShapeError("frac", tuple(frac.shape), "(batch, atoms, 3)")
    batch, atoms = frac.shape[:2]
    if tuple(cell.shape) != (batch, 3, 3):
        raise ShapeError("cell", tuple(cell.shape), f"({batch}, 3, 3), a cell for each crystal")
    if tuple(numbers.shape) not in ((atoms,), (batch, atoms)):
        raise ShapeError("numbers", tuple(numbers.shape), f"({batch}, {atoms}) or ({atoms},)")
    if mask is not None and tuple(mask.shape) != (batch, atoms):
        raise ShapeError("mask", tuple(mask.shape), f"({batch}, {atoms})")
    real = torch.ones((batch, atoms), dtype=torch.bool, device=frac.device) if mask is None else mask.bool()
    frac, cell, usable = _reduced(frac, cell, real)
    real = real & usable[:, None]

    place = torch.cumsum(real.flatten(), 0).reshape(batch, atoms) - 1
    pairs, shifts = neighbours(frac.detach(), cell.detach(), cutoff * (1 + _ROUNDING * torch.finfo(cell.dtype).eps), real)
    crystal, i, j = pairs.unbind(1)
    vector = ((frac[crystal, j] - frac[crystal, i] + shifts.to(frac.dtype))[:, None, :] @ cell[crystal])[:, 0]
    return CrystalGraph(
        crystals=batch,
        usable=usable,
        numbers=numbers.expand(batch, atoms)[real].long(),
        crystal=real.nonzero()[:, 0],
        receiver=place[crystal, i],
        sender=place[crystal, j],
        length=torch.linalg.vector_norm(vector, dim=-1),
    )


def _reduced(frac: Tensor, cell: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns coordinates and cells in a reduced basis, and which crystals can be used; the others become cubes."""
    cube = torch.eye(3, dtype=cell.dtype, device=cell.device) * 10.0
    finite = torch.isfinite(cell).all((1, 2)) & (torch.isfinite(frac).all(-1) | ~real).all(1) & real.any(1)
    with torch.no_grad():
        tried = torch.where(finite[:, None, None], cell, cube)
        finite &= volume(tried) > _FLATTEST * torch.linalg.vector_norm(tried, dim=-1).prod(-1)
        tried = torch.where(finite[:, None, None], tried, cube)
        basis = reduced_basis(tried)
        usable = finite & (plane_spacings(basis @ tried) >= _THINNEST).all(-1)
        basis = torch.where(usable[:, None, None], basis, torch.eye(3, dtype=cell.dtype, device=cell.device))
        inverse = torch.round(torch.linalg.inv(basis))
    frac = torch.where((real & usable[:, None])[..., None], frac, 0.0) @ inverse
    # near the origin rounding is least
    frac = frac - torch.floor(frac.detach())
    return frac, basis @ torch.where(usable[:, None, None], cell, cube), usable


def sum_by(values: Tensor, owner: Tensor, owners: int) -> Tensor:
    """Returns the sums of values (items, ...) over the items of each owner, with shape (owners, ...)."""
    return values.new_zeros(owners, *values.shape[1:]).index_add(0, owner, values)


def mean_by(values: Tensor, owner: Tensor, owners: int) -> Tensor:
    """Returns the means of values (items, width) over the items of each owner, with shape (owners, width); zero for owners of none."""
    count = torch.bincount(owner, minlength=owners).clamp(min=1)
    return sum_by(values, owner, owners) / count[:, None].to(values.dtype)


def softmax_by(scores: Tensor, owner: Tensor, owners: int) -> Tensor:
    """Returns the softmax of scores (items,) among the items of each owner."""
    largest = scores.new_full((owners,), -torch.inf).scatter_reduce(0, owner, scores.detach(), "amax")
    weights = torch.exp(scores - largest[owner])
    return weights / sum_by(weights, owner, owners)[owner]


def rows_of(numbers: Tensor, elements: tuple[int, ...]) -> Tensor:
    """Returns the positions (atoms,) of atomic numbers (atoms,) in a list of elements.

    Raises:
        InputError: If an element is not in the list.
    """
    table = torch.full((max(elements) + 1,), -1, dtype=torch.long, device=numbers.device)
    table[torch.tensor(elements, device=numbers.device)] = torch.arange(len(elements), device=numbers.device)
    inside = (numbers >= 0) & (numbers < len(table))
    rows = torch.where(inside, table[numbers.clamp(0, len(table) - 1)], -1)
    if bool((rows < 0).any()):
        strange = ", ".join(str(z) for z in numbers[rows < 0].unique().tolist())
        raise InputError(
            f"atomic numbers: got {strange}, which the network was not trained on; it knows {len(elements)} elements up to {max(elements)}"
        )
    return rows


class PredictorConfig(Protocol):
    """Size of a network that predicts a number of crystals."""

    @property
    def elements(self) -> tuple[int, ...]:
        """Atomic numbers that it knows."""


def check_predictor(config: PredictorConfig, positive: Sequence[str]) -> None:
    """Checks the size of a network that predicts a number of crystals.

    Arguments:
        config: The size.
        positive: Names of the numbers that must be positive.

    Raises:
        ConfigError: If an element has no atomic number, or a number is not positive.
    """
    kind = type(config).__name__
    if not config.elements or min(config.elements) < 1:
        raise ConfigError(f"{kind}: elements is {config.elements}, expected positive atomic numbers")
    for name in positive:
        if not getattr(config, name) > 0:
            raise ConfigError(f"{kind}: {name} is {getattr(config, name)}, expected a positive number")
