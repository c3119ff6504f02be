r"""Where adsorbed atoms are: their density on a grid over the cell and a range of heights, and how far two such maps are apart.

The map of weighted samples is :math:`\rho(x) = \sum_i w_i \delta(x - x_i)`, in atoms per Å³, counted in the voxels of a grid or smoothed by a periodic Gaussian. For one mobile atom the exact
map of an energy, :math:`\rho \propto e^{-E/kT}`, comes from the energy on a fine grid. The map in the plane is the sum over heights, not their maximum.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import atomic_path, write_arrays
from equilibra.energies.energy import Energy
from equilibra.errors import InputError, ShapeError
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.thermo.divergence import jensen_shannon_nats
from equilibra.units import thermal_energy

SHAPE = (20, 20, 10)
"""Points of a grid by default: along both vectors of the plane, and of heights."""

FINER = (3, 3, 6)
"""Points of the exact integration in a voxel along each axis, so that it holds its own integral; most along heights, where voxels are long and energies stiff."""

_ROWS = 4096  # positions given to the energy at once
_BOHR = 0.529177210903


@dataclass(frozen=True, eq=False)
class DensityMap:
    """A density on a grid.

    Attributes:
        system: The system.
        density: Density (nx, ny, nz) in the voxels, in atoms per Å³.
        heights: Edges of the range of heights above the top of the surface, in Å.
        element: Which atoms: their element, or `all` mobile atoms.
        name: What the map is of.
    """

    system: AdsorbateSystem
    density: np.ndarray
    heights: tuple[float, float]
    element: str
    name: str

    @property
    def voxel(self) -> float:
        """Volume of a voxel, in Å³."""
        nx, ny, nz = self.density.shape
        area = float(torch.linalg.det(self.system.plane).abs())
        return area * (self.heights[1] - self.heights[0]) / (nx * ny * nz)

    @property
    def probability(self) -> np.ndarray:
        """Share of the atoms in each voxel (nx, ny, nz); the shares sum to one."""
        total = self.density.sum()
        return np.asarray(self.density / total if total > 0 else self.density)

    @property
    def plane(self) -> np.ndarray:
        """Share of the atoms in each cell of the plane (nx, ny), over all heights."""
        return np.asarray(self.probability.sum(2))

    def difference(self, other: DensityMap) -> dict[str, float]:
        """Returns how far two maps of one grid are apart: Pearson's correlation and the Jensen-Shannon divergence in bits, in space and in the plane.

        Raises:
            ShapeError: If they are on other grids.
            InputError: If they are of other slabs, or one of them is empty.
        """
        if self.density.shape != other.density.shape:
            raise ShapeError("density map to compare with", other.density.shape, self.density.shape)
        if not np.allclose(np.asarray(self.system.slab.cell), np.asarray(other.system.slab.cell), atol=1e-6):
            raise InputError("density maps: they are of slabs with different cells")
        if not self.density.sum() > 0 or not other.density.sum() > 0:
            raise InputError("density maps: one of them is empty; widen its range of heights")
        return {
            "correlation": correlation(self.probability, other.probability),
            "js_bits": jensen_shannon(self.probability, other.probability),
            "correlation_plane": correlation(self.plane, other.plane),
            "js_bits_plane": jensen_shannon(self.plane, other.plane),
        }

    def smoothed(self, width: float) -> DensityMap:
        """Returns the map smoothed by a Gaussian, exactly isotropic in the plane of any cell: a product in reciprocal space; heights by themselves.

        Arguments:
            width: Its standard deviation in Å; 0 leaves the map as it is.

        Raises:
            InputError: If the width is negative.
        """
        from scipy.ndimage import gaussian_filter1d

        if not width >= 0:
            raise InputError(f"smooth: got {width} Å, expected a number that is not negative")
        if width == 0:
            return self
        nx, ny, nz = self.density.shape
        reciprocal = 2.0 * np.pi * np.linalg.inv(self.system.plane.numpy()).T
        n = np.stack(np.meshgrid(np.fft.fftfreq(nx, 1.0 / nx), np.fft.fftfreq(ny, 1.0 / ny), indexing="ij"), -1)
        damping = np.exp(-0.5 * width**2 * np.square(n @ reciprocal).sum(-1))
        plane = np.fft.ifft2(np.fft.fft2(self.density, axes=(0, 1)) * damping[..., None], axes=(0, 1)).real.clip(min=0.0)
        step = (self.heights[1] - self.heights[0]) / nz
        return dataclasses.replace(self, density=gaussian_filter1d(plane, width / step, axis=2, mode="constant"))

    def drawn(self, n: int, rng: np.random.Generator) -> DensityMap:
        """Returns the map of n independent draws from this one: what a perfect sampler would give."""
        counts = rng.multinomial(n, self.probability.ravel()).reshape(self.density.shape)
        return dataclasses.replace(self, density=counts / (n * self.voxel), name=f"{n:,} draws from {self.name}")

    def save(self, folder: str | Path, stem: str = "density") -> list[Path]:
        """Writes `STEM.cube`, a Gaussian cube file with the slab, and `STEM.npz`, and returns their paths."""
        folder = Path(folder)
        cube, table = folder / f"{stem}.cube", folder / f"{stem}.npz"
        write_cube(cube, self)
        write_arrays(
            table,
            {
                "density": self.density,
                "heights": np.array(self.heights),
                "cell": np.asarray(self.system.slab.cell),
                "top": np.array(self.system.top),
            },
        )
        return [cube, table]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Returns Pearson's correlation of two arrays of one shape; not a number where one of them is constant."""
    x, y = a.ravel() - a.mean(), b.ravel() - b.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else math.nan


