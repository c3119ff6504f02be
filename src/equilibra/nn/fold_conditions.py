r"""Conditions as weights: at fixed conditions a conditioned network is one without conditions.

A network embeds noise levels l and conditions c as a sum, :math:`e = W h(l) + b + g(c)`. For one c the last term is a constant and joins
the bias, :math:`b' = b + g(c)`; nothing else of a network reads the conditions, so that its outputs stay the same to rounding.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from equilibra.errors import ConfigError, ShapeError
from equilibra.nn.embedding import NoiseEmbedding


def fold_conditions(network: nn.Module, values: Sequence[float]) -> dict[str, Tensor]:
    """Returns the weights of a network without conditions whose outputs are those of `network` at these conditions.

    Arguments:
        network: A network of which a part embeds noise and conditions, `noise` and `conditions`; it is left as it is.
        values: One value for each condition, the same for all systems.

    Returns:
        Weights by the names of the network's own, those of the conditions left out; for a network of the same configuration with `conditions` 0.

    Raises:
        ConfigError: If the network has no conditions.
        ShapeError: If it has another number of conditions.
    """
    for name, part in network.named_modules():
        noise, conditions = getattr(part, "noise", None), getattr(part, "conditions", None)
        if isinstance(noise, NoiseEmbedding) and isinstance(conditions, nn.Sequential):
            return _folded(network.state_dict(), f"{name}." if name else "", noise, conditions, values)
    raise ConfigError(f"{type(network).__name__}: it has no conditions that its weights could take up")


def _folded(
    weights: Mapping[str, Tensor], prefix: str, noise: NoiseEmbedding, conditions: nn.Sequential, values: Sequence[float]
) -> dict[str, Tensor]:
    wanted = conditions[0].in_features
    if len(values) != wanted:
        raise ShapeError("conditions of the network", (len(values),), f"({wanted},)")
    kept = {name: value.clone() for name, value in weights.items() if not name.startswith(f"{prefix}conditions.")}
    name = f"{prefix}noise.network.{len(noise.network) - 1}.bias"
    bias = kept[name]
    # features hold conditions in single precision; the sum is rounded once
    told = torch.tensor(tuple(values), dtype=torch.float32, device=bias.device).double()
    with torch.no_grad():
        kept[name] = (bias.double() + deepcopy(conditions).double()(told)).to(bias.dtype)
    return kept
