"""Plots of log-densities as PNG bytes: their distribution, and their calibration against an energy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import ShapeError
from equilibra.report.canvas import LINE, REFERENCE, SAMPLE, SOFT, finite, png, sheet

_KEPT = (0.005, 0.995)  # quantiles of the energy that the axes span at least


def log_density_histogram(log_density: ArrayLike) -> bytes:
    """Draws the distribution of the log-density.

    Arguments:
        log_density: Values (n), in nats.

    Returns:
        The bytes of a PNG file.
    """
    values = finite("log-density", log_density)
    figure = sheet(7.2, 3.6)
    ax = figure.subplots()
    count = int(np.clip(round(3.0 * len(values) ** (1.0 / 3.0)), 8, 60))
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low - 0.02 * (high - low) - 1e-6, high + 0.02 * (high - low) + 1e-6, count + 1)
    ax.hist(values, bins=edges.tolist(), color=SAMPLE, alpha=0.85, rwidth=0.96)
    ax.axvline(values.mean(), color=REFERENCE, lw=1.4, ls="--", label=f"mean {values.mean():.2f}")
    ax.set(xlabel="ln p (nats)", ylabel="conformations")
    ax.grid(axis="y", color=LINE, lw=0.6)
    ax.legend(frameon=False, fontsize=9)
    return png(figure)


def calibration(
    minus_u: ArrayLike, log_density: ArrayLike, *, slope: float, energy: str, temperature: float, error: ArrayLike | None = None
) -> bytes:
    """Draws ln p against -u, both less their means, with the ideal line of slope 1 and the fitted one.

    The axes span 99 % of the conformations; the number outside is written in the plot.

    Arguments:
        minus_u: -E/kT of each conformation (n).
        log_density: Log-densities (n), in nats.
        slope: Slope of the least-squares line.
        energy: Name of the energy.
        temperature: Temperature in K.
        error: Standard errors of the log-densities (n), or None.

    Returns:
        The bytes of a PNG file.

    Raises:
        ShapeError: If the numbers of values differ.
    """
    x, y = finite("-u", minus_u), finite("log-density", log_density)
    if x.shape != y.shape:
        raise ShapeError("log-density", y.shape, x.shape)
    x, y = x - x.mean(), y - y.mean()
    figure = sheet(6.4, 5.4)
    ax = figure.subplots()
    # a broken conformation far down in energy must not press all others into a corner
    ends = [(float(np.quantile(v, _KEPT[0])), float(np.quantile(v, _KEPT[1]))) for v in (x, y)]
    limits = [(low - 0.15 * (high - low) - 1e-6, high + 0.15 * (high - low) + 1e-6) for low, high in ends]
    if error is not None and float(np.max(error)) > 0.0:
        ax.errorbar(x, y, yerr=finite("error", error), fmt="none", ecolor=LINE, elinewidth=0.8, zorder=1)
    size = float(np.clip(900.0 / len(x), 4.0, 26.0))
    ax.scatter(x, y, s=size, color=SAMPLE, alpha=0.7 if len(x) < 2000 else 0.35, lw=0, label="conformations", zorder=2)
    line = np.array(limits[0])
    ax.plot(line, line, color=REFERENCE, lw=1.6, ls="--", label="ideal, slope 1")
    ax.plot(line, slope * line, color="#c2513f", lw=1.6, label=f"fitted, slope {slope:.2f}")
    outside = int(np.sum((x < limits[0][0]) | (x > limits[0][1]) | (y < limits[1][0]) | (y > limits[1][1])))
    if outside:
        ax.annotate(
            f"{outside:,} of {x.size:,} outside", (0.99, 0.02), xycoords="axes fraction", ha="right", fontsize=9, color=SOFT
        )
    ax.set(xlim=limits[0], ylim=limits[1], ylabel="ln p − mean (nats)", xlabel=f"−u − mean, {energy} (kT at {temperature:g} K)")
    ax.grid(color=LINE, lw=0.6)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return png(figure)
