"""Embeddings of the chemical graph and of the noise level."""

import math
from collections.abc import Mapping
from functools import reduce

import torch
from torch import Tensor, nn


class CategoricalEmbedding(nn.Module):
    """Sum of the embeddings of several integer features.

    Arguments:
        vocabulary: Number of values of each feature.
        dim: Width of the embedding.
    """

    def __init__(self, vocabulary: Mapping[str, int], dim: int) -> None:
        super().__init__()
        self.tables = nn.ModuleDict({name: nn.Embedding(size, dim) for name, size in vocabulary.items()})
        for table in self.tables.values():
            nn.init.normal_(table.weight, std=1.0 / math.sqrt(len(vocabulary)))  # type: ignore[arg-type]

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Returns the embedding (..., dim) of integer features (...), of any integer type."""
        # one after another: stacked, the embeddings of all features of all pairs would stand in memory at once
        return reduce(torch.add, (table(_index(features[name])) for name, table in self.tables.items()))


def _index(values: Tensor) -> Tensor:
    # tables take no smaller integers; arrays of pairs are kept as small ones
    return values if values.dtype in (torch.int32, torch.int64) else values.int()


class NoiseEmbedding(nn.Module):
    """Fourier features of the noise levels, followed by a small network.

    Arguments:
        levels: Number of noise levels, one per moving field.
        dim: Width of the embedding.
        frequencies: Fourier features per level; from 1/4 to 4 cycles per unit of the level, ln(sigma/scale)/4.
    """

    frequencies: Tensor

    def __init__(self, levels: int, dim: int, frequencies: int = 16) -> None:
        super().__init__()
        self.register_buffer("frequencies", 2.0 * math.pi * torch.logspace(-2, 2, frequencies, base=2.0), persistent=False)
        self.network = nn.Sequential(nn.Linear(levels * (2 * frequencies + 1), dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, levels: Tensor) -> Tensor:
        """Returns the embedding (batch, dim) of levels (batch, fields)."""
        phase = levels[..., None] * self.frequencies
        waves = torch.cat([phase.sin(), phase.cos(), levels[..., None]], dim=-1)
        return self.network(waves.flatten(1))
