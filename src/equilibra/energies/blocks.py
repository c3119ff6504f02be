"""What energies with terms written out by hand share: parameters that follow the positions, and blocks of conformations, compiled where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from dataclasses import fields, is_dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

from equilibra.energies.energy import Energy
from equilibra.errors import ShapeError

Terms = TypeVar("Terms")
Evaluation = Callable[[Tensor], Any]


def cast(term: Terms, device: torch.device, dtype: torch.dtype) -> Terms:
    """Returns a term with its parameters on a device and, where they are numbers and not indices, in a precision."""
    if isinstance(term, Tensor):
        return term.to(device, dtype) if term.is_floating_point() else term.to(device)  # type: ignore[return-value]
    if is_dataclass(term) and not isinstance(term, type):
        return replace(term, **{field.name: cast(getattr(term, field.name), device, dtype) for field in fields(term)})
    return term


class BlockEnergy(Energy, Generic[Terms]):
    """Abstract: an energy of atoms in three dimensions whose parameters follow the positions, to their device and into their precision.

    Arguments:
        items: Number of atoms.
        name: What the energy is called in messages.
        terms: The parameters, in double precision.
        compile: Whether `torch.compile` fuses the kernels; conformations are then evaluated in blocks of one size, the last of them padded.
    """

    def __init__(self, items: int, name: str, terms: Terms, *, compile: bool = False) -> None:
        self.items = items
        self.axes = 3
        self.name = name
        self.compile = compile
        self._terms = terms
        self._cast: dict[tuple[torch.device, torch.dtype], Terms] = {}
        self._graphs: dict[Hashable, Evaluation] = {}

    def check_positions(self, x: Tensor) -> None:
        """Checks the shape of positions.

        Raises:
            ShapeError: If it is not (batch, atoms, 3).
        """
        if x.ndim != 3 or tuple(x.shape[1:]) != (self.items, 3):
            raise ShapeError(f"positions for the energy '{self.name}'", tuple(x.shape), f"(batch, {self.items}, 3)")

    def placed(self, x: Tensor) -> Terms:
        """Returns the parameters on the device and in the precision of positions; the conversion happens once for each."""
        key = (x.device, x.dtype)
        if key not in self._cast:
            move = getattr(self._terms, "to", None)
            self._cast[key] = cast(self._terms, *key) if move is None else move(*key)
        return self._cast[key]

    def graph(self, key: Hashable, function: Evaluation, example: Tensor) -> Evaluation:
        """Returns a function as one compiled graph, which is made once for each key.

        Arguments:
            key: What tells it from the others of this energy.
            function: The function of a block.
            example: A block.
        """
        if key not in self._graphs:
            from torch.fx.experimental.proxy_tensor import make_fx

            # a graph of its own for each energy: the compiler counts what it compiled per function, and stops at a number
            with torch.no_grad():
                traced = make_fx(lambda block: function(block))(example)
            self._graphs[key] = torch.compile(traced, fullgraph=True, dynamic=False)
        return self._graphs[key]


def in_blocks(x: Tensor, size: int, evaluate: Evaluation, *, padded: bool) -> Iterator[tuple[Any, int]]:
    """Evaluates conformations (batch, ...) in blocks; yields what was found of each block, and how many of its conformations count.

    Arguments:
        x: The conformations.
        size: Conformations of a block.
        evaluate: Called with each block.
        padded: Whether every block has the full size, with its last conformation repeated, as a compiled function wants it.
    """
    for block in x.split(size):
        count = len(block)
        if padded and count < size:
            last = block[-1:] if count else block.new_zeros(1, *block.shape[1:])
            block = torch.cat((block, last.expand(size - count, *(-1 for _ in block.shape[1:]))))
        yield evaluate(block), count


class WithGradient(torch.autograd.Function):
    """Energy of a `BlockEnergy` whose derivative is the gradient that was computed along with it.

    The energy has `evaluate(x, differentiable=...)`, which returns energies (batch,) and gradients (batch, atoms, 3).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, energy: Any) -> Tensor:
        """Returns the energies (batch,)."""
        values, gradient = energy.evaluate(x)
        ctx.energy = energy
        ctx.save_for_backward(x, gradient)
        made: Tensor = values
        return made

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        """Returns the gradient by the positions."""
        x, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():
            # a second derivative may be asked for: the gradient once more, as a function of the positions
            gradient = ctx.energy.evaluate(x, differentiable=True)[1]
        return upstream[:, None, None] * gradient, None
