"""Is a frame of a protein's backbone a protein? Named checks of many frames, with the reason of each failure.

| check | a frame passes if |
|---|---|
| finite | every coordinate is a finite number |
| chain | the C-alpha atoms of bonded neighbours are 2.5 to 4.5 Å apart |
| peptide bonds | C and N of bonded neighbours are less than 2.0 Å apart |
| C-alpha distances | C-alpha atoms of residues more than two apart keep 3.0 Å |
| clash | no two atoms of residues more than two apart are closer than 1.0 Å |
| peptide angles | the angles CA-C-N and C-N-CA of bonded neighbours are 90 to 150 degrees |
| peptide planes | the torsion about every peptide bond is within 60 degrees of cis or trans |
| chirality | every residue but glycine is an L residue |

The rules of chain (upper bound), peptide bonds and clash are the filter of BioEmu (Lewis et al., 2025, https://doi.org/10.1126/science.adv9817); the C-alpha
distances are the usual measure of clashes in ensembles. Bonded neighbours are one apart in their chain; across a gap or between chains there is no bond,
and residues of different chains count as far apart. Angles and planes have generous bounds: they find what is broken, not what is strained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from equilibra.errors import ShapeError
from equilibra.geometry.internal_coordinates import dihedrals, signed_volumes
from equilibra.systems.protein.frames import CB
from equilibra.systems.protein.system import ATOMS, ProteinSystem
from equilibra.systems.validity import Result, Validity, finite, furthest, judge, nothing_to_check, within

CHECKS = (
    "finite",
    "chain",
    "peptide bonds",
    "C-alpha distances",
    "clash",
    "peptide angles",
    "peptide planes",
    "chirality",
)
"""Names of the checks, in their order."""

NEIGHBOURS = (2.5, 4.5)
"""Least and largest distance of the C-alpha atoms of bonded neighbours, in Å; 2.9 Å for cis and 3.8 Å for trans."""

PEPTIDE_BOND = 2.0
"""Largest distance of C and the next N, in Å; the bond itself has 1.33 Å."""

CA_DISTANCE = 3.0
"""Least distance of C-alpha atoms of residues more than two apart, in Å."""

CLASH = 1.0
"""Least distance of atoms of residues more than two apart, in Å."""

ANGLES = (90.0, 150.0)
"""Range of the angles CA-C-N (116 degrees) and C-N-CA (122 degrees)."""

PLANARITY = 60.0
"""Largest deviation of a peptide bond from cis or trans, in degrees."""

SEPARATION = 2
"""Residues up to so far apart along their chain may be close."""

_PAIRS_AT_ONCE = 1_000_000
_CONTACTS_AT_ONCE = 50_000


def check(positions: np.ndarray, system: ProteinSystem) -> Validity:
    """Checks frames against the protein they should be.

    Arguments:
        positions: Frames (F, atoms, 3) of the written atoms, in Å.
        system: The protein.

    Raises:
        ShapeError: If the positions are not frames of this protein's atoms.
    """
    positions = np.asarray(positions)
    if positions.ndim != 3 or positions.shape[1:] != (system.atoms, 3):
        raise ShapeError("positions", positions.shape, f"(frames, {system.atoms}, 3)")
    bonds = np.flatnonzero(~system.breaks)
    pairs = np.argwhere(_far_apart(system))
    flat = pairs @ (system.length, 1)
    n, ca, c, _, cb = system.atom_index.T
    chiral = np.flatnonzero(system.atom_mask[:, CB])
    centres = np.stack([ca, n, c, cb], axis=1)[chiral]
    torsions = np.stack([ca[bonds], c[bonds], n[bonds + 1], ca[bonds + 1]], axis=1)
    angles = np.concatenate([torsions[:, :3], torsions[:, 1:]])

    def results(x: np.ndarray) -> Sequence[Result]:
        alphas = x[:, ca]
        steps = _distances(alphas, bonds, bonds + 1)
        apart = _all_distances(alphas)[:, flat]
        return (
            finite(x),
            within(steps, *NEIGHBOURS),
            within(_distances(x, c[bonds], n[bonds + 1]), 0.0, PEPTIDE_BOND),
            within(apart, CA_DISTANCE, np.inf),
            _contacts(x, apart, pairs, system),
            within(_angles(x, angles), *ANGLES),
            within(_out_of_plane(dihedrals(x, torsions)), 0.0, PLANARITY),
            _left_handed(signed_volumes(x, centres)),
        )

    describe = _sentences(system, bonds, pairs, chiral)
    return judge(
        positions, CHECKS, results, describe, frames_at_once=max(1, _PAIRS_AT_ONCE // max(1, len(pairs), system.atoms))
    )


def cis_share(omega: np.ndarray) -> float:
    """Returns the share of peptide bonds with a torsion omega, in rad, nearer to cis than to trans; nan where there is none."""
    return float((np.cos(omega) > 0.0).mean()) if np.size(omega) else float("nan")


def _far_apart(system: ProteinSystem) -> np.ndarray:
    """Returns which pairs i < j of residues are more than `SEPARATION` apart, boolean (L, L)."""
    numbers, chain = system.residue_numbers, system.chain_index
    far = (np.abs(numbers[:, None] - numbers[None, :]) > SEPARATION) | (chain[:, None] != chain[None, :])
    return np.asarray(np.triu(far, k=1))


def _distances(x: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", over="ignore"):
        difference = x[:, first]
        difference -= x[:, second]
        return np.sqrt(np.einsum("bpi,bpi->bp", difference, difference))


def _all_distances(x: np.ndarray) -> np.ndarray:
    """Returns the distances (B, L * L) of points (B, L, 3), by squares: some 1e-6 Å are lost."""
    with np.errstate(invalid="ignore", over="ignore"):
        x = x - x.mean(axis=1, keepdims=True)
        squared = np.einsum("bli,bli->bl", x, x)
        products = x @ x.transpose(0, 2, 1)
        products *= -2.0
        products += squared[:, :, None]
        products += squared[:, None, :]
        return np.sqrt(np.maximum(products, 0.0, out=products), out=products).reshape(len(x), -1)


def _angles(x: np.ndarray, triples: np.ndarray) -> np.ndarray:
    """Returns angles (B, T) at the middle of three atoms, in degrees."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        arms = x[:, triples[:, [0, 2]]] - x[:, triples[:, 1:2]]
        arms = arms / np.linalg.norm(arms, axis=-1, keepdims=True)
        return np.degrees(np.arccos(np.clip(np.einsum("bti,bti->bt", arms[:, :, 0], arms[:, :, 1]), -1.0, 1.0)))


