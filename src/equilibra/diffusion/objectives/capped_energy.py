"""Energies with a soft ceiling, for training targets only."""

import torch
from torch import Tensor

from equilibra.errors import ConfigError


def capped_energy(u: Tensor, cut: float | None) -> Tensor:
    r"""Returns reduced energies that grow logarithmically above a cut.

    .. math:: u \to u_{cut} + \ln(1 + u - u_{cut}) \quad (u > u_{cut})

    The join is smooth to first order. Overlapping atoms then weigh in a loss without ruling it. Evaluation never caps.

    Arguments:
        u: Reduced energies, with any shape.
        cut: Where the cap begins, in kT on the scale of u; None for no cap.

    Raises:
        ConfigError: If an energy is NaN.
    """
    if bool(torch.isnan(u).any()):
        raise ConfigError("energies: got NaN for a training conformation, expected numbers; check the energy function")
    if cut is None:
        return u
    return torch.where(u > cut, cut + torch.log1p((u - cut).clamp(min=0.0)), u)
