r"""Mixtures of Gaussians as energies.

.. math:: u(x) = -\ln \sum_k w_k \, \mathcal N(x; m_k, C_k) - \ln Z, \qquad \sum_k w_k = 1

The Gaussians carry their full normalisation, so that the :math:`\ln Z` of exp(-u) is the number that is asked for: 0 by default.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from equilibra.energies.analytic.solved import SolvedEnergy, check_positions
from equilibra.errors import InputError, ShapeError


class GaussianMixtureEnergy(SolvedEnergy):
    r"""Energy whose Boltzmann distribution is a mixture of Gaussians.

    Arguments:
        weights: Positive weights (K,); divided by their sum.
        means: Centres (K, items, axes), or (K, d) for one item in d dimensions.
        stds: Widths (K,), or one per coordinate (K, items * axes).
        covariances: Instead of widths, matrices (K, items * axes, items * axes) over the coordinates in row-major order.
        log_z: The :math:`\ln Z` that the energy shall have; it only shifts the energy.
        name: What it is called.

    Raises:
        InputError: If a weight is not positive, a covariance is not positive definite, or neither or both of `stds` and `covariances` are given.
        ShapeError: If the arguments do not fit each other.
    """

    invariant = False

    def __init__(
        self,
        weights: Tensor,
        means: Tensor,
        stds: Tensor | None = None,
        *,
        covariances: Tensor | None = None,
        log_z: float = 0.0,
        name: str = "gaussian-mixture",
    ) -> None:
        if means.ndim not in (2, 3) or means.shape[0] != len(weights):
            raise ShapeError("means", tuple(means.shape), f"({len(weights)}, d) or ({len(weights)}, items, axes)")
        if not bool((weights > 0).all()):
            raise InputError(f"weights: got {weights.tolist()}, expected positive numbers")
        if (stds is None) == (covariances is None):
            raise InputError("GaussianMixtureEnergy: got both or neither of stds and covariances, expected one of them")
        self.items, self.axes = (1, means.shape[1]) if means.ndim == 2 else (means.shape[1], means.shape[2])
        self.name = name
        self.weights = weights.detach().double() / weights.detach().double().sum()
        self.means = means.detach().double().flatten(1)
        self._log_z = float(log_z)
        self._factors = self._cholesky(stds, covariances)
        self._whitening = torch.linalg.inv(self._factors)
        log_volume = self._factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * self.means.shape[1] * math.log(2.0 * math.pi)
        self._log_prefactors = self.weights.log() - log_volume

    def _cholesky(self, stds: Tensor | None, covariances: Tensor | None) -> Tensor:
        count, d = self.means.shape
        if stds is not None:
            if tuple(stds.shape) not in ((count,), (count, d)):
                raise ShapeError("stds", tuple(stds.shape), f"({count},) or ({count}, {d})")
            if not bool((stds > 0).all()):
                raise InputError("stds: expected positive widths")
            wide = stds.detach().double().reshape(count, -1).expand(count, d)
            return torch.diag_embed(wide)
        assert covariances is not None
        if tuple(covariances.shape) != (count, d, d):
            raise ShapeError("covariances", tuple(covariances.shape), f"({count}, {d}, {d})")
        factors, failed = torch.linalg.cholesky_ex(covariances.detach().double())
        if bool((failed != 0).any()):
            raise InputError(f"covariances: component {int(failed.nonzero()[0])} is not positive definite")
        return factors

    def _log_terms(self, x: Tensor) -> Tensor:
        """Returns ln(w_k N_k(x)) (batch, K)."""
        check_positions(self, x)
        away = x.flatten(1)[:, None] - self.means.to(x)
        z = torch.einsum("kij,bkj->bki", self._whitening.to(x), away)
        return self._log_prefactors.to(x) - 0.5 * z.square().sum(-1)

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        return -torch.logsumexp(self._log_terms(x), dim=1) - self._log_z

    def responsibilities(self, x: Tensor) -> Tensor:
        """Returns the probability (batch, K) of each component given a point: which mode it belongs to, softly."""
        return torch.softmax(self._log_terms(x), dim=1)

    def log_z(self) -> float:  # noqa: D102
        return self._log_z

    def sample(self, n: int, *, generator: Generator) -> Tensor:  # noqa: D102
        labels = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        x = self.means[labels] + torch.einsum("nij,nj->ni", self._factors[labels], z)
        return x.reshape(n, self.items, self.axes)


def gmm40() -> GaussianMixtureEnergy:
    r"""Returns GMM-40: 40 equal Gaussians in the plane, the usual test of mode coverage.

    Centres are uniform in :math:`[-40, 40]^2` (float32 uniform numbers of torch's generator with the seed 0, as in the published code),
    all widths are softplus(1) = 1.313. log Z = 0.

    References:
        | Flow Annealed Importance Sampling Bootstrap (Midgley et al., 2023)
        | https://arxiv.org/abs/2208.01893
    """
    uniform = torch.rand(40, 2, generator=Generator().manual_seed(0), dtype=torch.float32)
    means = 80.0 * (uniform.double() - 0.5)
    stds = torch.full((40,), math.log1p(math.e), dtype=torch.float64)
    return GaussianMixtureEnergy(torch.ones(40), means, stds, name="gmm-40")
