r"""The figures of raw structure files in docs/results.md: what is in them, what was done with it, and what is refused.

    python benchmarks/ligand_inputs.py structures/
    python benchmarks/ligand_inputs.py structures/ --table files.md

`structures/` is any folder of files. Each is read for a small ligand as `equilibra sample ligand` reads it: once with `--residues`, in the middle of its largest chain, and once with `--ref-ligand` for each kind
of molecule that is large enough to be a ligand. The Vina score of each pocket is made, too. An exception other than the package's own sentences is a failure. gemmi (extra `docking`) reads the same file on its own:
what it finds and the program does not mention is `untold`, and the atoms that are kept are counted against it.
"""

from __future__ import annotations

import argparse
import re
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from equilibra.energies.docking.residue_names import WATERS
from equilibra.energies.docking.structure_file import Residue, StructureAtoms, read_structure_atoms
from equilibra.errors import EquilibraError, InputError
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.receptor import HEAVY_ATOMS
from equilibra.systems.ligand.residues import is_protein, kinds_of
from equilibra.systems.ligand.sources import read_ligands

LIGAND = "CC(=O)Nc1ccc(O)cc1"
"""Paracetamol, which goes into every pocket."""

LARGE = 7
"""Heavy atoms from which on a molecule of a file counts as a ligand."""

TOLD = {
    "models": r"models|\bEND\b",
    "alternate locations": r"alternate location",
    "insertion codes": r"insertion code",
    "metals": r"metals kept",
    "waters": r"\d waters?, left out",
    "chains": r"residues? in \d+ chains?",
    "nucleotides": r"nucleotide",
    "modified residues": r"modified residue",
    "missing atoms": r"residues? lacks? atoms|only C-alpha",
    "breaks": r"chain breaks?|only C-alpha",
    "no hydrogens": r"no hydrogens|only C-alpha",
}
"""What a file may have, and how it is told."""


@dataclass
class Read:
    """What became of a file.

    Attributes:
        path: The file.
        facts: What gemmi finds, with numbers.
        expected: Places of atoms that are no water, by gemmi.
        kept: Atoms kept, of the first pocket that could be made.
        told: What was said.
        pockets: Pockets that were made.
        scored: Those that the Vina score can be computed in.
        refusals: Refusals, by what was refused.
        failures: Tracebacks.
    """

    path: Path
    facts: dict[str, int] = field(default_factory=dict)
    expected: int | None = None
    kept: int | None = None
    told: list[str] = field(default_factory=list)
    pockets: int = 0
    scored: int = 0
    refusals: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def untold(self) -> list[str]:
        """What the file has and nothing was said of, of a file that was read."""
        words = " ".join(self.told)
        return [name for name in self.facts if self.pockets and not re.search(TOLD[name], words)]


def facts_of(path: Path) -> tuple[dict[str, int], int]:
    """Returns what gemmi finds in the first model of a file, and the number of places of atoms that are no water."""
    import gemmi

    structure = gemmi.read_structure(str(path), merge_chain_parts=True)
    structure.setup_entities()
    first = structure[0]
    counts: Counter[str] = Counter()
    places = set()
    hydrogens = False
    for chain in first:
        protein, last = 0, None
        for residue in chain:
            if residue.name in WATERS:
                counts["waters"] += 1
            elif residue.name != "DUM":
                places |= {(chain.name, str(residue.seqid), atom.name) for atom in residue}
                hydrogens |= any(atom.is_hydrogen() for atom in residue)
                counts["alternate locations"] += any(atom.has_altloc() for atom in residue)
                counts["metals"] += sum(atom.element.is_metal for atom in residue)
        # one of several residues in one place
        for residue in chain.first_conformer():
            if residue.name in (*WATERS, "DUM"):
                continue
            names = {atom.name for atom in residue if not atom.is_hydrogen()} - {"OXT"}
            counts["insertion codes"] += residue.seqid.icode != " "
            counts["nucleotides"] += gemmi.find_tabulated_residue(residue.name).is_nucleic_acid()
            counts["missing atoms"] += len(names) < HEAVY_ATOMS.get(residue.name, 0)
            if residue.entity_type != gemmi.EntityType.Polymer or not {"N", "CA", "C"} <= names:
                continue
            counts["modified residues"] += not is_protein(Residue("", "", residue.name))
            protein += 1
            counts["breaks"] += last is not None and last["C"][0].pos.dist(residue["N"][0].pos) > 2.5
            last = residue
        counts["chains"] += protein > 0
    counts["no hydrogens"] = not hydrogens
    counts["models"] = len(structure) if len(structure) > 1 else 0
    return {name: int(number) for name, number in counts.items() if number}, len(places)


def residue_in_the_middle(atoms: StructureAtoms) -> str | None:
    """Returns the residue nearest to the middle of the largest chain, as `--residues` takes it."""
    alpha = [i for i, name in enumerate(atoms.names) if name == "CA" and atoms.elements[i] == "C"]
    if not alpha:
        return None
    largest = Counter(atoms.residues[i].chain for i in alpha).most_common(1)[0][0]
    own = [i for i in alpha if atoms.residues[i].chain == largest]
    x = atoms.positions[own]
    residue = atoms.residues[own[int(np.linalg.norm(x - x.mean(0), axis=1).argmin())]]
    return f"{residue.chain}:{residue.number}"


