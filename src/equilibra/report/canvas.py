"""What all plots of a report share: the sheet, its style, checked arrays, and the bytes of a picture."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.errors import InputError, ShapeError
from equilibra.report.elements import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Sheet

FloatArray = NDArray[np.float64]

INK = "#1b1f24"
"""Colour of titles and numbers."""
SOFT = "#5b6570"
"""Colour of axis labels and remarks."""
LINE = "#d8dde3"
"""Colour of grids and of filled reference distributions."""
SAMPLE = PALETTE[0]
"""Colour of the samples."""
REFERENCE = "#848d97"
"""Colour of the reference."""

_DPI = 160


def sheet(width: float, height: float) -> Sheet:
    """Returns an empty figure of a size in inches, that lays itself out and belongs to no window and no global list."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    figure = Sheet(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Sheet) -> bytes:
    """Gives every axis of a figure the common style and returns the bytes of a PNG file."""
    for ax in figure.axes:
        for side, spine in ax.spines.items():
            spine.set_color("#aab2bb")
            spine.set_visible(spine.get_visible() and (side in ("left", "bottom") or ax.get_label() == "framed"))
        ax.tick_params(colors="#aab2bb", labelcolor=INK, labelsize=9.5)
        for label in (ax.xaxis.label, ax.yaxis.label):
            label.set(color=SOFT, fontsize=10.5)
        ax.set_axisbelow(ax.get_label() != "framed")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=_DPI, metadata={"Software": None})
    return stream.getvalue()


def filled(ax: Axes, density: FloatArray, edges: FloatArray, label: str) -> None:
    """Draws a histogram as the filled area that a reference has."""
    ax.stairs(density, edges, fill=True, color=LINE, label=label)
    ax.stairs(density, edges, color=REFERENCE, lw=1.0)


def histogram_density(values: FloatArray, weights: FloatArray, edges: FloatArray) -> FloatArray:
    """Returns the density (bins,) of weighted values (frames,); what lies outside the edges counts in the whole."""
    mass, _ = np.histogram(values, edges, weights=weights / weights.sum())
    return np.asarray(mass / np.diff(edges))


def finite(name: str, values: ArrayLike) -> FloatArray:
    """Returns a copy of finite numbers as one row; raises `InputError` if there are none or if some are not finite."""
    array = np.array(values, dtype=np.float64).ravel()
    if array.size == 0:
        raise InputError(f"{name}: got no values, expected at least one")
    bad = int(np.sum(~np.isfinite(array)))
    if bad:
        raise InputError(f"{name}: got {bad} values of {array.size} that are not finite, expected finite numbers")
    return array


def degrees(name: str, values: ArrayLike) -> FloatArray:
    """Returns angles given in rad as degrees in [-180, 180)."""
    return (np.degrees(finite(name, values)) + 180.0) % 360.0 - 180.0


def frame_weights(weights: ArrayLike | None, count: int) -> FloatArray:
    """Returns the weight of each of `count` frames; equal weights for None."""
    if weights is None:
        return np.ones(count)
    array = finite("weights", weights)
    if array.size != count:
        raise ShapeError("weights", array.shape, (count,))
    if np.any(array < 0.0) or array.sum() <= 0.0:
        raise InputError(
            "weights: got a negative weight or only zeros, expected weights that are not negative with a positive sum"
        )
    return array


def per_item(name: str, values: ArrayLike, count: int) -> FloatArray:
    """Returns finite numbers, one for each of `count` items."""
    array = finite(name, values)
    if array.size != count:
        raise ShapeError(name, array.shape, (count,))
    return array


def effective_number(weights: ArrayLike) -> float:
    r"""Computes Kish's effective number of samples, :math:`(\sum_i w_i)^2 / \sum_i w_i^2`."""
    w = np.asarray(weights, dtype=np.float64)
    return float(w.sum() ** 2 / np.square(w).sum())
