"""The plot of numbers along a path, with the conformations that fail a check marked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.report.canvas import LINE, png, sheet
from equilibra.report.elements import colour


@dataclass(frozen=True)
class PathSeries:
    """Numbers along a path that share one axis.

    Attributes:
        name: The name of the axis with its unit.
        lines: Name -> numbers with shape (steps); what is not finite leaves a gap. A line without a name is not in the legend.
    """

    name: str
    lines: Mapping[str, ArrayLike] = field(repr=False)


def path_plot(panels: Sequence[PathSeries], marked: ArrayLike | None = None) -> bytes:
    """Draws numbers along a path, one panel for each axis.

    Arguments:
        panels: The numbers, at least one.
        marked: Mask (steps,) of conformations to mark below the axis, or None.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If there is nothing to draw.
        ShapeError: If lines have different numbers of steps.
    """
    if not panels or not all(panel.lines for panel in panels):
        raise InputError("path: got nothing to draw, expected at least one line")
    steps = np.size(next(iter(panels[0].lines.values())))
    x = np.arange(1, steps + 1)
    bad = np.zeros(steps, dtype=bool) if marked is None else np.asarray(marked, dtype=bool)
    figure = sheet(10.4, 2.3 * len(panels) + 0.5)
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, panel in zip(axes, panels, strict=True):
        for index, (label, values) in enumerate(panel.lines.items()):
            line = np.asarray(values, dtype=np.float64)
            if line.shape != (steps,) or bad.shape != (steps,):
                raise ShapeError(label or panel.name, line.shape, (steps,))
            shown = np.where(np.isfinite(line), line, np.nan)
            ax.plot(x, shown, "o-" if steps <= 60 else "-", color=colour(index), ms=3.5, lw=1.8, label=label or None)
        if bad.any():
            places = ax.get_xaxis_transform()
            ax.plot(x[bad], np.full(int(bad.sum()), 0.02), "|", color="#b3261e", ms=9, mew=1.6, transform=places, clip_on=False)
        ax.set_ylabel(panel.name)
        ax.grid(color=LINE, lw=0.6)
        if any(panel.lines):
            ax.legend(frameon=False, fontsize=9)
    axes[-1].set_xlabel("step")
    axes[-1].set_xlim(1 - 0.02 * steps, steps + 0.02 * steps)
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    return png(figure)