def jensen_shannon(p: np.ndarray, q: np.ndarray) -> float:
    """Returns the Jensen-Shannon divergence of two probability arrays, in bits."""
    return jensen_shannon_nats(p, q) / math.log(2.0)


def check_grid(
    shape: tuple[int, int, int], heights: tuple[float, float] | None, system: AdsorbateSystem
) -> tuple[float, float]:
    """Returns the range of heights above the top of the surface, by default the system's window.

    Raises:
        InputError: If the grid or the range is empty.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(f"grid: got {tuple(shape)}, expected three positive numbers of points")
    low, high = tuple(limit + system.level - system.top for limit in system.window) if heights is None else heights
    if not high > low:
        raise InputError(f"heights: got {low:g} to {high:g} Å, expected the lower first")
    return low, high


def occupancy(
    ensemble: AdsorbateEnsemble,
    *,
    shape: tuple[int, int, int] = SHAPE,
    heights: tuple[float, float] | None = None,
    element: str | None = None,
    smooth: float = 0.0,
    weighted: bool = True,
) -> DensityMap:
    """Counts the atoms of an ensemble in the voxels of a grid.

    Arguments:
        ensemble: The ensemble.
        shape: Voxels along the vectors of the plane and along heights.
        heights: Lowest and highest height above the top of the surface, in Å; by default all that the atoms may have.
        element: Symbol of the atoms to count; all mobile atoms by default.
        smooth: Standard deviation of a Gaussian in Å that the counts are smoothed by, periodic in the plane.
        weighted: Use the weights of the samples.

    Raises:
        InputError: If the grid is empty, no mobile atom is of the element, or the smoothing is negative.
    """
    from ase.data import chemical_symbols

    system = ensemble.system
    low, high = check_grid(shape, heights, system)
    kinds = np.array([chemical_symbols[z] for z in system.numbers])
    chosen = np.ones(system.atoms, dtype=bool) if element is None else kinds == element
    if not chosen.any():
        raise InputError(f"element: got '{element}', but the mobile atoms are {', '.join(sorted(set(kinds.tolist())))}")
    x = ensemble.positions[:, chosen].astype(np.float64)
    weights = np.repeat(ensemble.weights if weighted else np.full(len(ensemble), 1.0 / len(ensemble)), chosen.sum())
    x = x.reshape(-1, 3)
    frac = x[:, :2] @ np.linalg.inv(system.plane.numpy())
    frac -= np.floor(frac)
    counts, _ = np.histogramdd(
        np.concatenate([frac, x[:, 2:] - system.top], axis=1),
        bins=shape,
        range=((0.0, 1.0), (0.0, 1.0), (low, high)),
        weights=weights,
    )
    found = DensityMap(system, counts, (low, high), element or "all", "occupancy")
    return dataclasses.replace(found, density=counts / found.voxel).smoothed(smooth)


def voxel_positions(system: AdsorbateSystem, shape: tuple[int, int, int], heights: tuple[float, float]) -> np.ndarray:
    """Returns the centres (nx, ny, nz, 3) of voxels, absolute, in Å."""
    u, v, h = ((np.arange(n) + 0.5) / n for n in shape)
    grid = np.stack(np.meshgrid(u, v, h, indexing="ij"), -1)
    plane = grid[..., :2] @ system.plane.numpy()
    z = system.top + heights[0] + grid[..., 2:] * (heights[1] - heights[0])
    return np.concatenate([plane, z], axis=-1)


def boltzmann_map(
    system: AdsorbateSystem,
    energy: Energy,
    temperature: float,
    *,
    shape: tuple[int, int, int] = SHAPE,
    heights: tuple[float, float] | None = None,
    finer: tuple[int, int, int] = FINER,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DensityMap:
    """Returns the exact map at one temperature; see `boltzmann_maps`."""
    return boltzmann_maps(system, energy, (temperature,), shape=shape, heights=heights, finer=finer, progress=progress)[0]


def boltzmann_maps(
    system: AdsorbateSystem,
    energy: Energy,
    temperatures: Sequence[float],
    *,
    shape: tuple[int, int, int] = SHAPE,
    heights: tuple[float, float] | None = None,
    finer: tuple[int, int, int] = FINER,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[DensityMap]:
    """Integrates the Boltzmann distribution of one mobile atom on a fine grid: the exact maps, up to the grid's own error.

    Arguments:
        system: A system with one mobile atom.
        energy: Its energy, as `adsorbate_energy` makes it.
        temperatures: Temperatures in K; the energy is asked for once for all of them.
        shape: Voxels of the map.
        heights: Lowest and highest height above the top of the surface, in Å; by default all that the atom may have.
        finer: Points of the integration in a voxel along each axis.
        progress: Called with the number of finished points and of all.

    Raises:
        InputError: If more than one atom moves, the grid is empty, or a temperature is not positive.
    """
    if system.atoms != 1:
        raise InputError(
            f"{system.name}: {system.atoms} atoms move, and a grid serves one; compare with samples of a long run instead"
        )
    for temperature in temperatures:
        if not temperature > 0:
            raise InputError(f"temperature: got {temperature}, expected a positive number in K")
    low, high = check_grid(shape, heights, system)
    nx, ny, nz = shape
    i, j, k = finer
    points = torch.tensor(voxel_positions(system, (nx * i, ny * j, nz * k), (low, high)).reshape(-1, 1, 3))
    points = points - torch.tensor([0.0, 0.0, system.level])
    parts = []
    with torch.no_grad():
        for start in range(0, len(points), _ROWS):
            found = energy.energy(points[start : start + _ROWS]).double()
            parts.append(torch.where(torch.isfinite(found), found, math.inf))
            progress(min(start + _ROWS, len(points)), len(points))
    u = torch.cat(parts).numpy()
    made = []
    for temperature in temperatures:
        fine = np.exp(-(u - u.min()) / thermal_energy(temperature))
        weight = fine.reshape(nx, i, ny, j, nz, k).sum((1, 3, 5))
        name = f"Boltzmann, {energy.name}, {temperature:g} K"
        empty = DensityMap(system, weight / weight.sum(), (low, high), "all", name)
        made.append(dataclasses.replace(empty, density=empty.density / empty.voxel))
    return made


def model_map(
    log_density: Callable[[torch.Tensor], torch.Tensor],
    system: AdsorbateSystem,
    *,
    shape: tuple[int, int, int] = SHAPE,
    heights: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> DensityMap:
    """Puts a model's own density of one mobile atom on a grid.

    Arguments:
        log_density: Log-densities (n,) of positions (n, 1, 3) relative to the system's level.
        system: A system with one mobile atom.
        shape: Points of the map.
        heights: Lowest and highest height above the top of the surface, in Å.
        progress: Called with the number of finished points and of all.

    Raises:
        InputError: If more than one atom moves, or the grid is empty.
    """
    if system.atoms != 1:
        raise InputError(f"{system.name}: {system.atoms} atoms move, and a grid of log p serves one; take --of samples instead")
    low, high = check_grid(shape, heights, system)
    points = torch.tensor(voxel_positions(system, shape, (low, high)).reshape(-1, 1, 3)) - torch.tensor(
        [0.0, 0.0, system.level]
    )
    found = []
    for part in points.float().split(512):
        found.append(log_density(part).double())
        progress(sum(len(values) for values in found), len(points))
    values = torch.cat(found).numpy().reshape(shape)
    return DensityMap(system, np.exp(values), (low, high), "all", "log p of the model")


def read_map(path: str | Path, system: AdsorbateSystem) -> DensityMap:
    """Reads a map that `DensityMap.save` wrote as npz.

    Raises:
        InputError: If it is missing or malformed.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            found: Mapping[str, Any] = {name: np.asarray(arrays[name]) for name in arrays.files}
        low, high = (float(value) for value in found["heights"])
        return DensityMap(system, found["density"], (low, high), "all", path.stem)
    except (OSError, KeyError, ValueError) as error:
        raise InputError(
            f"'{path}' is no density map that can be read: {error}; expected density.npz of `equilibra density-map`"
        ) from error


