"""What a network is told about a system: integer and real features of tokens, of pairs and of the whole system."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, Self

import torch
from torch import Tensor

from equilibra.errors import ShapeError

Scope = Literal["node", "pair", "graph"]


@dataclass(frozen=True)
class Features:
    """Features by scope, of one system (no batch axis) or of a padded batch.

    Attributes:
        node: Arrays ([batch,] tokens, ...). A batch axis of 1 is shared by all samples.
        pair: Arrays ([batch,] tokens, tokens, ...).
        graph: Arrays ([batch,] ...).
        around: Arrays ([batch,] items, ...) of what surrounds the system and does not move, atoms of a surface for example. Its items are no tokens. Of a batch it
            has `there`, boolean (batch, items), true for real items.
        mask: For a batch, boolean (batch, tokens), true for real tokens; None for one system.
    """

    node: Mapping[str, Tensor] = field(default_factory=dict)
    pair: Mapping[str, Tensor] = field(default_factory=dict)
    graph: Mapping[str, Tensor] = field(default_factory=dict)
    mask: Tensor | None = None
    around: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for scope in ("node", "pair", "graph", "around"):
            object.__setattr__(self, scope, MappingProxyType(dict(getattr(self, scope))))
        if self.mask is None:
            lengths = {name: value.shape[0] for name, value in self.node.items()}
            lengths |= {name: value.shape[0] for name, value in self.pair.items()}
            if len(set(lengths.values())) > 1:
                raise ShapeError("Features", lengths, "one number of tokens for all node and pair features")

    @property
    def tokens(self) -> int:
        """Number of tokens, padding included."""
        axis = 0 if self.mask is None else 1
        return next(iter(self.node.values())).shape[axis]

    @classmethod
    def collate(cls, systems: Sequence[Self], *, tokens: int | None = None) -> Self:
        """Stacks the features of several systems, padded with zeros to `tokens` (by default to the longest system)."""
        if not systems:
            raise ShapeError("Features.collate", "no system", "at least one")
        longest = max(system.tokens for system in systems)
        width = longest if tokens is None else tokens
        if width < longest:
            raise ShapeError("Features.collate", f"a system of {longest} tokens", f"at most {width}")
        for scope in ("node", "pair", "graph", "around"):
            names = {frozenset(getattr(system, scope)) for system in systems}
            if len(names) > 1:
                raise ShapeError("Features.collate", [sorted(n) for n in names], f"the same {scope} features for all systems")
        device = next(iter(systems[0].node.values())).device
        lengths = torch.tensor([system.tokens for system in systems], device=device)
        return cls(
            node={k: torch.stack([_pad(s.node[k], width, 1) for s in systems]) for k in systems[0].node},
            pair={k: torch.stack([_pad(s.pair[k], width, 2) for s in systems]) for k in systems[0].pair},
            graph={k: torch.stack([s.graph[k] for s in systems]) for k in systems[0].graph},
            mask=torch.arange(width, device=device)[None, :] < lengths[:, None],
            around=_collated([system.around for system in systems]),
        )

    def shared(self) -> Self:
        """Returns the features of one system as a batch of one, which broadcasts over any number of samples of that system."""
        if self.mask is not None:
            raise ShapeError("Features.shared", "a batch", "the features of one system")
        return type(self)(
            node={k: v[None] for k, v in self.node.items()},
            pair={k: v[None] for k, v in self.pair.items()},
            graph={k: v[None] for k, v in self.graph.items()},
            mask=torch.ones(1, self.tokens, dtype=torch.bool, device=next(iter(self.node.values())).device),
            around=_collated([self.around]),
        )

    def conditioned(self, values: Sequence[float] | Tensor) -> Self:
        """Returns the features with real-valued conditions of the system, such as the temperature, as `graph["conditions"]`.

        Arguments:
            values: One value for each condition of a system or of a batch of one, or a tensor (batch, conditions).
        """
        conditions = torch.as_tensor(values, dtype=torch.float32, device=next(iter(self.node.values())).device)
        if self.mask is not None and conditions.ndim == 1:
            conditions = conditions[None]
        return replace(self, graph={**self.graph, "conditions": conditions})

    def with_extra_known(self, known: Tensor) -> Self:
        """Returns the features with `graph["extra_known"]`, which tells whether the real-valued features `extra` are there or zeros in place of missing ones.

        Arguments:
            known: 1 where they are there and 0 where they are missing: a number for one system, or one for each sample of a batch, with shape (batch,).
        """
        return replace(self, graph={**self.graph, "extra_known": known})

    def to(self, device: torch.device | str) -> Self:
        """Returns the features on another device."""
        return type(self)(
            node={k: v.to(device) for k, v in self.node.items()},
            pair={k: v.to(device) for k, v in self.pair.items()},
            graph={k: v.to(device) for k, v in self.graph.items()},
            mask=None if self.mask is None else self.mask.to(device),
            around={k: v.to(device) for k, v in self.around.items()},
        )

    def rows(self, index: slice | Tensor) -> Self:
        """Returns the features of some batch elements; shared features stay shared."""
        if self.mask is None:
            raise ShapeError("Features.rows", "one system", "a batch")

        arrays = [*self.node.values(), *self.pair.values(), *self.graph.values(), *self.around.values(), self.mask]
        if all(value.shape[0] == 1 for value in arrays):
            return self

        def chosen(value: Tensor) -> Tensor:
            return value if value.shape[0] == 1 else value[index]

        return type(self)(
            node={k: chosen(v) for k, v in self.node.items()},
            pair={k: chosen(v) for k, v in self.pair.items()},
            graph={k: chosen(v) for k, v in self.graph.items()},
            mask=chosen(self.mask),
            around={k: chosen(v) for k, v in self.around.items()},
        )


def _collated(systems: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Stacks what is around several systems, padded with zeros to the most items; `there` tells the real ones."""
    if not systems[0]:
        return {}
    counts = torch.tensor([len(next(iter(around.values()))) for around in systems])
    width = int(counts.max())
    stacked = {name: torch.stack([_pad(around[name], width, 1) for around in systems]) for name in systems[0]}
    there = torch.arange(width)[None, :] < counts[:, None]
    return {**stacked, "there": there.to(next(iter(stacked.values())).device)}


def _pad(value: Tensor, width: int, axes: int) -> Tensor:
    missing = width - value.shape[0]
    if missing == 0:
        return value
    # torch pads from the last axis backwards
    padding = [0, 0] * (value.ndim - axes) + [0, missing] * axes
    return torch.nn.functional.pad(value, padding)
