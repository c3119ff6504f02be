r"""The Space of positions above a periodic plane."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from equilibra.diffusion.space import Euclidean, Preconditioning, Space, edm_preconditioning, expand, masked
from equilibra.errors import SpaceError
from equilibra.geometry import torus
from equilibra.geometry.great_arc import slerp
from equilibra.geometry.periodic import minimum_image_vector

Cell = tuple[tuple[float, float], tuple[float, float]]
"""Two vectors of a plane."""


@dataclass(frozen=True)
class Slab(Space):
    r"""Positions above a periodic plane, in Å: two axes in the plane, the third along its normal.

    In the plane points live on the torus :math:`\mathbb R^2/\Lambda` of any lattice :math:`\Lambda`. They are handled in its cover: coordinates may be those of any image, and
    noise is Gaussian and isotropic in Å, so that nothing depends on how the cell is chosen. All laws are periodic, and given x up to lattice
    translations the mean of the displacement :math:`x_0 - x` is :math:`\sigma^2` times the score of the law on the torus: training needs no cell. The prior, uniform in
    a cell, does; the process of one system knows it (`Process.of_system`).

    Attributes:
        cell: The vectors of the lattice, as rows, in Å; None where it is not known.
    """

    cell: Cell | None = None
    linear: ClassVar[bool] = False
    flat: ClassVar[bool] = True
    event_ndim: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.cell is not None:  # JSON has lists
            (ax, ay), (bx, by) = self.cell
            object.__setattr__(self, "cell", ((float(ax), float(ay)), (float(bx), float(by))))

    def of_system(self, graph: Mapping[str, Tensor]) -> "Slab":
        """Returns the Space with the cell of a system, the first two rows of `graph["cell"]` (3, 3) or (1, 3, 3)."""
        a, b = graph["cell"].reshape(3, 3)[:2, :2].tolist()
        return Slab(cell=((a[0], a[1]), (b[0], b[1])))

    def _lattice(self, like: Tensor) -> Tensor:
        if self.cell is None:
            raise SpaceError("Slab: the cell of the plane is not known; bind the process to one system first")
        return torch.tensor(self.cell, dtype=like.dtype, device=like.device)

    def degrees(self, x: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return Euclidean().degrees(x, mask)

    def tangent_noise(self, x: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return Euclidean().tangent_noise(x, mask, generator=generator)

    def retract(self, x: Tensor, v: Tensor) -> Tensor:  # noqa: D102
        return x + v

    def log(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the vector from x to the nearest image of y, where the cell is known."""
        if self.cell is None:
            return y - x
        cell = torch.zeros(3, 3, dtype=x.dtype, device=x.device)
        cell[:2, :2] = self._lattice(x)
        return minimum_image_vector(x, y, cell, pbc=(True, True, False))

    def kernel_log(self, x: Tensor, y: Tensor) -> Tensor:  # noqa: D102
        return y - x

    def project(self, v: Tensor, mask: Tensor | None) -> Tensor:  # noqa: D102
        return masked(v, mask)

    def clean(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Moves every point into the cell about the origin, where it is known."""
        if self.cell is None:
            return masked(x, mask)
        lattice = self._lattice(x)
        plane = torus.wrap(x[..., :2] @ torch.linalg.inv(lattice)) @ lattice
        return masked(torch.cat([plane, x[..., 2:]], dim=-1), mask)

    def perturb(self, x0: Tensor, sigma: Tensor, mask: Tensor | None, *, generator: Generator) -> Tensor:  # noqa: D102
        return x0 + expand(sigma, x0) * self.tangent_noise(x0, mask, generator=generator)

    def kernel_displacement(self, x0: Tensor, x: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return x0 - x

    def prior(self, like: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None, *, generator: Generator) -> Tensor:
        """Draws positions uniform in the cell, with moment-matched Gaussian heights."""
        uniform = torch.rand(like[..., :2].shape, generator=generator, dtype=like.dtype, device=like.device)
        height = Euclidean().prior(like[..., 2:], sigma, data_scale, mask, generator=generator)
        return masked(torch.cat([(uniform - 0.5) @ self._lattice(like), height], dim=-1), mask)

    def log_prior(self, x: Tensor, sigma: Tensor, data_scale: float, mask: Tensor | None) -> Tensor:  # noqa: D102
        area = torch.linalg.det(self._lattice(x)).abs()
        height = x[..., 2:]
        return Euclidean().log_prior(height, sigma, data_scale, mask) - Euclidean().degrees(height, mask) * area.log()

    def preconditioning(self, sigma: Tensor, data_scale: float) -> Preconditioning:
        """Returns coefficients with which the network predicts the noise in the plane, and heights as on the line; it sees positions in Å."""
        height = edm_preconditioning(sigma, data_scale)
        zero = torch.zeros_like(sigma)
        shift = torch.stack([zero, zero, height.c_shift], dim=-1)[:, None, :]
        scale = torch.stack([sigma, sigma, height.c_out], dim=-1)[:, None, :]
        return Preconditioning(c_in=torch.ones_like(sigma), c_shift=shift, c_out=scale)

    def interpolate(self, a: Tensor, b: Tensor, fraction: float, mask: Tensor | None) -> Tensor:
        """Returns a geodesic in the plane, to the nearest image, and a great arc of heights."""
        self._lattice(a)  # a geodesic needs the cell
        plane = a + fraction * self.log(a, b)
        return self.clean(torch.cat([plane[..., :2], slerp(a[..., 2:], b[..., 2:], fraction)], dim=-1), mask)
