"""What a network is told about a protein: the types of its residues, how far apart they are in the chain, and what a provider adds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from equilibra.errors import ShapeError
from equilibra.state import Features
from equilibra.systems.protein import memory
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

_BLOCK = 2**20  # pairs at a time


def featurise(
    sequence: str,
    chain_index: np.ndarray,
    residue_numbers: np.ndarray,
    node_extra: Any | None = None,
    pair_extra: Any | None = None,
    extra_known: bool | None = None,
) -> Features:
    """Makes the features of a protein of L residues.

    The nodes have the integer array (L,) of `NODE_VOCABULARY`, the pairs the integer array (L, L) of `PAIR_VOCABULARY`, of one byte each, and each may have
    real numbers as `extra`, float32.

    Arguments:
        sequence: Letters of all chains, L of them.
        chain_index: Number (L,) of each residue's chain.
        residue_numbers: Position (L,) of each residue along its chain; one apart if bonded.
        node_extra: Real features (L, W1) of residues, such as the single representation of a structure predictor.
        pair_extra: Real features (L, L, W2) of pairs, such as its pair representation.
        extra_known: Whether the real features are the protein's, or zeros in place of missing ones, told to the network as `graph["extra_known"]`; None not to
            tell it.

    Raises:
        ShapeError: If an array does not fit the sequence.
        InputError: If memory is too short for the arrays of pairs.
        KeyError: If a letter is not in `ALPHABET`.
    """
    length = len(sequence)
    for name, value in (("chain_index", chain_index), ("residue_numbers", residue_numbers)):
        if np.shape(value) != (length,):
            raise ShapeError(name, np.shape(value), f"({length},), one entry for each letter of the sequence")
    memory.require(
        length**2, f"the array of all pairs of {length} residues", "take a shorter chain or a machine with more memory"
    )
    node = {"residue": torch.from_numpy(residue_ids(sequence))}
    pair = {"offset": torch.from_numpy(_offsets(np.asarray(chain_index), np.asarray(residue_numbers)))}
    if node_extra is not None:
        node["extra"] = real_features("node_extra", node_extra, (length,))
    if pair_extra is not None:
        pair["extra"] = real_features("pair_extra", pair_extra, (length, length))
    made = Features(node=node, pair=pair)
    return made if extra_known is None else made.with_extra_known(torch.tensor(float(extra_known)))


def real_features(name: str, value: Any, axes: tuple[int, ...]) -> torch.Tensor:
    """Returns real features as a float32 tensor of its own; a float32 tensor is given back.

    Raises:
        ShapeError: If they have other axes than the given ones and a width.
    """
    if isinstance(value, torch.Tensor) and value.dtype == torch.float32:
        tensor = value
    else:
        tensor = torch.from_numpy(np.array(value, dtype=np.float32))
    if tensor.ndim != len(axes) + 1 or tuple(tensor.shape[:-1]) != axes:
        raise ShapeError(name, tuple(tensor.shape), f"({', '.join(map(str, axes))}, width)")
    return tensor


def _offsets(chains: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """Returns the array `offset` (L, L), made some rows at a time, so that no larger one is there on the way."""
    length = len(numbers)
    offsets = np.empty((length, length), dtype=np.uint8)
    rows = max(1, _BLOCK // length)
    for start in range(0, length, rows):
        part = slice(start, start + rows)
        block = np.clip(numbers[None, :] - numbers[part, None], -MAX_OFFSET, MAX_OFFSET) + MAX_OFFSET
        offsets[part] = np.where(chains[None, :] == chains[part, None], block, OTHER_CHAIN)
    return offsets
