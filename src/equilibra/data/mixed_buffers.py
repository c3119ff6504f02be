"""Training batches from the replay buffers of many systems."""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor
from torch.nn.functional import pad

from equilibra.data.replay import ReplayBuffer
from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.errors import ConfigError
from equilibra.state.features import Features
from equilibra.state.state import State

AT_ONCE = 16
"""Systems in a batch by default."""


class MixedBuffers:
    """Batches in equal parts from some of the buffers, drawn evenly, their items padded to the longest system among them.

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
        width = {name: max(part.state.fields[name].shape[1] for part in parts) for name in names}

        def joined(values: Sequence[Tensor], items: int) -> Tensor:
            return torch.cat([pad(value, (0, 0) * (value.ndim - 2) + (0, items - value.shape[1])) for value in values])

        state = {name: joined([part.state.fields[name] for part in parts], width[name]) for name in names}
        lengths = {name: torch.tensor([part.state.fields[name].shape[1] for part in parts])[owner] for name in names}
        made = TrainingBatch(
            State(state, {name: torch.arange(width[name])[None] < length[:, None] for name, length in lengths.items()}),
            features,
            forces={name: joined([part.forces[name] for part in parts], width[name]) for name in parts[0].forces},
            classes=features.node["element"],
            energies=torch.cat([part.energies for part in parts if part.energies is not None]),
        )
        return made.rows(torch.randperm(size, generator=generator))


def _alone(shared: Features) -> Features:
    """Returns the features of one system, without the batch axis of one."""
    return Features(
        node={name: value[0] for name, value in shared.node.items()},
        pair={name: value[0] for name, value in shared.pair.items()},
        graph={name: value[0] for name, value in shared.graph.items()},
        around={name: value[0] for name, value in shared.around.items() if name != "there"},
    )
