"""The molecule's domain, as a Model uses it: input, network, scope, checks and ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch

from equilibra.configuration import read_fields
from equilibra.diffusion.denoiser import Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy
from equilibra.errors import InputError
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.state import State
from equilibra.systems.blocks import Block
from equilibra.systems.conformation_checks import check
from equilibra.systems.molecule import stereoisomers
from equilibra.systems.molecule.energy import molecule_energy
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.network import FIELD, molecule_denoiser
from equilibra.systems.molecule.properties import molecule_properties
from equilibra.systems.molecule.system import MoleculeSystem, molecule_systems
from equilibra.systems.properties import Maker
from equilibra.systems.scope import Scope

WITH_GRADIENTS = 100
"""Samples whose gradients are held in memory at once by default."""


def systems(source: Any) -> list[MoleculeSystem]:
    """Reads the molecules of a source; see `molecule_systems`."""
    return molecule_systems(source)


def denoiser(
    process: Process, network: Mapping[str, Any], parametrisation: Parametrisation | Literal["energy"]
) -> TrainedDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    return molecule_denoiser(process, read_fields(GraphormerConfig, network), parametrisation=parametrisation)


def meant(source: Any, scope: Scope) -> Any:
    """Returns the one molecule of a scope that a SMILES of open stereochemistry can stand for; the source itself where there is not just one."""
    return stereoisomers.meant(source, scope.systems)


def template(system: MoleculeSystem, n: int) -> State:
    """Makes a State with the shapes of n samples."""
    return State({FIELD: torch.zeros(n, system.atoms, 3)})


def identifier(system: MoleculeSystem) -> str:
    """Returns the canonical isomeric SMILES: the same for every order of the atoms, different for stereoisomers."""
    return system.canonical_smiles


def elements(systems: Sequence[MoleculeSystem]) -> tuple[int, ...]:
    """Returns the atomic numbers in some molecules, ascending."""
    return tuple(sorted({atom.GetAtomicNum() for system in systems for atom in system.mol.GetAtoms()}))


def check_scope(system: MoleculeSystem, scope: Scope, name: str) -> None:
    """Checks that a model was trained for a molecule.

    Raises:
        InputError: If the molecule has an element, or is a molecule, that the model has not seen.
    """
    from rdkit import Chem

    unknown = [z for z in elements([system]) if scope.elements and z not in scope.elements]
    table = Chem.GetPeriodicTable()
    if unknown:
        raise InputError(
            f"{system.name}: has {', '.join(table.GetElementSymbol(z) for z in unknown)}, but the model '{name}' was trained on "
            f"{', '.join(table.GetElementSymbol(z) for z in scope.elements)} only; train or fine-tune a model for it"
        )
    if not scope.transferable and identifier(system) not in scope.systems:
        raise InputError(
            f"{system.name}: is {identifier(system)}, but the model '{name}' was trained on {', '.join(scope.systems)} only; train or "
            "fine-tune a model for it, or allow it with --outside-scope, when nothing is known of the result"
        )


def valid(system: MoleculeSystem, state: State) -> np.ndarray:
    """Tells which samples pass all checks, with shape (batch,)."""
    return check(state.fields[FIELD].cpu().numpy(), system).valid


def energy(system: MoleculeSystem, name: str) -> Energy:
    """Makes the potential energy of a molecule by its name; see `molecule_energy`."""
    return molecule_energy(system, name)


def positions(system: MoleculeSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of a State, in Å."""
    return state.fields[FIELD]


def reference(system: MoleculeSystem) -> torch.Tensor:
    """Returns one sensible conformation (1, N, 3), in Å, float64."""
    return torch.tensor(np.array(system.reference, dtype=np.float64))[None]


def properties(system: MoleculeSystem) -> dict[str, Maker]:
    """Returns what makes the properties that a guide can name; see `molecule_properties`."""
    return molecule_properties(system, partial(positions, system))


def written(system: MoleculeSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of the atoms, in Å: all are written."""
    return state.fields[FIELD]


def ensemble(system: MoleculeSystem, blocks: Sequence[Block], n: int, provenance: Mapping[str, Any]) -> MoleculeEnsemble:
    """Makes the ensemble of the first n valid samples; see `Ensemble.from_blocks`."""
    return MoleculeEnsemble.from_blocks(system, [block.fields[FIELD] for block in blocks], blocks, n, provenance)


def interpolate(model: Any, a: Any, b: Any, **options: Any) -> Any:
    """Interpolates between two conformations of one molecule; see `molecule.interpolate`."""
    from equilibra.systems.molecule.interpolate import interpolate as path

    return path(model, a, b, **options)


def check_features(system: MoleculeSystem, network: Mapping[str, Any], name: str) -> None:
    """Accepts every molecule: its features are made of its graph alone."""


def fitting_batch(
    system: MoleculeSystem, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
) -> int:
    """Returns the wanted batch size, by default a whole block: molecules are small; with gradients at most `WITH_GRADIENTS` samples."""
    return wanted or (min(most, WITH_GRADIENTS) if gradients else most)
