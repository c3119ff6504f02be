"""Molecular dynamics of complexes: poses of the ligand in the frame of a rigid receptor, fitted to shift, turn and torsions.

Every frame is superposed on the C-alphas of the pocket as they are in the topology's file, whose protein is the receptor. Bonds, angles and rings are those of the ligand in the first frame, so that
a frame with other ones, such as another pucker of a ring, fits badly: by how much is told, and beyond `MISFIT` it is left out.
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.data.some_atoms import SMALLEST_CELL, first_frame, read_atoms
from equilibra.data.trajectory import TrajectoryFiles
from equilibra.energies.docking.receptor import type_receptor
from equilibra.energies.docking.residue_names import WATERS
from equilibra.energies.docking.structure_file import read_structure_atoms
from equilibra.errors import InputError
from equilibra.geometry.periodic import minimum_image_vector
from equilibra.geometry.superposition import kabsch
from equilibra.state import State
from equilibra.systems.bond_perception import perceived_bond_orders
from equilibra.systems.ligand.files import receptor_pdb, sdf_records
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.poses import fitted_poses
from equilibra.systems.ligand.residues import is_protein
from equilibra.systems.ligand.sources import prepare_ligand, read_ligands
from equilibra.systems.ligand.symmetry import corresponding
from equilibra.systems.ligand.system import LigandSystem
from equilibra.units import NM

MISFIT = 0.75
"""Largest RMSD in Å of the heavy atoms of a frame from its pose of rigid bonds and angles."""

REACH = 10.0
"""C-alphas of residues with a heavy atom within so many Å of the ligand in the topology's file are those of the pocket."""

IONS = frozenset(("NA", "CL", "K", "NA+", "CL-", "K+", "SOD", "CLA", "POT", "CES", "CS", "RB", "LI", "BR", "IOD"))
"""Residue names of ions of the solvent, which move and are no part of a receptor."""

_FEWEST = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class ComplexTrajectory:
    """Trajectories of one complex.

    Attributes:
        files: The trajectories, and a PDB file of all their atoms, whose places of the protein are those of the receptor.
        residue: Name of the ligand's residue; by default the only one that is no amino acid, water or ion.
        template: The ligand with its bond orders, as `read_ligands` takes it; by default they are perceived from the coordinates.
        name: What to call the complex; by default as the topology's file.
    """

    files: TrajectoryFiles
    residue: str | None = None
    template: Any = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class LigandTrajectory:
    """Poses of a trajectory of F frames, of which F' are used.

    Attributes:
        system: Ligand, receptor and box, 4 Å about the ligand of the first frame.
        state: The fitted poses of the frames that are used, in float64.
        positions: Positions (F', N, 3) of all atoms in these, in Å in the frame of the receptor, as they were in the trajectory.
        used: Which frames (F,) these are.
        misfit: RMSD (F,) in Å of the heavy atoms from their fitted pose.
        outside: How far (F,) heavy atoms are out of the box, in Å; not positive within it.
        wander: RMSD (F,) in Å of the pocket's C-alphas from the receptor's, superposed.
        alphas: Number of these C-alphas.
        texts: The receptor as PDB and the ligand as SDF text, of which `LigandInput` makes the system with `keep_geometry`.
    """

    system: LigandSystem
    state: State
    positions: np.ndarray
    used: np.ndarray
    misfit: np.ndarray
    outside: np.ndarray
    wander: np.ndarray
    alphas: int
    texts: tuple[str, str]

    def in_words(self) -> str:
        """Returns how well the frames fit, and how many were left out for what."""
        return (
            f"{int(self.used.sum()):,} of {len(self.used):,} frames are learned from; their fit has an RMSD of {np.median(self.misfit[self.used]):.2f} Å in the median and "
            f"{self.misfit[self.used].max():.2f} Å at most; the {self.alphas} C-alphas of the pocket are off by {self.wander.mean():.2f} Å in the mean{_refused(self.misfit, self.outside)}"
        )

    def numbers(self) -> dict[str, Any]:
        """Returns the same as JSON values, frame by frame."""
        rows = {"misfit": self.misfit, "outside": self.outside, "pocket_rmsd": self.wander}
        return {
            "frames": len(self.used),
            "used": np.flatnonzero(self.used).tolist(),
            "largest_misfit": MISFIT,
            "pocket_alphas": self.alphas,
            **{name: [round(float(value), 3) for value in values] for name, values in rows.items()},
        }


