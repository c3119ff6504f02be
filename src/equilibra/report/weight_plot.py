"""The plot of log-weights: how wide they are, and how few samples carry how much."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.report.canvas import LINE, REFERENCE, SAMPLE, png, sheet


def weight_plot(log_weights: ArrayLike) -> bytes:
    r"""Draws the histogram of log-weights, and the share of all weight that the largest weights hold.

    The histogram counts samples over :math:`\ln(w/\bar w)`, zero for a sample of mean weight. Beside it are the weights in descending order, added up:
    equal weights follow the grey line; the earlier the curve rises, the fewer samples carry the weight.

    Arguments:
        log_weights: Log-weights with shape (frames); minus infinity for a sample without weight.

    Returns:
        The bytes of a PNG file.

    Raises:
        InputError: If a log-weight is NaN or plus infinity, or none is finite.
    """
    array = np.array(log_weights, dtype=np.float64).ravel()
    held = array[np.isfinite(array)]
    if held.size == 0 or np.isnan(array).any() or np.isposinf(array).any():
        raise InputError(
            "weights: got a log-weight that is NaN or +inf, or none that is finite; expected finite numbers or -inf"
        )
    weights = np.exp(held - held.max())
    x = held - held.max() - np.log(weights.sum() / array.size)
    figure = sheet(10.4, 3.5)
    left, right = figure.subplots(1, 2)
    pad = 0.5 if np.ptp(x) < 1e-9 else 0.0
    left.hist(x, bins=min(60, max(10, round(2.0 * held.size ** (1 / 3)))), range=(x.min() - pad, x.max() + pad), color=SAMPLE)
    left.axvline(0.0, color=REFERENCE, lw=1.2, ls="--", label="mean weight")
    left.set(xlabel="ln (weight / mean weight)", ylabel="samples")
    left.grid(axis="y", color=LINE, lw=0.6)
    left.legend(frameon=False, fontsize=9, loc="upper left")
    rank = np.arange(1, array.size + 1)
    share = np.cumsum(np.sort(np.exp(array - held.max()))[::-1]) / weights.sum()
    right.plot(rank, 100.0 * rank / array.size, color=REFERENCE, lw=1.4, label="equal weights")
    right.plot(rank, 100.0 * share, color=SAMPLE, lw=2.0, marker="o" if array.size < 5 else None, label="these weights")
    right.set(xlabel="largest weights, number", ylabel="share of all weight (%)", ylim=(0.0, 103.0))
    if array.size > 1:
        right.set_xscale("log")
        right.set_xlim(1, array.size)
        ticks = [10**power for power in range(int(np.log10(array.size)) + 1)]
        right.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    right.grid(color=LINE, lw=0.6)
    right.legend(frameon=False, fontsize=9, loc="lower right")
    return png(figure)
