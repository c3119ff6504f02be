r"""Harmonic systems: everything about them is known in closed form.

On the mean-free subspace of D dimensions with the force constants :math:`\lambda_m > 0`,

.. math:: \ln Z = \tfrac12 \sum_m \ln \frac{2\pi}{\lambda_m}, \qquad \langle u \rangle = \tfrac D2, \qquad S/k = \ln Z + \tfrac D2 .
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

from equilibra.energies.analytic.solved import ThermalEnergy, check_positions, check_positive
from equilibra.errors import InputError, ShapeError


class HarmonicCluster(ThermalEnergy):
    r"""Particles on springs to their common centre: :math:`u = \frac k2 \sum_i |x_i - x_c|^2`.

    Arguments:
        items: Number of particles, at least two.
        axes: Dimension of space.
        stiffness: Spring constant k.
    """

    def __init__(self, items: int, axes: int = 3, *, stiffness: float = 1.0) -> None:
        if items < 2 or axes < 1:
            raise InputError(f"harmonic cluster: got {items} particles in {axes} dimensions, expected at least 2 in at least 1")
        self.items, self.axes, self.name = items, axes, "harmonic-cluster"
        self.stiffness = check_positive("stiffness", stiffness)

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        check_positions(self, x)
        return 0.5 * self.stiffness * (x - x.mean(1, keepdim=True)).square().sum((1, 2))

    def log_z(self) -> float:  # noqa: D102
        return 0.5 * self.degrees * math.log(2.0 * math.pi / self.stiffness)

    def mean_energy(self) -> float:  # noqa: D102
        return 0.5 * self.degrees

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Draws n exact samples (n, items, axes) with their mean at the origin, in float64."""
        z = torch.randn(n, self.items, self.axes, generator=generator, dtype=torch.float64) / math.sqrt(self.stiffness)
        return z - z.mean(1, keepdim=True)


class HarmonicCrystal(ThermalEnergy):
    r"""Particles near fixed sites: :math:`u = \frac12 y^T H y` with the mean-free displacements :math:`y = P (x - x^{(0)})`.

    The lattice does not turn with the particles: of the rigid motions only translations leave the energy unchanged.

    Arguments:
        sites: Sites :math:`x^{(0)}` (items, axes), at least two.
        hessian: Symmetric matrix H (items * axes, items * axes) over the coordinates in row-major order. Its translations are projected out.
        name: What it is called.

    Raises:
        ShapeError: If the Hessian does not fit the sites.
        InputError: If it is not symmetric, or has a mode other than the translations that is not stiff.
    """

    def __init__(self, sites: Tensor, hessian: Tensor, *, name: str = "harmonic-crystal") -> None:
        if sites.ndim != 2 or len(sites) < 2:
            raise ShapeError("sites", tuple(sites.shape), "(items, axes) with at least two items")
        self.items, self.axes, self.name = sites.shape[0], sites.shape[1], name
        size = self.items * self.axes
        if tuple(hessian.shape) != (size, size):
            raise ShapeError("hessian", tuple(hessian.shape), f"({size}, {size})")
        hessian = hessian.detach().double()
        if not torch.allclose(hessian, hessian.T, rtol=1e-8, atol=1e-10 * float(hessian.abs().max())):
            raise InputError("hessian: not symmetric; give second derivatives, or half the sum of the matrix and its transpose")
        self.sites = sites.detach().double().clone()
        centre = torch.eye(self.items, dtype=torch.float64) - 1.0 / self.items
        projector = torch.kron(centre, torch.eye(self.axes, dtype=torch.float64))
        self.hessian = projector @ (0.5 * (hessian + hessian.T)) @ projector
        # translations are given a stiffness beyond all others, so that they come last
        beyond = 2.0 * float(self.hessian.abs().sum(1).max()) + 1.0
        values, vectors = torch.linalg.eigh(self.hessian + beyond * (torch.eye(size, dtype=torch.float64) - projector))
        self.stiffness = values[: self.degrees]
        """Force constants of the modes (D_eff,), ascending."""
        self.modes = vectors[:, : self.degrees]
        """Orthonormal modes (items * axes, D_eff)."""
        if float(self.stiffness[0]) <= 1e-10 * float(self.stiffness[-1]):
            raise InputError(
                f"hessian: its softest mode besides the translations has the force constant {float(self.stiffness[0]):g}, expected positive "
                "ones; particles that no spring holds have no partition function"
            )

    @classmethod
    def from_springs(cls, sites: Tensor, pairs: Tensor, stiffness: float | Tensor = 1.0) -> HarmonicCrystal:
        r"""Makes the crystal of isotropic springs: :math:`u = \sum_{ij} \frac{k_{ij}}2 |y_i - y_j|^2` over the listed pairs.

        Arguments:
            sites: Sites (items, axes).
            pairs: Indices (springs, 2).
            stiffness: Spring constant, or one per spring (springs,).
        """
        items, axes = sites.shape
        ends = torch.eye(items, dtype=torch.float64)[pairs[:, 0]] - torch.eye(items, dtype=torch.float64)[pairs[:, 1]]
        k = torch.as_tensor(stiffness, dtype=torch.float64).expand(len(pairs))
        laplacian = ends.T @ (k[:, None] * ends)
        return cls(sites, torch.kron(laplacian, torch.eye(axes, dtype=torch.float64)))

    def energy(self, x: Tensor) -> Tensor:  # noqa: D102
        check_positions(self, x)
        y = x - self.sites.to(x)
        # mean-free first: the Hessian would remove the mean too, but in float32 only about as well as it cancels
        y = (y - y.mean(1, keepdim=True)).flatten(1)
        return 0.5 * (y * (y @ self.hessian.to(x))).sum(1)

    def log_z(self) -> float:  # noqa: D102
        return float(0.5 * torch.log(2.0 * math.pi / self.stiffness).sum())

    def mean_energy(self) -> float:  # noqa: D102
        return 0.5 * self.degrees

    def sample(self, n: int, *, generator: Generator) -> Tensor:
        """Draws n exact samples (n, items, axes) with the centre of the sites, in float64."""
        z = torch.randn(n, self.degrees, generator=generator, dtype=torch.float64) * self.stiffness.rsqrt()
        return self.sites + (z @ self.modes.T).reshape(n, self.items, self.axes)