def read_ligand_trajectory(given: ComplexTrajectory) -> LigandTrajectory:
    """Reads the poses of a trajectory.

    Raises:
        InputError: If a file cannot be read, the ligand is not found or not understood, fewer than four C-alphas are about it, or no frame can be used.
    """
    path = Path(given.files.topology)
    start = first_frame(path)
    if not hasattr(start, "xyz") or path.suffix.lower() not in (".pdb", ".ent"):
        raise InputError(f"'{path}': expected a PDB file of all atoms of the trajectory, with places")
    x0 = start.xyz[0].astype(np.float64) * NM
    residue = _residue(start.topology, given.residue, path)
    atoms = np.array([atom.index for atom in residue.atoms])
    mol = _molecule(residue, x0[atoms], given.template, path)
    heavy = np.array([atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1])
    alphas = _alphas(start.topology, x0, x0[atoms[heavy]], path)
    ligand, places = _frames(given.files, start.topology, atoms, alphas, mol)
    poses, wander = _superposed(ligand, places, x0[alphas])
    texts = _receptor_text(path, residue), "".join(sdf_records(poses[:1], mol, {}, name=residue.name))
    system = _system(texts, given.name or path.stem)
    if given.template is None:
        words = f"the bond orders of {residue.name} were found from the coordinates: {_smiles(system.mol)}; if they are others, name the ligand with --ligand-template"
        system = dataclasses.replace(system, warnings=(*system.warnings, words))
    state, misfit = fitted_poses(system, poses)
    low, high = (corner.numpy() for corner in system.box.corners)
    x = poses[:, system.torsions.heavy]
    outside = np.maximum(low - x, x - high).max(axis=(1, 2))
    used = (misfit <= MISFIT) & (outside <= 0.0)
    if not used.any():
        raise InputError(f"'{path}': no frame of {len(used)} can be used{_refused(misfit, outside)}")
    return LigandTrajectory(
        system=system,
        state=state[torch.from_numpy(np.flatnonzero(used))],
        positions=poses[used],
        used=used,
        misfit=misfit,
        outside=outside,
        wander=wander,
        alphas=len(alphas),
        texts=texts,
    )


def _refused(misfit: np.ndarray, outside: np.ndarray) -> str:
    bad, out = misfit > MISFIT, outside > 0.0
    words = ""
    if bad.any():
        words += f"; left out {int(bad.sum()):,} that fit worse than {MISFIT:g} Å, up to {misfit.max():.2f} Å: their rings, angles or bonds are not those of the first frame"
    if out.any():
        words += f"; left out {int(out.sum()):,} in which the ligand is outside of the box, by up to {outside.max():.1f} Å"
    return words


def _residue(topology: Any, name: str | None, path: Path) -> Any:
    """Returns the ligand's residue of an mdtraj topology."""
    others = [
        residue
        for residue in topology.residues
        if not (is_protein(residue) or residue.name.upper() in WATERS | IONS or residue.n_atoms < 3)
    ]
    known = ", ".join(dict.fromkeys(residue.name for residue in others)) or "none"
    chosen = [residue for residue in topology.residues if residue.name == name] if name is not None else others
    if len(chosen) != 1:
        what = (
            f"{len(chosen)} residues named '{name}'" if name is not None else f"{len(chosen)} residues that may be the ligand"
        )
        raise InputError(
            f"'{path}': got {what}, expected one; name it with --ligand-residue (residues besides protein, water and ions: {known})"
        )
    return chosen[0]


