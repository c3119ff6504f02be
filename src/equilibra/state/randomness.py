"""Randomness by name: a generator whose stream depends on a key of integers alone."""

import numpy as np
import torch


def generator_for(*key: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Returns a generator seeded by a key such as (seed, block) or (seed, step, rank).

    Different keys give independent streams (NumPy's `SeedSequence`), so that work can be cut, ordered and resumed at will.
    """
    words = np.random.SeedSequence([k & 0xFFFFFFFFFFFFFFFF for k in key]).generate_state(2, dtype=np.uint32)
    return torch.Generator(device).manual_seed((int(words[0]) << 31) ^ int(words[1]))
