"""A small synthetic pocket with three ligands."""

import pytest
from rdkit import Chem
from small_pocket import LIGANDS, POCKET

from equilibra.energies.docking import Box, read_receptor


@pytest.fixture(scope="session")
def pocket():
    return read_receptor(POCKET)


@pytest.fixture(scope="session")
def ligands():
    return list(Chem.SDMolSupplier(str(LIGANDS), removeHs=False))


@pytest.fixture(scope="session")
def box():
    return Box((0.0, 0.0, 0.0), (24.0, 26.0, 25.0))
