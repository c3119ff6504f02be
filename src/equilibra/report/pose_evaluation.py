"""Evaluation of poses of a ligand against a known pose, or against an ensemble of poses."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.poses import SUCCESS, best_of, centred_rmsd, mode_populations, success_of, total_variation
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.energies.docking.vina_program import VinaProgram
from equilibra.errors import InputError, MissingDependencyError
from equilibra.geometry.symmetric_rmsd import symmetric_rmsd
from equilibra.systems.ligand.ensemble import CLUSTER_RADIUS, LigandEnsemble
from equilibra.systems.ligand.runs import join_runs, load_runs
from equilibra.systems.ligand.sources import FILE_SUFFIXES, read_ligands
from equilibra.systems.ligand.symmetry import corresponding
from equilibra.thermo.statistics import clopper_pearson, first_of_families, random_halves, resampled_frames
from equilibra.units import thermal_energy

if TYPE_CHECKING:
    from equilibra.systems.ligand.system import LigandSystem

_NAN = float("nan")
_BINS = 100  # of a torsion
_BIN = 0.5  # Å, of the centroid along an axis
_RESAMPLES = 200


class _Draws:
    """How poses are drawn again for errors and floors: one by one, or by whole populations where these are relatives, such as blocks of annealed paths and walkers of a training.

    Arguments:
        ensemble: The poses.
        rng: The only source of randomness.
        size: How many of them count, the first ones; all by default.
    """

    def __init__(self, ensemble: LigandEnsemble, rng: np.random.Generator, size: int | None = None) -> None:
        self.rng, self.size = rng, len(ensemble) if size is None else size
        self.families = first_of_families(ensemble.populations(), self.size)

    def error(self, function: Callable[[np.ndarray], float], repeats: int) -> float:
        """Returns the standard deviation of a function of the indices of poses over resamples; nan for one population, whose error nothing tells."""
        if self.families is not None and len(self.families) < 2:
            return _NAN
        return float(np.std([function(resampled_frames(self.size, self.families, self.rng)) for _ in range(repeats)]))

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the indices of two halves drawn at random; of one population its first and its second half."""
        return random_halves(self.size, self.families, self.rng)


def evaluate_poses(
    a: Any, b: Any, *, n: int, seed: int = 0, repeats: int = 10, vina: bool = False, exhaustiveness: int = 8
) -> EvaluationTable:
    """Measures poses against what is known.

    RMSDs are of heavy atoms in the frame of the receptor, over the symmetries of the ligand, without superposition.

    Arguments:
        a: The poses: what `load_runs` reads.
        b: A file with the known pose (SDF, MOL, MOL2), or several of which the nearest counts; or an ensemble of poses of the same system, such as the walkers of a training.
        n: Largest number of poses, the first ones.
        seed: Seed of the bootstraps.
        repeats: Resamples for errors and floors.
        vina: Dock the ligand with AutoDock Vina into the same box, too; its figures are the baseline.
        exhaustiveness: That of Vina.

    Raises:
        InputError: If the poses cannot be read, or the reference is another molecule.
        MissingDependencyError: If Vina is asked for and not installed.
    """
    ours = join_runs(load_runs(a))
    rng = np.random.default_rng(seed)
    rows = [_validity(ours)]
    notes: list[str] = []
    buster, note = _posebusters(ours, n)
    rows += buster
    notes += note
    if not (hasattr(b, "GetAtoms") or (isinstance(b, str | Path) and Path(b).suffix.lower() in FILE_SUFFIXES)):
        theirs = join_runs(load_runs(b))
        if len(theirs.system.torsions.heavy) != len(ours.system.torsions.heavy):
            raise InputError(f"'{ours.system.name}' and '{theirs.system.name}' are different ligands; compare poses of one")
        rows += _distribution(ours, theirs, rng, repeats)
        frames = len(theirs)
    else:
        known = _known(b, ours.system)
        docked = _docked(ours.system, exhaustiveness, seed) if vina else None
        rows += _accuracy(ours, known, n, docked, rng)
        frames = len(known)
    slope = _slope(ours, rng, repeats)
    return EvaluationTable(
        rows=(*rows, *slope),
        molecule=f"{ours.system.name}, {len(ours.system.torsions.heavy)} heavy atoms, {len(ours.system.torsions.axes)} torsions",
        ensemble_frames=len(ours),
        reference_frames=(frames,),
        split="parts",
        notes=tuple(notes),
    )


