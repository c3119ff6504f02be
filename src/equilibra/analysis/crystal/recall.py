r"""METRe and cRMSE: how much of a reference set a set of samples finds, and how well.

.. math::
    \mathrm{METRe} = \frac1{N_r} \sum_r [\min_s \mathrm{rms}(r, s) < \infty], \qquad
    \mathrm{cRMSE} = \frac1{N_r} \sum_r \min\big(\min_s \mathrm{rms}(r, s),\; t\big)

with pymatgen's rms (in units of the cube root of the volume per atom; infinite without a match) and its site tolerance t, at which a structure that is not found
counts. A set of samples larger than the reference finds more of it: use as many or fewer.

References:
    | Open Materials Generation with stochastic interpolants (Höllmer et al., 2025), https://arxiv.org/abs/2502.02582
    | All that structure matches does not glitter (Martirossyan et al., 2025), https://arxiv.org/abs/2509.12178
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equilibra.analysis.crystal.crystals import Crystal
from equilibra.analysis.crystal.matching import PUBLISHED, Matcher, Progress, Tolerances
from equilibra.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recall:
    """What of a reference was found.

    Attributes:
        metre: Share of the reference structures that at least one sample matches.
        crmse: Mean of the best rms of each, in units of the cube root of the volume per atom; what is not found counts as the site tolerance.
        rms: Best rms (N_r,) of each reference structure; infinite where there is no match.
    """

    metre: float
    crmse: float
    rms: np.ndarray


def recall(
    samples: Sequence[Crystal],
    reference: Sequence[Crystal],
    tolerances: Tolerances = PUBLISHED,
    progress: Progress = lambda done, total: None,
) -> Recall:
    """Computes METRe and cRMSE.

    Arguments:
        samples: The samples.
        reference: The reference, without duplicates if its share is to mean something.
        tolerances: How different a match may be.
        progress: Told how many reference structures are done.

    Raises:
        InputError: If one of the sets is empty.
        MissingDependencyError: If pymatgen is not installed.
    """
    if not len(samples) or not len(reference):
        raise InputError(
            f"METRe: got {len(samples)} samples and {len(reference)} reference structures, expected at least one of each"
        )
    matcher = Matcher([*samples, *reference], tolerances)
    among = np.arange(len(samples))
    best = np.full(len(reference), np.inf)
    for index in range(len(reference)):
        own = len(samples) + index
        found = [matcher.rms(own, int(other)) for other in matcher.candidates(own, among)]
        best[index] = min((value for value in found if value is not None), default=np.inf)
        progress(index + 1, len(reference))
    return Recall(metre=float(np.isfinite(best).mean()), crmse=float(np.minimum(best, tolerances.site).mean()), rms=best)