def write_cube(path: Path, grid: DensityMap) -> None:
    """Writes a map with its slab as a Gaussian cube file, in Bohr and electrons' units of length: values stay in atoms per Å³."""
    slab, (nx, ny, nz) = grid.system.slab, grid.density.shape
    cell = np.asarray(slab.cell)
    step = (grid.heights[1] - grid.heights[0]) / nz
    # voxels are given by their centres
    origin = 0.5 * cell[0] / nx + 0.5 * cell[1] / ny + np.array([0.0, 0.0, grid.system.top + grid.heights[0] + 0.5 * step])
    lines = [
        f"{grid.system.name}: density of {grid.element} mobile atoms, {grid.name}",
        "atoms per cubic angstrom; x outer, z inner loop",
    ]
    lines.append(f"{len(slab):5d}" + "".join(f"{value:12.6f}" for value in origin / _BOHR))
    for count, vector in ((nx, cell[0] / nx), (ny, cell[1] / ny), (nz, np.array([0.0, 0.0, step]))):
        lines.append(f"{count:5d}" + "".join(f"{value:12.6f}" for value in vector / _BOHR))
    for number, x in zip(slab.numbers, slab.positions / _BOHR, strict=True):
        lines.append(f"{number:5d}{float(number):12.6f}" + "".join(f"{value:12.6f}" for value in x))
    for column in grid.density.reshape(nx * ny, nz):
        lines += ["".join(f"{value:13.5e}" for value in column[start : start + 6]) for start in range(0, nz, 6)]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