def _row(
    metric: str,
    value: float,
    definition: str,
    n: int,
    *,
    error: float = _NAN,
    baseline: float = _NAN,
    unit: str = "Å",
    floor: float = _NAN,
) -> EvaluationRow:
    return EvaluationRow(
        metric=metric,
        value=value,
        error=error,
        floor=floor,
        floor_std=_NAN,
        baseline=baseline,
        n=n,
        unit=unit,
        definition=definition,
    )


def _share(metric: str, k: int, n: int, definition: str, baseline: float = _NAN) -> EvaluationRow:
    low, high = clopper_pearson(k, n)
    value = k / n
    error = max(high - value, value - low) if k in (0, n) else math.sqrt(value * (1 - value) / n)
    return _row(metric, value, definition, n, error=error, baseline=baseline, unit="1")


def _validity(ours: LigandEnsemble) -> EvaluationRow:
    _, passed, total = ours.validity_table()[-1]
    return _share(
        "valid",
        passed,
        total,
        "share of all poses drawn that pass the checks of `equilibra sample`, the rejected ones included",
    )


def _known(b: Any, system: LigandSystem) -> np.ndarray:
    """Returns known poses (K, L, 3) of the heavy atoms, in the order of the system."""
    found = []
    for record in read_ligands(b if hasattr(b, "GetAtoms") else Path(b)):
        if isinstance(record, InputError):
            raise record
        if not record.placed:
            raise InputError(f"'{b}' has no 3-D coordinates; expected the known pose of the ligand")
        order = corresponding(system.mol, record.mol, f"'{b}'")
        found.append(record.mol.GetConformer().GetPositions()[order])
    return np.stack(found)


def _distances(x: np.ndarray, known: np.ndarray, permutations: np.ndarray) -> np.ndarray:
    return np.min([symmetric_rmsd(x, pose, permutations) for pose in known], axis=0)


def _accuracy(
    ours: LigandEnsemble, known: np.ndarray, n: int, docked: np.ndarray | None, rng: np.random.Generator
) -> list[EvaluationRow]:
    order = ours.ranking
    rmsd = _distances(ours.heavy, known, ours.symmetries)
    vina = None if docked is None else _distances(docked, known, ours.symmetries)
    used, size = rmsd[: min(n, len(rmsd))], min(n, len(rmsd))
    draws = _Draws(ours, rng, size)

    def error(function: Callable[[np.ndarray], float]) -> float:
        return draws.error(lambda rows: function(used[rows]), _RESAMPLES)

    where = "RMSD of heavy atoms, receptor frame, over symmetries, no superposition"
    first = float(rmsd[order[0]])
    top = "of the pose with the largest weight (of equal ones that of the lowest energy)"
    rows = [
        _row(
            "top-1 RMSD",
            first,
            f"{where}, {top}; baseline: Vina's first pose",
            len(rmsd),
            baseline=_NAN if vina is None else float(vina[0]),
        )
    ]
    rows.append(
        _row(
            "median RMSD",
            float(np.median(used)),
            f"median of all poses, {where}",
            size,
            error=error(lambda r: float(np.median(r))),
        )
    )
    for k in [k for k in (1, 5, 10, 25, 50, 100) if k <= size]:
        base = _NAN if vina is None else float(vina[: min(k, len(vina))].min())
        words = f"expected smallest RMSD of {k} of the poses; baseline: the best of Vina's first {k}"
        rows.append(
            _row(
                f"best of {k}",
                best_of(used, k),
                words,
                size,
                error=error(partial(_of_several, best_of, k)),
                baseline=base,
            )
        )
        rows.append(
            _row(
                f"success of {k}",
                success_of(used, k),
                f"probability that one of {k} of the poses is within {SUCCESS:g} Å; baseline: of Vina's first {k}",
                size,
                error=error(partial(_of_several, success_of, k)),
                baseline=_NAN if vina is None else float(base <= SUCCESS),
                unit="1",
            )
        )
    centred = np.min([centred_rmsd(ours.heavy, pose, ours.symmetries) for pose in known], axis=0)[:size]
    rows.append(
        _row(
            f"best of {size}, centred (DiG)",
            float(centred.min()),
            "smallest RMSD after the middle of each pose is moved onto that of the known one: placement does not count",
            size,
        )
    )
    middle = np.linalg.norm(ours.heavy.mean(1)[order[0]] - known.mean(1), axis=-1).min()
    rows.append(_row("top-1 centroid distance", float(middle), "distance of the middles of the heavy atoms", len(rmsd)))
    near = float(ours.weights[rmsd <= SUCCESS].sum())
    rows.append(_row("population near the known pose", near, f"weight of the poses within {SUCCESS:g} Å", len(rmsd), unit="1"))
    return rows


