"""The evaluation of an ensemble: every metric that applies to its molecule, beside its noise floor and a baseline.

Nothing is filtered. Value, floor and baseline of a row use the same number N of samples: the smallest of what was asked, what the
ensemble has, and what either side of a split of the reference has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.baseline import cartesian_gaussian, wrapped_gaussian
from equilibra.analysis.comparison import Comparison, Molecule, check_comparable
from equilibra.analysis.floor import largest_draw, split_kind
from equilibra.analysis.measures import coordinate_measures, torsion_measures
from equilibra.analysis.rows import EnsembleDraw, measure_rows
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import ConfigError, InputError


def evaluate(
    ensemble: Any,
    reference: Sequence[Any],
    *,
    rng: np.random.Generator,
    n: int = 10_000,
    transport_n: int = 2000,
    rmsd_n: int = 250,
    lag: int | None = 10,
    repeats: int = 10,
    block: int = 1,
    log_weights: ArrayLike | None = None,
    bonds: ArrayLike | None = None,
    centres: ArrayLike | None = None,
    signs: ArrayLike | None = None,
    states: Sequence[str] = ("phi>0", "alpha-R", "beta"),
) -> EvaluationTable:
    """Measures an ensemble against a reference.

    Peptides are compared by φ, ψ, ω and χ; molecules without φ and ψ by the torsions about their rotatable bonds. Torsional rows have a
    wrapped Gaussian of the reference's torsions as baseline, rows of coordinates a Gaussian of its superposed coordinates.

    Arguments:
        ensemble: An mdtraj `Trajectory` of independent conformations (or a time series, see `block`).
        reference: Independent runs of the reference as mdtraj `Trajectory` objects, each in order of time; one run is split into halves.
        rng: The only source of randomness.
        n: The largest number of samples on each side for histograms and geometry.
        transport_n: The same for exact optimal transport, whose cost grows with its square and more.
        rmsd_n: The same for the matrix of RMSDs.
        lag: The lag of the TICA in frames of the reference; None leaves TICA-W2 out, e.g. for a reference that is no time series.
        repeats: The number of resamples of the ensemble for each error and of pairs of draws for each floor.
        block: The length in frames of the ensemble's blocks for the errors; 1 for independent samples.
        log_weights: The log-weights of the ensemble, with shape (frames); its frames are then drawn by weight, with replacement.
        bonds: The bonded pairs, with shape (bonds, 2); by default those of the ensemble's topology, or standard residues' bonds.
        centres: Tetrahedral centres as in `stereo`, with shape (centres, 4); by default found in the molecular graph.
        signs: Their expected signs, with shape (centres); by default those of most frames of the reference.
        states: The basins whose populations are compared, see `ramachandran.STATES`.

    Raises:
        InputError: If ensemble and reference are different molecules, have no frames, hold NaN or infinity, no bonds are known, the
            reference is too short, or a number is out of range.
    """
    for name, number in {
        "n": n,
        "transport_n": transport_n,
        "rmsd_n": rmsd_n,
        "repeats - 1": repeats - 1,
        "block": block,
    }.items():
        if number < 1:
            raise ConfigError(f"evaluate: got {name} = {number}, expected at least 1")
    check_comparable(ensemble, reference)
    molecule = Molecule.of(ensemble.topology, bonds=bonds)
    comparison = Comparison.of(ensemble, reference, molecule)
    lengths = comparison.lengths
    if min(largest_draw(lengths), ensemble.n_frames) < 2:
        raise InputError(
            f"evaluate: the ensemble has {ensemble.n_frames} frames and the reference runs of {lengths}; "
            "at least 2 frames of the ensemble and on each side of a split of the reference are needed"
        )
    draw = EnsembleDraw(ensemble.n_frames, block, log_weights, rng)
    sizes = {"histogram": n, "transport": transport_n, "rmsd": rmsd_n}
    measures = [
        *torsion_measures(comparison, lag=lag, states=states),
        *coordinate_measures(comparison, centres=centres, signs=signs),
    ]
    rows: list[EvaluationRow] = []
    for measure in measures:
        size = min(sizes[measure.cost], ensemble.n_frames, largest_draw(lengths))
        cartesian = measure.feature == "positions"
        rows += measure_rows(
            measure,
            comparison.ensemble[measure.feature],
            comparison.reference[measure.feature],
            lengths,
            draw,
            size,
            repeats=repeats,
            block=block,
            baseline=cartesian_gaussian if cartesian else wrapped_gaussian,
            baseline_words=f"{'Gaussian' if cartesian else 'wrapped Gaussian'} of the reference's {'superposed coordinates' if cartesian else 'torsions'}",
            rng=rng,
        )
    return EvaluationTable(
        rows=tuple(rows),
        molecule=molecule.description,
        ensemble_frames=ensemble.n_frames,
        reference_frames=tuple(lengths),
        split=split_kind(len(lengths)),
    )
