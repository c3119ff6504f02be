"""What a protein's report shows of one set of conformations: size, flexibility, contacts, torsions, secondary structure, likeness to the native state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from equilibra.analysis.protein.backbone import Chain, backbone_torsions, ramachandran_columns
from equilibra.analysis.protein.contacts import contact_map
from equilibra.analysis.protein.flexibility import rmsf
from equilibra.analysis.protein.secondary_structure import secondary_structure, secondary_structure_shares
from equilibra.analysis.protein.tm_score import tm_score
from equilibra.analysis.samples import FloatArray
from equilibra.analysis.superposition import superpose
from equilibra.systems.protein.alphabet import THREE_LETTER
from equilibra.systems.protein.ensemble import radius_of_gyration

if TYPE_CHECKING:
    from equilibra.systems.protein.ensemble import ProteinEnsemble
    from equilibra.systems.protein.system import ProteinSystem

MOST_SCORED = 300
"""TM-scores and secondary structures are computed for at most so many conformations, evenly spaced."""

MOST_TORSIONS = 300_000
"""At most about so many pairs of backbone torsions are drawn, of evenly spaced conformations."""


@dataclass(frozen=True, kw_only=True, eq=False)
class BackboneProfile:
    """F conformations of a protein of L residues in numbers; averages are weighted.

    Attributes:
        weights: Weights (F,), which sum to one.
        gyration: Radius of gyration (F,) of the C-alpha atoms, in Å.
        ends: Distance (F,) of the first and the last C-alpha of the first chain, in Å.
        rmsf: Root-mean-square fluctuation (L,) of the C-alpha atoms, in Å.
        contacts: Share (L, L) of conformations in which two C-alpha atoms are nearer than 8 Å.
        phi: Torsions (pairs,) of all residues that have both, in rad.
        psi: The same of psi.
        torsion_weights: Weights (pairs,) of these.
        structure: Shares (L, 3) of helix, strand and coil.
        rmsf_band: The smallest and largest RMSF (2, L) of independent parts of the conformations, or None for too few.
        native_rmsd: C-alpha RMSD (F,) to the native structure, in Å, or None.
        tm: TM-score (scored,) to the native structure, of evenly spaced conformations, or None.
        tm_weights: Weights (scored,) of these.
    """

    weights: FloatArray = field(repr=False)
    gyration: FloatArray = field(repr=False)
    ends: FloatArray = field(repr=False)
    rmsf: FloatArray = field(repr=False)
    contacts: FloatArray = field(repr=False)
    phi: FloatArray = field(repr=False)
    psi: FloatArray = field(repr=False)
    torsion_weights: FloatArray = field(repr=False)
    structure: FloatArray = field(repr=False)
    rmsf_band: FloatArray | None = field(default=None, repr=False)
    native_rmsd: FloatArray | None = field(default=None, repr=False)
    tm: FloatArray | None = field(default=None, repr=False)
    tm_weights: FloatArray | None = field(default=None, repr=False)

    def mean(self, values: FloatArray) -> float:
        """Returns the weighted mean of numbers (F,) of the conformations."""
        return float(self.weights @ values)


def backbone_profile(runs: Sequence[ProteinEnsemble], target: FloatArray, native: FloatArray | None = None) -> BackboneProfile:
    """Computes the profile of one or several runs of one protein.

    Arguments:
        runs: The runs.
        target: C-alpha positions (L, 3) that frames are superposed on for the RMSF, in Å.
        native: C-alpha positions (L, 3) of the native structure, in Å, or None.
    """
    system = runs[0].system
    alphas = [alpha_positions(run) for run in runs]
    ca, weights = np.concatenate(alphas), joint_weights(runs)
    atoms = np.concatenate([run.positions for run in runs])
    chain = chain_of(system)
    scored = evenly_spaced(len(ca), MOST_SCORED)
    some = evenly_spaced(len(ca), max(1, MOST_TORSIONS // system.length))
    torsions = backbone_torsions(atoms[some][:, system.atom_index[:, :3]], chain)
    pairs = ramachandran_columns(torsions)
    phi, psi = torsions.angles[:, [pair[1] for pair in pairs]], torsions.angles[:, [pair[2] for pair in pairs]]
    codes = secondary_structure(atoms[scored][:, system.atom_index[:, :3]], chain)
    last = int(np.flatnonzero(system.chain_index == 0)[-1])
    return BackboneProfile(
        weights=weights,
        gyration=radius_of_gyration(ca),
        ends=np.linalg.norm(ca[:, last] - ca[:, 0], axis=-1),
        rmsf=rmsf(ca, target, weights=weights),
        contacts=contact_map(ca, weights=weights),
        phi=phi.ravel(),
        psi=psi.ravel(),
        torsion_weights=np.repeat(weights[some], len(pairs)),
        structure=secondary_structure_shares(codes, weights=_positive(weights[scored])),
        rmsf_band=_band(alphas, weights, target),
        native_rmsd=None if native is None else np.sqrt(((superpose(ca, native) - native) ** 2).sum(axis=-1).mean(axis=-1)),
        tm=None if native is None else tm_score(ca[scored], native, stride=max(1, system.length // 25)),
        tm_weights=None if native is None else _positive(weights[scored]),
    )


def alpha_positions(ensemble: ProteinEnsemble) -> FloatArray:
    """Returns the C-alpha positions (F, L, 3) of an ensemble, in Å, float64."""
    return ensemble.ca.astype(np.float64)


def joint_weights(runs: Sequence[ProteinEnsemble]) -> FloatArray:
    """Returns the weights of all conformations of several runs, which sum to one."""
    logs = np.concatenate([run.log_weights for run in runs])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def chain_of(system: ProteinSystem) -> Chain:
    """Returns the residues and unbroken pieces of a protein."""
    segments = np.concatenate([[0], np.cumsum(system.breaks)]).astype(np.int64)
    return Chain(residues=tuple(THREE_LETTER[letter] for letter in system.sequence), segments=segments)


def evenly_spaced(count: int, most: int) -> np.ndarray:
    """Returns the indices of at most `most` of `count` items, evenly spaced, the first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _positive(weights: FloatArray) -> FloatArray:
    """Returns weights, or equal ones where all of these few are zero."""
    return weights if weights.sum() > 0 else np.ones(len(weights))


def _band(runs: list[FloatArray], weights: FloatArray, target: FloatArray) -> FloatArray | None:
    """Returns the smallest and largest RMSF over the runs, or over the halves of a single one."""
    ends = np.cumsum([0, *map(len, runs)])
    if len(runs) == 1:
        ends = np.array([0, len(runs[0]) // 2, len(runs[0])])
    joined = np.concatenate(runs)
    parts = [slice(a, b) for a, b in pairwise(ends.tolist()) if b - a > 1 and weights[a:b].sum() > 0]
    if len(parts) < 2:
        return None
    each = np.stack([rmsf(joined[part], target, weights=weights[part]) for part in parts])
    return np.stack([each.min(axis=0), each.max(axis=0)])
