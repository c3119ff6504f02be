"""The State: the degrees of freedom that vary, for a batch of systems, as named arrays on Spaces."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

import torch
from torch import Tensor

from equilibra.errors import ShapeError


@dataclass(frozen=True)
class State:
    """Named fields of a batch, each with the batch as its first axis. Immutable: use `replace`.

    Attributes:
        fields: For each name a tensor (batch, items, ...) or (batch, ...), whose meaning is given by a `Process`.
        masks: For a padded field, a boolean tensor (batch, items), true for real items. A field without a mask is not padded.

    Raises:
        ShapeError: If the batch sizes differ, or a mask does not fit its field.
    """

    fields: Mapping[str, Tensor]
    masks: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.fields:
            raise ShapeError("State", "no field", "at least one field")
        sizes = {name: value.shape[0] for name, value in self.fields.items()}
        if len(set(sizes.values())) != 1:
            raise ShapeError("State", sizes, "one batch size for all fields")
        for name, mask in self.masks.items():
            if name not in self.fields or self.fields[name].shape[:2] != mask.shape:
                got = tuple(self.fields[name].shape) if name in self.fields else "no such field"
                raise ShapeError(f"mask of '{name}'", tuple(mask.shape), f"the first two axes of the field ({got})")
        object.__setattr__(self, "fields", MappingProxyType(dict(self.fields)))
        object.__setattr__(self, "masks", MappingProxyType(dict(self.masks)))

    @property
    def batch_size(self) -> int:
        """Number of systems or samples in the batch."""
        return next(iter(self.fields.values())).shape[0]

    @property
    def device(self) -> torch.device:
        """Device of the fields."""
        return next(iter(self.fields.values())).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the first field."""
        return next(iter(self.fields.values())).dtype

    def mask(self, name: str) -> Tensor | None:
        """Returns the mask (batch, items) of a field, or None where it is not padded."""
        return self.masks.get(name)

    def replace(self, **fields: Tensor) -> Self:
        """Returns a State in which the named fields are replaced."""
        unknown = set(fields) - set(self.fields)
        if unknown:
            raise ShapeError("State.replace", sorted(unknown), f"names among {sorted(self.fields)}")
        return type(self)({**self.fields, **fields}, self.masks)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Returns a State with `function` applied to every field; masks are untouched."""
        return type(self)({name: function(value) for name, value in self.fields.items()}, self.masks)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Self:
        """Returns a State on another device or of another floating type."""
        return type(self)(
            {name: value.to(device=device, dtype=dtype) for name, value in self.fields.items()},
            {name: value.to(device=device) for name, value in self.masks.items()},
        )

    def __getitem__(self, index: slice | Tensor | Sequence[int]) -> Self:
        chosen = index if isinstance(index, slice) else torch.as_tensor(index)
        if not isinstance(chosen, slice) and chosen.ndim != 1:
            raise ShapeError(
                "State[...]", f"an index of {chosen.ndim} axes", "a slice or a list of batch elements, such as [3]"
            )
        return type(self)(
            {name: value[chosen] for name, value in self.fields.items()},
            {name: value[chosen] for name, value in self.masks.items()},
        )

    @classmethod
    def cat(cls, states: Sequence[Self]) -> Self:
        """Joins States of the same fields and masks along the batch."""
        kinds = {(frozenset(state.fields), frozenset(state.masks)) for state in states}
        if len(kinds) != 1:
            listed = [(sorted(fields), sorted(masks)) for fields, masks in kinds]
            raise ShapeError("State.cat", listed or "no state", "States with the same fields and the same masks")
        first = states[0]
        return cls(
            {name: torch.cat([state.fields[name] for state in states]) for name in first.fields},
            {name: torch.cat([state.masks[name] for state in states]) for name in first.masks},
        )