def large_molecules(atoms: StructureAtoms) -> list[str]:
    """Returns the first molecule of each kind that is large enough to be a ligand, as `--ref-ligand` takes it."""
    sizes = Counter(residue for residue, element in zip(atoms.residues, atoms.elements, strict=True) if element != "H")
    found: dict[str, str] = {}
    for residue in kinds_of(atoms).others:
        if sizes[residue] >= LARGE:
            found.setdefault(residue.name, str(residue))
    return list(found.values())


def read_one(path: Path) -> Read:
    """Reads a file for all of its pockets."""
    made = Read(path)
    try:
        made.facts, made.expected = facts_of(path)
    except Exception as error:  # a reader that we did not write may fail in any way
        print(f"{path.name}: gemmi: {error}", flush=True)
    try:
        atoms = read_structure_atoms(path)
    except EquilibraError as error:
        made.refusals["the file"] = str(error)
        return made
    except Exception:
        made.failures.append(traceback.format_exc())
        return made
    (record,) = read_ligands(LIGAND)
    options: list[dict[str, Any]] = [{"reference": name} for name in large_molecules(atoms)]
    middle = residue_in_the_middle(atoms)
    options.append({"centre": atoms.positions.mean(0).tolist()} if middle is None else {"residues": [middle]})
    # the file is read once for all of them
    inputs = [LigandInput(receptor=path, ligand=record.mol, conformers=1, name=_words(option), **option) for option in options]  # type: ignore[union-attr]
    problems: list[InputError] = []
    try:
        systems = ligand_systems(inputs, on_error=problems.append)
    except InputError as error:
        made.refusals["every pocket"] = str(error)
        return made
    except Exception:
        made.failures.append(traceback.format_exc())
        return made
    made.refusals |= {"a pocket " + str(number): str(problem) for number, problem in enumerate(problems, start=1)}
    for system in systems:
        made.pockets += 1
        made.told += [each for each in (*system.notes, *system.warnings) if each not in made.told]
        made.kept = len(system.receptor.atoms.elements)
        try:
            ligand_energy(system, "vina")
            made.scored += 1
        except EquilibraError as error:
            made.refusals[f"the score at {system.name}"] = str(error)
        except Exception:
            made.failures.append(traceback.format_exc())
    return made


def _words(option: dict[str, Any]) -> str:
    ((name, value),) = option.items()
    return f"{name} {' '.join(map(str, value)) if isinstance(value, list) else value}"


def cell(text: str) -> str:
    return " ".join(text.replace("|", "/").split())


def table(found: Sequence[Read]) -> str:
    """Returns all files as a table in Markdown."""
    rows = [
        "| file | what it has, by gemmi | atoms kept, of | pockets, scored | what was said | refused | untold |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found:
        facts = ", ".join(f"{name} {number}" if name != "no hydrogens" else name for name, number in each.facts.items())
        refused = "; ".join(f"{name}: {why}" for name, why in each.refusals.items())
        kept = "-" if each.kept is None else f"{each.kept}, {'-' if each.expected is None else each.expected}"
        problem = "FAILED " * bool(each.failures) + ", ".join(each.untold)
        rows.append(
            f"| {each.path.name} | {facts or '-'} | {kept} | {each.pockets}, {each.scored} | {cell('; '.join(each.told)) or '-'} | {cell(refused) or '-'} | {problem or '-'} |"
        )
    return "\n".join(rows) + "\n"


def summary(found: Sequence[Read]) -> str:
    """Returns the numbers of files in sentences."""
    facts = Counter(name for each in found for name in each.facts)
    files = [each for each in found if each.pockets == 0 and not each.failures]
    return "\n".join(
        [
            f"{len(found)} files: {sum(each.pockets > 0 for each in found)} read, {len(files)} refused, {sum(bool(each.failures) for each in found)} failed",
            f"pockets: {sum(each.pockets for each in found)} made, {sum(each.scored for each in found)} of them scored, "
            f"{sum(len(each.refusals) for each in found)} refusals",
            "with " + ", ".join(f"{name} {facts[name]}" for name in TOLD),
            f"something untold: {', '.join(each.path.name for each in found if each.untold) or 'none'}",
            *(f"refused: {each.path.name}: {'; '.join(each.refusals.values())}" for each in files),
            *(f"FAILED {each.path.name}\n{text}" for each in found for text in each.failures),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--table", type=Path, help="where the table goes; printed by default")
    given = parser.parse_args()
    paths = sorted((path for path in given.folder.iterdir() if path.is_file()), key=lambda path: path.stat().st_size)
    found = []
    for path in paths:
        found.append(read_one(path))
        if given.table is not None:
            given.table.write_text(table(found), encoding="utf-8")
        print(
            f"{path.name}: {found[-1].pockets} pockets, {len(found[-1].refusals)} refusals, {len(found[-1].failures)} failures",
            flush=True,
        )
    if given.table is None:
        print(table(found))
    print(summary(found))


if __name__ == "__main__":
    main()
