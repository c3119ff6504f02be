r"""Distances as features: a Gaussian basis, summed smoothly over periodic images where a cell is given."""

import torch
from torch import Tensor, nn


class GaussianBasis(nn.Module):
    r"""Gaussians of a warped distance, denser at short range.

    .. math:: \phi_k(r) = \exp\big[-\tfrac12 ((w(r) - \mu_k)/s)^2\big], \qquad w(r) = \ln(1 + r/r_0)

    with centres uniform in w from 0 to :math:`w(r_{max})`. Beyond :math:`r_{max}` all functions vanish smoothly.

    Arguments:
        size: Number of functions.
        r_max: Largest resolved distance, in the network's length unit.
        r_0: Length below which the resolution is uniform.
    """

    centres: Tensor

    def __init__(self, size: int, r_max: float = 8.0, r_0: float = 0.5) -> None:
        super().__init__()
        self.r_0 = r_0
        top = float(torch.log1p(torch.tensor(r_max / r_0)))
        self.register_buffer("centres", torch.linspace(0.0, top, size), persistent=False)
        self.inverse_width = (size - 1) / top

    def forward(self, r: Tensor) -> Tensor:
        """Returns the basis (..., size) of distances (...)."""
        z = (torch.log1p(r / self.r_0)[..., None] - self.centres) * self.inverse_width
        return torch.exp(-0.5 * z * z)


def pair_vectors(x: Tensor) -> Tensor:
    """Returns x_j - x_i, with shape (batch, tokens, tokens, 3), for positions (batch, tokens, 3)."""
    return x[:, None, :, :] - x[:, :, None, :]


def safe_norm(v: Tensor, floor: float = 1e-6) -> Tensor:
    """Returns the length of vectors (..., 3), with a finite gradient at zero."""
    return torch.sqrt((v * v).sum(-1) + floor * floor)


def full_precision_product(a: Tensor, b: Tensor) -> Tensor:
    """Returns the matrix product a b in the precision of b, also under autocast: for products that carry coordinates."""
    with torch.autocast(a.device.type, enabled=False):
        return torch.matmul(a.to(b.dtype), b)


def image_vectors(x: Tensor, translations: Tensor) -> Tensor:
    """Returns x_j + T_k - x_i, with shape (batch, tokens, tokens, images, 3), for translations (batch, images, 3)."""
    return pair_vectors(x)[..., None, :] + translations[:, None, None, :, :]


def image_sums(basis: GaussianBasis, x: Tensor, translations: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    r"""Returns the basis and the bounded relative positions summed over periodic images.

    .. math::
        \Phi_k(i, j) = \sum_T \phi_k(r_T)\, c(r_T), \qquad v(i, j) = \sum_T c(r_T)\, \frac{x_j + T - x_i}{1 + r_T}, \qquad
        c(r) = \tfrac12 [1 + \cos(\pi r / r_c)] \text{ for } r < r_c

    with :math:`r_T = |x_j + T - x_i|`. The sums are smooth and depend neither on the choice of the cell nor on how positions are wrapped, when the
    translations cover the cut-off (`geometry.periodic`). An atom meets its own images, never itself.

    Returns:
        The basis (batch, tokens, tokens, size) and vectors (batch, tokens, tokens, 3).
    """
    vectors = image_vectors(x, translations)
    r = safe_norm(vectors)
    smooth = torch.where(r < cutoff, 0.5 * (1.0 + torch.cos(torch.pi * r / cutoff)), torch.zeros_like(r))
    identity = torch.eye(x.shape[1], dtype=torch.bool, device=x.device)[None, :, :, None]
    own = identity & (translations.abs().sum(-1) == 0)[:, None, None, :]
    smooth = torch.where(own, torch.zeros_like(smooth), smooth)[..., None]
    return (basis(r) * smooth).sum(-2), (vectors / (1.0 + r[..., None]) * smooth).sum(-2)
