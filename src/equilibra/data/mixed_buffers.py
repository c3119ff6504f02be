"""Training batches from the replay buffers of many systems, and from known conformations beside them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from equilibra.data.conformations import ConformationData
from equilibra.data.replay import ReplayBuffer
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State

AT_ONCE = 16
"""Systems in a batch by default."""


class MixedBuffers:
    """Batches in equal parts from some of the buffers, drawn evenly, their items padded to the longest system among them.

    The States of a buffer may have several fields on any Spaces, of which some are one for a system: what its packing makes of its arrays. A field is masked where systems have
    different numbers of its items, or a buffer masks it itself, as that of the torsions of a ligand.

    Arguments:
        buffers: Buffers of the same fields, all with the same ladder of temperatures or all with one.
        at_once: Most systems in a batch.

    Raises:
        ConfigError: If there is no buffer, they are of different fields or ladders, or no system fits a batch.
    """

    has_forces = True

    def __init__(self, buffers: Sequence[ReplayBuffer], *, at_once: int = AT_ONCE) -> None:
        if len({(buffer.field, tuple(buffer.betas.tolist())) for buffer in buffers}) != 1:
            raise ConfigError(
                f"mixed buffers: got {len(buffers)} buffers, expected at least one, all of the same fields and one ladder"
            )
        if at_once < 1:
            raise ConfigError(f"at_once: got {at_once}, expected at least 1 system")
        self.buffers, self.at_once = list(buffers), at_once
        self.rungs = buffers[0].rungs
        self._features = [_alone(buffer.features) for buffer in buffers]

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch with replacement; see the class. Its samples are in random order."""
        count = min(self.at_once, len(self.buffers), size)
        chosen = torch.randperm(len(self.buffers), generator=generator)[:count].tolist()
        if count == 1:
            return self.buffers[chosen[0]].batch(size, generator=generator)
        sizes = [size // count + (k < size % count) for k in range(count)]
        parts = [self.buffers[k].batch(n, generator=generator) for k, n in zip(chosen, sizes, strict=True)]
        owner = torch.arange(count).repeat_interleave(torch.tensor(sizes))
        features = Features.collate([self._features[k] for k in chosen]).rows(owner)
        if "conditions" in parts[0].features.graph:
            features = features.conditioned(torch.cat([part.features.graph["conditions"] for part in parts]))
        names = parts[0].state.fields
        states = [part.state for part in parts]
        masks = {name: _joined([_mask(state, name) for state in states]) for name in names if _differs(states, name)}
        made = TrainingBatch(
            State({name: _joined([state.fields[name] for state in states]) for name in names}, masks),
            features,
            forces={name: _joined([part.forces[name] for part in parts]) for name in parts[0].forces},
            classes=features.node["element"],
            energies=torch.cat([part.energies for part in parts if part.energies is not None]),
        )
        return made.rows(torch.randperm(size, generator=generator))


class WithKnown:
    """Batches from buffers, and now and then one of known conformations, which are learned by denoising alone, as samples of the lowest temperature.

    Arguments:
        buffers: What an engine collects.
        known: Known conformations, of the same fields.
        share: Probability that a batch is of these.

    Raises:
        ConfigError: If the share is none.
    """

    has_forces = True

    def __init__(self, buffers: MixedBuffers, known: ConformationData, share: float) -> None:
        if not 0.0 < share < 1.0:
            raise ConfigError(f"share of known conformations: got {share}, expected a number between 0 and 1")
        self.buffers, self.known, self.share = buffers, known, share

    def batch(self, size: int, *, generator: Generator) -> TrainingBatch:
        """Draws a batch with replacement; see the class."""
        if float(torch.rand((), generator=generator)) >= self.share:
            return self.buffers.batch(size, generator=generator)
        batch = self.known.batch(size, generator=generator)
        if self.buffers.rungs == 1:
            return batch
        mask = batch.features.mask
        assert mask is not None
        return replace(batch, features=batch.features.conditioned(torch.zeros(len(mask), 1)))


def _joined(values: Sequence[Tensor]) -> Tensor:
    """Joins arrays (n, items, ...), padded with zeros to the most items."""
    width = max(value.shape[1] for value in values)
    return torch.cat([pad(value, (0, 0) * (value.ndim - 2) + (0, width - value.shape[1])) for value in values])


def _mask(state: State, name: str) -> Tensor:
    mask = state.mask(name)
    value = state.fields[name]
    return torch.ones(value.shape[:2], dtype=torch.bool, device=value.device) if mask is None else mask


def _differs(states: Sequence[State], name: str) -> bool:
    """Tells whether a field needs a mask: some State has one, or the numbers of items differ."""
    return len({state.fields[name].shape[1] for state in states}) > 1 or any(state.mask(name) is not None for state in states)


def _alone(shared: Features) -> Features:
    """Returns the features of one system, without the batch axis of one."""
    return Features(
        node={name: value[0] for name, value in shared.node.items()},
        pair={name: value[0] for name, value in shared.pair.items()},
        graph={name: value[0] for name, value in shared.graph.items()},
        around={name: value[0] for name, value in shared.around.items() if name != "there"},
    )
