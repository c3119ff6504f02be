"""Conformations of one or several systems as training data, in batches of one padded size."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from equilibra.data.crops import cut, evenly_spaced, window
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.space import Space
from equilibra.errors import ConfigError, InputError, ShapeError
from equilibra.state.features import Features
from equilibra.state.state import State
from equilibra.state.system import System

Balance = Literal["systems", "sqrt", "frames"]

POSITIONS = "pos"
"""Name of the field of a system whose conformations are positions alone."""

_CALLED = {POSITIONS: "positions", "trans": "translations", "rot": "rotations"}
_POINTS = {POSITIONS: (3,), "trans": (3,), "rot": (3, 3)}


class Conformations:
    r"""Conformations of one system. Immutable.

    Arguments:
        system: Whose they are.
        fields: Fields of a State by name, float32, each (frames, tokens, ...); a tensor alone is the field `pos`, centred, in Å.
        forces: For some fields the data score :math:`F/kT`, float32; a tensor alone is that of `pos`, in 1/Å. None without forces.
        observed: True for the tokens that a frame has, with shape (frames, tokens); the values of the others have no meaning. None where
            every frame has all tokens.

    Raises:
        ShapeError: If the shapes do not fit the system or each other.
        InputError: If there is no frame, a frame without tokens, or a value that is not finite.
    """

    def __init__(
        self,
        system: System,
        fields: Mapping[str, Tensor] | Tensor,
        forces: Mapping[str, Tensor] | Tensor | None = None,
        *,
        observed: Tensor | None = None,
    ) -> None:
        self.system = system
        self.fields: Mapping[str, Tensor] = MappingProxyType(
            {POSITIONS: fields} if isinstance(fields, Tensor) else dict(fields)
        )
        self.scores: Mapping[str, Tensor] = MappingProxyType(
            {POSITIONS: forces} if isinstance(forces, Tensor) else dict(forces or {})
        )
        self.observed = observed
        self._check_shapes()
        self._check_values()

    def __len__(self) -> int:
        return len(next(iter(self.fields.values())))

    @property
    def positions(self) -> Tensor:
        """Positions (frames, tokens, 3) of a system whose conformations are positions alone, in Å."""
        return self.fields[POSITIONS]

    @property
    def forces(self) -> Tensor | None:
        """Data score F/kT (frames, tokens, 3) of the positions, in 1/Å; None without forces."""
        return self.scores.get(POSITIONS)

    def _check_shapes(self) -> None:
        name, tokens = self.system.name, self.system.features.tokens
        for field, value in self.fields.items():
            point = _POINTS.get(field, tuple(value.shape[2:]))
            if value.ndim < 2 or tuple(value.shape[1:]) != (tokens, *point):
                expected = ", ".join(map(str, ("frames", tokens, *point)))
                raise ShapeError(f"{_called(field)} of {name}", tuple(value.shape), f"({expected})")
            if len(value) != len(self):
                raise ShapeError(
                    f"{_called(field)} of {name}", f"{len(value)} frames", f"{len(self)}, as the other fields have"
                )
        for field, value in self.scores.items():
            if field not in self.fields:
                raise ShapeError(f"forces of {name}", f"forces of the field '{field}'", f"fields among {sorted(self.fields)}")
            shape = (len(self), tokens, 3) if field == "rot" else tuple(self.fields[field].shape)
            if tuple(value.shape) != shape:
                raise ShapeError(f"forces of {name}", tuple(value.shape), shape)
        if self.observed is not None and tuple(self.observed.shape) != (len(self), tokens):
            raise ShapeError(f"observed tokens of {name}", tuple(self.observed.shape), (len(self), tokens))

    def _check_values(self) -> None:
        name = self.system.name
        values = [(_called(field), value) for field, value in self.fields.items()]
        for called, value in (*values, *(("forces", value) for value in self.scores.values())):
            if not torch.isfinite(value).all():
                bad = int((~torch.isfinite(value)).flatten(1).any(1).nonzero()[0])
                raise InputError(f"{called} of {name}: frame {bad} has values that are not finite; remove such frames")
        if len(self) == 0:
            raise InputError(f"{values[0][0]} of {name}: got no frame, expected at least one")
        if self.observed is not None and not self.observed.any(1).all():
            bad = int((~self.observed.any(1)).nonzero()[0])
            raise InputError(f"{values[0][0]} of {name}: nothing is observed in frame {bad}; remove such frames")


class _Sample(NamedTuple):
    """One element of a batch before padding."""

    features: Features
    fields: dict[str, Tensor]
    scores: dict[str, Tensor]


class ConformationData:
    """Training batches from conformations.

    Systems are grouped in buckets of equal padded length, so that a compiled network sees few shapes. A batch comes from one bucket, drawn
    with a probability in proportion to its weight. With one whole system per bucket nothing is padded and its features are shared.

    Arguments:
        entries: Conformations of each system, all with the same fields.
        bucket: Token counts are padded to a multiple of this where a bucket holds several systems.
        weights: Relative probability of drawing from each entry; by default its number of frames.
        crop: Largest number of tokens of a sample; of a longer system each sample is a random window of contiguous tokens. None for all tokens.
        budget: Largest number of pairs of tokens in a batch: batches of long systems are smaller. None for no limit.
        spaces: Spaces of some fields, on which every batch is projected: positions of a window are centred, padded rotations are the identity.

    Raises:
        InputError: If there is no entry, or if some have forces and some have none.
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        entries: Sequence[Conformations],
        *,
        bucket: int = 16,
        weights: Sequence[float] | None = None,
        crop: int | None = None,
        budget: int | None = None,
        spaces: Mapping[str, Space] | None = None,
    ) -> None:
        if not entries:
            raise InputError("training data: got no system, expected at least one")
        if len({frozenset(entry.scores) for entry in entries}) > 1:
            raise InputError("training data: some systems have forces and some have none; give all or none")
        if len({frozenset(entry.fields) for entry in entries}) > 1:
            raise InputError("training data: the systems have different fields; a model is of one kind of system")
        if crop is not None and crop < 2:
            raise ConfigError(f"crop: got {crop}, expected at least 2 tokens")
        if budget is not None and budget < 1:
            raise ConfigError(f"budget: got {budget}, expected at least 1 pair of tokens")
        if weights is not None and (
            len(weights) != len(entries) or not min(weights) >= 0.0 or not 0.0 < sum(weights) < float("inf")
        ):
            raise ConfigError(
                f"weights: expected a number that is not negative for each of the {len(entries)} systems, not all zero"
            )
        self.entries = list(entries)
        self.weights: list[float] = [len(entry) for entry in entries] if weights is None else [float(w) for w in weights]
        self.crop, self.budget, self.spaces = crop, budget, dict(spaces or {})
        self.buckets: dict[int, list[int]] = {}
        for index, entry in enumerate(entries):
            width = -(-self._length(entry) // bucket) * bucket
            self.buckets.setdefault(width, []).append(index)
        self._shares = torch.tensor(
            [sum(self.weights[i] for i in members) for members in self.buckets.values()], dtype=torch.float64
        )

    @property
    def has_forces(self) -> bool:
        """Whether every conformation comes with its force."""
        return bool(self.entries[0].scores)

    @property
    def frames(self) -> int:
        """Number of conformations of all systems."""
        return sum(len(entry) for entry in self.entries)

    def scale(self, field: str = POSITIONS) -> float:
        """Returns the standard deviation per axis of a field of mean-free positions, in Å, over what batches are drawn from."""
        squares = count = 0.0
        for entry, weight in zip(self.entries, self.weights, strict=True):
            part, degrees = self._squares(entry, field)
            squares += weight / len(entry) * part
            count += weight / len(entry) * degrees
        return (squares / count) ** 0.5

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch of `size` conformations with replacement, fewer where the budget wants that."""
        chosen = int(torch.multinomial(self._shares, 1, generator=generator))
        width, members = list(self.buckets.items())[chosen]
        first = self.entries[members[0]]
        if len(members) == 1 and self._whole(first):
            rows = torch.randint(len(first), (self._affordable(size, self._length(first)),), generator=generator)
            features = first.system.features.shared()
            state = State({name: value[rows] for name, value in first.fields.items()})
            scores = {name: value[rows] for name, value in first.scores.items()}
            return self._projected(state, features, scores)
        size = self._affordable(size, width)
        weights = torch.tensor([self.weights[i] for i in members], dtype=torch.float64)
        picks = torch.multinomial(weights, size, replacement=True, generator=generator)
        entries = [self.entries[members[int(pick)]] for pick in picks]
        rows_each = [int(torch.randint(len(entry), (1,), generator=generator)) for entry in entries]
        samples = [self._sample(entry, row, generator) for entry, row in zip(entries, rows_each, strict=True)]
        features = Features.collate([sample.features for sample in samples], tokens=width)
        fields = _stacked([sample.fields for sample in samples], width)
        scores = _stacked([sample.scores for sample in samples], width)
        mask = features.mask
        assert mask is not None
        return self._projected(State(fields, dict.fromkeys(fields, mask)), features, scores)

    def _projected(self, state: State, features: Features, scores: Mapping[str, Tensor]) -> TrainingBatch:
        spaces = self.spaces.items()
        state = state.replace(**{name: space.clean(state.fields[name], state.mask(name)) for name, space in spaces})
        return TrainingBatch(state, features, scores, features.node.get("element"))

    def _sample(self, entry: Conformations, row: int, generator: Generator) -> _Sample:
        """Draws a window of one frame, or takes the whole frame where that is what samples are."""
        whole = _Sample(
            entry.system.features,
            {name: value[row] for name, value in entry.fields.items()},
            {name: value[row] for name, value in entry.scores.items()},
        )
        if self._whole(entry):
            return whole
        tokens = window(_observed(entry, row), self.crop, generator=generator)
        return _Sample(
            cut(whole.features, tokens),
            {name: value[tokens] for name, value in whole.fields.items()},
            {name: value[tokens] for name, value in whole.scores.items()},
        )

    def _length(self, entry: Conformations) -> int:
        tokens = entry.system.features.tokens
        return tokens if self.crop is None else min(tokens, self.crop)

    def _whole(self, entry: Conformations) -> bool:
        """Whether samples of an entry are always all of it."""
        return entry.observed is None and self._length(entry) == entry.system.features.tokens

    def _affordable(self, size: int, tokens: int) -> int:
        return size if self.budget is None else max(1, min(size, self.budget // tokens**2))

    def _squares(self, entry: Conformations, field: str) -> tuple[float, float]:
        """Sum of squares, and degrees of freedom, of a field of mean-free positions: over evenly spaced windows where samples are windows."""
        x = entry.fields[field].double()
        if self._whole(entry):
            return float((x**2).sum()), float((x.shape[1] - 1) * 3 * len(entry))
        squares = degrees = 0.0
        for row in range(len(entry)):
            seen = x[row][_observed(entry, row)]
            parts = [seen[part] for part in evenly_spaced(len(seen), self.crop)]
            squares += sum(float(((part - part.mean(0)) ** 2).sum()) for part in parts) / len(parts)
            degrees += sum((len(part) - 1) * 3.0 for part in parts) / len(parts)
        return squares, degrees


def shares(frames: Sequence[int], balance: Balance) -> list[float]:
    """Returns the probability of each system of a set, of given numbers of frames.

    Arguments:
        frames: Frames of each system.
        balance: `systems` draws every system equally often, `frames` every frame, `sqrt` a system in proportion to the root of its frames.
    """
    if balance not in get_args(Balance):
        raise ConfigError(f"balance: got '{balance}', expected one of {', '.join(get_args(Balance))}")
    power = {"systems": 0.0, "sqrt": 0.5, "frames": 1.0}[balance]
    weights = [float(count) ** power for count in frames]
    return [weight / sum(weights) for weight in weights]


def _called(field: str) -> str:
    return _CALLED.get(field, field)


def _observed(entry: Conformations, row: int) -> Tensor:
    return torch.ones(entry.system.features.tokens, dtype=torch.bool) if entry.observed is None else entry.observed[row]


def _stacked(parts: Sequence[Mapping[str, Tensor]], width: int) -> dict[str, Tensor]:
    return {name: torch.stack([_padded(part[name], width) for part in parts]) for name in parts[0]}


def _padded(x: Tensor, width: int) -> Tensor:
    return pad(x, (*((0, 0) * (x.ndim - 1)), 0, width - x.shape[0]))
