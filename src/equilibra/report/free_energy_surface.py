"""Free energy over two torsions: the estimate on a periodic grid, and its picture beside the reference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import ShapeError
from equilibra.report.canvas import INK, FloatArray, degrees, effective_number, finite, frame_weights, png, sheet
from equilibra.report.elements import colour
from equilibra.units import thermal_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_TICKS = list(range(-180, 181, 60))


def free_energy_surface(
    phi: ArrayLike, psi: ArrayLike, weights: ArrayLike | None = None, *, bins: int = 90, width: float | None = None
) -> FloatArray:
    r"""Estimates the free energy of two torsions on a periodic grid.

    .. math:: F(\phi, \psi) / kT = -\ln p(\phi, \psi) + \max \ln p

    The density :math:`p` is a histogram smoothed by a wrapped Gaussian. Cells whose density is below a quarter of what one sample
    leaves at its own place are not resolved by the data, and are not a number.

    Arguments:
        phi: First torsion of each frame, with shape :math:`(\text{frames})`, in rad.
        psi: Second torsion, with the same shape, in rad.
        weights: Weight of each frame, with the same shape, not negative; None for equal weights.
        bins: Cells per axis.
        width: Standard deviation of the Gaussian in degrees; None for `smoothing_width` of the effective number of frames.

    Returns:
        The free energy over [-180°, 180°) in both angles, with shape :math:`(\text{bins}, \text{bins})`, first axis :math:`\phi`,
        in kT; zero at its minimum.

    Raises:
        InputError: If there are no frames, or values are not finite.
        ShapeError: If the shapes differ.
    """
    from scipy.ndimage import gaussian_filter

    x, y = degrees("phi", phi), degrees("psi", psi)
    if x.shape != y.shape:
        raise ShapeError("psi", y.shape, x.shape)
    w = frame_weights(weights, x.size)
    count = effective_number(w)
    counts, _, _ = np.histogram2d(x, y, bins=bins, range=[[-180.0, 180.0], [-180.0, 180.0]], weights=w)
    cells = (smoothing_width(count) if width is None else width) * bins / 360.0
    density = gaussian_filter(counts / w.sum(), cells, mode="wrap", truncate=6.0)
    resolved = density >= 0.25 / (count * 2.0 * np.pi * cells**2)
    surface = np.full_like(density, np.nan)
    surface[resolved] = -np.log(density[resolved] / density.max())
    return surface


def smoothing_width(count: float) -> float:
    """Returns the kernel width for an effective number of frames, in degrees: 9° (1000 / n)^(1/6), between 4° and 20°.

    The exponent is that of Silverman's rule in two dimensions; the factor fits basins some 20° wide.
    """
    return float(np.clip(9.0 * (1000.0 / count) ** (1.0 / 6.0), 4.0, 20.0))


def ramachandran_surface(
    phi: ArrayLike,
    psi: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    temperature: float | None,
    reference: tuple[ArrayLike, ArrayLike] | None = None,
    reference_weights: ArrayLike | None = None,
    reference_label: str = "reference",
    marks: Sequence[tuple[float, float]] = (),
    names: tuple[str, str] = ("φ", "ψ"),
) -> bytes:
    """Draws the free energy of two torsions, of the samples and of the reference side by side on one colour scale.

    Both surfaces are smoothed by the same width, that of the smaller set, so that they can be compared by eye.

    Arguments:
        phi: First torsion of each sample, with shape (frames), in rad.
        psi: Second torsion, with the same shape, in rad.
        weights: Weight of each sample, or None.
        temperature: Temperature in K, for the unit of the colour bar, or None if it is not known.
        reference: The two torsions of reference frames in rad, or None.
        reference_weights: Weight of each of these, or None.
        reference_label: The name of the reference.
        marks: Pairs of angles in rad to mark and to number from 1, in the colours of the structures of a `Molecules` element.
        names: The names of the two torsions.

    Returns:
        The bytes of a PNG file.
    """
    count = effective_number(frame_weights(weights, finite("phi", phi).size))
    width = smoothing_width(
        count if reference is None else min(count, effective_number(frame_weights(reference_weights, np.size(reference[0]))))
    )
    surfaces = [("samples", np.size(phi), free_energy_surface(phi, psi, weights, width=width))]
    if reference is not None:
        surfaces.append(
            (reference_label, np.size(reference[0]), free_energy_surface(*reference, reference_weights, width=width))
        )
    top = float(np.clip(np.ceil(max(np.nanmax(surface) for _, _, surface in surfaces)), 2.0, 10.0))
    figure = sheet(10.4 if len(surfaces) == 2 else 6.2, 4.9)
    axes = figure.subplots(1, len(surfaces), sharey=True, squeeze=False, gridspec_kw={"wspace": 0.07})[0]
    for ax, (label, frames, surface) in zip(axes, surfaces, strict=True):
        image = _draw(ax, surface, top)
        ax.set_title(f"{label} (N = {frames:,})", fontsize=11, color=INK, pad=9)
        ax.set_xlabel(f"{names[0]} (degrees)")
        for index, mark in enumerate(marks):
            place = (degrees(names[0], mark[0])[0], degrees(names[1], mark[1])[0])
            ax.plot(*place, "o", ms=13, mfc=colour(index), mec="white", mew=1.5, zorder=5)
            ax.annotate(
                str(index + 1), place, color="white", weight="bold", fontsize=8.5, ha="center", va="center_baseline", zorder=6
            )
    axes[0].set_ylabel(f"{names[1]} (degrees)")
    bar = figure.colorbar(image, ax=list(axes), pad=0.02, fraction=0.045, ticks=np.arange(0.0, top + 1.0))
    unit = "" if temperature is None else f"; 1 kT = {1000.0 * thermal_energy(temperature):.1f} meV at {temperature:g} K"
    bar.set_label(f"free energy (kT{unit})")
    bar.outline.set_visible(False)
    return png(figure)


def _draw(ax: Axes, surface: FloatArray, top: float) -> AxesImage:
    ax.set_label("framed")
    extent = (-180.0, 180.0, -180.0, 180.0)
    image = ax.imshow(
        surface.T, origin="lower", extent=extent, cmap="viridis", vmin=0.0, vmax=top, interpolation="nearest", aspect="equal"
    )
    cells = surface.shape[0]
    centres = -180.0 + 360.0 * (np.arange(-1, cells + 1) + 0.5) / cells
    wrapped = np.pad(surface, 1, mode="wrap")
    ax.contour(centres, centres, wrapped.T, levels=np.arange(1.0, top), colors="white", linewidths=0.6, alpha=0.55)
    ax.set(xlim=(-180, 180), ylim=(-180, 180), xticks=_TICKS, yticks=_TICKS)
    ax.axhline(0.0, color="#aab2bb", lw=0.6, ls=":", zorder=0.5)
    ax.axvline(0.0, color="#aab2bb", lw=0.6, ls=":", zorder=0.5)
    return image
