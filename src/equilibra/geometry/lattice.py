r"""Cells as symmetric matrices: polar form, rotation-invariant noise, density scaling.

A cell matrix :math:`A` has the lattice vectors as **rows**, in Å; :math:`x = f A` for fractional :math:`f`. The polar form
:math:`A = L Q` with :math:`L = (A A^\top)^{1/2}` symmetric positive definite removes the orientation: a rotated crystal,
:math:`A \to A R`, has the same :math:`L`.

References:
    | A generative model for inorganic materials design (Zeni et al., 2023), https://arxiv.org/abs/2312.03687

Note:
    Noise is GOE (off-diagonal variance one half), the standard Gaussian of the Frobenius metric. Unit-variance off-diagonals,
    used elsewhere, are not invariant under a change of axes.
"""

import math

import torch

from equilibra.geometry.shapes import require_trailing
from equilibra.types import Float, Tensor

DEFAULT_KAPPA: float = 0.25
"""The default of κ in the stationary variance κ n^(2/3), in Å²."""

_POLAR_STEPS = 12


def _cofactors(a: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3 3"]:
    """Returns det(A) A^(-T), whose rows are cross products of the rows of A."""
    x, y, z = a.unbind(-2)
    return torch.stack(
        (torch.linalg.cross(y, z), torch.linalg.cross(z, x), torch.linalg.cross(x, y)), dim=-2
    )  # fmt: skip


def polar(a: Float[Tensor, "... 3 3"]) -> tuple[Float[Tensor, "... 3 3"], Float[Tensor, "... 3 3"]]:
    r"""Splits cells into shape and orientation, :math:`A = L Q`.

    Computed by Newton's iteration :math:`Q \leftarrow (\gamma Q + \gamma^{-1} Q^{-\top})/2` with :math:`\gamma = |\det Q|^{-1/3}`, whose
    derivatives stay finite for cubic cells, where those of an eigendecomposition do not.

    References:
        | Computing the polar decomposition, with applications (Higham, 1986), https://doi.org/10.1137/0907079

    Arguments:
        a: Invertible cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å.

    Returns:
        The symmetric positive definite :math:`L` in Å and the orthogonal :math:`Q` with :math:`\det Q = \mathrm{sign} \det A` (a rotation
        if the lattice vectors are right-handed), each with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("a", a, (3, 3))
    q = a
    for _ in range(_POLAR_STEPS):
        cofactors = _cofactors(q)
        determinant = (q[..., :1, :] * cofactors[..., :1, :]).sum(-1, keepdim=True)
        gamma = determinant.detach().abs().pow(-1 / 3)
        q = (gamma * q + cofactors / (gamma * determinant)) / 2
    shape = a @ q.transpose(-1, -2)
    return (shape + shape.transpose(-1, -2)) / 2, q


def to_vector(m: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 6"]:
    r"""Expands symmetric matrices in the orthonormal basis :math:`\{E_{ii}, (E_{ij} + E_{ji})/\sqrt2\}`.

    Arguments:
        m: Matrices, with shape (..., 3, 3); the antisymmetric part is ignored.

    Returns:
        Components in the order 00, 11, 22, 12, 02, 01, with shape (..., 6); the Euclidean norm is the Frobenius norm.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("m", m, (3, 3))
    off = torch.stack(
        (m[..., 1, 2] + m[..., 2, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 0, 1] + m[..., 1, 0]), dim=-1
    )  # fmt: skip
    return torch.cat((m.diagonal(dim1=-2, dim2=-1), off / math.sqrt(2)), dim=-1)


def from_vector(v: Float[Tensor, "... 6"]) -> Float[Tensor, "... 3 3"]:
    """Assembles symmetric matrices from components; the inverse of `to_vector`.

    Arguments:
        v: Components in the order 00, 11, 22, 12, 02, 01, with shape (..., 6).

    Returns:
        Symmetric matrices, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axis is not 6.
    """
    require_trailing("v", v, (6,))
    a, b, c = v[..., :3].unbind(-1)
    p, q, r = (v[..., 3:] / math.sqrt(2)).unbind(-1)
    return torch.stack((a, r, q, r, b, p, q, p, c), dim=-1).unflatten(-1, (3, 3))


def goe(
    shape: tuple[int, ...],
    *,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Float[Tensor, "... 3 3"]:
    r"""Draws symmetric matrices of the Gaussian orthogonal ensemble: diagonal N(0, 1), off-diagonal N(0, 1/2).

    The law of :math:`Z` equals that of :math:`Q Z Q^\top` for every rotation; the components of `to_vector` are standard normal.

    Arguments:
        shape: The leading axes of the result.
        generator: The only source of randomness; numbers are drawn on its device.
        dtype: The dtype of the result; torch's default if not given.
        device: The device of the result; the generator's if not given.

    Returns:
        Symmetric matrices, with shape (*shape, 3, 3).
    """
    v = torch.randn((*shape, 6), generator=generator, dtype=dtype, device=generator.device)
    return from_vector(v.to(device or generator.device))


def volume(a: Float[Tensor, "... 3 3"]) -> Float[Tensor, "..."]:
    r"""Computes the volume of cells, :math:`|\det A|`.

    Arguments:
        a: Cell matrices (or their symmetric parts), with shape (..., 3, 3), in Å.

    Returns:
        Volumes, with shape (...), in Å³.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("a", a, (3, 3))
    x, y, z = a.unbind(-2)
    return (x * torch.linalg.cross(y, z)).sum(-1).abs()


def polar_log_jacobian(shape: Float[Tensor, "... 3 3"]) -> Float[Tensor, "..."]:
    r"""Computes the log-Jacobian of the polar form, :math:`\ln |\partial A / \partial (L, Q)|` up to a constant.

    .. math:: \sum_{i<j} \ln(\lambda_i + \lambda_j) = \ln \det(\mathrm{tr}(L)\, I - L)

    with the eigenvalues :math:`\lambda` of :math:`L`; the right-hand side has no trouble with equal eigenvalues.

    Arguments:
        shape: Symmetric positive definite :math:`L`, with shape (..., 3, 3), in Å.

    Returns:
        The log-Jacobian, with shape (...).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("shape", shape, (3, 3))
    trace = shape.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return volume(trace * torch.eye(3, dtype=shape.dtype, device=shape.device) - shape).log()


def _count_like(n_atoms: Tensor | float) -> Float[Tensor, "..."]:
    n = torch.as_tensor(n_atoms)
    return n if n.is_floating_point() else n.to(torch.get_default_dtype())


def density_scale(n_atoms: Tensor | float, mean_density: float) -> Float[Tensor, "..."]:
    r"""Computes the edge of the cube that holds n atoms at the mean density, :math:`\mu = (n/\bar\rho)^{1/3}`.

    Arguments:
        n_atoms: Atoms per cell; integers take torch's default dtype.
        mean_density: The mean number density of the training set, in Å⁻³.

    Returns:
        The mean :math:`\mu` of the diagonal of :math:`L` under the prior, in Å, with the shape of `n_atoms`.
    """
    return (_count_like(n_atoms) / mean_density).pow(1 / 3)


def noise_scale(n_atoms: Tensor | float, kappa: float = DEFAULT_KAPPA) -> Float[Tensor, "..."]:
    r"""Computes the width of the prior, :math:`s_\infty = \sqrt\kappa\, n^{1/3}`.

    Arguments:
        n_atoms: Atoms per cell; integers take torch's default dtype.
        kappa: :math:`\kappa`, in Å².

    Returns:
        The width per component, in Å, with the shape of `n_atoms`.
    """
    return math.sqrt(kappa) * _count_like(n_atoms).pow(1 / 3)


def standardise(
    shape: Float[Tensor, "... 3 3"], mu: Float[Tensor, "..."] | float, scale: Float[Tensor, "..."] | float
) -> Float[Tensor, "... 3 3"]:
    r"""Centres and scales cells so that the prior is the standard GOE law, :math:`(L - \mu I)/s_\infty`.

    Arguments:
        shape: Symmetric :math:`L`, with shape (..., 3, 3), in Å.
        mu: The mean of the prior, broadcast against the leading axes, in Å; see `density_scale`.
        scale: The width of the prior, broadcast against the leading axes, in Å; see `noise_scale`.

    Returns:
        Dimensionless symmetric matrices, with shape (..., 3, 3).

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("shape", shape, (3, 3))
    mu, scale = (torch.as_tensor(c, dtype=shape.dtype, device=shape.device)[..., None, None] for c in (mu, scale))
    return (shape - mu * torch.eye(3, dtype=shape.dtype, device=shape.device)) / scale


def unstandardise(
    z: Float[Tensor, "... 3 3"], mu: Float[Tensor, "..."] | float, scale: Float[Tensor, "..."] | float
) -> Float[Tensor, "... 3 3"]:
    r"""Returns from standardised cells to :math:`L = \mu I + s_\infty Z`; the inverse of `standardise`.

    Arguments:
        z: Dimensionless symmetric matrices, with shape (..., 3, 3).
        mu: The mean of the prior, broadcast against the leading axes, in Å.
        scale: The width of the prior, broadcast against the leading axes, in Å.

    Returns:
        Symmetric :math:`L`, with shape (..., 3, 3), in Å; not necessarily positive definite.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("z", z, (3, 3))
    mu, scale = (torch.as_tensor(c, dtype=z.dtype, device=z.device)[..., None, None] for c in (mu, scale))
    return z * scale + mu * torch.eye(3, dtype=z.dtype, device=z.device)
