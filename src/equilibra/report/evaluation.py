"""Evaluation of one ensemble of a molecule against another, both as they are found on disk or in memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.evaluate import evaluate as evaluate_trajectories
from equilibra.analysis.table import EvaluationTable
from equilibra.errors import InputError
from equilibra.thermo.statistics import statistical_inefficiency

if TYPE_CHECKING:
    from equilibra.systems.molecule.ensemble import MoleculeEnsemble
    from equilibra.systems.molecule.runs import Source


def evaluate(
    a: Source,
    b: Source,
    *,
    n: int = 10_000,
    seed: int = 0,
    lag: int | None = 10,
    include_rejected: bool = False,
    transport_n: int = 2000,
    rmsd_n: int = 250,
    repeats: int = 10,
) -> EvaluationTable:
    """Measures an ensemble against a reference; every number comes with its error, noise floor and baseline.

    Arguments:
        a: The ensemble: a folder of samples or of a simulation, a file of frames (`FILE:TOPOLOGY`), or `MoleculeEnsemble` objects.
        b: The reference, likewise. Several runs make an honest floor; of a single one its two halves do.
        n: The largest number of samples on each side.
        seed: Seed of the draws.
        lag: Lag of the TICA in frames of the reference; it is left out for a reference that is no time series.
        include_rejected: Count also the samples of `a` that failed the checks.
        transport_n: The largest number of samples for exact optimal transport.
        rmsd_n: The same for the matrix of RMSDs.
        repeats: Resamples for errors and floors.

    Returns:
        The table; `to_text` is for people, `to_json` for programs.

    Raises:
        InputError: If an ensemble cannot be read, or the two are different molecules or have their atoms in different orders.
    """
    from equilibra.systems.molecule.runs import load_runs, same_system

    if n < 2:
        raise InputError(f"n: got {n}, expected at least 2 samples")
    if lag is not None and lag < 1:
        raise InputError(f"lag: got {lag}, expected at least 1 frame")
    if seed < 0:
        raise InputError(f"seed: got {seed}, expected 0 or a larger whole number")
    ours, theirs = load_runs(a), load_runs(b)
    system = same_system([run.system for run in [*ours, *theirs]])
    positions = np.concatenate([run.positions for run in ours])
    log_weights = np.concatenate([run.log_weights for run in ours])
    if include_rejected:
        rejected = np.concatenate([run.rejected for run in ours])
        rejected = rejected[np.isfinite(rejected).all(axis=(1, 2))]
        positions = np.concatenate([positions, rejected])
        log_weights = np.concatenate([log_weights, np.zeros(len(rejected))])
    from equilibra.systems.molecule.files import mdtraj_trajectory
    from equilibra.systems.molecule.reference import bond_pairs

    return evaluate_trajectories(
        mdtraj_trajectory(positions, system.topology),
        [mdtraj_trajectory(run.positions, system.topology) for run in theirs],
        rng=np.random.default_rng(seed),
        n=n,
        transport_n=min(transport_n, n),
        rmsd_n=min(rmsd_n, n),
        lag=None if any(_independent(run) for run in theirs) else lag,
        repeats=repeats,
        block=_block(ours),
        log_weights=log_weights if np.ptp(log_weights) > 0 else None,
        bonds=bond_pairs(system),
        centres=system.stereo_centres,
        signs=system.stereo_signs,
    )


def _independent(run: MoleculeEnsemble) -> bool:
    """Tells whether an ensemble's frames were drawn one by one; a trajectory's are in the order of time."""
    return "model" in run.provenance


def _block(runs: list[MoleculeEnsemble]) -> int:
    """Returns the length of the blocks for the errors: of a time series, the slowest torsion's statistical inefficiency in frames."""
    if _independent(runs[0]):
        return 1
    angles = [run.torsions() for run in runs if len(run)]
    slowest = 1.0
    for name in angles[0]:
        series = [np.stack([np.cos(run[name]), np.sin(run[name])], axis=1) for run in angles]
        slowest = max(slowest, statistical_inefficiency(series))
    return min(math.ceil(slowest), max(1, sum(map(len, runs)) // 10))
