"""Parts of a system: windows of its observed tokens, with features cut to match."""

import torch
from torch import Generator, Tensor

from equilibra.state.features import Features


def window(observed: Tensor, crop: int | None, *, generator: Generator) -> Tensor:
    """Draws a window of contiguous observed tokens.

    Arguments:
        observed: True for the tokens that a frame has, with shape (tokens).
        crop: Largest number of tokens; None for all.
        generator: Used where there are more tokens than that.

    Returns:
        Indices of the tokens, ascending.
    """
    tokens = observed.nonzero()[:, 0]
    if crop is None or len(tokens) <= crop:
        return tokens
    start = int(torch.randint(len(tokens) - crop + 1, (1,), generator=generator))
    return tokens[start : start + crop]


def cut(features: Features, tokens: Tensor) -> Features:
    """Returns the features of some tokens of one system; what they say of a token or a pair stays as it was in the whole.

    Features that are indices of tokens lose their meaning, so that a system with such features can't be cut.
    """
    return Features(
        node={name: value[tokens] for name, value in features.node.items()},
        pair={name: value[tokens][:, tokens] for name, value in features.pair.items()},
        graph=features.graph,
    )


def evenly_spaced(observed: int, crop: int | None) -> list[slice]:
    """Returns windows of at most `crop` of the observed tokens, half a window apart, that cover them all."""
    if crop is None or observed <= crop:
        return [slice(0, observed)]
    starts = [*range(0, observed - crop, max(crop // 2, 1)), observed - crop]
    return [slice(start, start + crop) for start in starts]
