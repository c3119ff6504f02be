"""SMILES that leave stereochemistry open: which molecules they may stand for."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.systems.molecule.peptide import is_peptide_name
from equilibra.systems.molecule.sources import FILE_SUFFIXES
from equilibra.systems.stereo import unspecified_stereo

MOST = 64
"""A SMILES with more stereoisomers has to say which one is meant."""

_L_AMINO_ACID = "[NX3][C@@H]([#6])C(=O)"


def stereoisomers(source: Any) -> list[str]:
    """Returns the SMILES of all stereoisomers that an open SMILES may stand for, its atoms in the same order.

    Those with most amino acids of the natural kind (L) come first, then by the alphabet.

    Arguments:
        source: What `molecule_system` reads. Nothing is returned unless it is a SMILES that leaves stereochemistry open.

    Raises:
        InputError: If there are more than `MOST`.
    """
    from rdkit import Chem
    from rdkit.Chem.EnumerateStereoisomers import (
        EnumerateStereoisomers,
        GetStereoisomerCount,
        StereoEnumerationOptions,
    )
    from rdkit.rdBase import BlockLogs

    if not isinstance(source, str) or is_peptide_name(source.strip()) or Path(source).suffix.lower() in FILE_SUFFIXES:
        return []
    with BlockLogs():
        mol = Chem.MolFromSmiles(source.strip())
    if mol is None or not mol.GetNumAtoms() or not unspecified_stereo(Chem.AddHs(mol)):
        return []
    options = StereoEnumerationOptions(onlyUnassigned=True, unique=True, maxIsomers=MOST)
    if GetStereoisomerCount(mol, options=options) > MOST:
        raise InputError(
            f"'{source}' may stand for more than {MOST} stereoisomers; mark each centre with @ or @@ and each double bond with / and \\"
        )
    natural = Chem.MolFromSmarts(_L_AMINO_ACID)
    found = []
    for isomer in EnumerateStereoisomers(mol, options=options):
        Chem.AssignStereochemistry(isomer, cleanIt=True, force=True)
        if not unspecified_stereo(Chem.AddHs(isomer)):
            count = len(isomer.GetSubstructMatches(natural, useChirality=True))
            found.append((-count, Chem.MolToSmiles(isomer, canonical=False)))
    return [smiles for _, smiles in sorted(found)]


def meant(source: Any, known: Collection[str]) -> Any:
    """Returns the one stereoisomer among known molecules that an open SMILES can stand for; the source itself where there is not just one.

    Arguments:
        source: What `molecule_system` reads.
        known: Canonical isomeric SMILES, of the molecules of a model for example.
    """
    from rdkit import Chem

    if not known or not isinstance(source, str):
        return source
    matching = [smiles for smiles in stereoisomers(source) if Chem.MolToSmiles(Chem.MolFromSmiles(smiles)) in known]
    return matching[0] if len(matching) == 1 else source
