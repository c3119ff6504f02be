"""Evaluation of one ensemble against another of the same domain, both as they are found on disk or in memory."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.table import EvaluationTable
from equilibra.errors import InputError, unknown_key_message
from equilibra.report.source_domain import domain_of
from equilibra.systems.domain import DOMAINS
from equilibra.thermo.statistics import statistical_inefficiency

if TYPE_CHECKING:
    from collections.abc import Sequence

    from equilibra.systems.ensemble import Ensemble
    from equilibra.systems.molecule.ensemble import MoleculeEnsemble
    from equilibra.systems.protein.ensemble import ProteinEnsemble

MOST = {"molecule": 10_000, "protein": 1000, "crystal": 1000, "adsorbate": 10_000, "ligand": 1000}
"""The largest number of samples on each side by default."""

_TRANSPORT = {"molecule": 2000, "protein": 1000, "crystal": 1000}
_MATCHED = 200  # crystals that are matched with each other


def evaluate(
    a: Any,
    b: Any,
    *,
    n: int | None = None,
    seed: int = 0,
    lag: int | None = 10,
    include_rejected: bool = False,
    native: Any | None = None,
    training: str | Path | None = None,
    judges: Sequence[str] = (),
    placement: str | None = None,
    vina: bool = False,
    exhaustiveness: int = 8,
    domain: str | None = None,
    transport_n: int | None = None,
    rmsd_n: int = 250,
    repeats: int = 10,
) -> EvaluationTable:
    """Measures an ensemble against a reference; every number comes with its error, noise floor and baseline.

    Arguments:
        a: The ensemble: a folder of samples or of a simulation, a file of frames (`FILE:TOPOLOGY`), or `MoleculeEnsemble` or `ProteinEnsemble` objects; of
            crystals a folder of samples, a file of structures or a `CrystalEnsemble`.
        b: The reference, likewise. Several runs make an honest floor; of a single one its two halves do.
        n: The largest number of samples on each side; by default that of `MOST`.
        seed: Seed of the draws.
        lag: Lag of the TICA in frames of the reference; it is left out for a reference that is no time series.
        include_rejected: Count also the samples of `a` that failed the checks.
        native: For proteins, the native structure: a PDB or mmCIF file, or an mdtraj `Trajectory`, of which the first frame counts. It adds TM-score, RMSD,
            lDDT and native contacts.
        training: For crystals, the file of structures that the model was trained on: it adds novelty, and the score of memory.
        judges: For crystals, models that judge both sides, such as `band-gap:xtb` (`systems.crystal.judge`).
        placement: For adsorbates, an energy: samples of `a`, and as many random and heuristic placements, are relaxed with it, for the success of each after k
            structures with the number of energy calls.
        vina: For ligands, dock with AutoDock Vina into the same box, too, whose figures are the baseline.
        exhaustiveness: For ligands, that of Vina.
        domain: `molecule`, `protein`, `crystal`, `adsorbate` or `ligand`; by default what the ensembles say, or else what their atoms look like.
        transport_n: The largest number of samples for exact optimal transport; by default 2,000 of molecules and 1,000 of proteins.
        rmsd_n: For molecules, the same for the matrix of RMSDs.
        repeats: Resamples for errors and floors.

    Returns:
        The table; `to_text` is for people, `to_json` for programs.

    Raises:
        InputError: If an ensemble cannot be read, or the two are different molecules or proteins, or of different domains.
    """
    if domain is not None and domain not in DOMAINS:
        raise InputError(unknown_key_message("domain", domain, DOMAINS))
    if n is not None and n < 2:
        raise InputError(f"n: got {n}, expected at least 2 samples")
    if lag is not None and lag < 1:
        raise InputError(f"lag: got {lag}, expected at least 1 frame")
    if seed < 0:
        raise InputError(f"seed: got {seed}, expected 0 or a larger whole number")
    kind = domain or ("protein" if native is not None else domain_of(a, b))
    if native is not None and kind != "protein":
        raise InputError("native: a native structure has a meaning for proteins only; leave it out")
    if training is not None and kind != "crystal":
        raise InputError("training: the structures of a training have a meaning for crystals only; leave them out")
    if judges and kind != "crystal":
        raise InputError("judges: have a meaning for crystals only; leave them out")
    if placement is not None and kind != "adsorbate":
        raise InputError("placement: has a meaning for adsorbates only; leave it out")
    size = MOST[kind] if n is None else n
    if kind == "crystal":
        return _crystals(a, b, training, judges, n=size, seed=seed, repeats=repeats, include_rejected=include_rejected)
    if kind == "ligand":
        from equilibra.report.pose_evaluation import evaluate_poses

        if include_rejected:
            raise InputError(
                "include_rejected: has no meaning for ligands, of which the share of valid poses is a row of the table; leave it out"
            )
        return evaluate_poses(a, b, n=size, seed=seed, repeats=repeats, vina=vina, exhaustiveness=exhaustiveness)
    if vina:
        raise InputError("vina: has a meaning for ligands only; leave it out")
    if kind == "adsorbate":
        return _adsorbates(a, b, placement, n=size, seed=seed, repeats=repeats, include_rejected=include_rejected)
    options: dict[str, Any] = {"n": size, "seed": seed, "lag": lag, "repeats": repeats, "include_rejected": include_rejected}
    options["transport_n"] = min(_TRANSPORT[kind] if transport_n is None else transport_n, size)
    if kind == "protein":
        return _proteins(a, b, native=native, **options)
    return _molecules(a, b, rmsd_n=min(rmsd_n, size), **options)


def _molecules(
    a: Any,
    b: Any,
    *,
    n: int,
    seed: int,
    lag: int | None,
    repeats: int,
    include_rejected: bool,
    transport_n: int,
    rmsd_n: int,
) -> EvaluationTable:
    from equilibra.analysis.evaluate import evaluate as evaluate_trajectories
    from equilibra.systems.molecule.files import mdtraj_trajectory
    from equilibra.systems.molecule.reference import bond_pairs
    from equilibra.systems.molecule.runs import load_runs, same_system

    ours, theirs = load_runs(a), load_runs(b)
    system = same_system([run.system for run in [*ours, *theirs]])
    positions, log_weights = _frames(ours, include_rejected)
    return evaluate_trajectories(
        mdtraj_trajectory(positions, system.topology),
        [mdtraj_trajectory(run.positions, system.topology) for run in theirs],
        rng=np.random.default_rng(seed),
        n=n,
        transport_n=transport_n,
        rmsd_n=rmsd_n,
        lag=None if any(_independent(run) for run in theirs) else lag,
        repeats=repeats,
        block=_block(ours, _torsion_series(ours)),
        log_weights=log_weights,
        bonds=bond_pairs(system),
        centres=system.stereo_centres,
        signs=system.stereo_signs,
    )


def _proteins(
    a: Any,
    b: Any,
    *,
    n: int,
    seed: int,
    lag: int | None,
    repeats: int,
    include_rejected: bool,
    transport_n: int,
    native: Any | None,
) -> EvaluationTable:
    from equilibra.analysis.protein.evaluate import evaluate_proteins
    from equilibra.systems.files import mdtraj_trajectory
    from equilibra.systems.protein.runs import load_runs, same_system
    from equilibra.systems.protein.sources import structure

    ours, theirs = load_runs(a), load_runs(b)
    system = same_system([run.system for run in [*ours, *theirs]])
    known = None
    if native is not None:
        found = structure(str(native) if isinstance(native, Path) else native, system)
        known = np.stack([found.n, found.ca, found.c], axis=1)[None]
    positions, log_weights = _frames(ours, include_rejected)
    temperature = next(
        (run.provenance.get("temperature_k") for run in [*theirs, *ours] if "temperature_k" in run.provenance), None
    )
    return evaluate_proteins(
        mdtraj_trajectory(positions, system.topology),
        [mdtraj_trajectory(run.positions, system.topology) for run in theirs],
        rng=np.random.default_rng(seed),
        native=known,
        n=n,
        transport_n=transport_n,
        score_n=min(n, 500),
        lag=None if any(_independent(run) for run in theirs) else lag,
        repeats=repeats,
        block=_block(ours, _backbone_series(ours)),
        log_weights=log_weights,
        **({} if temperature is None else {"temperature": float(temperature)}),
    )


def _crystals(
    a: Any,
    b: Any,
    training: str | Path | None,
    judges: Sequence[str],
    *,
    n: int,
    seed: int,
    repeats: int,
    include_rejected: bool,
) -> EvaluationTable:
    from equilibra.analysis.crystal.evaluate import evaluate_crystals
    from equilibra.systems.crystal.load import load_crystals
    from equilibra.systems.crystal.properties import unit_of

    if include_rejected:
        raise InputError(
            "include_rejected: has no meaning for crystals, of which the share of valid ones is a row of the table; leave it out"
        )
    ours, theirs = load_crystals(a), load_crystals(b)
    known = [structure.energy for structure in (*ours.structures, *theirs.structures)]
    energies = None
    if None not in known:
        both = np.array(known, dtype=np.float64)
        energies = both[: len(ours.structures)], both[len(ours.structures) :]
    most = min(n, _MATCHED)
    judged = {
        name: (_judged(ours.structures, name, most), _judged(theirs.structures, name, most), unit_of(name)) for name in judges
    }
    return evaluate_crystals(
        ours.structures,
        theirs.structures,
        rng=np.random.default_rng(seed),
        training=None if training is None else load_crystals(training).structures,
        drawn=ours.drawn,
        energies=energies,
        judged=judged,
        n=n,
        match_n=min(n, _MATCHED),
        repeats=repeats,
    )


def _judged(structures: Sequence[Any], name: str, most: int) -> np.ndarray:
    """Returns what a judge says of at most so many structures, spread evenly."""
    from equilibra.systems.crystal.judge import judge

    chosen = np.unique(np.linspace(0, len(structures) - 1, min(most, len(structures))).round().astype(int))
    return judge([structures[index] for index in chosen], name)


def _adsorbates(
    a: Any, b: Any, placement: str | None, *, n: int, seed: int, repeats: int, include_rejected: bool
) -> EvaluationTable:
    from equilibra.analysis.adsorbate import evaluate_adsorbates
    from equilibra.report.adsorbed import adsorbed, placement_rows, plane_bins, uniform_gas
    from equilibra.systems.adsorbate.runs import join_runs, load_runs, same_system

    if include_rejected:
        raise InputError(
            "include_rejected: has no meaning for adsorbates, of which the share of valid ones is a row of the table; leave it out"
        )
    ours, theirs = join_runs(load_runs(a)), join_runs(load_runs(b))
    system = same_system([ours.system, theirs.system])
    table = evaluate_adsorbates(
        adsorbed(ours),
        adsorbed(theirs),
        uniform_gas(ours, min(n, len(theirs)), seed=seed),
        bins=plane_bins(ours),
        name=system.name,
        rng=np.random.default_rng(seed),
        valid=(len(ours), len(ours) + len(ours.rejected)),
        n=n,
        repeats=repeats,
    )
    if placement is None:
        return table
    return dataclasses.replace(table, rows=(*table.rows, *placement_rows(ours, theirs, placement, seed=seed)))


def _frames(runs: Sequence[Ensemble], include_rejected: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """Returns the positions of all runs, and their log-weights, or None where these are equal."""
    positions = np.concatenate([run.positions for run in runs])
    log_weights = np.concatenate([run.log_weights for run in runs])
    if include_rejected:
        rejected = np.concatenate([run.rejected for run in runs])
        rejected = rejected[np.isfinite(rejected).all(axis=(1, 2))]
        positions = np.concatenate([positions, rejected])
        log_weights = np.concatenate([log_weights, np.zeros(len(rejected))])
    return positions, log_weights if len(log_weights) and np.ptp(log_weights) > 0 else None


def _independent(run: Ensemble) -> bool:
    """Tells whether an ensemble's frames were drawn one by one; a trajectory's are in the order of time."""
    return "model" in run.provenance


def _block(runs: Sequence[Ensemble], series: list[list[np.ndarray]]) -> int:
    """Returns the length of the blocks for the errors: of time series, the largest statistical inefficiency in frames.

    Arguments:
        runs: The runs.
        series: What moves: for each quantity the series of each run.
    """
    if _independent(runs[0]):
        return 1
    slowest = 1.0
    for quantity in series:
        slowest = max(slowest, statistical_inefficiency(quantity))
    return min(math.ceil(slowest), max(1, sum(map(len, runs)) // 10))


def _torsion_series(runs: Sequence[MoleculeEnsemble]) -> list[list[np.ndarray]]:
    """Returns cos and sin of each torsion."""
    if _independent(runs[0]):
        return []
    angles = [run.torsions() for run in runs if len(run)]
    return [[np.stack([np.cos(run[name]), np.sin(run[name])], axis=1) for run in angles] for name in angles[0]]


def _backbone_series(runs: Sequence[ProteinEnsemble]) -> list[list[np.ndarray]]:
    """Returns the superposed C-alpha positions, whose correlation is that of the largest motions."""
    from equilibra.analysis.superposition import superpose

    if _independent(runs[0]):
        return []
    alphas = [run.ca.astype(np.float64) for run in runs if len(run)]
    return [[superpose(x, alphas[0][0]).reshape(len(x), -1) for x in alphas]]
