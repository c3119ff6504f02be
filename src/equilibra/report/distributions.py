"""Histograms of numbers that every sample has, over those of a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.report.canvas import LINE, SAMPLE, SOFT, filled, finite, frame_weights, histogram_density, png, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, kw_only=True, eq=False)
class Distribution:
    """One number of every conformation, of the samples and of the reference.

    Attributes:
        name: Its name with the unit.
        values: Its values with shape (frames).
        weights: Weight of each, or None.
        reference: The same of the reference, or None.
        reference_weights: Weight of each of its values, or None.
    """

    name: str
    values: ArrayLike = field(repr=False)
    weights: ArrayLike | None = field(default=None, repr=False)
    reference: ArrayLike | None = field(default=None, repr=False)
    reference_weights: ArrayLike | None = field(default=None, repr=False)


def distributions(panels: Sequence[Distribution], *, reference_label: str = "reference") -> bytes:
    """Draws the distribution of each number, of the samples over that of the reference.

    The axis spans the reference and 99 % of the samples; the number of samples outside is written in the plot.

    Arguments:
        panels: The numbers, at least one.
        reference_label: The name of the reference.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If there is no number, or a value is not finite.
    """
    if not panels:
        raise InputError("distributions: got none, expected at least one")
    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    figure = sheet({1: 6.6, 2: 10.4}[columns], 3.0 * rows + 0.3)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, panel in zip(axes, panels, strict=False):
        _distribution(ax, panel, reference_label)
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, fontsize=9)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)
    return png(figure)


def _distribution(ax: Axes, panel: Distribution, reference_label: str) -> None:
    values = finite(panel.name, panel.values)
    weights = frame_weights(panel.weights, values.size)
    reference = None if panel.reference is None else finite(f"reference {panel.name}", panel.reference)
    low, high = np.quantile(values, (0.005, 0.995))
    if reference is not None:
        low, high = min(low, reference.min()), max(high, reference.max())
    margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
    edges = np.linspace(low - margin, high + margin, int(np.clip(2.0 * values.size ** (1 / 3), 12, 60)) + 1)
    if reference is not None:
        density = histogram_density(reference, frame_weights(panel.reference_weights, reference.size), edges)
        filled(ax, density, edges, reference_label)
    ax.stairs(histogram_density(values, weights, edges), edges, color=SAMPLE, lw=2.0, label="samples")
    outside = int(np.sum((values < edges[0]) | (values > edges[-1])))
    if outside:
        note = f"{outside:,} of {values.size:,} outside"
        ax.annotate(note, (0.99, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=9, color=SOFT)
    ax.set(xlim=(edges[0], edges[-1]), xlabel=panel.name)
    ax.set_ylim(0.0, None)
    ax.grid(axis="y", color=LINE, lw=0.6)
