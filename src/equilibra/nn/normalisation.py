r"""Layer normalisation that can be differentiated any number of times.

The gradient of PyTorch's own, taken apart by hand in its library, is right up to the second order. Beyond it the mean and the variance of the input count as
constants, and what comes out is wrong by tens of per cent without a word (https://github.com/pytorch/pytorch/issues/175754). A loss that contains the
gradient of a divergence asks for the third order.
"""

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """`torch.nn.LayerNorm` over the last axis, from elementary operations wherever a gradient of any order may be taken.

    Compiled code is differentiated once at most, and in half precision nobody takes higher derivatives: both are left to PyTorch's own.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Returns the normalised input (..., width)."""
        fast = torch.compiler.is_compiling() or torch.is_autocast_enabled(input.device.type)
        if fast or not (torch.is_grad_enabled() and input.requires_grad):
            return super().forward(input)
        centred = input - input.mean(-1, keepdim=True)
        normal = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        if not self.elementwise_affine:
            return normal
        return normal * self.weight + self.bias
