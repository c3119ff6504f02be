"""The part of a report that tells of guidance: what was asked for, and how the property is distributed as drawn and weighted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.report.canvas import LINE, SAMPLE, filled, frame_weights, histogram_density, png, sheet
from equilibra.report.elements import CellLike, Element, Figure, Table, Text, colour
from equilibra.report.sections import share, significant
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.guided import GUESS


@dataclass(frozen=True, kw_only=True)
class GuidedProperty:
    """One property that samples were guided to.

    Attributes:
        name: Its name with the unit.
        target: What was asked for, in words.
        bounds: Lowest and highest value that fulfil it, None where there is none; None where more is always better.
        values: Its values with shape (frames); nan where it could not be evaluated.
        mean: Mean and deviation of the known values as drawn.
        share: Share of all of them within the bounds, or None.
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
                mean="unknown" if row["mean"] is None else f"{row['mean']:.3g} ± {row['deviation']:.2g}",
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
    caption = (
        "Mean ± standard deviation of the values, and the share of the samples whose value lies within what was asked for."
    )
    lost = [
        f"{unknown:,} of {np.size(item.values):,} have no {item.name}" for item in properties if (unknown := _unknown(item))
    ]
    caption += f" Samples that the property could not evaluate are misses: {'; '.join(lost)}." if lost else ""
    drawn = " Grey: as drawn; line: weighted." if corrected else ""
    plot = Figure(
        guide_plot(properties, weights),
        f"Distribution of each guided property; the band is what was asked for.{drawn}",
        "; ".join(f"{item.name}: asked for {item.target}, found {item.weighted_mean or item.mean}" for item in properties),
    )
    doubts = [Text(item.doubt) for item in properties if item.doubt is not None]
    return [Text(words), *doubts, Table(head, rows, caption), plot]


def _unknown(item: GuidedProperty) -> int:
    """Returns of how many samples the value is not known."""
    return int((~np.isfinite(np.asarray(item.values, dtype=np.float64))).sum())


def label_elements(ensemble: Ensemble) -> list[Element]:
    """Returns the elements that tell which labels samples were asked for; nothing where there are none."""
    wanted: Any = ensemble.provenance.get("labels")
    if not wanted:
        return []
    strength = float(ensemble.provenance.get("label_strength", 1.0))
    asked = " and ".join(f"{name} = {value:g}" for name, value in wanted.items())
    how = (
        "This is the model's own distribution with that label."
        if strength == 1.0
        else f"The model was extrapolated with the strength {strength:g} (classifier-free guidance): more agreement for less variety, and no known distribution."
    )
    return [Text(f"Asked for {asked}. {how}")]


def judges_of(ensemble: Ensemble) -> list[str]:
    """Returns the names of the values of an ensemble that judges gave, which its samples were not guided by."""
    judges: Any = ensemble.provenance.get("judges") or ()
    return [name for name in judges if name in ensemble.values]


def parity_elements(ensemble: Ensemble) -> list[Element]:
    """Returns what independent judges say of guided properties: the share within what was asked for, and the value of the judge against that of the guide.

    A judge belongs to a guide if both are of one quantity: what comes before the colon, as in `band-gap:megnet`. Nothing where no judge does.
    """
    record: Any = ensemble.provenance.get("guidance") or {"guides": []}
    pairs = [
        (row, judge)
        for row in record["guides"]
        for judge in judges_of(ensemble)
        if row["name"] in ensemble.values and judge.partition(":")[0] == row["name"].partition(":")[0]
    ]
    if not pairs:
        return []
    rows: list[list[CellLike]] = []
    for row, judge in pairs:
        ours, theirs = ensemble.values[row["name"]], ensemble.values[judge]
        known = np.isfinite(theirs) & np.isfinite(ours)
        error = float(np.abs(ours[known] - theirs[known]).mean()) if known.any() else float("nan")
        inside = None if row["bounds"] is None else within(theirs, row["bounds"])
        shown: list[CellLike] = [None if inside is None else share(float(inside.mean())), significant(error), int(known.sum())]
        rows.append([row["name"], judge, row["target"], *shown])
    head = ["guide", "judge", "asked for", "within, by the judge", "mean |guide - judge|", "judged"]
    caption = "As drawn, without weights. A judge's value is of the same structure, by a model that did not guide; where it has none, the structure counts as a miss."
    plot = Figure(
        _parity_plot([(row["name"], judge, ensemble.values[row["name"]], ensemble.values[judge], row) for row, judge in pairs]),
        "Value of the judge against that of the guide; the line is agreement, the band what was asked for.",
        "; ".join(f"{judge} against {row['name']}" for row, judge in pairs),
    )
    return [Table(head, rows, caption), plot]


