"""Coverage of known states: does every reference structure have samples near it, and how near are the best ones?

References:
    | Scalable emulation of protein equilibrium ensembles with generative deep learning (Lewis et al., 2025)
    | https://doi.org/10.1126/science.adv9817
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.analysis.superposition import rmsd_matrix
from equilibra.errors import InputError


@dataclass(frozen=True, kw_only=True)
class StateCoverage:
    """The share of reference states reached, against the threshold that counts as reached."""

    thresholds: FloatArray
    """The thresholds in Å, with shape (thresholds)."""
    coverage: FloatArray
    """The mean share over bootstraps, with shape (thresholds)."""
    error: FloatArray
    """Its standard deviation over bootstraps, with shape (thresholds)."""
    n: int
    """The number of samples in each bootstrap."""

    def at(self, threshold: float) -> float:
        """Returns the coverage at the largest threshold that does not exceed `threshold`, in Å; 0 below the first."""
        index = int(np.searchsorted(self.thresholds, threshold, side="right")) - 1
        return float(self.coverage[index]) if index >= 0 else 0.0


def rmsd_to_states(positions: ArrayLike, states: ArrayLike, *, residues: ArrayLike | None = None) -> FloatArray:
    """Returns the C-alpha RMSD of every frame to every state after superposition by proper rotations.

    Arguments:
        positions: C-alpha positions, with shape (frames, residues, 3), in Å.
        states: The reference structures, with shape (states, residues, 3).
        residues: Indices or a mask of the residues that are superposed and compared; all if not given.

    Returns:
        The RMSD in Å, with shape (frames, states).

    Raises:
        ShapeError: If the residues differ.
        InputError: If an array is empty or not finite, or no residue is left.
    """
    x, targets = check_samples("positions", positions, ndim=3, last=3), check_samples("states", states, ndim=3, last=3)
    if residues is not None:
        chosen = np.asarray(residues)
        x, targets = x[:, chosen], targets[:, chosen]
        if x.shape[1] == 0:
            raise InputError("RMSD to states: got no residues, expected at least one")
    return rmsd_matrix(targets, x).T


def state_coverage(
    rmsd: ArrayLike,
    rng: np.random.Generator,
    *,
    thresholds: ArrayLike | None = None,
    n: int = 1000,
    bootstraps: int = 20,
) -> StateCoverage:
    """Returns the share of states with at least one sample better than a threshold, for many thresholds.

    Arguments:
        rmsd: The RMSD of samples to states, with shape (samples, states), in Å.
        rng: The only source of randomness.
        thresholds: The thresholds in Å, in rising order; 100 from 0 to 10 Å if not given.
        n: The number of samples drawn, with replacement, in each bootstrap.
        bootstraps: The number of bootstraps.

    Raises:
        InputError: If there is no sample, a value is not finite, or a number is below one.
    """
    values = check_samples("RMSD to states", rmsd, ndim=2)
    levels = np.linspace(0.0, 10.0, 100) if thresholds is None else check_samples("thresholds", thresholds, ndim=1)
    if n < 1 or bootstraps < 1:
        raise InputError(f"state coverage: got n = {n}, bootstraps = {bootstraps}; expected at least 1 of each")
    best = np.stack([values[rng.integers(len(values), size=n)].min(axis=0) for _ in range(bootstraps)])
    shares = (best[:, :, None] < levels).mean(axis=1)
    return StateCoverage(thresholds=levels, coverage=shares.mean(axis=0), error=shares.std(axis=0), n=n)


def k_recall(rmsd: ArrayLike, k: int) -> FloatArray:
    """Returns the mean of the k smallest values of each state, with shape (states), of RMSD (samples, states) in Å.

    Raises:
        InputError: If there are fewer than k samples, or k is below one.
    """
    values = check_samples("RMSD to states", rmsd, ndim=2)
    if not 1 <= k <= len(values):
        raise InputError(f"k-recall: got k = {k} of {len(values)} samples, expected 1 to {len(values)}")
    return np.asarray(np.partition(values, k - 1, axis=0)[:k].mean(axis=0))
