"""What a network is told about a protein: the types of its residues, how far apart they are in the chain, and what a provider adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from equilibra.errors import ShapeError
from equilibra.state import Features
from equilibra.systems.protein.alphabet import ALPHABET, residue_ids

MAX_OFFSET = 32
"""Longest separation along a chain, in residues, that is told from longer ones."""

OTHER_CHAIN = 2 * MAX_OFFSET + 1
"""Value of `offset` for two residues of different chains."""

NODE_VOCABULARY: dict[str, int] = {"residue": len(ALPHABET)}
"""Integer features of residues, each with its number of values. `residue`: position of the letter in `ALPHABET`."""

PAIR_VOCABULARY: dict[str, int] = {"offset": OTHER_CHAIN + 1}
"""Integer features of pairs, each with its number of values. `offset`: residue number of j minus that of i, clipped to -32 ... 32, plus 32; 65 for
residues of different chains.
"""


def featurise(
    sequence: str,
    chain_index: np.ndarray,
    residue_numbers: np.ndarray,
    node_extra: Any | None = None,
    pair_extra: Any | None = None,
) -> Features:
    """Makes the features of a protein of L residues.

    The nodes have the integer array (L,) of `NODE_VOCABULARY`, the pairs the integer array (L, L) of `PAIR_VOCABULARY`, and each may have real
    numbers as `extra`, float32.

    Arguments:
        sequence: Letters of all chains, L of them.
        chain_index: Number (L,) of each residue's chain.
        residue_numbers: Position (L,) of each residue along its chain; one apart if bonded.
        node_extra: Real features (L, W1) of residues, such as the single representation of a structure predictor.
        pair_extra: Real features (L, L, W2) of pairs, such as its pair representation.

    Raises:
        ShapeError: If an array does not fit the sequence.
        KeyError: If a letter is not in `ALPHABET`.
    """
    length = len(sequence)
    for name, value in (("chain_index", chain_index), ("residue_numbers", residue_numbers)):
        if np.shape(value) != (length,):
            raise ShapeError(name, np.shape(value), f"({length},), one entry for each letter of the sequence")
    numbers, chains = np.asarray(residue_numbers), np.asarray(chain_index)
    offset = np.clip(numbers[None, :] - numbers[:, None], -MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET
    offset = np.where(chains[None, :] == chains[:, None], offset, OTHER_CHAIN)
    node = {"residue": torch.from_numpy(residue_ids(sequence))}
    pair = {"offset": torch.from_numpy(offset.astype(np.int64))}
    if node_extra is not None:
        node["extra"] = _extra("node_extra", node_extra, (length,))
    if pair_extra is not None:
        pair["extra"] = _extra("pair_extra", pair_extra, (length, length))
    return Features(node=node, pair=pair)


def _extra(name: str, value: Any, axes: tuple[int, ...]) -> torch.Tensor:
    array = np.array(value, dtype=np.float32)
    if array.ndim != len(axes) + 1 or array.shape[:-1] != axes:
        raise ShapeError(name, array.shape, f"({', '.join(map(str, axes))}, width)")
    return torch.from_numpy(array)
