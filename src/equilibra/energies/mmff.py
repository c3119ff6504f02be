"""MMFF94: a force field for organic molecules that needs nothing but the molecule, through RDKit."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from equilibra.energies.engine import FloatArray, OneByOneEnergy
from equilibra.errors import InputError, unknown_key_message
from equilibra.units import KCAL_PER_MOL_EV

Variant = Literal["mmff94", "mmff94s"]
_VARIANTS = {"mmff94": "MMFF94", "mmff94s": "MMFF94s"}
# elements with at least one MMFF94 atom type
_ELEMENTS = frozenset(("H", "Li", "C", "N", "O", "F", "Na", "Mg", "Si", "P", "S", "Cl", "K", "Ca", "Fe", "Cu", "Zn", "Br", "I"))
# RDKit leaves out pairs beyond a distance in the conformation that the force field was made with: none shall be left out
_NO_CUTOFF = 1e6


class MMFFEnergy(OneByOneEnergy):
    """MMFF94 or MMFF94s energy of one molecule in vacuum, in eV and Å, without a cut-off.

    The force field is made once; an energy with its gradient takes tens of microseconds for a molecule of drug size.

    Arguments:
        mol: RDKit molecule with all hydrogens as atoms; it needs no conformer. Copied.
        variant: `mmff94`, or `mmff94s` with planar delocalised nitrogens, as in time-averaged structures.

    Raises:
        InputError: If hydrogens are missing, or MMFF94 has no parameters for the molecule; the message names what is missing.

    References:
        | Merck molecular force field. I. Basis, form, scope, parameterization, and performance of MMFF94 (Halgren, 1996)
        | Bringing the MMFF force field to the RDKit: implementation and validation (Tosco et al., 2014), https://doi.org/10.1186/s13321-014-0037-3
    """

    def __init__(self, mol: Any, variant: Variant = "mmff94") -> None:
        from rdkit import Chem
        from rdkit.Chem import rdForceFieldHelpers
        from rdkit.rdBase import BlockLogs

        if variant not in _VARIANTS:
            raise InputError(unknown_key_message("MMFF variant", variant, _VARIANTS))
        self.name, self.variant = variant, variant
        mol = Chem.Mol(mol)
        self.items = mol.GetNumAtoms()
        if self.items < 2:
            raise InputError(f"{variant}: got {self.items} atoms, expected a molecule of at least two")
        implicit = sum(atom.GetTotalNumHs() for atom in mol.GetAtoms())
        if implicit:
            raise InputError(
                f"{variant}: {implicit} hydrogens are not atoms of the molecule; add them first: rdkit.Chem.AddHs(mol)"
            )
        radicals = [f"{atom.GetSymbol()}{atom.GetIdx()}" for atom in mol.GetAtoms() if atom.GetNumRadicalElectrons()]
        if radicals:
            # RDKit would take them for closed shells
            raise InputError(
                f"{variant} has no parameters for radicals: the atoms {', '.join(radicals)} have unpaired electrons"
            )
        with BlockLogs():
            parameters = rdForceFieldHelpers.MMFFGetMoleculeProperties(mol, mmffVariant=_VARIANTS[variant])
        if parameters is None:
            raise InputError(f"{variant} has no parameters for this molecule: {_missing(mol)}; use another energy")
        mol.RemoveAllConformers()
        conformer = Chem.Conformer(self.items)
        # any positions do, as long as no two atoms share one
        conformer.SetPositions(np.random.default_rng(0).normal(scale=self.items ** (1 / 3), size=(self.items, 3)))
        conformer_id = mol.AddConformer(conformer, assignId=True)
        self._field = rdForceFieldHelpers.MMFFGetMoleculeForceField(
            mol, parameters, nonBondedThresh=_NO_CUTOFF, confId=conformer_id, ignoreInterfragInteractions=False
        )
        if self._field is None:
            raise InputError(f"{variant} has no parameters for this molecule: {_missing(mol)}; use another energy")
        self._field.Initialize()
        # the force field refers to positions that the molecule owns
        self._mol = mol

    def conformation(self, positions: FloatArray, forces: bool) -> tuple[float, FloatArray | None]:  # noqa: D102
        flat = positions.ravel().tolist()
        energy = self._field.CalcEnergy(flat) * KCAL_PER_MOL_EV
        if not forces:
            return energy, None
        return energy, np.array(self._field.CalcGrad(flat)).reshape(positions.shape) * -KCAL_PER_MOL_EV


def _missing(mol: Any) -> str:
    """Returns, as well as can be told, what MMFF94 does not know about a molecule."""
    foreign = sorted({atom.GetSymbol() for atom in mol.GetAtoms()} - _ELEMENTS)
    if foreign:
        return f"it has no atom types for {', '.join(foreign)}"
    charged = [f"{atom.GetSymbol()}{atom.GetIdx()}" for atom in mol.GetAtoms() if atom.GetFormalCharge()]
    hint = f"; look at the charged atoms {', '.join(charged)} first" if charged else ""
    return f"all its elements are known, but the valence state or bonding of an atom is not{hint}"
