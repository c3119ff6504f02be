"""Crystals with known cells, for the tests of this domain."""

import dataclasses
import gzip
import json

import numpy as np
import torch

from equilibra.systems.crystal.ensemble import state_of
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem


def diamond(a=3.567, **options):
    """Diamond in its primitive cell of two atoms; the conventional one has a^3 for eight."""
    cell = 0.5 * a * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure(numbers=np.array([6, 6]), frac=np.array([[0, 0, 0], [0.25] * 3]), cell=cell, name="diamond", **options)


def conventional_diamond(a=3.567):
    face = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
    frac = np.concatenate([face, face + 0.25])
    return Structure(numbers=np.full(8, 6), frac=frac, cell=a * np.eye(3), name="conventional")


def graphite(a=2.461, c=6.708):
    cell = np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, c]])
    frac = np.array([[0, 0, 0.25], [0, 0, 0.75], [1 / 3, 2 / 3, 0.25], [2 / 3, 1 / 3, 0.75]])
    return Structure(numbers=np.full(4, 6), frac=frac, cell=cell, name="graphite")


def rock_salt(a=5.64):
    cell = 0.5 * a * np.array([[0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure(
        numbers=np.array([17, 11]), frac=np.array([[0.5] * 3, [0.0] * 3]), cell=cell, name="rock salt", energy=-3.4
    )


def triclinic(atoms=5, seed=0, numbers=None):
    """Atoms at random in a skew cell."""
    rng = np.random.default_rng(seed)
    cell = np.diag([3.0, 4.0, 5.0]) + rng.normal(scale=0.7, size=(3, 3))
    numbers = np.full(atoms, 6) if numbers is None else np.asarray(numbers)
    return Structure(numbers=numbers, frac=rng.random((len(numbers), 3)), cell=cell, name=f"triclinic {seed}")


def other_description(structure, seed=0):
    """The same crystal: another basis, origin, orientation and order of atoms."""
    rng = np.random.default_rng(seed)
    basis = np.eye(3, dtype=int)
    for _ in range(6):
        i, j = rng.choice(3, size=2, replace=False)
        basis[i] += rng.choice([-1, 1]) * basis[j]
    turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    turn = turn * np.sign(np.diag(upper))
    turn = turn * np.linalg.det(turn)  # a proper rotation
    order = rng.permutation(len(structure))
    frac = structure.frac @ np.linalg.inv(basis) + rng.random(3)
    return Structure(
        numbers=structure.numbers[order], frac=(frac - np.floor(frac))[order], cell=basis @ structure.cell @ turn, name="other"
    )


def poscar(structure):
    """POSCAR text, as the published copies of Carbon-24 have it."""
    from ase.data import chemical_symbols

    names = [chemical_symbols[z] for z in structure.numbers]
    kinds = list(dict.fromkeys(names))
    order = [i for kind in kinds for i, name in enumerate(names) if name == kind]
    lines = ["System", "1.0", *(" ".join(f"{x:.10f}" for x in row) for row in structure.cell)]
    lines += [" ".join(kinds), " ".join(str(names.count(kind)) for kind in kinds), "direct"]
    return "\n".join([*lines, *(" ".join(f"{x:.10f}" for x in structure.frac[i]) for i in order)]) + "\n"


def write_json(path, structures):
    """Writes structures by name as POSCAR texts, compressed if the path says so."""
    text = json.dumps({structure.name: poscar(structure) for structure in structures})
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def shifted(structure):
    """The same crystal from another origin, wrapped."""
    frac = structure.frac + np.array([0.37, 0.81, 0.13])
    return dataclasses.replace(structure, frac=frac - np.floor(frac))


def permuted(structure):
    """Its atoms in another order."""
    return dataclasses.replace(structure, numbers=structure.numbers[::-1], frac=structure.frac[::-1])


def rotated(structure):
    """Turned in space."""
    turn, upper = np.linalg.qr(np.random.default_rng(4).normal(size=(3, 3)))
    turn = turn * np.sign(np.diag(upper))
    return dataclasses.replace(structure, cell=structure.cell @ (turn * np.linalg.det(turn)))


def rebased(structure):
    """The same lattice by other vectors, a unimodular change of basis."""
    basis = np.array([[1, 1, 0], [0, 1, -2], [1, 1, 1]])
    assert round(np.linalg.det(basis)) == 1
    return dataclasses.replace(structure, cell=basis @ structure.cell, frac=structure.frac @ np.linalg.inv(basis))


CHANGES = {"origin": shifted, "order": permuted, "rotation": rotated, "basis": rebased}
"""Other descriptions of the same crystal, by what changes."""


def invariants(model, structure, t):
    """Numbers of a score that no turn of the gauge and no order of atoms changes: eigenvalues of the Cartesian displacements' products, and of the cell's matrix."""
    state = state_of([structure])
    system = CrystalSystem.of(structure.numbers.tolist())
    found = model.bind(system)(state, torch.tensor([t], dtype=torch.float64)).displacements
    moved = (found["frac"] @ state.fields["cell"])[0]
    across = (found["cell"] @ state.fields["cell"])[0]
    parts = [torch.linalg.eigvalsh(moved @ moved.T), torch.linalg.eigvalsh(found["cell"][0]), across.trace()[None]]
    return torch.cat(parts)
