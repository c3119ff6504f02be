"""Conformations of one or several systems as training data, in batches of one padded size."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
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
        whole: Names of the fields that belong to the system as a whole, a crystal's cell for example, each (frames, ...).
        labels: Numbers that a model is trained with, with shape (frames, labels), nan where a frame has none. None without labels.

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
        whole: Collection[str] = (),
        labels: Tensor | None = None,
    ) -> None:
        self.system = system
        self.whole = frozenset(whole)
        self.fields: Mapping[str, Tensor] = MappingProxyType(
            {POSITIONS: fields} if isinstance(fields, Tensor) else dict(fields)
        )
        self.scores: Mapping[str, Tensor] = MappingProxyType(
            {POSITIONS: forces} if isinstance(forces, Tensor) else dict(forces or {})
        )
        self.observed = observed
        self.labels = labels
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
            if field not in self.whole:
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
        if self.labels is not None and (self.labels.ndim != 2 or len(self.labels) != len(self)):
            raise ShapeError(f"labels of {name}", tuple(self.labels.shape), f"({len(self)}, labels)")

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


@dataclass(frozen=True)
class Telling:
    """How a network is told labels.

    Attributes:
        conditions: Returns conditions (samples, width) for values (samples, labels) that are nan where there is none.
        dropout: Probability that all labels of a sample are left out; of several labels each is left out with the same probability besides.

    Raises:
        ConfigError: If the probability is none.
    """

    conditions: Callable[[Tensor], Tensor]
    dropout: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.dropout < 1.0:
            raise ConfigError(f"label_dropout: got {self.dropout}, expected a probability from 0 to less than 1")

    def told(self, values: Tensor, *, generator: Generator) -> Tensor:
        """Returns the conditions (samples, width) of a batch with values (samples, labels)."""
        lost = torch.rand(len(values), 1, generator=generator) < self.dropout
        if values.shape[1] > 1:
            lost = lost | (torch.rand(values.shape, generator=generator) < self.dropout)
        return self.conditions(torch.where(lost, torch.nan, values))


class ConformationData:
    """Training batches from conformations.

    Systems are grouped in buckets of equal padded length, so that a compiled network sees few shapes. A batch comes from one bucket, drawn
    with a probability in proportion to its weight. With one whole system per bucket, in one entry or several, nothing is padded and its features are shared.

    Entries with and without forces may be mixed: a batch then tells which of its samples have them (`TrainingBatch.known`), and the forces of the others
    are zeros that no objective counts.

    A field of which only some tokens have an item, such as the torsions of a ligand, is told by the boolean node feature `<field>_items` (tokens,).

    Arguments:
        entries: Conformations of each system, all with the same fields.
        bucket: Token counts are padded to a multiple of this where a bucket holds several systems.
        weights: Relative probability of drawing from each entry; by default its number of frames.
        crop: Largest number of tokens of a sample; of a longer system each sample is a random window of contiguous tokens. None for all tokens.
        budget: Largest number of pairs of tokens in a batch: batches of long systems are smaller. None for no limit.
        spaces: Spaces of some fields, on which every batch is projected: positions of a window are centred, padded rotations are the identity.
        telling: How a network is told the labels of the entries; without, it is told none.

    Raises:
        InputError: If there is no entry, or if they have different fields or forces of different fields, or one has no labels to tell.
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
        telling: Telling | None = None,
    ) -> None:
        if not entries:
            raise InputError("training data: got no system, expected at least one")
        if len({frozenset(entry.scores) for entry in entries if entry.scores}) > 1:
            raise InputError("training data: the systems have forces of different fields; give those of all fields or none")
        if len({(frozenset(entry.fields), entry.whole) for entry in entries}) > 1:
            raise InputError("training data: the systems have different fields; a model is of one kind of system")
        if telling is not None and any(entry.labels is None for entry in entries):
            raise InputError(
                "training data: a system has no labels, expected some of each; nan stands for a value that is not known"
            )
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
        self._whole_fields = self.entries[0].whole
        self._forces: Mapping[str, Tensor] = next((entry.scores for entry in entries if entry.scores), MappingProxyType({}))
        self._mixed = self.has_forces and not all(entry.scores for entry in entries)
        self.weights: list[float] = [len(entry) for entry in entries] if weights is None else [float(w) for w in weights]
        self.crop, self.budget, self.spaces = crop, budget, dict(spaces or {})
        self.telling = telling
        self.buckets: dict[int, list[int]] = {}
        for index, entry in enumerate(entries):
            width = -(-self._length(entry) // bucket) * bucket
            self.buckets.setdefault(width, []).append(index)
        self._shares = torch.tensor(
            [sum(self.weights[i] for i in members) for members in self.buckets.values()], dtype=torch.float64
        )

    @property
    def has_forces(self) -> bool:
        """Whether conformations come with forces, all of them or some."""
        return bool(self._forces)

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
        alone = all(self._whole(entry) and entry.system.digest == first.system.digest for entry in self._at(members))
        size = self._affordable(size, self._length(first) if alone else width)
        if alone and len(members) == 1:
            rows = torch.randint(len(first), (size,), generator=generator)
            return self._unpadded(first.system, [(first, rows)], generator)
        weights = torch.tensor([self.weights[i] for i in members], dtype=torch.float64)
        picks = torch.multinomial(weights, size, replacement=True, generator=generator)
        if alone:
            counts = torch.bincount(picks, minlength=len(members)).tolist()
            drawn = [
                (entry, torch.randint(len(entry), (count,), generator=generator))
                for entry, count in zip(self._at(members), counts, strict=True)
            ]
            # objectives take the first rows of a batch for their dearer terms: any, not those of one entry
            return self._unpadded(first.system, drawn, generator).rows(torch.randperm(size, generator=generator))
        entries = [self.entries[members[int(pick)]] for pick in picks]
        rows_each = [int(torch.randint(len(entry), (1,), generator=generator)) for entry in entries]
        samples = [self._sample(entry, row, generator) for entry, row in zip(entries, rows_each, strict=True)]
        features = Features.collate([sample.features for sample in samples], tokens=width)
        fields = self._stacked([sample.fields for sample in samples], width)
        scores = self._stacked([sample.scores for sample in samples], width)
        mask = features.mask
        assert mask is not None
        masks = {name: mask for name in fields if name not in self._whole_fields}
        each = [(entry, torch.tensor([row])) for entry, row in zip(entries, rows_each, strict=True)]
        features = self._told(features, each, generator)
        return self._projected(State(fields, masks), features, scores, [bool(e.scores) for e in entries])

    def _at(self, members: Sequence[int]) -> list[Conformations]:
        return [self.entries[index] for index in members]

    def _unpadded(self, system: System, drawn: Sequence[tuple[Conformations, Tensor]], generator: Generator) -> TrainingBatch:
        """Returns the batch of the drawn rows of entries of one whole system, entry after entry; features are shared."""
        state = State({name: torch.cat([entry.fields[name][rows] for entry, rows in drawn]) for name in drawn[0][0].fields})
        parts = [self._scores(entry, rows) for entry, rows in drawn]
        scores = {name: torch.cat([part[name] for part in parts]) for name in self._forces}
        known = [bool(entry.scores) for entry, rows in drawn for _ in range(len(rows))]
        return self._projected(state, self._told(system.features.shared(), drawn, generator), scores, known)

    def _told(self, features: Features, drawn: Sequence[tuple[Conformations, Tensor]], generator: Generator) -> Features:
        """Returns the features of a batch with the labels of the drawn rows of entries, entry after entry."""
        if self.telling is None:
            return features
        values = torch.cat([entry.labels[rows] for entry, rows in drawn if entry.labels is not None])
        return features.conditioned(self.telling.told(values, generator=generator))

    def _scores(self, entry: Conformations, rows: Tensor) -> dict[str, Tensor]:
        """Returns the data scores of some frames, zeros where the entry has none."""
        if entry.scores:
            return {name: value[rows] for name, value in entry.scores.items()}
        tokens = (entry.system.features.tokens,)
        shapes = {name: (len(rows), *(() if name in self._whole_fields else tokens)) for name in self._forces}
        return {name: value.new_zeros(*shapes[name], *value.shape[len(shapes[name]) :]) for name, value in self._forces.items()}

    def _projected(
        self, state: State, features: Features, scores: Mapping[str, Tensor], known: Sequence[bool]
    ) -> TrainingBatch:
        items = {name: features.node[f"{name}_items"] for name in state.fields if f"{name}_items" in features.node}
        own = {name: mask.expand(state.batch_size, -1) for name, mask in items.items()}
        state = State(state.fields, {**state.masks, **own})
        spaces = self.spaces.items()
        state = state.replace(**{name: space.clean(state.fields[name], state.mask(name)) for name, space in spaces})
        which = torch.tensor(known) if self._mixed else None
        return TrainingBatch(state, features, scores, features.node.get("element"), known=which)

    def _sample(self, entry: Conformations, row: int, generator: Generator) -> _Sample:
        """Draws a window of one frame, or takes the whole frame where that is what samples are."""
        whole = _Sample(
            entry.system.features,
            {name: value[row] for name, value in entry.fields.items()},
            {name: value[0] for name, value in self._scores(entry, torch.tensor([row])).items()},
        )
        if self._whole(entry):
            return whole
        tokens = window(_observed(entry, row), self.crop, generator=generator)
        return _Sample(
            cut(whole.features, tokens),
            {name: value if name in self._whole_fields else value[tokens] for name, value in whole.fields.items()},
            {name: value if name in self._whole_fields else value[tokens] for name, value in whole.scores.items()},
        )

    def _stacked(self, parts: Sequence[Mapping[str, Tensor]], width: int) -> dict[str, Tensor]:
        return {
            name: torch.stack([part[name] if name in self._whole_fields else _padded(part[name], width) for part in parts])
            for name in parts[0]
        }

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


def _padded(x: Tensor, width: int) -> Tensor:
    return pad(x, (*((0, 0) * (x.ndim - 1)), 0, width - x.shape[0]))
