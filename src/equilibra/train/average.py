r"""Exponential moving average of the weights, with a warm-up of its memory.

.. math:: \bar\theta \leftarrow \lambda_k \bar\theta + (1 - \lambda_k)\, \theta, \qquad \lambda_k = \min\big(\lambda,\; (1 + k)/(10 + k)\big)
"""

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """Averaged copy of the parameters of a module.

    Arguments:
        module: Whose parameters to average.
        decay: Decay per step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.names = [name for name, _ in module.named_parameters()]
        for index, (_, parameter) in enumerate(module.named_parameters()):
            self.register_buffer(f"average_{index}", parameter.detach().clone())

    def _averages(self) -> list[Tensor]:
        return [self.get_buffer(f"average_{index}") for index in range(len(self.names))]

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Moves the average towards the present parameters after optimiser step number `step` (from 0)."""
        decay = min(self.decay, (1.0 + step) / (10.0 + step))
        torch._foreach_lerp_(self._averages(), [p.detach() for p in module.parameters()], 1.0 - decay)

    def state_of(self) -> dict[str, Tensor]:
        """Returns the averaged parameters by name."""
        return dict(zip(self.names, self._averages(), strict=True))