def within(values: ArrayLike, bounds: Sequence[float | None]) -> np.ndarray:
    """Tells which values (frames,) lie within bounds, of which None stands for none; those that are not finite do not."""
    x = np.asarray(values, dtype=np.float64)
    low, high = (np.inf * sign if end is None else end for end, sign in zip(bounds, (-1, 1), strict=True))
    return np.isfinite(x) & (x >= low) & (x <= high)


def _parity_plot(pairs: Sequence[tuple[str, str, np.ndarray, np.ndarray, Any]]) -> bytes:
    columns = min(len(pairs), 2)
    lines = -(-len(pairs) // columns)
    figure = sheet({1: 5.2, 2: 10.4}[columns], 4.4 * lines + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, (guide, judge, x, y, row) in zip(axes, pairs, strict=False):
        known = np.isfinite(x) & np.isfinite(y)
        named = [end for end in row["bounds"] or () if end is not None]
        ends = np.concatenate([x[known], y[known], named, [0.0, 1.0][: 2 * (not known.any())]])
        low, high = float(ends.min()), float(ends.max())
        margin = 0.05 * (high - low) or 0.5
        limits = (low - margin, high + margin)
        if row["bounds"] is not None:
            left, right = (edge if end is None else end for end, edge in zip(row["bounds"], limits, strict=True))
            ax.axhspan(left, right, color=colour(1), alpha=0.18, lw=0)
        ax.plot(limits, limits, color=LINE, lw=1.2)
        ax.plot(x[known], y[known], "o", color=SAMPLE, ms=4, alpha=0.6)
        unit = f" ({row['unit']})" if row["unit"] else ""
        ax.set(xlim=limits, ylim=limits, xlabel=f"{guide}{unit}", ylabel=f"{judge}{unit}", aspect="equal")
    for ax in axes[len(pairs) :]:
        ax.set_visible(False)
    return png(figure)


def guide_plot(properties: Sequence[GuidedProperty], weights: ArrayLike | None) -> bytes:
    """Draws the histogram of each guided property, as drawn and weighted, over the band of what was asked for.

    Arguments:
        properties: The properties, at least one.
        weights: Weight of each frame, or None.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If there is no property.
    """
    if not properties:
        raise InputError("guidance: got no property to draw, expected at least one")
    columns = min(len(properties), 2)
    lines = -(-len(properties) // columns)
    figure = sheet({1: 7.2, 2: 10.4}[columns], 3.1 * lines + 0.3)
    axes = figure.subplots(lines, columns, squeeze=False).ravel()
    for ax, item in zip(axes, properties, strict=False):
        values = np.asarray(item.values, dtype=np.float64).ravel()
        known = np.isfinite(values)
        share_of = None if weights is None else frame_weights(weights, values.size)[known]
        values = values[known]
        named = [end for end in item.bounds or () if end is not None]
        ends = [*values.tolist(), *named] or [0.0]
        low, high = min(ends), max(ends)
        margin = 0.05 * (high - low) or 0.05 * max(abs(high), 1.0)
        edges = np.linspace(low - margin, high + margin, int(np.clip(3.0 * values.size ** (1 / 3), 16, 60)) + 1)
        if item.bounds is not None:
            left, right = (edge if end is None else end for end, edge in zip(item.bounds, (edges[0], edges[-1]), strict=True))
            ax.axvspan(left, right, color=colour(1), alpha=0.18, lw=0, label="asked for")
        ax.set(xlim=(edges[0], edges[-1]), xlabel=item.name)
        if not values.size:
            continue
        as_drawn = histogram_density(values, np.ones(values.size), edges)
        if share_of is None:
            ax.stairs(as_drawn, edges, color=SAMPLE, lw=2.0, label="samples")
        else:
            filled(ax, as_drawn, edges, "as drawn")
            ax.stairs(
                histogram_density(values, share_of, edges),
                edges,
                color=SAMPLE,
                lw=2.0,
                label="weighted",
            )
        ax.set_ylim(0.0, None)
        ax.grid(axis="y", color=LINE, lw=0.6)
    axes[0].set_ylabel("density")
    if axes[0].get_legend_handles_labels()[0]:
        axes[0].legend(frameon=False, fontsize=9)
    for ax in axes[len(properties) :]:
        ax.set_visible(False)
    return png(figure)
