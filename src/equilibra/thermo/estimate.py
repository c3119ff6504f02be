"""A number with its error bar."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np

from equilibra.errors import InputError
from equilibra.thermo.samples import FloatArray


@dataclass(frozen=True)
class Estimate:
    """An estimated number, its standard error and its interval; prints as `0.31 ± 0.04`.

    An infinite value has one finite end, a bound: it prints as `> 3.2` or `< -3.2`, and the note says why.
    """

    value: float
    """The estimate."""
    error: float
    """The standard error."""
    low: float
    """The lower end of the interval, which is one of 95 % unless asked for otherwise."""
    high: float
    """The upper end of the interval."""
    n: int
    """The number of samples, correlated or not."""
    note: str = ""
    """What a reader must know to use the number, in words; empty if nothing."""

    @classmethod
    def normal(cls, value: float, error: float, n: int, *, confidence: float = 0.95, note: str = "") -> Estimate:
        """Returns an estimate whose interval is that of a normal distribution.

        Raises:
            InputError: If `confidence` is not between 0 and 1.
        """
        half = NormalDist().inv_cdf(0.5 + 0.5 * check_confidence(confidence)) * error
        return cls(float(value), float(error), float(value - half), float(value + half), n, note)

    @classmethod
    def from_resamples(
        cls, value: float, resampled: FloatArray, n: int, *, confidence: float = 0.95, note: str = ""
    ) -> Estimate:
        """Returns an estimate whose error is the standard deviation over resamples and whose interval is their percentiles.

        Resamples in which the quantity is infinite (a state that none of the drawn samples is in) widen the interval, to infinity if
        there are many, and are left out of the standard error; those in which it is undefined are left out of both. A note says so.

        Arguments:
            value: The quantity of the samples themselves.
            resampled: The quantity of each resample, shape (resamples).
            n: The number of samples.
            confidence: The coverage of the interval.
            note: Words to keep with the number.

        Raises:
            InputError: If `confidence` is not between 0 and 1.
        """
        tail = 0.5 - 0.5 * check_confidence(confidence)
        defined = resampled[~np.isnan(resampled)]
        finite = defined[np.isfinite(defined)]
        lost = len(resampled) - len(finite)
        if lost:
            words = f"in {lost} of {len(resampled)} resamples the quantity is not finite; the standard error leaves them out"
            note = f"{note}; {words}" if note else words
        low, high = -math.inf, math.inf
        if len(defined):
            # interpolation between a finite number and infinity is not a number: take the outer sample
            low = float(np.quantile(defined, tail, method="lower" if lost else "linear"))
            high = float(np.quantile(defined, 1.0 - tail, method="higher" if lost else "linear"))
        error = float(finite.std(ddof=1)) if len(finite) > 1 else math.inf
        return cls(float(value), error, low, high, n, note)

    def scaled(self, factor: float) -> Estimate:
        """Returns the estimate in another unit: `factor` units of the new one make one of the old; a negative one turns it over."""
        ends = sorted((factor * self.low, factor * self.high))
        return replace(self, value=factor * self.value, error=abs(factor) * self.error, low=ends[0], high=ends[1])

    def z_score(self, exact: float) -> float:
        """Returns the distance to a number known exactly, in standard errors."""
        return (self.value - exact) / self.error

    def __str__(self) -> str:
        """`0.31 ± 0.04`: the error with one digit, two if the first is 1, and the value to the same place."""
        if math.isinf(self.value):
            return f"> {self.low:.3g}" if self.value > 0 else f"< {self.high:.3g}"
        if not (self.error > 0.0 and math.isfinite(self.error)):
            return f"{self.value:.6g}" if self.error == 0.0 else f"{self.value:.6g} ± ?"
        place = math.floor(math.log10(self.error))
        if round(self.error, 1 - place) < 2.0 * 10.0**place:
            place -= 1  # 0.14, not 0.1
        value, error = round(self.value, -place), round(self.error, -place)
        decimals = max(-place, 0)
        return f"{value:.{decimals}f} ± {error:.{decimals}f}"


def check_confidence(confidence: float) -> float:
    """Returns the coverage wanted of an interval after checking that it is between 0 and 1.

    Raises:
        InputError: If it is not.
    """
    if not 0.0 < confidence < 1.0:
        raise InputError(f"bootstrap: got confidence = {confidence}, expected a number between 0 and 1")
    return confidence
