"""One record as a structure: ASE `Atoms`, POSCAR and CIF texts, pymatgen's and JARVIS's dictionaries."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from equilibra.errors import InputError
from equilibra.systems.crystal.formula import atomic_number
from equilibra.systems.crystal.structures import Structure

ENERGY = "energy_per_atom"
"""Name of the energy per atom in files; it is no other value of a structure."""


def numbers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """Returns what of a record are finite numbers, written as numbers or as texts, by name; energies per atom aside."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if not name or name == ENERGY or isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
            continue
        try:
            number = float(value)
        except ValueError:
            continue
        if np.isfinite(number):
            found[str(name)] = number
    return found


def structure_of_atoms(atoms: Any, name: str, energy: float | None = None) -> Structure:
    """Returns ASE `Atoms` as a structure; the energy per atom is that of its calculator or its `info`, if there is one; other numbers are those of `info`.

    Raises:
        InputError: If it has no cell, or is not periodic in all directions, or is no structure.
    """
    if not np.all(atoms.pbc):
        raise InputError(
            f"{name}: is periodic along {atoms.pbc.tolist()}, expected a crystal, periodic along all three vectors"
        )
    if energy is None:
        energy = _energy_of(atoms)
    cell = np.asarray(atoms.cell, dtype=np.float64)
    volume = abs(float(np.linalg.det(cell)))
    frac = np.linalg.solve(cell.T, atoms.positions.T).T if volume > 1e-6 else np.zeros((len(atoms), 3))
    values = numbers_of(atoms.info)
    return Structure(numbers=np.asarray(atoms.numbers), frac=frac, cell=cell, name=name, energy=energy, values=values)


def structure_of_text(text: str, name: str, energy: float | None = None) -> Structure:
    """Returns the structure of a CIF or POSCAR text; line ends may be written as backslash and n.

    Raises:
        InputError: If it is neither.
    """
    if "\n" not in text and "\\n" in text:
        text = text.replace("\\n", "\n")
    if "_cell_length_a" in text:
        from ase.io.cif import parse_cif

        block = next(iter(parse_cif(io.StringIO(text))), None)
        if block is None:
            raise InputError(f"{name}: the CIF text has no block")
        return structure_of_atoms(block.get_atoms(), name, energy)
    return _poscar(text, name, energy)


def structure_of_record(value: Any, name: str) -> Structure:
    """Returns the structure of a JSON record: a text, a dictionary of pymatgen or JARVIS, or one that holds one of these under `structure` or `atoms`.

    Raises:
        InputError: If it is none of these.
    """
    if isinstance(value, str):
        return structure_of_text(value, name)
    if not isinstance(value, Mapping):
        raise InputError(f"{name}: got {type(value).__name__}, expected a structure as text or as a dictionary")
    called = str(value.get("material_id", value.get("jid", value.get("id", name))))
    energy = value.get(ENERGY)
    inner = next((value[key] for key in ("structure", "atoms", "cif", "poscar") if key in value), None)
    if inner is not None:
        made = structure_of_record(inner, called)
        made = replace(made, values={**made.values, **numbers_of(value)})
        return made if energy is None else replace(made, energy=float(energy))
    if "lattice_mat" in value:
        return _jarvis(value, called)
    if "lattice" in value and "sites" in value:
        return _pymatgen(value, called)
    raise InputError(
        f"{name}: got the keys {', '.join(sorted(map(str, value)))}, expected those of a structure (lattice and sites, or lattice_mat and coords)"
    )


def _poscar(text: str, name: str, energy: float | None) -> Structure:
    lines = [line.split() for line in text.splitlines()]
    wanted = "expected a POSCAR: title, scale, three lattice vectors, symbols, counts, direct or cartesian, coordinates"
    try:
        scale = float(lines[1][0])
        cell = np.array([[float(x) for x in lines[row][:3]] for row in (2, 3, 4)])
        if scale < 0:
            scale = (-scale / abs(float(np.linalg.det(cell)))) ** (1 / 3)
        species, counts = lines[5], [int(count) for count in lines[6]]
        kind = 8 if lines[7][0][0] in "sS" else 7
        cartesian = lines[kind][0][0] in "cCkK"
        numbers = [atomic_number(symbol) for symbol, count in zip(species, counts, strict=True) for _ in range(count)]
        rows = lines[kind + 1 : kind + 1 + len(numbers)]
        coordinates = np.array([[float(x) for x in row[:3]] for row in rows]).reshape(len(rows), -1)
    except (IndexError, ValueError) as error:
        raise InputError(f"{name}: malformed, {wanted} ({error})") from error
    cell = cell * scale
    if cartesian and abs(float(np.linalg.det(cell))) > 1e-6:
        coordinates = coordinates * scale @ np.linalg.inv(cell)
    return Structure(numbers=np.array(numbers), frac=coordinates, cell=cell, name=name, energy=energy)


def _pymatgen(value: Mapping[str, Any], name: str) -> Structure:
    numbers = []
    for site in value["sites"]:
        species = site["species"]
        if len(species) != 1 or abs(float(species[0].get("occu", 1)) - 1.0) > 1e-6:
            raise InputError(f"{name}: a site is occupied by {species}, expected ordered structures, one element on each site")
        numbers.append(atomic_number("".join(filter(str.isalpha, species[0]["element"]))))
    frac = np.array([site["abc"] for site in value["sites"]], dtype=np.float64).reshape(len(numbers), -1)
    return Structure(
        numbers=np.array(numbers), frac=frac, cell=np.array(value["lattice"]["matrix"], dtype=np.float64), name=name
    )


def _jarvis(value: Mapping[str, Any], name: str) -> Structure:
    cell = np.array(value["lattice_mat"], dtype=np.float64)
    coordinates = np.array(value["coords"], dtype=np.float64).reshape(len(value["elements"]), -1)
    if value.get("cartesian") in (True, "True", "true") and abs(float(np.linalg.det(cell))) > 1e-6:
        coordinates = coordinates @ np.linalg.inv(cell)
    numbers = np.array([atomic_number(str(symbol).strip()) for symbol in value["elements"]])
    return Structure(numbers=numbers, frac=coordinates, cell=cell, name=name)


def _energy_of(atoms: Any) -> float | None:
    if ENERGY in atoms.info:
        return float(atoms.info[ENERGY])
    results = getattr(atoms.calc, "results", {}) if atoms.calc is not None else {}
    total = results.get("energy", atoms.info.get("energy", atoms.info.get("energy_ev")))
    return None if total is None else float(total) / len(atoms)
