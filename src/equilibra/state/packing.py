"""Several fields of a State as one array, for engines and files that know one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from equilibra.state.state import State


class Packing(Protocol):
    """What one array (n, items, axes) of an engine is as a State."""

    def state(self, x: Tensor) -> State:
        """Returns the State of an array."""

    def array(self, state: State) -> Tensor:
        """Returns the array of a State."""

    def forces(self, force: Tensor) -> Mapping[str, Tensor]:
        """Returns the forces of the moving fields, tangent vectors of their Spaces, of forces (n, items, axes)."""


class SingleField:
    """The array is one field on a flat Space.

    Arguments:
        name: Name of the field.
    """

    def __init__(self, name: str = "pos") -> None:
        self.name = name

    def state(self, x: Tensor) -> State:
        """Returns the State of an array."""
        return State({self.name: x})

    def array(self, state: State) -> Tensor:
        """Returns the array of a State."""
        return state.fields[self.name]

    def forces(self, force: Tensor) -> Mapping[str, Tensor]:
        """Returns the forces by the name of the field."""
        return {self.name: force}


class Concatenated:
    """The array holds the numbers of all fields, one after the other, each an item of one axis; forces are padded with zeros where a point has more numbers than directions.

    Arguments:
        shapes: For each field its shape without the batch.
        tangents: For each moving field the shape of a tangent vector, where it is another.
        moving: Names of the fields that move, in the order of their numbers; they come first.
    """

    def __init__(
        self,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        moving: tuple[str, ...],
        tangents: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        self.shapes = {name: shapes[name] for name in (*moving, *(name for name in shapes if name not in moving))}
        self.moving = moving
        self.tangents = {name: (tangents or {}).get(name, self.shapes[name]) for name in moving}
        self.sizes = {name: int(torch.Size(shape).numel()) for name, shape in self.shapes.items()}

    @property
    def width(self) -> int:
        """Numbers of one State."""
        return sum(self.sizes.values())

    def split(self, x: Tensor) -> dict[str, Tensor]:
        """Returns the fields of an array (n, width, 1)."""
        parts = x[..., 0].split(list(self.sizes.values()), dim=1)
        return {name: part.reshape(len(x), *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def joined(self, fields: Mapping[str, Tensor]) -> Tensor:
        """Returns the array (n, width, 1) of fields."""
        return torch.cat([fields[name].flatten(1) for name in self.shapes], dim=1)[..., None]

    def state(self, x: Tensor) -> State:
        """Returns the State of an array."""
        return State(self.split(x))

    def array(self, state: State) -> Tensor:
        """Returns the array of a State."""
        return self.joined(state.fields)

    def forces(self, force: Tensor) -> Mapping[str, Tensor]:
        """Returns the tangent vectors by the names of the fields."""
        parts = force[..., 0].split(list(self.sizes.values()), dim=1)
        found = {}
        for name, part in zip(self.shapes, parts, strict=True):
            if name in self.moving:
                shape = self.tangents[name]
                found[name] = part[:, : torch.Size(shape).numel()].reshape(len(force), *shape)
        return found

    def padded(self, forces: Mapping[str, Tensor]) -> Tensor:
        """Returns tangent vectors by the names of the fields as one array of forces; the inverse of `forces`."""
        parts = []
        for name, size in self.sizes.items():
            first = next(iter(forces.values()))
            given = forces[name].flatten(1) if name in forces else first.new_zeros(len(first), 0)
            parts.append(torch.nn.functional.pad(given, (0, size - given.shape[1])))
        return torch.cat(parts, dim=1)[..., None]
