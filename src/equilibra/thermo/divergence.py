"""Divergences between probability arrays."""

from __future__ import annotations

import numpy as np

from equilibra.thermo.samples import FloatArray


def jensen_shannon_nats(p: FloatArray, q: FloatArray) -> float:
    r"""Returns the Jensen-Shannon divergence of two arrays of probabilities of one shape, in nats, between 0 and ln 2.

    .. math:: \tfrac12 \sum_i \Big[ p_i \ln \frac{2 p_i}{p_i + q_i} + q_i \ln \frac{2 q_i}{p_i + q_i} \Big]

    Arguments:
        p: Probabilities, which sum to one.
        q: The same of the other distribution.
    """
    middle = 0.5 * (p + q)
    total = 0.0
    for masses in (p, q):
        filled = (masses > 0) & (middle > 0)  # half of the least number above zero is zero
        total += 0.5 * float((masses[filled] * np.log(masses[filled] / middle[filled])).sum())
    return max(total, 0.0)
