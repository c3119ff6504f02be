"""The metrics of an evaluation, each with its name, unit and exact definition, as functions of features of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.analysis.clashes import VAN_DER_WAALS, find_clashes
from equilibra.analysis.comparison import Comparison
from equilibra.analysis.coverage import bin_coverage
from equilibra.analysis.geometry_statistics import compare_angles, compare_bonds
from equilibra.analysis.ramachandran import population, ramachandran_jsd, ramachandran_tv
from equilibra.analysis.rmsd_coverage import rmsd_coverage
from equilibra.analysis.samples import FloatArray
from equilibra.analysis.stereo import check_stereocentres, cis_fraction, find_stereocentres, majority_signs
from equilibra.analysis.tica_w2 import fit_tica
from equilibra.analysis.torsions import CIRCLE, pair_jsd, torsion_jsd
from equilibra.analysis.torus_w2 import torus_cost
from equilibra.analysis.transport import euclidean_w2, exact_transport
from equilibra.errors import InputError

Values = Callable[..., FloatArray]
"""A function that returns one number for each name of a measure."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One computation that fills one or more rows of the table.

    Either a distance, a function of (samples, reference samples), or an observable, a function of samples alone whose rows show both
    ensembles' values.
    """

    names: tuple[str, ...]
    """The names of its rows."""
    units: tuple[str, ...]
    """The unit of each row."""
    definitions: tuple[str, ...]
    """The definition of each row."""
    feature: Literal["torsions", "backbone", "positions", "scores", "secondary structure"]
    """What it reads of each frame."""
    compute: Values
    """The distance or the observable."""
    kind: Literal["distance", "observable"] = "distance"
    """Which of both."""
    cost: Literal["histogram", "transport", "rmsd"] = "histogram"
    """Which limit of N applies."""
    reference_errors: FloatArray | None = None
    """Standard errors of the observable in the reference, if known."""


def torsion_measures(comparison: Comparison, *, lag: int | None, states: Sequence[str]) -> list[Measure]:
    """Returns the measures of torsions that apply to the molecule; none if it has no rotatable bond.

    Raises:
        InputError: If the lag does not fit the reference, or a state is unknown.
    """
    if not comparison.torsion_names:
        return []
    measures = [_marginals(comparison)]
    pairs = comparison.pairs
    if pairs:
        measures = [_ramachandran(pairs), *measures, _pairs(pairs), _populations(comparison, pairs, states), _coverage(pairs)]
    omegas = [index for index, name in enumerate(comparison.torsion_names) if name.startswith("omega ")]
    if omegas:
        measures.append(
            Measure(
                names=("cis peptide bonds",),
                units=("1",),
                definitions=(f"share of |omega| < 90 degrees among all peptide bonds ({len(omegas)} a frame)",),
                feature="torsions",
                kind="observable",
                compute=lambda x: np.asarray([cis_fraction(x[:, omegas])]),
            )
        )
    what = f"{len(comparison.backbone_names)} angles ({'phi and psi' if pairs else 'rotatable torsions'})"
    measures.append(
        Measure(
            names=("torus W2",),
            units=("rad",),
            definitions=(f"W2 of {what}, cost sum min(|d|, 2 pi - |d|)^2, exact transport, root taken",),
            feature="backbone",
            cost="transport",
            compute=lambda a, b: np.asarray([np.sqrt(exact_transport(torus_cost(a, b)))]),
        )
    )
    if lag is not None:
        projection = fit_tica(comparison.runs("backbone"), lag=lag)
        measures.append(
            Measure(
                names=("TICA W2",),
                units=("1",),
                definitions=(
                    f"W2 in the first two TICA components (lag {lag} frames, kinetic map) of cos and sin of {what}, fitted on all of the reference",
                ),
                feature="backbone",
                cost="transport",
                compute=lambda a, b: np.asarray([euclidean_w2(projection(a), projection(b))]),
            )
        )
    return measures


def coordinate_measures(comparison: Comparison, *, centres: ArrayLike | None, signs: ArrayLike | None) -> list[Measure]:
    """Returns the measures of coordinates: bonds, angles, stereo-centres, clashes and RMSD coverage.

    Raises:
        InputError: If signs are given without centres, or do not fit them.
    """
    molecule = comparison.molecule
    numbers = molecule.atomic_numbers
    heavy = np.flatnonzero(numbers > 1)
    measures = []
    if (numbers[molecule.bonds] > 1).all(axis=1).any():
        measures += [_geometry(comparison)]
    measures += _stereo(comparison, centres, signs)
    if set(numbers.tolist()) <= set(VAN_DER_WAALS):
        measures.append(
            Measure(
                names=("frames with clashes",),
                units=("1",),
                definitions=(
                    "share of frames with atoms 4 or more bonds apart nearer than 0.7 (with a hydrogen 0.55) of the sum of their van der Waals radii",
                ),
                feature="positions",
                kind="observable",
                compute=lambda x: np.asarray([find_clashes(x, molecule.bonds, numbers).fraction]),
            )
        )
    if len(heavy) > 2:
        measures.append(_rmsd(heavy))
    return measures


def _ramachandran(pairs: list[tuple[str, int, int]]) -> Measure:
    def compute(a: FloatArray, b: FloatArray) -> FloatArray:
        divergences = [ramachandran_jsd(a[:, [i, j]], b[:, [i, j]]) for _, i, j in pairs]
        return np.asarray([*divergences, *(ramachandran_tv(a[:, [i, j]], b[:, [i, j]]) for _, i, j in pairs)])

    return Measure(
        names=(*(f"Ramachandran JSD {name}" for name, _, _ in pairs), *(f"Ramachandran TV {name}" for name, _, _ in pairs)),
        units=("bits",) * len(pairs) + ("1",) * len(pairs),
        definitions=("Jensen-Shannon divergence of (phi, psi) in bits, 64 x 64 cells on [-pi, pi]^2",) * len(pairs)
        + ("total variation of (phi, psi), 64 x 64 cells",) * len(pairs),
        feature="backbone",
        compute=compute,
    )


def _marginals(comparison: Comparison) -> Measure:
    def compute(a: FloatArray, b: FloatArray) -> FloatArray:
        distances = torsion_jsd(a, b)
        return np.asarray([distances.mean(), distances.max()])

    words = f"Jensen-Shannon distance (root, nats) of the marginals of {len(comparison.torsion_names)} torsions, 100 bins"
    return Measure(
        names=("torsion JSD, mean", "torsion JSD, largest"),
        units=("nats^1/2",) * 2,
        definitions=(f"mean {words}", f"largest {words}"),
        feature="torsions",
        compute=compute,
    )


def _pairs(pairs: list[tuple[str, int, int]]) -> Measure:
    return Measure(
        names=("(phi, psi) JSD, mean",),
        units=("nats^1/2",),
        definitions=(f"Jensen-Shannon distance (root, nats) of (phi, psi), 50 x 50 cells, mean over residues ({len(pairs)})",),
        feature="backbone",
        compute=lambda a, b: np.asarray([np.mean([pair_jsd(a[:, [i, j]], b[:, [i, j]]) for _, i, j in pairs])]),
    )


def _coverage(pairs: list[tuple[str, int, int]]) -> Measure:
    def compute(a: FloatArray, b: FloatArray) -> FloatArray:
        scores = [bin_coverage(b[:, [i, j]], a[:, [i, j]], limits=(CIRCLE, CIRCLE)) for _, i, j in pairs]
        return np.asarray([[s.recall, s.precision, s.f1] for s in scores]).mean(axis=0)

    words = f"of occupied cells of (phi, psi), 50 x 50, mean over residues ({len(pairs)})"
    return Measure(
        names=("bin recall", "bin precision", "bin F1"),
        units=("1",) * 3,
        definitions=(f"recall (coverage) {words}", f"precision {words}", f"harmonic mean of recall and precision {words}"),
        feature="backbone",
        compute=compute,
    )


def _populations(comparison: Comparison, pairs: list[tuple[str, int, int]], states: Sequence[str]) -> Measure:
    def compute(x: FloatArray) -> FloatArray:
        return np.asarray([population(x[:, [i, j]], state).value for _, i, j in pairs for state in states])

    runs = comparison.runs("backbone")
    basins = [(name, [i, j], state) for name, i, j in pairs for state in states]
    errors = [population([run[:, columns] for run in runs], state, correlated=True).error for _, columns, state in basins]
    return Measure(
        names=tuple(f"population {state} {name}" for name, _, state in basins),
        units=("1",) * len(basins),
        definitions=tuple(
            f"share of samples in {state} (reference error {error:.2g}, with its statistical inefficiency)"
            for (_, _, state), error in zip(basins, errors, strict=True)
        ),
        feature="backbone",
        kind="observable",
        compute=compute,
        reference_errors=np.asarray(errors),
    )


def _geometry(comparison: Comparison) -> Measure:
    bonds, numbers = comparison.molecule.bonds, comparison.molecule.atomic_numbers

    def compute(a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
        lengths, angles = compare_bonds(a, b, bonds, numbers), compare_angles(a, b, bonds, numbers)
        degrees = np.rad2deg(angles.heavy_mean_error)
        return np.asarray([lengths.heavy_mean_error, lengths.heavy_std_ratio, degrees, angles.heavy_std_ratio])

    return Measure(
        names=("heavy bond error", "heavy bond std ratio", "heavy angle error", "heavy angle std ratio"),
        units=("Å", "1", "degrees", "1"),
        definitions=(
            "mean over bonds of heavy atoms of |mean length - reference mean|",
            "mean over bonds of heavy atoms of std / reference std (ideal 1)",
            "mean over angles of heavy atoms of |mean angle - reference mean|",
            "mean over angles of heavy atoms of std / reference std (ideal 1)",
        ),
        feature="positions",
        compute=compute,
    )


def _stereo(comparison: Comparison, centres: ArrayLike | None, signs: ArrayLike | None) -> list[Measure]:
    if centres is None:
        if signs is not None:
            raise InputError(
                "stereo-centres: got signs without centres; give both, or neither to find them in the molecular graph"
            )
        centres = find_stereocentres(comparison.molecule.topology)
    rows = np.asarray(centres)
    if rows.size == 0:
        return []
    origin = "given" if signs is not None else "the reference's"
    wanted = majority_signs(comparison.reference["positions"][:1000], rows) if signs is None else np.asarray(signs)
    return [
        Measure(
            names=("stereo-centres right",),
            units=("1",),
            definitions=(
                f"share of frames in which every tetrahedral centre (of {len(rows)}) has the expected hand ({origin})",
            ),
            feature="positions",
            kind="observable",
            compute=lambda x: np.asarray([check_stereocentres(x, rows, wanted).fraction]),
        )
    ]


def _rmsd(heavy: NDArray[Any]) -> Measure:
    # the customary thresholds of QM9-sized (up to 9 heavy atoms) and larger molecules
    delta = 0.5 if len(heavy) <= 9 else 0.75

    def compute(a: NDArray[Any], b: NDArray[Any]) -> FloatArray:
        scores = rmsd_coverage(b[:, heavy], a[:, heavy], delta=delta)
        return np.asarray(
            [scores.coverage_recall, scores.coverage_precision, scores.matching_recall, scores.matching_precision]
        )

    words = "heavy atoms, proper superposition, atoms as labelled"
    return Measure(
        names=("COV recall", "COV precision", "MAT recall", "MAT precision"),
        units=("1", "1", "Å", "Å"),
        definitions=(
            f"share of reference frames within {delta} Å RMSD of a sample ({words})",
            f"share of samples within {delta} Å RMSD of a reference frame ({words})",
            f"mean over reference frames of the smallest RMSD to a sample ({words})",
            f"mean over samples of the smallest RMSD to a reference frame ({words})",
        ),
        feature="positions",
        cost="rmsd",
        compute=compute,
    )
