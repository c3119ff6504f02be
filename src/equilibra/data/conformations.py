"""Conformations of one or several systems as training data, in batches of one padded size."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.errors import InputError, ShapeError
from equilibra.state.features import Features
from equilibra.state.state import State
from equilibra.state.system import System


@dataclass(frozen=True, eq=False)
class Conformations:
    r"""Conformations of one system.

    Attributes:
        system: Whose they are.
        positions: Centred positions (frames, atoms, 3), float32, in Å.
        forces: The data score F/kT (frames, atoms, 3), float32, in 1/Å; None without forces.
    """

    system: System
    positions: Tensor
    forces: Tensor | None = None

    def __post_init__(self) -> None:
        tokens = self.system.features.tokens
        if self.positions.ndim != 3 or tuple(self.positions.shape[1:]) != (tokens, 3):
            raise ShapeError(f"positions of {self.system.name}", tuple(self.positions.shape), f"(frames, {tokens}, 3)")
        if self.forces is not None and self.forces.shape != self.positions.shape:
            raise ShapeError(f"forces of {self.system.name}", tuple(self.forces.shape), tuple(self.positions.shape))
        for name, value in (("positions", self.positions), ("forces", self.forces)):
            if value is not None and not torch.isfinite(value).all():
                bad = int((~torch.isfinite(value)).flatten(1).any(1).nonzero()[0])
                raise InputError(
                    f"{name} of {self.system.name}: frame {bad} has values that are not finite; remove such frames"
                )
        if self.positions.shape[0] == 0:
            raise InputError(f"positions of {self.system.name}: got no frame, expected at least one")

    def __len__(self) -> int:
        return self.positions.shape[0]


class ConformationData:
    """Training batches from conformations.

    Systems are grouped in buckets of equal padded length, so that a compiled network sees few shapes. A batch comes from one bucket, drawn
    with a probability in proportion to its frames. With one system per bucket nothing is padded and its features are shared.

    Arguments:
        entries: Conformations of each system.
        field: Name of the position field.
        bucket: Token counts are padded to a multiple of this where a bucket holds several systems.
    """

    def __init__(self, entries: Sequence[Conformations], *, field: str = "pos", bucket: int = 16) -> None:
        if not entries:
            raise InputError("training data: got no system, expected at least one")
        if len({entry.forces is None for entry in entries}) > 1:
            raise InputError("training data: some systems have forces and some have none; give all or none")
        self.entries = list(entries)
        self.field = field
        self.buckets: dict[int, list[int]] = {}
        for index, entry in enumerate(entries):
            width = -(-entry.system.features.tokens // bucket) * bucket
            self.buckets.setdefault(width, []).append(index)
        self._frames = torch.tensor(
            [sum(len(self.entries[i]) for i in members) for members in self.buckets.values()], dtype=torch.float64
        )

    @property
    def has_forces(self) -> bool:
        """Whether every conformation comes with its force."""
        return self.entries[0].forces is not None

    @property
    def frames(self) -> int:
        """Number of conformations of all systems."""
        return sum(len(entry) for entry in self.entries)

    def scale(self) -> float:
        """Returns the standard deviation per axis of all positions, in Å."""
        squares = sum(float((entry.positions.double() ** 2).sum()) for entry in self.entries)
        count = sum((entry.positions.shape[1] - 1) * 3 * len(entry) for entry in self.entries)
        return (squares / count) ** 0.5

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch of `size` conformations with replacement."""
        chosen = int(torch.multinomial(self._frames, 1, generator=generator))
        width, members = list(self.buckets.items())[chosen]
        if len(members) == 1:
            entry = self.entries[members[0]]
            rows = torch.randint(len(entry), (size,), generator=generator)
            features = entry.system.features.shared()
            forces = {} if entry.forces is None else {self.field: entry.forces[rows]}
            return TrainingBatch(State({self.field: entry.positions[rows]}), features, forces, features.node["element"])
        weights = torch.tensor([len(self.entries[i]) for i in members], dtype=torch.float64)
        picks = torch.multinomial(weights, size, replacement=True, generator=generator)
        entries = [self.entries[members[int(pick)]] for pick in picks]
        rows_each = [int(torch.randint(len(entry), (1,), generator=generator)) for entry in entries]
        features = Features.collate([entry.system.features for entry in entries], tokens=width)
        positions = torch.stack([_padded(entry.positions[row], width) for entry, row in zip(entries, rows_each, strict=True)])
        forces = {}
        if self.has_forces:
            padded = [_padded(e.forces[row], width) for e, row in zip(entries, rows_each, strict=True) if e.forces is not None]
            forces = {self.field: torch.stack(padded)}
        mask = features.mask
        assert mask is not None
        return TrainingBatch(State({self.field: positions}, {self.field: mask}), features, forces, features.node["element"])


def _padded(x: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(x, (0, 0, 0, width - x.shape[0]))
