"""Free energy in a plane of two collective coordinates that are not periodic: the estimate on a grid, and its picture beside the reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import ShapeError
from equilibra.report.canvas import INK, FloatArray, effective_number, finite, frame_weights, png, sheet
from equilibra.report.elements import colour

Limits = tuple[tuple[float, float], tuple[float, float]]

BINS = 90
"""Cells of the grid along each axis."""

_CORE = (0.005, 0.995)  # the quantiles that the axes span, with a margin: one outlier must not squeeze all others
_FEW = 2000  # up to so many points are drawn as such, too


def plane_free_energy(
    points: ArrayLike, weights: ArrayLike | None, limits: Limits, width: tuple[float, float], *, bins: int = BINS
) -> FloatArray:
    r"""Estimates the free energy :math:`F/kT = -\ln p + \max \ln p` of two coordinates on a grid.

    The density :math:`p` is a histogram smoothed by a Gaussian. Cells whose density is below a quarter of what one sample leaves at its own
    place are not resolved by the data, and are not a number.

    Arguments:
        points: Coordinates with shape (frames, 2).
        weights: Weight of each frame, or None.
        limits: The range of both axes; points outside are left out.
        width: Standard deviation of the Gaussian along both axes, in their units.
        bins: Cells per axis.

    Returns:
        The free energy in kT, with shape (bins, bins), first axis first; zero at its minimum. Nothing but NaN where no point is inside.
    """
    from scipy.ndimage import gaussian_filter

    x = _points(points)
    w = frame_weights(weights, len(x))
    counts, _, _ = np.histogram2d(x[:, 0], x[:, 1], bins=bins, range=limits, weights=w)
    cells = [h * bins / (high - low) for h, (low, high) in zip(width, limits, strict=True)]
    density = gaussian_filter(counts / w.sum(), cells, mode="constant", truncate=6.0)
    surface = np.full_like(density, np.nan)
    if density.max() > 0.0:
        resolved = density >= 0.25 / (effective_number(w) * 2.0 * np.pi * cells[0] * cells[1])
        surface[resolved] = -np.log(density[resolved] / density.max())
    return surface


def plane_surface(
    samples: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    axes: tuple[str, str],
    reference: ArrayLike | None = None,
    reference_weights: ArrayLike | None = None,
    reference_label: str = "reference",
    marks: Sequence[tuple[float, float]] = (),
) -> bytes:
    """Draws the free energy in a plane, of the samples and of the reference side by side on one colour scale and one smoothing width.

    Arguments:
        samples: Coordinates of the samples with shape (frames, 2).
        weights: Weight of each sample, or None.
        axes: Names of both axes with units.
        reference: The same of the reference, or None.
        reference_weights: Weight of each of its frames, or None.
        reference_label: The name of the reference.
        marks: Points to mark and to number from 1, in the colours of the structures of a `Molecules` element.

    Returns:
        The bytes of a PNG file.
    """
    sets = [("samples", _points(samples), weights)]
    if reference is not None:
        sets.append((reference_label, _points(reference), reference_weights))
    limits = plane_limits([x for _, x, _ in sets])
    count = min(effective_number(frame_weights(w, len(x))) for _, x, w in sets)
    spread = [0.12 * (high - low) for low, high in limits]
    width = (_kernel(spread[0], count), _kernel(spread[1], count))
    surfaces = [plane_free_energy(x, w, limits, width) for _, x, w in sets]
    known = [float(np.nanmax(surface)) for surface in surfaces if np.isfinite(surface).any()]
    top = float(np.clip(np.ceil(max(known, default=2.0)), 2.0, 10.0))
    figure = sheet(10.4 if len(sets) == 2 else 6.4, 4.6)
    panels = figure.subplots(1, len(sets), sharex=True, sharey=True, squeeze=False)[0]
    extent = (*limits[0], *limits[1])
    for ax, (label, x, _), surface in zip(panels, sets, surfaces, strict=True):
        ax.set_label("framed")
        image = ax.imshow(
            surface.T, origin="lower", extent=extent, cmap="viridis", vmin=0.0, vmax=top, aspect="auto", interpolation="nearest"
        )
        if len(x) <= _FEW:
            ax.plot(x[:, 0], x[:, 1], ".", color="white", ms=2.5, alpha=0.55, mew=0, zorder=2)
        ax.set(xlim=limits[0], ylim=limits[1], xlabel=axes[0])
        outside = int((~_inside(x, limits)).sum())
        left_out = f", {outside:,} outside" if outside else ""
        ax.set_title(f"{label} (N = {len(x):,}{left_out})", fontsize=11, color=INK, pad=9)
        for index, mark in enumerate(marks):
            ax.plot(*mark, "o", ms=13, mfc=colour(index), mec="white", mew=1.5, zorder=5)
            ax.annotate(
                str(index + 1), mark, color="white", weight="bold", fontsize=8.5, ha="center", va="center_baseline", zorder=6
            )
    panels[0].set_ylabel(axes[1])
    bar = figure.colorbar(image, ax=list(panels), pad=0.02, fraction=0.045, ticks=np.arange(0.0, top + 1.0))
    bar.set_label("free energy (kT)")
    bar.outline.set_visible(False)
    return png(figure)


def plane_limits(sets: Sequence[FloatArray]) -> Limits:
    """Returns a range of both axes that spans 99 % of each set of points (frames, 2), with a margin."""
    ends = []
    for axis in range(2):
        quantiles = np.array([np.quantile(x[:, axis], _CORE) for x in sets])
        low, high = float(quantiles[:, 0].min()), float(quantiles[:, 1].max())
        margin = 0.15 * (high - low) or 1.0
        ends.append((low - margin, high + margin))
    return ends[0], ends[1]


def _kernel(spread: float, count: float) -> float:
    """Returns the kernel width for an effective number of points: by the exponent of Silverman's rule in two dimensions, with a floor of some cells."""
    return float(np.clip(spread * count ** (-1.0 / 6.0), 0.04 * spread, spread))


def _inside(x: FloatArray, limits: Limits) -> np.ndarray:
    low, high = np.asarray(limits).T
    return np.asarray(((x >= low) & (x <= high)).all(axis=1))


def _points(points: ArrayLike) -> FloatArray:
    array = np.asarray(points, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ShapeError("points", array.shape, "(frames, 2)")
    return finite("points", array).reshape(-1, 2)