def _molecule(residue: Any, positions: np.ndarray, template: Any, path: Path) -> Any:
    """Makes the RDKit molecule of a residue, its atoms in the order of the topology."""
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds
    from rdkit.rdBase import BlockLogs

    raw = Chem.RWMol()
    for atom in residue.atoms:
        if atom.element is None:
            raise InputError(f"'{path}': atom '{atom.name}' of {residue} has no element; give columns 77-78 of the PDB")
        fresh = Chem.Atom(atom.element.atomic_number)
        fresh.SetNoImplicit(True)
        raw.AddAtom(fresh)
    conformer = Chem.Conformer(raw.GetNumAtoms())
    conformer.SetPositions(np.ascontiguousarray(positions))
    raw.AddConformer(conformer)
    with BlockLogs():
        rdDetermineBonds.DetermineConnectivity(raw)
    if template is None:
        made = prepare_ligand(perceived_bond_orders(raw, residue.name, f"'{path}'"), residue.name).mol
        odd = [atom.GetIdx() for atom in made.GetAtoms() if _unlikely(atom)]
        if odd:
            raise InputError(
                f"'{path}': the bond orders of residue {residue.name} cannot be told from the coordinates: they would be {_smiles(made)}; name the ligand with "
                "--ligand-template"
            )
        return made
    record = read_ligands(template)[0]
    if isinstance(record, InputError):
        raise record
    known = Chem.Mol(record.mol)
    Chem.Kekulize(known, clearAromaticFlags=True)
    same = corresponding(known, raw, f"residue {residue.name} of '{path}'")
    ours = dict(zip((a.GetIdx() for a in known.GetAtoms() if a.GetAtomicNum() > 1), same.tolist(), strict=True))
    for index, place in ours.items():
        raw.GetAtomWithIdx(place).SetFormalCharge(known.GetAtomWithIdx(index).GetFormalCharge())
    for bond in known.GetBonds():
        ends = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if ends[0] in ours and ends[1] in ours:
            raw.GetBondBetweenAtoms(ours[ends[0]], ours[ends[1]]).SetBondType(bond.GetBondType())
    made = prepare_ligand(raw.GetMol(), residue.name).mol
    odd = [atom for atom in made.GetAtoms() if atom.GetNumRadicalElectrons()]
    if odd:
        names = [atom.name for atom in residue.atoms]
        raise InputError(
            f"'{path}': atom {names[odd[0].GetIdx()]} of residue {residue.name} has other hydrogens than the template; give the ligand as it was simulated"
        )
    return made


def _unlikely(atom: Any) -> bool:
    """Tells whether an atom has a charge that says that its bonds were guessed wrong: charged carbon, oxonium, sulfonium."""
    number, charge = atom.GetAtomicNum(), atom.GetFormalCharge()
    return bool(charge and (number == 6 or (number in (8, 16) and charge > 0)))


def _smiles(mol: Any) -> str:
    from rdkit import Chem

    return str(Chem.MolToSmiles(Chem.RemoveHs(mol)))


def _alphas(topology: Any, x: np.ndarray, ligand: np.ndarray, path: Path) -> np.ndarray:
    """Returns the C-alphas of the pocket."""
    found = []
    for residue in topology.residues:
        alpha = [atom.index for atom in residue.atoms if atom.name == "CA"]
        if alpha and is_protein(residue):
            rows = [atom.index for atom in residue.atoms if atom.element is None or atom.element.symbol != "H"]
            if np.linalg.norm(x[rows][:, None] - ligand[None], axis=-1).min() <= REACH:
                found.append(alpha[0])
    if len(found) < _FEWEST:
        raise InputError(
            f"'{path}': {len(found)} residues with C-alphas are within {REACH:g} Å of the ligand, expected at least {_FEWEST}; make the molecules of the "
            "topology's file whole, the ligand in its pocket"
        )
    return np.array(found)


