r"""Stochastic approximation of the step size that gives a wanted acceptance.

.. math:: \log\varepsilon \leftarrow \log\varepsilon + \gamma_c (a - a^*), \qquad \gamma_c = \max(2/(1 + c),\, \gamma_{min})

The gain shrinks with the number c of times that the acceptance crossed its target (Kesten, 1958), not with time: a start that is wrong by orders of
magnitude is left at full speed, and noise is averaged only once the step is about right.

References:
    | Accelerated stochastic approximation (Kesten, 1958)
    | https://doi.org/10.1214/aoms/1177706705
"""

from __future__ import annotations

import torch
from torch import Tensor

from equilibra.errors import DivergenceError


class StepAdaptation:
    """Adapts one step size per group of walkers, for example per rung of a temperature ladder.

    An adapting kernel does not leave its target invariant: adapt first, then sample with the step that came out.

    Arguments:
        step: Start (groups,).
        target: The wanted acceptance.
        least_gain: The gain never falls below; above 0 to follow a target that changes.
    """

    def __init__(self, step: Tensor, target: float, *, least_gain: float = 0.0) -> None:
        self.target = target
        self.least_gain = least_gain
        self._log_step = step.double().log()
        self._crossings = torch.zeros_like(self._log_step)
        self._side = torch.zeros_like(self._log_step)
        self._sum = torch.zeros_like(self._log_step)
        self._weight = torch.zeros_like(self._log_step)

    @property
    def step(self) -> Tensor:
        """Step sizes to use next (groups,)."""
        return self._log_step.exp()

    @property
    def settled(self) -> Tensor:
        """Geometric mean of the steps since the third crossing (groups,); the current ones where there were fewer."""
        return torch.where(self._weight > 0, self._sum / self._weight.clamp(min=1e-300), self._log_step).exp()

    def update(self, acceptance: Tensor) -> None:
        """Learns from the mean acceptance (groups,) of the latest moves.

        Raises:
            DivergenceError: If the step has shrunk to nothing because every proposal is rejected.
        """
        miss = acceptance.double() - self.target
        side = torch.sign(miss)
        self._crossings += (side * self._side < 0).double()
        self._side = torch.where(side == 0, self._side, side)
        gain = (2.0 / (1.0 + self._crossings)).clamp(min=self.least_gain)
        self._log_step = self._log_step + gain * miss
        settled = (self._crossings >= 3).double()
        self._sum += settled * self._log_step
        self._weight += settled
        if bool((self._log_step < -46.0).any()):  # 1e-20
            raise DivergenceError(
                "step size: every proposal was rejected down to steps of 1e-20; the energy or its force is wrong or not finite near the walkers"
            )
