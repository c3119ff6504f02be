"""A first conformation of a molecule by distance geometry."""

from __future__ import annotations

from typing import Any


def embed(mol: Any, seed: int) -> bool:
    """Gives an RDKit molecule with its hydrogens one conformation by ETKDG, from random coordinates where the eigenvectors of its distances give none.

    Arguments:
        mol: The molecule; the conformation becomes its first.
        seed: Seed of RDKit's generator.

    Returns:
        Whether one was found.
    """
    from rdkit.Chem import rdDistGeom

    parameters: Any = rdDistGeom.ETKDGv3()
    parameters.randomSeed = seed
    if rdDistGeom.EmbedMolecule(mol, parameters) >= 0:
        return True
    parameters.useRandomCoords = True
    return bool(rdDistGeom.EmbedMolecule(mol, parameters) >= 0)