def _frames(
    files: TrajectoryFiles, topology: Any, atoms: np.ndarray, alphas: np.ndarray, mol: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ligand (F, N, 3) and the C-alphas about it (F, A, 3) in Å, both of one periodic image."""
    order = np.union1d(atoms, alphas)
    ligands, places = [], []
    for path in files.trajectories:
        x, cells = read_atoms(Path(path), topology, order)
        if len(x) <= files.skip:
            raise InputError(f"'{path}': has {len(x)} frames, but the first {files.skip} are to be skipped")
        x = x[files.skip :: files.stride].astype(np.float64)
        if not np.isfinite(x).all():
            raise InputError(f"'{path}': some places are not finite; remove those frames")
        ligand, other = x[:, np.searchsorted(order, atoms)], x[:, np.searchsorted(order, alphas)]
        if cells is not None:
            cells = cells[files.skip :: files.stride]
            real = np.isfinite(cells).all(axis=(1, 2)) & (np.linalg.norm(cells, axis=2).min(axis=1) > SMALLEST_CELL)
            ligand[real], other[real] = _one_image(ligand[real], other[real], cells[real], mol)
        ligands.append(ligand)
        places.append(other)
    return np.concatenate(ligands), np.concatenate(places)


def _one_image(ligand: np.ndarray, other: np.ndarray, cells: np.ndarray, mol: Any) -> tuple[np.ndarray, np.ndarray]:
    """Moves atoms by vectors of the cells: the ligand hangs together along its bonds, and the C-alphas are the nearest images to its middle."""
    if not len(ligand):
        return ligand, other
    x, cell = torch.from_numpy(ligand.copy()), torch.from_numpy(cells)
    seen, queue = {0}, [0]
    while queue:
        here = queue.pop()
        for neighbour in mol.GetAtomWithIdx(here).GetNeighbors():
            there = neighbour.GetIdx()
            if there not in seen:
                seen.add(there)
                queue.append(there)
                x[:, there] = x[:, here] + minimum_image_vector(x[:, here], x[:, there], cell)
    middle = x.mean(1, keepdim=True)
    near = middle + minimum_image_vector(middle, torch.from_numpy(other), cell[:, None])
    return x.numpy(), near.numpy()


def _superposed(ligand: np.ndarray, places: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the ligand (F, N, 3) in the frame in which the C-alphas lie on the target's (A, 3), and the RMSD (F,) of these."""
    x, y = torch.from_numpy(places), torch.from_numpy(target)
    centre, middle = x.mean(1, keepdim=True), y.mean(0)
    turn = kabsch(x - centre, (y - middle).expand_as(x))
    moved = (x - centre) @ turn.transpose(-1, -2) + middle
    wander = (moved - y).square().sum(-1).mean(1).sqrt()
    poses = (torch.from_numpy(ligand) - centre) @ turn.transpose(-1, -2) + middle
    return poses.numpy(), wander.numpy()


def _receptor_text(path: Path, ligand: Any) -> str:
    """Returns the receptor of a topology's file as PDB text: all but the ligand, water and ions of the solvent."""
    atoms = read_structure_atoms(path)
    own = (str(ligand.resSeq), ligand.name)
    kept = [
        row
        for row, residue in enumerate(atoms.residues)
        if (residue.number, residue.name) != own and residue.name.upper() not in WATERS | IONS
    ]
    if not kept:
        raise InputError(f"'{path}': holds nothing besides the ligand, water and ions; expected a protein")
    return receptor_pdb(type_receptor(atoms.some(kept)))


def _system(texts: tuple[str, str], name: str) -> LigandSystem:
    # what is trained on must be what these files are read as
    with tempfile.TemporaryDirectory() as folder:
        receptor, ligand = Path(folder) / "receptor.pdb", Path(folder) / "ligand.sdf"
        receptor.write_text(texts[0], encoding="utf-8")
        ligand.write_text(texts[1], encoding="utf-8")
        return ligand_systems(LigandInput(receptor=receptor, ligand=ligand, keep_geometry=True, name=name))[0]
