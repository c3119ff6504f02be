"""The domain of molecules: all atoms of one molecule, from a peptide's name, a SMILES, an SDF or a PDB file."""

from equilibra.systems.chemical_graph import NODE_VOCABULARY, PAIR_VOCABULARY, featurise
from equilibra.systems.conformation_checks import Validity, check
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.load import load_ensemble
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system, molecule_systems

__all__ = [
    "NODE_VOCABULARY",
    "PAIR_VOCABULARY",
    "MoleculeEnsemble",
    "MoleculeSystem",
    "Validity",
    "check",
    "featurise",
    "load_ensemble",
    "molecule_system",
    "molecule_systems",
]
