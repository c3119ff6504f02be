"""Plots of a report as PNG bytes: marginals, bond statistics, energies, quality against cost; the surfaces have their own file.

Every function takes arrays and returns bytes. Figures belong to no window and no global list of figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.report.canvas import (
    LINE,
    REFERENCE,
    SAMPLE,
    SOFT,
    FloatArray,
    degrees,
    filled,
    finite,
    frame_weights,
    histogram_density,
    per_item,
    png,
    sheet,
)
from equilibra.report.free_energy_surface import ramachandran_surface
from equilibra.units import thermal_energy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["bond_lengths", "energy_histogram", "quality_curve", "ramachandran_surface", "torsion_marginals"]


def torsion_marginals(
    samples: Mapping[str, ArrayLike],
    reference: Mapping[str, ArrayLike] | None = None,
    *,
    weights: ArrayLike | None = None,
    reference_label: str = "reference",
    bins: int = 60,
) -> bytes:
    """Draws the distribution of each torsion, of the samples over that of the reference.

    The axis runs from -180° to 180°, or from 0° to 360° for a torsion that gathers about 180°.

    Arguments:
        samples: Name -> angles with shape (frames), in rad.
        reference: The same of the reference; torsions it lacks are drawn alone. None for no reference.
        weights: Weight of each sample, or None.
        reference_label: The name of the reference.
        bins: Bins over the whole turn.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If there is no torsion, or an angle is not finite.
    """
    if not samples:
        raise InputError("torsion marginals: got no torsion, expected at least one name with its angles")
    columns = min(len(samples), 2 if len(samples) in (2, 4) else 3)
    rows = -(-len(samples) // columns)
    figure = sheet({1: 6.2, 2: 10.4, 3: 11.6}[columns], 3.0 * rows + 0.4)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for index, (name, values) in enumerate(samples.items()):
        ax, angles = axes[index], degrees(name, values)
        start = _turn_start(angles)
        edges = start + np.linspace(0.0, 360.0, bins + 1)
        if reference is not None and name in reference:
            wrapped = (degrees(name, reference[name]) - start) % 360.0 + start
            filled(ax, np.histogram(wrapped, edges, density=True)[0], edges, reference_label)
        wrapped = (angles - start) % 360.0 + start
        density, _ = np.histogram(wrapped, edges, weights=frame_weights(weights, angles.size), density=True)
        ax.stairs(density, edges, color=SAMPLE, lw=2.0, label="samples")
        ax.set(xlim=(edges[0], edges[-1]), xticks=edges[0] + np.arange(0.0, 361.0, 60.0), xlabel=f"{name} (degrees)")
        ax.set_ylim(0.0, None)
        ax.grid(axis="y", color=LINE, lw=0.6)
        if index % columns == 0:
            ax.set_ylabel("density (per degree)")
    axes[0].legend(frameon=False, fontsize=9)
    for ax in axes[len(samples) :]:
        ax.set_visible(False)
    return png(figure)


def bond_lengths(
    names: Sequence[str],
    mean: ArrayLike,
    std: ArrayLike,
    reference_mean: ArrayLike | None = None,
    reference_std: ArrayLike | None = None,
) -> bytes:
    """Draws the length of each bond: beside the reference its error and its ratio of fluctuations, else its mean and fluctuation.

    Arguments:
        names: Name of each bond.
        mean: Mean lengths with shape (bonds), in Å.
        std: Standard deviations with shape (bonds), in Å.
        reference_mean: Mean lengths of the reference, in Å; needed together with `reference_std`.
        reference_std: Standard deviations of the reference, in Å, positive.

    Returns:
        The bytes of a PNG file.

    Raises:
        ShapeError: If an array does not have one entry per bond.
    """
    m, s = per_item("mean", mean, len(names)), per_item("std", std, len(names))
    rows = np.arange(len(names), dtype=np.float64)[::-1]
    height = 0.27 * len(names) + 1.2
    if reference_mean is None or reference_std is None:
        figure = sheet(7.2, height)
        panels = [figure.subplots()]
        panels[0].errorbar(m, rows, xerr=s, fmt="o", color=SAMPLE, ms=5, lw=1.4, capsize=2)
        panels[0].set_xlabel("length, mean ± standard deviation (Å)")
    else:
        r, q = per_item("reference_mean", reference_mean, len(names)), per_item("reference_std", reference_std, len(names))
        figure = sheet(10.4, height)
        panels = list(figure.subplots(1, 2, sharey=True, width_ratios=(1.5, 1.0)))
        _lollipops(panels[0], rows, 1000.0 * (m - r), centre=0.0, band=5.0)
        panels[0].set_xlabel("mean length − reference (10⁻³ Å)")
        _lollipops(panels[1], rows, s / q, centre=1.0, band=0.1)
        panels[1].set_xlabel("standard deviation / reference")
    panels[0].set_yticks(rows, names)
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    for ax in panels:
        ax.grid(axis="x", color=LINE, lw=0.6)
        ax.tick_params(axis="y", length=0)
    return png(figure)


def energy_histogram(
    energies: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    temperature: float,
    weights: ArrayLike | None = None,
    reference_label: str = "reference",
) -> bytes:
    r"""Draws the distribution of the reduced energy :math:`(E - E_0)/kT`; :math:`E_0` is the mean of the reference, or else the samples' median.

    The axis spans the reference and 98 % of the samples; the number outside is written in the plot, so no tail is lost in silence.

    Arguments:
        energies: Energies of the samples with shape (frames), in eV, without any minimisation.
        reference: Energies of reference frames, in eV, or None.
        temperature: Temperature in K.
        weights: Weight of each sample, or None. Without a reference the samples are drawn without their weights too.
        reference_label: The name of the reference.

    Returns:
        The bytes of a PNG file.
    """
    e = finite("energies", energies)
    w = frame_weights(weights, e.size)
    r = None if reference is None else finite("reference energies", reference)
    origin = float(np.median(e) if r is None else r.mean())
    x = (e - origin) / thermal_energy(temperature)
    y = x if r is None else (r - origin) / thermal_energy(temperature)
    low, high = min(y.min(), np.quantile(x, 0.01)), max(np.quantile(y, 0.999), np.quantile(x, 0.99))
    edges = np.linspace(low - 0.5, high + 0.5, 61)
    figure = sheet(7.2, 3.7)
    ax = figure.subplots()
    if r is not None:
        filled(ax, np.histogram(y, edges, density=True)[0], edges, reference_label)
    elif weights is not None:
        filled(ax, np.histogram(x, edges)[0] / x.size / np.diff(edges), edges, "as drawn")
    ax.stairs(histogram_density(x, w, edges), edges, color=SAMPLE, lw=2.0, label="samples")
    outside = int(np.sum((x < edges[0]) | (x > edges[-1])))
    if outside:
        note = f"{outside:,} of {x.size:,} samples\noutside this range"
        ax.annotate(note, (0.99, 0.70), xycoords="axes fraction", ha="right", va="top", fontsize=9, color=SOFT)
    zero = "median of samples" if r is None else f"mean of {reference_label}"
    ax.set(xlim=(edges[0], edges[-1]), xlabel=f"energy − {zero} (kT at {temperature:g} K)", ylabel="density (per kT)")
    ax.grid(axis="y", color=LINE, lw=0.6)
    ax.legend(frameon=False, fontsize=9, loc="upper right")
    return png(figure)


def quality_curve(
    nfe: ArrayLike, values: ArrayLike, floor: float | None = None, *, metric: str = "Ramachandran JSD (bits)"
) -> bytes:
    """Draws a metric against the network calls a sample costs, on logarithmic axes, with the noise floor of the reference.

    Arguments:
        nfe: Network calls per sample, with shape (points), positive.
        values: The metric at each, with the same shape, positive; smaller is better.
        floor: The metric of two independent draws of the reference at the same number of samples, or None.
        metric: The name of the metric with its unit.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If a value is not positive.
        ShapeError: If the shapes differ.
    """
    x, y = finite("nfe", nfe), finite("values", values)
    if x.shape != y.shape:
        raise ShapeError("values", y.shape, x.shape)
    levels = y if floor is None else np.append(y, floor)
    if np.any(x <= 0.0) or np.any(levels <= 0.0):
        raise InputError("quality curve: got a value that is not positive, expected positive network calls and metric values")
    order = np.argsort(x)
    figure = sheet(7.2, 3.9)
    ax = figure.subplots()
    ax.loglog(x[order], y[order], "o-", color=SAMPLE, ms=6, lw=1.8, label="samples")
    if floor is not None:
        ax.axhline(floor, color=REFERENCE, lw=1.4, ls="--", label=f"noise floor, {floor:.3g}")
    ax.set(xlabel="network calls per sample", ylabel=metric)
    ax.set_xticks(x[order], [f"{value:g}" for value in x[order]])
    ticks = _decimal_ticks(float(levels.min()), float(levels.max()))
    ax.set_yticks(ticks, [f"{value:g}" for value in ticks])
    ax.set_ylim(min(ticks[0], levels.min() / 1.2), max(ticks[-1], levels.max() * 1.2))
    ax.minorticks_off()
    ax.grid(color=LINE, lw=0.6)
    ax.legend(frameon=False, fontsize=9)
    return png(figure)


def _turn_start(angles: FloatArray) -> float:
    """Returns where to cut the circle: at 0° for torsions that gather about 180°, such as a peptide bond's, else at -180°."""
    mean = np.exp(1j * np.radians(angles)).mean()
    return 0.0 if mean.real < -0.5 else -180.0


def _lollipops(ax: Axes, rows: FloatArray, values: FloatArray, *, centre: float, band: float) -> None:
    """Draws a value per row as a stem from the centre; the shaded band marks what counts as agreement."""
    ax.axvspan(centre - band, centre + band, color=SAMPLE, alpha=0.10, lw=0)
    ax.axvline(centre, color=REFERENCE, lw=1.0)
    ax.hlines(rows, centre, values, color=SAMPLE, lw=1.6)
    ax.plot(values, rows, "o", color=SAMPLE, ms=5.5)
    half = max(1.5 * band, 1.15 * float(np.max(np.abs(values - centre))))
    ax.set_xlim(centre - half, centre + half)


def _decimal_ticks(low: float, high: float) -> list[float]:
    """Returns the values 1, 2, 5 times powers of ten that cover [low, high]."""
    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    ticks = sorted(float(f"{digit}e{power}") for power in powers for digit in (1, 2, 5))
    inside = [tick for tick in ticks if low <= tick <= high]
    below = [tick for tick in ticks if tick < low][-1:]
    above = [tick for tick in ticks if tick > high][:1]
    return below + inside + above
