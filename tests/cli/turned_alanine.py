"""Ensembles of alanine dipeptide with torsions as wanted."""

import numpy as np
from rdkit.Chem import Mol, rdMolTransforms

from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.molecule.torsions import torsion_quadruples


def turned(phi, psi=None, **options):
    """Makes an ensemble of the reference conformation with phi and psi, in rad, turned as given for each frame."""
    system = molecule_system("ACE-ALA-NME")
    atoms = torsion_quadruples(system)
    psi = np.full(len(phi), 2.5) if psi is None else psi
    frames = []
    for a, b in zip(phi, psi, strict=True):
        conformer = Mol(system.mol).GetConformer()
        rdMolTransforms.SetDihedralRad(conformer, *atoms["phi ALA2"], float(a))
        rdMolTransforms.SetDihedralRad(conformer, *atoms["psi ALA2"], float(b))
        frames.append(conformer.GetPositions())
    return MoleculeEnsemble(system=system, positions=np.array(frames), **options)
