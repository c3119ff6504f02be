"""Plots of a protein's report as PNG bytes: flexibility and secondary structure along the chain, contacts, distributions, and numbers along a path."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import ShapeError
from equilibra.report.canvas import (
    INK,
    LINE,
    REFERENCE,
    SAMPLE,
    SOFT,
    per_item,
    png,
    sheet,
)
from equilibra.report.elements import colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_LABELS = 30
_LOCAL = 2  # residues up to so far apart along the chain are always near each other
_STRUCTURES = (("helix", colour(3)), ("strand", colour(1)), ("coil", "#eef0f3"))


def residue_ticks(names: Sequence[str], most: int = _MOST_LABELS) -> list[int]:
    """Returns the residues to label, from 0: all of a short protein, else every 2nd, 5th, 10th, ... so that at most `most` are left."""
    steps = (step * 10**power for power in range(6) for step in (1, 2, 5))
    step = next(step for step in steps if -(-len(names) // step) <= most)
    return list(range(0, len(names), step))


def flexibility(
    names: Sequence[str],
    rmsf: ArrayLike,
    reference: ArrayLike | None = None,
    band: ArrayLike | None = None,
    *,
    chain_starts: Sequence[int] = (0,),
    reference_label: str = "reference",
) -> bytes:
    """Draws the fluctuation of each residue.

    Arguments:
        names: Name of each residue.
        rmsf: Root-mean-square fluctuations with shape (residues), in Å.
        reference: The same of the reference, or None.
        band: Smallest and largest fluctuation (2, residues) over independent parts of the reference, or None.
        chain_starts: Index of the first residue of each chain.
        reference_label: The name of the reference.

    Returns:
        The bytes of a PNG file.
    """
    values, x = per_item("RMSF", rmsf, len(names)), np.arange(len(names))
    figure = sheet(10.4, 3.4)
    ax = figure.subplots()
    if reference is not None:
        if band is not None:
            low, high = np.asarray(band, dtype=np.float64)
            ax.fill_between(x, low, high, color=LINE, lw=0, label=f"{reference_label}: its independent parts")
        ax.plot(x, per_item("reference RMSF", reference, len(names)), color=REFERENCE, lw=1.6, label=reference_label)
    ax.plot(x, values, "o-" if len(names) <= 60 else "-", color=SAMPLE, ms=4, lw=2.0, label="samples")
    _residue_axis(ax, names, chain_starts)
    ax.set_ylim(0.0, None)
    ax.set_ylabel("RMSF of C-alpha (Å)")
    ax.grid(axis="y", color=LINE, lw=0.6)
    if reference is not None:
        ax.legend(frameon=False, fontsize=9)
    return png(figure)


def contact_maps(
    names: Sequence[str],
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    chain_starts: Sequence[int] = (0,),
    reference_label: str = "reference",
) -> bytes:
    """Draws the shares of contacts: of the samples above the diagonal, of the reference below it, or of the samples in both places.

    Arguments:
        names: Name of each residue.
        samples: Shares with shape (residues, residues).
        reference: The same of the reference, or None.
        chain_starts: Index of the first residue of each chain.
        reference_label: The name of the reference.

    Returns:
        The bytes of a PNG file.

    Raises:
        ShapeError: If a map has another shape.
    """
    length = len(names)
    upper = np.array(samples, dtype=np.float64)
    lower = upper if reference is None else np.array(reference, dtype=np.float64)
    for name, array in (("contacts", upper), ("contacts of the reference", lower)):
        if array.shape != (length, length):
            raise ShapeError(name, array.shape, (length, length))
    # row: vertical axis, which points down as in a matrix, so that i < j is above the diagonal
    shown = np.triu(upper, _LOCAL + 1) + np.tril(lower, -_LOCAL - 1)
    shown[np.abs(np.subtract.outer(np.arange(length), np.arange(length))) <= _LOCAL] = np.nan
    figure = sheet(6.6, 5.6)
    ax = figure.subplots()
    ax.set_label("framed")
    image = ax.imshow(shown, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest")
    ticks = residue_ticks(names, 12)
    ax.set_xticks(ticks, [names[i] for i in ticks], rotation=90)
    ax.set_yticks(ticks, [names[i] for i in ticks])
    for line in (ax.axhline, ax.axvline):
        _chain_starts(line, chain_starts)
    ax.plot([-0.5, length - 0.5], [-0.5, length - 0.5], color=REFERENCE, lw=0.8)
    if reference is not None:
        ax.set_title("samples above the diagonal", fontsize=11, color=INK, pad=9, loc="right")
        ax.set_xlabel(f"{reference_label} below the diagonal", loc="left")
    bar = figure.colorbar(image, ax=ax, pad=0.03, fraction=0.045)
    bar.set_label("share of conformations in contact")
    bar.outline.set_visible(False)
    return png(figure)


def structure_shares(
    names: Sequence[str],
    samples: ArrayLike,
    reference: ArrayLike | None = None,
    *,
    chain_starts: Sequence[int] = (0,),
    reference_label: str = "reference",
) -> bytes:
    """Draws how often each residue is helix, strand and coil, of the samples above the reference.

    Arguments:
        names: Name of each residue.
        samples: Shares with shape (residues, 3), in this order.
        reference: The same of the reference, or None.
        chain_starts: Index of the first residue of each chain.
        reference_label: The name of the reference.

    Returns:
        The bytes of a PNG file.
    """
    sets = [("samples", samples)] + ([] if reference is None else [(reference_label, reference)])
    figure = sheet(10.4, 2.0 * len(sets) + 1.0)
    axes = figure.subplots(len(sets), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (label, values) in zip(axes, sets, strict=True):
        shares = np.asarray(values, dtype=np.float64)
        if shares.shape != (len(names), len(_STRUCTURES)):
            raise ShapeError(f"secondary structure of the {label}", shares.shape, (len(names), len(_STRUCTURES)))
        bottom = np.zeros(len(names))
        for (name, shade), column in zip(_STRUCTURES, 100.0 * shares.T, strict=True):
            ax.bar(np.arange(len(names)), column, 1.0, bottom=bottom, color=shade, label=name, lw=0)
            bottom = bottom + column
        ax.set(ylim=(0.0, 100.0), yticks=(0, 50, 100), ylabel="share (%)")
        ax.set_title(label, fontsize=11, color=INK, loc="left", pad=6)
        _residue_axis(ax, names, chain_starts)
    for ax in axes[:-1]:
        ax.set_xlabel("")
        ax.tick_params(axis="x", labelbottom=False)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return png(figure)


def _residue_axis(ax: Axes, names: Sequence[str], chain_starts: Sequence[int]) -> None:
    ticks = residue_ticks(names)
    crowded = sum(len(names[i]) + 1 for i in ticks) > 110
    ax.set_xticks(ticks, [names[i] for i in ticks], rotation=90 if crowded else 0)
    ax.set(xlim=(-0.6, len(names) - 0.4), xlabel="residue")
    _chain_starts(ax.axvline, chain_starts)


def _chain_starts(line: Callable[..., object], chain_starts: Sequence[int]) -> None:
    """Draws a dotted line, upright or level, before each chain but the first."""
    for start in chain_starts[1:]:
        line(start - 0.5, color=SOFT, lw=0.8, ls=":")
