r"""Populations of states and the free energies between them, with the error that fits how the samples were made.

Three kinds of sets, each with its own error bar:

===========  ==========================================================  =======================================
weighted     samples of another density with importance weights          bootstrap, weights and diagnosis with it
independent  samples drawn one by one, all counting the same             binomial (Clopper and Pearson)
time series  frames of dynamics, neighbours nearly copies of each other  bootstrap over contiguous blocks
===========  ==========================================================  =======================================

A block must be several relaxation times long: with blocks of the statistical inefficiency itself an error bar is a quarter too small, with
five times that, about 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.collective_variables import CollectiveVariable
from equilibra.analysis.samples import BoolArray, FloatArray, IntArray
from equilibra.errors import InputError
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import Blocks, difference, populations
from equilibra.thermo.reweighting import refuse_if_untrusted
from equilibra.thermo.samples import check_log_weights
from equilibra.thermo.statistics import contiguous_blocks, statistical_inefficiency
from equilibra.thermo.weights import Diagnosis, diagnose, effective_sample_size

Kind = Literal["weighted", "independent", "time series"]

BLOCK_INEFFICIENCIES = 5.0
"""Length of a block, in statistical inefficiencies."""
FEWEST_BLOCKS = 10
"""Blocks that are left at least, so that their spread is an error bar."""
LEAST_EFFECTIVE = 10.0
"""Effective samples that the weight of a state has to rest on."""

_INDEPENDENT = (
    1.5  # statistical inefficiency below which frames count as independent: shuffled frames of a few hundred reach 1.3
)


@dataclass(frozen=True, eq=False)
class SampleSet:
    """How the samples of a set count, and how they depend on each other."""

    n: int
    """The number of samples."""
    kind: Kind
    """What they are."""
    log_weights: FloatArray | None
    """Log-weights (n), or None where all count the same."""
    blocks: Blocks
    """What a bootstrap draws whole; None for independent samples."""
    effective: float
    """The number of independent, equally weighted samples that they are worth."""
    diagnosis: Diagnosis | None
    """The verdict on the weights, if there are any."""
    block: int | None
    """The length of a block in frames."""
    sentence: str
    """How the error bars are made, in words."""
    warning: str = ""
    """What makes the error bars too small, in words; empty if nothing."""


def sample_set(
    n: int,
    *,
    log_weights: ArrayLike | None = None,
    lengths: Sequence[int] | None = None,
    series: Mapping[str, FloatArray] | None = None,
    block: int | None = None,
    families: Sequence[IntArray] | None = None,
    allow_untrusted: bool = False,
) -> SampleSet:
    """Finds out how samples count.

    Arguments:
        n: The number of samples.
        log_weights: Log-weights (n), up to a constant; None, or equal ones, for samples that count the same.
        lengths: Numbers of frames of the runs of a time series, which the samples are joined from; None for independent samples.
        series: Numbers (n) or vectors (n, d), by name, whose slowest decides the length of the blocks of a time series.
        block: The length of a block in frames; by default it is estimated for a time series. One frame makes the samples independent.
        families: Indices of samples that depend on each other, such as resampled populations, which a bootstrap draws whole; every sample is in one.
        allow_untrusted: Go on with weights that cannot be trusted.

    Raises:
        InputError: If the weights cannot be trusted, or the length of a block is out of range.
    """
    if n < 1:
        raise InputError("free energy: there is no conformation")
    logs = None if log_weights is None else check_log_weights(log_weights)
    logs = None if logs is None or bool((logs == logs[0]).all()) else logs
    diagnosis = None if logs is None else diagnose(logs)
    if diagnosis is not None:
        refuse_if_untrusted(diagnosis, "free energy", allow=allow_untrusted)
    slowest, inefficiency = ("", 1.0) if lengths is None else _slowest(series or {}, lengths)
    estimated = f"{slowest or 'no variable, since none moves'}, {inefficiency:.3g} frames"
    words = "as given"
    if block is None and lengths is not None:
        wanted = math.ceil(BLOCK_INEFFICIENCIES * inefficiency) if inefficiency > _INDEPENDENT else 1
        block = min(wanted, max(1, n // FEWEST_BLOCKS), max(lengths))
        words = f"estimated from the statistical inefficiency of {estimated}"
    if block is not None and not 1 <= block <= max(1, n // 2):
        raise InputError(f"block: got {block} frames, expected 1 to {max(1, n // 2)}, half the number of frames")
    cut = None if block is None or block == 1 else contiguous_blocks(lengths or [n], block)
    if families is not None and len(families) < FEWEST_BLOCKS and not allow_untrusted:
        raise InputError(
            f"free energy: the samples are of {len(families)} resampled populations, and at least {FEWEST_BLOCKS} are needed for an error bar; draw more "
            "blocks, or show the numbers all the same with --allow-untrusted"
        )
    cut = list(families) if families is not None and len(families) > 1 else cut
    warning = ""
    if inefficiency > n / (2.0 * FEWEST_BLOCKS):
        warning = (
            f"The frames are worth about {n / inefficiency:.0f} independent ones only ({slowest} is the slowest): populations and their error bars "
            "cannot be relied on; simulate longer."
        )
    kind = "resampled populations" if families is not None else f"contiguous blocks of {block} frames ({words})"
    counted = f"{n if cut is None else len(cut):,} {'conformations' if cut is None else kind}"
    if diagnosis is not None:
        effective = min(diagnosis.ess, n / inefficiency)
        sentence = f"Errors are from a bootstrap of {counted} together with their weights."
        return SampleSet(n, "weighted", logs, cut, effective, diagnosis, block, sentence, warning)
    if cut is not None:
        sentence = f"Errors are from a bootstrap of {counted}."
        return SampleSet(n, "time series", None, cut, n / inefficiency, None, block, sentence, warning)
    sentence = f"Errors are binomial (Clopper and Pearson) for {n:,} independent conformations."
    if lengths is not None:
        given = "independent frames were asked for" if words == "as given" else "small enough to count them as independent"
        sentence += f" The statistical inefficiency of the series is that of {estimated}: {given}."
    return SampleSet(n, "independent", None, None, n / inefficiency, None, block, sentence, warning)


@dataclass(frozen=True)
class StatePopulation:
    """A state and the share of the weight in it."""

    name: str
    """The state as it was written."""
    population: Estimate
    """The share, 0 to 1, with its 95 % interval."""
    count: int
    """The number of samples in it."""
    effective: float
    """The number of equally weighted samples that they are worth, by Kish's formula; `count` where all count the same."""
    spans: tuple[tuple[float, float], ...] = ()
    """Where the state lies along the first collective variable, if it is one of that variable alone."""


