r"""Log-density from a denoiser that knows its own: an energy head, trained with the normalisation, in one call.

.. math:: \ln p_{\sigma_{min}}(x) = -\Phi(x, \sigma_{min})
"""

import torch
from torch import Tensor

from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import InputError
from equilibra.state.state import State


def potential_log_density(
    denoiser: Denoiser, state: State, *, sigma: float | None = None, batch_size: int | None = None
) -> Tensor:
    """Returns the log-density that a denoiser gives of States.

    Arguments:
        denoiser: One whose predictions have a log-density.
        state: States in the rescaled variable.
        sigma: Noise of the reference field; the smallest of the process by default.
        batch_size: Batch elements treated at once; all by default.

    Returns:
        ln p (batch,) at that noise, detached, in float64.

    Raises:
        InputError: If the denoiser gives no log-density.
    """
    process = denoiser.process
    time = process.t_min if sigma is None else float(process.time(torch.tensor(sigma, dtype=torch.float64)))
    size = batch_size or state.batch_size
    parts = []
    for start in range(0, state.batch_size, size):
        rows = slice(start, start + size)
        part = state[rows]
        t = torch.full((part.batch_size,), time, dtype=part.dtype, device=part.device)
        with torch.no_grad():
            found = denoiser.rows(rows)(part, t).log_density
        if found is None:
            raise InputError(
                "this model gives scores and no log-density (it has no energy head); use the density of its probability flow, density.flow.log_density"
            )
        parts.append(found.detach().double())
    return torch.cat(parts)
