"""The part of a report that tells of guidance: what was asked for, and how the property is distributed as drawn and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.report.canvas import LINE, SAMPLE, filled, finite, frame_weights, histogram_density, png, sheet
from equilibra.report.elements import CellLike, Element, Figure, Table, Text, colour
from equilibra.report.sections import share
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.guided import GUESS


@dataclass(frozen=True, kw_only=True)
class GuidedProperty:
    """One property that samples were guided to.

    Attributes:
        name: Its name with the unit.
        target: What was asked for, in words.
        bounds: Lowest and highest value that fulfil it, None where there is none; None where more is always better.
        values: Its values with shape (frames).
        mean: Mean and deviation of the values as drawn.
        share: Share of them within the bounds, or None.
        doubt: Why the wish should be doubted, in a sentence, or None.
        weighted_mean: The same weighted, or None.
        weighted_share: The same weighted, or None.
    """

    name: str
    target: str
    bounds: tuple[float | None, float | None] | None
    values: ArrayLike = field(repr=False)
    mean: str
    share: float | None
    doubt: str | None = None
    weighted_mean: str | None = None
    weighted_share: float | None = None


def guided_properties(ensemble: Ensemble) -> list[GuidedProperty]:
    """Returns the properties that an ensemble was guided to; none if it was not guided."""
    record = ensemble.provenance.get("guidance")
    rows = [] if record is None else [row for row in record["guides"] if row["name"] in ensemble.values]
    found = []
    for row in rows:
        unit = f" ({row['unit']})" if row["unit"] else ""
        weighted = "weighted_mean" in row
        power = "" if row["strength"] == 1.0 else f", to the power of {row['strength']:g}"
        found.append(
            GuidedProperty(
                name=f"{row['name']}{unit}",
                target=f"{row['target']}{power}",
                bounds=None if row["bounds"] is None else (row["bounds"][0], row["bounds"][1]),
                values=ensemble.values[row["name"]],
                mean=f"{row['mean']:.3g} ± {row['deviation']:.2g}",
                share=row["share"],
                doubt=row["doubt"],
                weighted_mean=f"{row['weighted_mean']:.3g} ± {row['weighted_deviation']:.2g}" if weighted else None,
                weighted_share=row["weighted_share"] if weighted else None,
            )
        )
    return found


def guidance_elements(properties: Sequence[GuidedProperty], weights: ArrayLike | None) -> list[Element]:
    """Returns the elements that tell of guided properties; nothing where there are none.

    Arguments:
        properties: The properties.
        weights: Weight of each frame, or None of a guess without weights.
    """
    if not properties:
        return []
    corrected = any(item.weighted_mean is not None for item in properties)
    words = (
        "Weighted, these samples have the model's distribution times the likelihood of what was asked for. All numbers of this page are of that distribution, not of "
        "equilibrium."
        if corrected
        else GUESS
    )
    rows: list[list[CellLike]] = []
    for item in properties:
        within = [item.share, item.weighted_share] if corrected else [item.share]
        shown: list[CellLike] = [None if value is None else share(value) for value in within]
        rows.append([item.name, item.target, item.mean, *([item.weighted_mean] if corrected else []), *shown])
    head = ["property", "asked for", "as drawn", *(["weighted"] if corrected else []), "within"]
    head += ["within, weighted"] if corrected else []
    caption = "Mean ± standard deviation of the values, and the share of them that lies within what was asked for."
    drawn = " Grey: as drawn; line: weighted." if corrected else ""
    plot = Figure(
        guide_plot(properties, weights),
        f"Distribution of each guided property; the band is what was asked for.{drawn}",
        "; ".join(f"{item.name}: asked for {item.target}, found {item.weighted_mean or item.mean}" for item in properties),
    )
    doubts = [Text(item.doubt) for item in properties if item.doubt is not None]
    return [Text(words), *doubts, Table(head, rows, caption), plot]


def guide_plot(properties: Sequence[GuidedProperty], weights: ArrayLike | None) -> bytes:
    """Draws the histogram of each guided property, as drawn and weighted, over the band of what was asked for.

    Arguments:
        properties: The properties, at least one.
        weights: Weight of each frame, or None.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If there is no property, or a value is not finite.
    """
    if not properties:
        raise InputError("guidance: got no property to draw, expected at least one")
    columns = min(len(properties), 2)
    lines = -(-len(properties) // columns)
    figure = sheet({1: 7.2, 2: 10.4}[columns], 3.1 * lines + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, item in zip(axes, properties, strict=False):
        values = finite(item.name, item.values)
        named = [end for end in item.bounds or () if end is not None]
        low, high = min([values.min(), *named]), max([values.max(), *named])
        margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
        edges = np.linspace(low - margin, high + margin, int(np.clip(3.0 * values.size ** (1 / 3), 16, 60)) + 1)
        if item.bounds is not None:
            left, right = (edge if end is None else end for end, edge in zip(item.bounds, (edges[0], edges[-1]), strict=True))
            ax.axvspan(left, right, color=colour(1), alpha=0.18, lw=0, label="asked for")
        as_drawn = histogram_density(values, np.ones(values.size), edges)
        if weights is None:
            ax.stairs(as_drawn, edges, color=SAMPLE, lw=2.0, label="samples")
        else:
            filled(ax, as_drawn, edges, "as drawn")
            ax.stairs(
                histogram_density(values, frame_weights(weights, values.size), edges),
                edges,
                color=SAMPLE,
                lw=2.0,
                label="weighted",
            )
        ax.set(xlim=(edges[0], edges[-1]), xlabel=item.name)
        ax.set_ylim(0.0, None)
        ax.grid(axis="y", color=LINE, lw=0.6)
    axes[0].set_ylabel("density")
    axes[0].legend(frameon=False, fontsize=9)
    for ax in axes[len(properties) :]:
        ax.set_visible(False)
    return png(figure)