@dataclass(frozen=True)
class StateDifference:
    r"""The free energy :math:`\Delta F = F_{to} - F_{from}` between two states."""

    start: str
    """The state that it is counted from."""
    end: str
    """The other state."""
    kt: Estimate
    """The difference in kT."""
    kj_per_mol: Estimate | None
    """The same in kJ/mol; None where the temperature is not known."""


def state_free_energies(
    states: Mapping[str, BoolArray],
    samples: SampleSet,
    rng: np.random.Generator,
    *,
    kt_kj_per_mol: float | None = None,
    resamples: int = 1000,
    allow_untrusted: bool = False,
) -> tuple[tuple[StatePopulation, ...], tuple[StateDifference, ...]]:
    """Computes the population of each state, and the free energy of each against the first.

    Arguments:
        states: Whether each sample is in the state, shape (n), by the state's name.
        samples: How the samples count.
        rng: The only source of randomness.
        kt_kj_per_mol: Thermal energy in kJ/mol, if the temperature is known.
        resamples: Resamples of the bootstraps.
        allow_untrusted: Go on with a state whose weight rests on too few samples, which the error bar of a bootstrap does not see.

    Raises:
        InputError: If two states share samples, if the weight of a state rests on fewer than ten effective samples, or if none of the samples is in any state.
    """
    masks = {name: np.asarray(mask, dtype=np.bool_) for name, mask in states.items()}
    held = np.ones(samples.n, dtype=np.bool_) if samples.log_weights is None else np.isfinite(samples.log_weights)
    for (a, mask_a), (b, mask_b) in combinations(masks.items(), 2):
        both = int((mask_a & mask_b).sum())
        if both:
            raise InputError(
                f"states '{a}' and '{b}' overlap: {both:,} of {samples.n:,} conformations are in both; give states that exclude each other"
            )
    if masks and not any((mask & held).any() for mask in masks.values()):
        raise InputError(
            f"states: none of {samples.n:,} conformations is in {' or '.join(repr(name) for name in masks)}; look at the range of the collective variable"
        )
    worth = {name: _worth(samples.log_weights, mask & held) for name, mask in masks.items()}
    for name, effective in worth.items():
        if samples.log_weights is not None and 0.0 < effective < LEAST_EFFECTIVE and not allow_untrusted:
            raise InputError(
                f"state '{name}': refused, because its weight rests on {effective:.1f} effective samples ({int(masks[name].sum()):,} conformations), "
                f"fewer than {LEAST_EFFECTIVE:g}; the error bar would be too small. Draw more samples, or allow it explicitly to see the number all the same"
            )
    shares = populations(samples.log_weights, masks, rng, resamples=resamples, blocks=samples.blocks) if masks else {}
    found = tuple(
        StatePopulation(name, _quoted(share, name), int(masks[name].sum()), worth[name]) for name, share in shares.items()
    )
    first, *others = masks or [""]
    differences = []
    for other in others:
        if not ((masks[first] | masks[other]) & held).any():
            undefined = Estimate(
                math.nan,
                math.inf,
                -math.inf,
                math.inf,
                samples.n,
                f"no conformation is in '{first}' or in '{other}': nothing can be said",
            )
            differences.append(StateDifference(first, other, undefined, None))
            continue
        value = difference(samples.log_weights, masks[first], masks[other], rng, resamples=resamples, blocks=samples.blocks)
        words = value.note.replace("state A", f"'{first}'").replace("state B", f"'{other}'")
        value = replace(value, note=words)
        differences.append(StateDifference(first, other, value, None if kt_kj_per_mol is None else value.scaled(kt_kj_per_mol)))
    return found, tuple(differences)


