r"""The growth of a loss with the time, fitted and divided out, as in the physics-informed pre-training of DiG."""

import torch
from torch import Tensor, nn


class GrowthFactor(nn.Module):
    r"""Online fit of :math:`\ln r = \text{const} + \ln\rho\, (1 - \mathrm{clip}(t))`, with :math:`\mathrm{clip}(t) = \min(0.05, t)`.

    Terms r of the loss that span many decades are divided by :math:`\rho^{1 - \mathrm{clip}(t)}`. Only ratios between times matter: the factor is
    normalised to one at the mean exponent, so that the whole loss keeps its size. Reference: Zheng et al. (2023), Appendix A.

    Arguments:
        memory: Decay of the running moments per update.
        limit: Largest logarithm of the factor.
    """

    moments: Tensor

    def __init__(self, memory: float = 0.99, limit: float = 30.0) -> None:
        super().__init__()
        self.memory, self.limit = memory, limit
        # weight, z, ln r, z^2, z ln r
        self.register_buffer("moments", torch.zeros(5, dtype=torch.float64))

    @staticmethod
    def exponent(t: Tensor) -> Tensor:
        """Returns 1 - clip(t), elementwise."""
        return 1.0 - t.clamp(max=0.05)

    @torch.no_grad()
    def update(self, t: Tensor, terms: Tensor) -> None:
        """Adds one batch of positive terms (batch,) at the times t (batch,) to the running moments."""
        z, y = self.exponent(t).double(), torch.log(terms.double().clamp(min=1e-300))
        new = torch.stack([torch.ones_like(z), z, y, z * z, z * y]).mean(1)
        self.moments.copy_(self.memory * self.moments + (1.0 - self.memory) * new)

    def forward(self, t: Tensor) -> Tensor:
        """Returns the factor (batch,) that terms at the times t are divided by; one before any update."""
        weight, z, y, zz, zy = self.moments.clone()
        if weight == 0.0:
            return torch.ones_like(t)
        z, y, zz, zy = z / weight, y / weight, zz / weight, zy / weight
        slope = (zy - z * y) / (zz - z * z).clamp(min=1e-12)
        return torch.exp((slope * (self.exponent(t).double() - z)).clamp(-self.limit, self.limit)).to(t.dtype)
