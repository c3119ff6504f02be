"""Ensembles of adsorbates as their evaluation takes them, and its baseline: a gas that is uniform in the plane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.adsorbate import Adsorbed
from equilibra.analysis.table import EvaluationRow

if TYPE_CHECKING:
    from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble

CELL = 0.5
"""Length in Å of the cells of the map that is compared."""

PLACED = 20
"""Structures of each kind that are relaxed."""


def adsorbed(ensemble: AdsorbateEnsemble) -> Adsorbed:
    """Returns the sites, places and weights of an ensemble, and which of its structures are relatives."""
    plane = ensemble.positions[..., :2].astype(np.float64) @ np.linalg.inv(ensemble.system.plane.numpy())
    return Adsorbed(np.array(ensemble.site_labels), plane, ensemble.weights, ensemble.populations())


def uniform_gas(ensemble: AdsorbateEnsemble, n: int, *, seed: int) -> Adsorbed:
    """Returns n structures whose adsorbates are uniform in the plane, atoms on top of each other as points."""
    rng = np.random.default_rng([seed, 0x474153])
    system = ensemble.system
    frac = rng.random((n, len(system.adsorbates), 2))
    points = np.concatenate([frac @ system.plane.numpy(), np.full((*frac.shape[:2], 1), system.top)], axis=-1)
    kinds = ensemble.sites.nearest(points.reshape(-1, 3))[0].reshape(n, -1)
    names = [site.label for site in ensemble.sites.kinds]
    labels = np.array([" + ".join(sorted(names[k] for k in row)) for row in kinds])
    plane = np.concatenate(
        [np.repeat(frac[:, k : k + 1], len(part), axis=1) for k, part in enumerate(system.molecules)], axis=1
    )
    return Adsorbed(labels, plane, np.full(n, 1.0 / n))


def plane_bins(ensemble: AdsorbateEnsemble) -> tuple[int, int]:
    """Returns the numbers of cells of the map along the two vectors of the plane."""
    a, b = (max(2, math.ceil(float(np.linalg.norm(vector)) / CELL)) for vector in ensemble.system.plane.numpy())
    return a, b


def placement_rows(
    ensemble: AdsorbateEnsemble, reference: AdsorbateEnsemble, energy: str, *, seed: int, most: int = PLACED
) -> list[EvaluationRow]:
    """Relaxes samples, and as many random and heuristic placements, with one energy, and returns the success of each with its energy calls.

    The best energy that is known is the lowest of all relaxed structures without an anomaly, of the reference's samples too.

    Arguments:
        ensemble: Samples.
        reference: Another ensemble of the same system.
        energy: Name of an energy, as `adsorbate_energy` takes it.
        seed: Seed of the placements and of which samples are taken.
        most: Structures of each kind.
    """
    from equilibra.systems.adsorbate.placement import place, relax, success

    system, rng = ensemble.system, np.random.default_rng([seed, 0x504C])
    count = min(most, len(ensemble))
    starts = {
        "samples": ensemble.state_positions().numpy()[rng.permutation(len(ensemble))[:count]],
        "reference": reference.state_positions().numpy()[rng.permutation(len(reference))[:count]],
        "random": place(system, count, "random", seed=seed),
        "heuristic": place(system, count, "heuristic", seed=seed, sites=ensemble.sites),
    }
    found = {name: relax(system, x, energy, sites=ensemble.sites) for name, x in starts.items()}
    sound = [float(part.energies[~part.anomalous].min()) for part in found.values() if (~part.anomalous).any()]
    if not sound:
        return []
    rates = {name: success(part, min(sound)) for name, part in found.items()}
    words = f"relaxed with '{energy}', the slab held; floor: random placement, baseline: heuristic placement (Delaunay), reference: samples of the reference"
    rows = [
        _placed(
            f"SR@{k}",
            {name: rates[name][k] for name in found},
            "1",
            count,
            f"probability that the lowest of {k} structures without an anomaly is within 0.1 eV of the best; {words}",
        )
        for k in rates["samples"]
    ]
    shares = {name: float(part.anomalous.mean()) for name, part in found.items()}
    calls = {name: float(part.calls.mean()) for name, part in found.items()}
    rows.append(_placed("energy calls", calls, "1", count, f"mean number of energy calls of a relaxation; {words}"))
    rows.append(_placed("anomalies", shares, "1", count, f"share of relaxed structures with an anomaly; {words}"))
    return rows


def _placed(metric: str, values: dict[str, float], unit: str, n: int, words: str) -> EvaluationRow:
    return EvaluationRow(
        metric=metric,
        value=values["samples"],
        error=math.nan,
        floor=values["random"],
        floor_std=math.nan,
        baseline=values["heuristic"],
        n=n,
        unit=unit,
        definition=words,
        reference=values["reference"],
    )