def _of_several(function: Callable[[np.ndarray, int], float], k: int, rmsd: np.ndarray) -> float:
    """Returns a function of k poses for a resample, which may have fewer: populations are of several sizes."""
    return function(rmsd, min(k, len(rmsd)))


def _distribution(ours: LigandEnsemble, theirs: LigandEnsemble, rng: np.random.Generator, repeats: int) -> list[EvaluationRow]:
    leaders = theirs.heavy[[cluster.best for cluster in theirs.clusters]]

    def populations(ensemble: LigandEnsemble, rows: np.ndarray) -> np.ndarray:
        weights = ensemble.weights[rows]
        return mode_populations(ensemble.heavy[rows], weights / weights.sum(), leaders, ours.symmetries, CLUSTER_RADIUS)

    reference, of_theirs = populations(theirs, np.arange(len(theirs))), _Draws(theirs, rng)
    halves = [of_theirs.halves() for _ in range(repeats)]
    floor = float(np.mean([total_variation(populations(theirs, one), populations(theirs, two)) for one, two in halves]))
    words = f"half of the summed differences of the populations of the reference's binding modes ({CLUSTER_RADIUS:g} Å), and of none; floor: between halves of the reference"
    rows = [
        _row(
            "TV of binding modes",
            total_variation(populations(ours, np.arange(len(ours))), reference),
            words,
            len(ours),
            error=_Draws(ours, rng).error(lambda rows: total_variation(populations(ours, rows), reference), max(repeats, 2)),
            floor=floor,
            unit="1",
        )
    ]
    names = list(ours.torsions())
    if names:
        one, two = (np.stack(list(ensemble.torsions().values()), 1) for ensemble in (ours, theirs))
        value = np.mean([_jsd(one[:, k], ours.weights, two[:, k], theirs.weights) for k in range(len(names))])
        floors = [
            np.mean([_jsd(two[i, k], theirs.weights[i], two[j, k], theirs.weights[j]) for k in range(len(names))])
            for i, j in halves
        ]
        rows.append(
            _row(
                "JSD of torsions",
                float(value),
                f"mean Jensen-Shannon divergence of the torsions, {_BINS} bins, in nats; floor: between halves of the reference",
                len(ours),
                floor=float(np.mean(floors)),
                unit="nat",
            )
        )
    rows.append(_centroids(ours, theirs, halves))
    rows.append(
        _row(
            "shift of the centroid",
            float(np.linalg.norm(ours.weights @ ours.heavy.mean(1) - theirs.weights @ theirs.heavy.mean(1))),
            "distance of the mean middles of the heavy atoms",
            len(ours),
        )
    )
    return rows


