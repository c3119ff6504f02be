"""Bond orders and charges from coordinates and bonds, for molecules that no template knows."""

from __future__ import annotations

from typing import Any

from equilibra.errors import InputError


def perceived_bond_orders(mol: Any, residue: str, source: str, *, charge: int = 0) -> Any:
    """Finds bond orders from the coordinates and the bonds, trying small total charges.

    The first that fits is taken, so that a molecule of charged groups may come out as another one: where its bond orders are known, a template is better.

    Arguments:
        mol: RDKit molecule with all hydrogens, single bonds and a conformer.
        residue: What its residue is called in messages.
        source: What the input is called in messages.
        charge: Total charge that is tried first.

    Returns:
        The sanitised molecule.

    Raises:
        InputError: If no bond orders fit.

    References:
        | Universal Structure Conversion Method (Kim and Kim, 2015), https://doi.org/10.1002/bkcs.10334
    """
    from rdkit import Chem
    from rdkit.Chem import rdDetermineBonds
    from rdkit.rdBase import BlockLogs

    problem = ""
    for total in dict.fromkeys([charge, 0, 1, -1, 2, -2]):
        trial = Chem.RWMol(mol)
        try:
            with BlockLogs():
                rdDetermineBonds.DetermineBondOrders(trial, charge=total, allowChargedFragments=True, embedChiral=False)
                Chem.SanitizeMol(trial)
            if not any(atom.GetNumRadicalElectrons() for atom in trial.GetAtoms()):
                return trial.GetMol()
        except (ValueError, RuntimeError) as error:
            problem = f" ({str(error).splitlines()[0]})"
    raise InputError(
        f"{source}: residue {residue} is not a standard one and no bond orders fit its atoms{problem}; check its hydrogens and CONECT records, "
        "or give the molecule as an SDF file"
    )