def _out_of_plane(omega: np.ndarray) -> np.ndarray:
    """Returns how far torsions, in rad, are from the nearer of 0 and a half turn, in degrees."""
    return np.asarray(np.degrees(np.abs(np.arcsin(np.clip(np.sin(omega), -1.0, 1.0)))))


def _left_handed(volumes: np.ndarray) -> Result:
    if not volumes.shape[1]:
        return nothing_to_check(volumes)
    return furthest(np.asarray((volumes > 0).all(axis=1)), -volumes, volumes)


def _contacts(x: np.ndarray, apart: np.ndarray, pairs: np.ndarray, system: ProteinSystem) -> Result:
    """Finds the closest two atoms of any pair of residues; only pairs whose C-alpha atoms are near enough for a clash are looked at.

    Arguments:
        x: Frames (B, atoms, 3).
        apart: Distances (B, pairs) of the C-alpha atoms.
        pairs: Residues (pairs, 2).
        system: The protein.
    """
    index = system.atom_index
    # glycine's CA stands for the CB that it lacks
    index = np.where(index < 0, index[:, 1:2], index)
    with np.errstate(invalid="ignore", over="ignore"):
        reach = np.linalg.norm(x[:, index] - x[:, index[:, 1:2]], axis=-1).max(axis=2)
        near = apart < CLASH + reach[:, pairs[:, 0]] + reach[:, pairs[:, 1]]
    frame, pair = np.nonzero(near)
    closest, item = np.full(len(x), np.inf), np.zeros(len(x), dtype=np.int64)
    for start in range(0, len(frame), _CONTACTS_AT_ONCE):
        f, p = frame[start : start + _CONTACTS_AT_ONCE], pair[start : start + _CONTACTS_AT_ONCE]
        a, b = x[f[:, None], index[pairs[p, 0]]], x[f[:, None], index[pairs[p, 1]]]
        with np.errstate(invalid="ignore", over="ignore"):
            least = np.linalg.norm(a[:, :, None] - b[:, None], axis=-1).min(axis=(1, 2))
        order = np.lexsort((least, f))
        rows, first = np.unique(f[order], return_index=True)
        best = order[first]
        better = least[best] < closest[rows]
        closest[rows[better]], item[rows[better]] = least[best[better]], p[best[better]]
    return closest >= CLASH, item, closest


def _sentences(
    system: ProteinSystem, bonds: np.ndarray, pairs: np.ndarray, chiral: np.ndarray
) -> tuple[Callable[[int, float], str], ...]:
    def bond(item: int) -> str:
        return f"{system.label(bonds[item])} - {system.label(bonds[item] + 1)}"

    def pair(item: int) -> str:
        return f"{system.label(pairs[item, 0])} - {system.label(pairs[item, 1])}"

    def angle(item: int, value: float) -> str:
        name = "CA-C-N" if item < len(bonds) else "C-N-CA"
        return (
            f"the angle {name} of {bond(item % len(bonds))} is {value:.0f} degrees, expected {ANGLES[0]:.0f} to {ANGLES[1]:.0f}"
        )

    def atom(item: int) -> str:
        residue, slot = divmod(int(system.atom_slots[item]), len(ATOMS))
        return f"{ATOMS[slot]} of {system.label(residue)}"

    return (
        lambda item, value: f"the coordinates of {atom(item)} are not finite numbers",
        lambda item, value: (
            f"distance of the C-alpha atoms of {bond(item)} is {value:.2f} Å, expected {NEIGHBOURS[0]:.1f} to {NEIGHBOURS[1]:.1f} Å"
        ),
        lambda item, value: f"the bond C-N of {bond(item)} is {value:.2f} Å long, expected at most {PEPTIDE_BOND:.1f} Å",
        lambda item, value: (
            f"distance of the C-alpha atoms of {pair(item)} is {value:.2f} Å, expected at least {CA_DISTANCE:.1f} Å"
        ),
        lambda item, value: f"two atoms of {pair(item)} are {value:.2f} Å apart, expected at least {CLASH:.1f} Å",
        angle,
        lambda item, value: (
            f"the peptide bond {bond(item)} is {value:.0f} degrees from cis or trans, expected at most {PLANARITY:.0f}"
        ),
        lambda item, value: f"{system.label(chiral[item])} is a D residue, expected L",
    )
