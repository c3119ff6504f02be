r"""Multistate Bennett acceptance ratio: one free energy for each of several ensembles, from all their samples together.

Samples :math:`x_n` of K ensembles with reduced energies :math:`u_k` (a temperature ladder: :math:`u_k = \beta_k E`) are treated as one set
drawn from the mixture of all. The free energies :math:`f_k = -\log Z_k` solve

.. math:: f_k = -\log \sum_n \frac{e^{-u_k(x_n)}}{\sum_l N_l\, e^{f_l - u_l(x_n)}},

up to a common constant, and the same mixture gives log-weights for any other reduced energy of the same samples.

References:
    | Statistically optimal analysis of samples from multiple equilibrium states
    | (Shirts and Chodera, 2008), https://doi.org/10.1063/1.2978177
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.samples import FloatArray, IntArray, check_samples


@contextmanager
def quiet_pymbar() -> Iterator[ModuleType]:
    """Gives pymbar while its logger, which greets and advises on import, reports errors only; the level is put back."""
    logger = logging.getLogger("pymbar")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        import pymbar

        yield pymbar
    finally:
        logger.setLevel(level)


@dataclass(frozen=True, eq=False)
class Mixture:
    """Pooled samples of K ensembles and the ensembles' log Z, relative to the first."""

    log_z: tuple[Estimate, ...]
    r"""The differences :math:`\log Z_k - \log Z_0` with asymptotic errors; n counts the pooled samples."""
    u: FloatArray
    """Reduced energies of all samples in all ensembles, shape (ensembles, samples)."""
    counts: IntArray
    """The number of samples of each ensemble, shape (ensembles)."""

    @property
    def log_density(self) -> FloatArray:
        """The logarithm of the mixture's density at the samples, shape (samples), up to the first ensemble's log Z."""
        f = -np.asarray([estimate.value for estimate in self.log_z])
        held = self.counts > 0
        terms = f[held, None] - self.u[held] + np.log(self.counts[held] / self.counts.sum())[:, None]
        top = terms.max(axis=0)
        return top + np.log(np.exp(terms - top).sum(axis=0))

    def log_weights(self, u: ArrayLike) -> FloatArray:
        r"""Returns log-weights of the pooled samples for another reduced energy, e.g. :math:`\beta E` at another temperature.

        The logarithm of their mean estimates that ensemble's log Z relative to the first, so that `free_energy.log_z`,
        `entropy.entropy` and `observables.mean` apply to them.

        Arguments:
            u: The reduced energies of the pooled samples, shape (samples).

        Raises:
            ShapeError: If there is not one for each sample.
        """
        array = np.asarray(u, dtype=np.float64)
        if array.shape != self.u.shape[1:]:
            raise ShapeError("reduced energies", array.shape, f"({self.u.shape[1]}), one for each pooled sample")
        return -array - self.log_density


def mbar_log_z(u: ArrayLike, counts: Sequence[int] | ArrayLike) -> Mixture:
    r"""Returns the differences of log Z between K ensembles by MBAR.

    For a temperature ladder `u` is `betas[:, None] * energies[None, :]`. The samples must be independent: thin series by their statistical
    inefficiency first.

    Arguments:
        u: The reduced energy of every sample in every ensemble, shape (ensembles, samples). The samples of the first ensemble come first.
        counts: The number of samples drawn from each ensemble, shape (ensembles); their sum is the number of samples.

    Raises:
        ShapeError: If `u` has not two axes, or one row for each count.
        InputError: If an energy is not finite, a count is negative, the counts do not add up, or the ensembles do not overlap.
    """
    energies = np.asarray(u, dtype=np.float64)
    numbers = np.asarray(counts, dtype=np.int64)
    if energies.ndim != 2 or numbers.shape != energies.shape[:1]:
        raise ShapeError("reduced energies", energies.shape, f"(ensembles, samples) with {numbers.size} ensembles")
    check_samples("reduced energies", energies)
    if (numbers < 0).any() or numbers.sum() != energies.shape[1]:
        raise InputError(
            f"MBAR: got counts {numbers.tolist()} for {energies.shape[1]} samples; they must add up to that number"
        )
    with quiet_pymbar() as pymbar, np.errstate(all="ignore"):
        # pymbar's default solver hands SciPy options that it warns of
        protocol = ({"method": "adaptive", "options": {"min_sc_iter": 0}},)
        solution = pymbar.MBAR(energies, numbers, solver_protocol=protocol)
        found = solution.compute_free_energy_differences()
    f, errors = found["Delta_f"][0], found["dDelta_f"][0]
    estimates = tuple(
        Estimate.normal(-float(value), float(error), energies.shape[1]) for value, error in zip(f, errors, strict=True)
    )
    mixture = Mixture(estimates, energies, numbers)
    logs = np.stack([mixture.log_weights(row) for row in energies])
    top = logs.max(axis=1)
    gap = top + np.log(np.exp(logs - top[:, None]).mean(axis=1)) + f
    if not (np.isfinite(errors).all() and np.abs(gap).max() < 1e-4):
        raise InputError("MBAR: no solution, because neighbouring ensembles do not overlap; put more temperatures between them")
    return mixture
