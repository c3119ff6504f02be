"""Two ensembles of one molecule made comparable: the same atoms and bonds, checked, and the features that the metrics read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from equilibra.analysis.samples import IntArray, check_indices
from equilibra.analysis.torsions import Torsions, peptide_torsions, rotatable_torsions
from equilibra.errors import InputError
from equilibra.units import NM

Features = Mapping[str, NDArray[Any]]
"""The features of an ensemble, the first axis counts frames: `torsions` and `backbone` in radians, `positions` in Å."""


@dataclass(frozen=True, kw_only=True)
class Molecule:
    """The molecule of both ensembles."""

    topology: Any
    """An mdtraj `Topology` with bonds."""
    bonds: IntArray
    """The bonded pairs, with shape (bonds, 2)."""
    atomic_numbers: IntArray
    """The elements, with shape (atoms)."""
    description: str
    """E.g. `22 atoms, ACE-ALA-NME`."""

    @classmethod
    def of(cls, topology: Any, *, bonds: ArrayLike | None = None) -> Molecule:
        """Returns the molecule of an mdtraj `Topology`, with given bonds, its own, or else the standard bonds of its residues.

        Raises:
            InputError: If no bonds are known.
        """
        numbers = np.asarray(_numbers(topology), dtype=np.int64)
        if bonds is not None:
            topology = _with_bonds(topology, check_indices("bonds", bonds, columns=2, n_atoms=topology.n_atoms))
        elif topology.n_bonds == 0 and topology.n_atoms > 1:
            topology = topology.copy()
            topology.create_standard_bonds()
        if topology.n_bonds == 0 and topology.n_atoms > 1:
            raise InputError(
                f"no bonds are known for {describe(topology)}; give bonds=..., or load a topology with CONECT records"
            )
        pairs = [[bond[0].index, bond[1].index] for bond in topology.bonds]
        return cls(
            topology=topology,
            bonds=check_indices("bonds", pairs, columns=2),
            atomic_numbers=numbers,
            description=describe(topology),
        )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The features of an ensemble and of the joined runs of a reference."""

    molecule: Molecule
    """The molecule of both."""
    ensemble: Features
    """The ensemble's features."""
    reference: Features
    """The reference's features, runs joined."""
    lengths: tuple[int, ...]
    """The number of frames of each run of the reference."""
    torsion_names: tuple[str, ...]
    """The names of the columns of `torsions`."""
    backbone_names: tuple[str, ...]
    """The names of the columns of `backbone`: φ and ψ of a peptide, else all torsions."""

    @classmethod
    def of(cls, ensemble: Any, reference: Sequence[Any], molecule: Molecule) -> Comparison:
        """Computes the features of mdtraj trajectories that have passed `check_comparable`."""
        import mdtraj

        def features(trajectory: Any) -> tuple[Torsions, Torsions, NDArray[Any]]:
            frames = mdtraj.Trajectory(trajectory.xyz, molecule.topology)
            torsions = peptide_torsions(frames)
            backbone = torsions.select(("phi", "psi"))
            if not backbone.names:
                torsions = backbone = rotatable_torsions(frames)
            return torsions, backbone, trajectory.xyz * np.float32(NM)

        torsions, backbone, positions = features(ensemble)
        runs = [features(run) for run in reference]
        return cls(
            molecule=molecule,
            ensemble={"torsions": torsions.angles, "backbone": backbone.angles, "positions": positions},
            reference={
                "torsions": np.concatenate([run[0].angles for run in runs]),
                "backbone": np.concatenate([run[1].angles for run in runs]),
                "positions": np.concatenate([run[2] for run in runs]),
            },
            lengths=tuple(run.n_frames for run in reference),
            torsion_names=torsions.names,
            backbone_names=backbone.names,
        )

    @property
    def pairs(self) -> list[tuple[str, int, int]]:
        """The residues that have φ and ψ, with the columns of both in `backbone`."""
        column = {name: index for index, name in enumerate(self.backbone_names)}
        residues = [name.removeprefix("phi ") for name in self.backbone_names if name.startswith("phi ")]
        return [(name, column[f"phi {name}"], column[f"psi {name}"]) for name in residues if f"psi {name}" in column]

    def runs(self, feature: str) -> list[NDArray[Any]]:
        """Returns a feature of the reference run by run."""
        return np.split(self.reference[feature], np.cumsum(self.lengths)[:-1])


def check_comparable(ensemble: Any, reference: Sequence[Any]) -> None:
    """Checks that an ensemble and all runs of a reference are non-empty, finite trajectories of the same molecule.

    Raises:
        InputError: If not; the message names both.
    """
    if len(reference) == 0:
        raise InputError(
            f"ensemble ({describe(ensemble.topology)}): got no reference; give at least one trajectory to compare it with"
        )
    named = [("ensemble", ensemble), *((f"reference run {index}", run) for index, run in enumerate(reference))]
    for name, trajectory in named:
        other = "reference" if name == "ensemble" else "ensemble"
        if trajectory.n_frames == 0:
            raise InputError(f"{name} ({describe(trajectory.topology)}) has no frames; it cannot be compared with the {other}")
        finite = np.isfinite(trajectory.xyz).all(axis=(1, 2))
        if not finite.all():
            bad = int(np.flatnonzero(~finite)[0])
            raise InputError(
                f"{name}: {int((~finite).sum())} of {trajectory.n_frames} frames hold NaN or infinity, the first is frame {bad}; "
                f"it cannot be compared with the {other} (remove broken frames and state how many)"
            )
    for name, run in named[1:]:
        _check_same_molecule(ensemble.topology, name, run.topology)


def describe(topology: Any) -> str:
    """Returns a few words about an mdtraj `Topology`, e.g. `22 atoms, ACE-ALA-NME`."""
    names = [residue.name for residue in topology.residues]
    sequence = "-".join(names if len(names) <= 8 else [*names[:4], "...", *names[-2:]])
    return f"{topology.n_atoms} atoms, {sequence}"


def _check_same_molecule(first: Any, name: str, second: Any) -> None:
    both = f"ensemble ({describe(first)}) and {name} ({describe(second)})"
    if first.n_atoms != second.n_atoms:
        raise InputError(f"{both} have different numbers of atoms; select the same molecule from both")
    for index, (a, b) in enumerate(zip(_numbers(first), _numbers(second), strict=True)):
        if a != b:
            raise InputError(
                f"{both} differ at atom {index}: {first.atom(index)} and {second.atom(index)}; bring the atoms of one into the order of the other"
            )
    pairs = [{tuple(sorted((bond[0].index, bond[1].index))) for bond in topology.bonds} for topology in (first, second)]
    if all(pairs) and pairs[0] != pairs[1]:
        i, j = min(pairs[0] ^ pairs[1])
        owner = "the ensemble" if (i, j) in pairs[0] else name
        raise InputError(f"{both} have different bonds: {first.atom(i)} and {first.atom(j)} are bonded only in {owner}")


def _numbers(topology: Any) -> list[int]:
    return [atom.element.number if atom.element is not None else 0 for atom in topology.atoms]


def _with_bonds(topology: Any, bonds: IntArray) -> Any:
    import mdtraj

    fresh = mdtraj.Topology()
    atoms = []
    for chain in topology.chains:
        new_chain = fresh.add_chain()
        for residue in chain.residues:
            new_residue = fresh.add_residue(residue.name, new_chain, resSeq=residue.resSeq)
            atoms += [fresh.add_atom(atom.name, atom.element, new_residue) for atom in residue.atoms]
    for i, j in bonds.tolist():
        fresh.add_bond(atoms[i], atoms[j])
    return fresh