def _worth(log_weights: FloatArray | None, mask: BoolArray) -> float:
    """Returns the effective number of samples in a state."""
    if log_weights is None:
        return float(mask.sum())
    return effective_sample_size(log_weights[mask]).value if mask.any() else 0.0


def spans(inside: BoolArray, grid: FloatArray) -> tuple[tuple[float, float], ...]:
    """Returns the intervals of a rising grid (m) where `inside` (m) is true, from the first to the last point of each."""
    padded = np.concatenate([[False], inside, [False]]).astype(np.int8)
    starts, ends = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1) - 1
    return tuple((float(grid[a]), float(grid[b])) for a, b in zip(starts, ends, strict=True))


def moving(variable: CollectiveVariable) -> FloatArray:
    """Returns a variable as a series whose correlation makes sense: numbers, or (cos, sin) of a periodic angle."""
    if variable.period is None:
        return variable.values
    turn = 2.0 * np.pi * variable.values / variable.period
    return np.stack([np.cos(turn), np.sin(turn)], axis=1)


def _quoted(share: Estimate, name: str) -> Estimate:
    return replace(share, note=share.note.replace(f"state {name}", f"'{name}'"))


def _slowest(series: Mapping[str, FloatArray], lengths: Sequence[int]) -> tuple[str, float]:
    """Returns the series of the largest statistical inefficiency, and that in frames; series that do not move are left out."""
    cuts = np.cumsum(lengths)[:-1]
    slowest, largest = "", 1.0
    for name, values in series.items():
        array = np.asarray(values, dtype=np.float64)
        if float(np.ptp(array, axis=0).max()) == 0.0:
            continue
        found = statistical_inefficiency([run for run in np.split(array, cuts) if len(run)])
        if not slowest or found > largest:
            slowest, largest = name, found
    return slowest, largest
