"""Molecular dynamics of a complex whose poses are known: a toy pocket and a ligand that tumble together through a periodic box of water."""

import mdtraj
import numpy as np
import torch
from rdkit import Chem
from rdkit.Chem import rdDistGeom
from toy_pocket import pocket_pdb, seeded

from equilibra.geometry import so3
from equilibra.geometry.torsion_tree import turned_bonds
from equilibra.systems.ligand.torsions import find_torsions

EDGE = 40.0
SMILES = "C[C@H](N)CCOC"


def _line(serial, name, residue, chain, number, x, element):
    name = f" {name:<3s}" if len(name) < 4 and len(element) == 1 else f"{name:<4s}"
    return f"HETATM{serial:5d} {name:<4s} {residue:>3s} {chain}{number:4d}    {x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}  1.00  0.00          {element:>2s}"


def ligand(smiles=SMILES):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    rdDistGeom.EmbedMolecule(mol, 7)
    conformer = mol.GetConformer()
    x = conformer.GetPositions()
    conformer.SetPositions(np.round(x - x[: mol.GetNumHeavyAtoms()].mean(0), 3))
    return mol


def moving_complex(folder, mol, n, *, noise=0.0, suffix="xtc", seed=0):
    """Writes `complex.pdb` and a trajectory of `n` frames; returns the poses in the frame of the receptor."""
    torsions = find_torsions(mol)
    g = seeded(seed)
    x0 = mol.GetConformer().GetPositions()
    lines = pocket_pdb().splitlines()[:-1]
    atoms = [(f"{a.GetSymbol()}{a.GetIdx() + 1}", a.GetSymbol()) for a in mol.GetAtoms()]
    lines += [_line(21 + i, name, "LIG", "B", 1, x0[i], element) for i, (name, element) in enumerate(atoms)]
    count = len(lines)
    lines += [
        _line(count + 1, "O", "HOH", "C", 1, (15.0, 0.0, 0.0), "O"),
        _line(count + 2, "NA", "NA", "C", 2, (0, 15.0, 0), "Na"),
    ]
    path = folder / "complex.pdb"
    path.write_text(
        "\n".join([f"CRYST1{EDGE:9.3f}{EDGE:9.3f}{EDGE:9.3f}  90.00  90.00  90.00 P 1           1", *lines, "END", ""])
    )
    rest = np.array([[float(line[30 + 8 * k : 38 + 8 * k]) for k in range(3)] for line in lines])
    # poses: another shift and turn of the middle, other torsions
    angles = 2 * torch.pi * torch.rand(n, len(torsions.axes), generator=g, dtype=torch.float64)
    y = turned_bonds(torch.from_numpy(x0)[None].expand(n, -1, -1).contiguous(), angles, torsions.tree)
    y = y - y[:, torsions.heavy].mean(1, keepdim=True)
    turn = so3.uniform((n,), generator=g, dtype=torch.float64)
    poses = y @ turn.transpose(1, 2) + 1.5 * torch.randn(n, 1, 3, generator=g, dtype=torch.float64)
    poses[0] = torch.from_numpy(x0)
    poses = poses + noise * torch.randn(poses.shape, generator=g, dtype=torch.float64)
    everything = torch.from_numpy(rest).expand(n, -1, -1).clone()
    everything[:, 20 : 20 + len(x0)] = poses
    # the whole scene tumbles, drifts, and is wrapped atom by atom
    tumble = so3.uniform((n,), generator=g, dtype=torch.float64)
    drift = EDGE * torch.rand(n, 1, 3, generator=g, dtype=torch.float64)
    wrapped = torch.remainder(everything @ tumble.transpose(1, 2) + drift, EDGE)
    frames = mdtraj.Trajectory(wrapped.numpy() / 10.0, mdtraj.load_topology(str(path)))
    frames.unitcell_vectors = np.tile(np.eye(3) * EDGE / 10.0, (n, 1, 1))
    frames.save(str(folder / f"md.{suffix}"))
    return poses.numpy()