def _centroids(ours: LigandEnsemble, theirs: LigandEnsemble, halves: Sequence[tuple[np.ndarray, np.ndarray]]) -> EvaluationRow:
    """Compares where the middles of the heavy atoms are, along each axis of the box."""
    low, high = (corner.numpy() for corner in theirs.system.box.corners)
    edges = [np.linspace(a, b, max(1, round((b - a) / _BIN)) + 1) for a, b in zip(low, high, strict=True)]
    one, two = ours.heavy.mean(axis=1), theirs.heavy.mean(axis=1)

    def mean(x: np.ndarray, wx: np.ndarray, y: np.ndarray, wy: np.ndarray) -> float:
        return float(np.mean([_jsd(x[:, axis], wx, y[:, axis], wy, edges[axis]) for axis in range(3)]))

    return _row(
        "JSD of the centroid",
        mean(one, ours.weights, two, theirs.weights),
        f"mean Jensen-Shannon divergence of the middle of the heavy atoms along the three axes, bins of {_BIN} Å, in nats; floor: between halves of the reference",
        len(ours),
        floor=float(np.mean([mean(two[i], theirs.weights[i], two[j], theirs.weights[j]) for i, j in halves])),
        unit="nat",
    )


def _jsd(
    x: np.ndarray, wx: np.ndarray, y: np.ndarray, wy: np.ndarray, edges: np.ndarray = np.linspace(-np.pi, np.pi, _BINS + 1)
) -> float:
    p, q = (np.histogram(values, edges, weights=weights / weights.sum())[0] for values, weights in ((x, wx), (y, wy)))
    m = 0.5 * (p + q)

    def entropy(h: np.ndarray) -> float:
        h = h[h > 0]
        return -float((h * np.log(h)).sum())

    return entropy(m) - 0.5 * (entropy(p) + entropy(q))


def _slope(ours: LigandEnsemble, rng: np.random.Generator, repeats: int) -> list[EvaluationRow]:
    if ours.energies is None or ours.temperature is None or not np.ptp(ours.log_weights) or len(ours) < 8:
        return []
    u = ours.energies / thermal_energy(ours.temperature)
    log_q = -u - ours.log_weights  # up to the constant log Z

    def slope(rows: np.ndarray) -> float:
        return float(np.polyfit(-u[rows], log_q[rows], 1)[0])

    error = _Draws(ours, rng).error(slope, max(repeats, 2))
    words = "slope of ln p of the model's paths, -u - ln w, against -u = -E/kT: 1 where the model has the right temperature"
    return [_row("slope of ln p", slope(np.arange(len(u))), words, len(u), error=error, unit="1")]


def _posebusters(ours: LigandEnsemble, n: int) -> tuple[list[EvaluationRow], list[str]]:
    """Returns the share of poses that pass all checks of PoseBusters, where it is installed."""
    try:
        from posebusters import PoseBusters
    except ImportError:
        return [], ["PoseBusters was not run: it is not installed ('pip install posebusters', equilibra's extra 'ligand')."]
    import tempfile
    import warnings

    from equilibra.systems.ligand.files import receptor_pdb, write_poses

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        poses, receptor = Path(folder) / "poses.sdf", Path(folder) / "receptor.pdb"
        write_poses(poses, ours.positions[:n], ours.system.mol)
        receptor.write_text(receptor_pdb(ours.system.receptor), encoding="utf-8")
        table = PoseBusters(config="dock", max_workers=0).bust(poses, None, receptor)
    passed = int(table.astype(bool).all(axis=1).sum())
    words = f"share of poses that pass all {table.shape[1]} checks of PoseBusters ('dock')"
    return [_share("PoseBusters-valid", passed, len(table), words)], []


def _docked(system: LigandSystem, exhaustiveness: int, seed: int) -> np.ndarray:
    """Returns Vina's poses (K, L, 3) of the heavy atoms in the box of the system, the best first."""
    try:
        program = VinaProgram(system.receptor, system.box, search=True, seed=seed + 1)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"--vina: {error}") from error
    return program.dock(system.mol, exhaustiveness=exhaustiveness)[:, system.torsions.heavy]
