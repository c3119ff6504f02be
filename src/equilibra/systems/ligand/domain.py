"""The ligand's domain, as a Model uses it: input, network, scope, checks and ensemble."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch

from equilibra.configuration import read_fields
from equilibra.diffusion.denoiser import Parametrisation
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy
from equilibra.errors import InputError
from equilibra.nn.ligand import LigandNetworkConfig
from equilibra.state import State
from equilibra.systems.blocks import Block
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import ligand_denoiser, state_of
from equilibra.systems.ligand.poses import pose_positions
from equilibra.systems.ligand.relaxation import relaxed_poses
from equilibra.systems.ligand.system import LigandSystem
from equilibra.systems.ligand.validity import check
from equilibra.systems.properties import Maker
from equilibra.systems.scope import Scope

WITH_GRADIENTS = 32
"""Samples whose gradients are held in memory at once by default."""

_TOKENS = 100 * 40 * 160
"""Pairs of tokens, over all samples of a batch, that the network is given at once by default: 100 samples of a ligand of 40 heavy atoms."""


TOO_FEW = "relax poses as they are drawn (--relax vina), which moves them out of the receptor"
"""What to do where too few samples of a model are valid."""


def systems(source: Any) -> list[LigandSystem]:
    """Reads the systems of a source; see `ligand_systems`."""
    return ligand_systems(source)


def denoiser(
    process: Process, network: Mapping[str, Any], parametrisation: Parametrisation | Literal["energy"]
) -> TrainedDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    return ligand_denoiser(process, read_fields(LigandNetworkConfig, network), parametrisation=parametrisation)


def meant(source: Any, scope: Scope) -> Any:
    """Returns the source as it is."""
    return source


def template(system: LigandSystem, n: int) -> State:
    """Makes a State with the shapes of n samples in the torsional state, the ring conformers in turn."""
    number = torch.arange(n) % len(system.geometries)
    angles = torch.zeros(n, len(system.torsions.axes))
    return system.state(torch.zeros(n, 3), torch.eye(3).repeat(n, 1, 1), angles, number)


def template_of(process: Process, system: LigandSystem, n: int) -> State:
    """Makes a State with the shapes of n samples in the state that a process is of."""
    if state_of(process) == "torsional":
        return template(system, n)
    return system.cartesian_state(torch.zeros(n, len(system.torsions.heavy), 3))


def identifier(system: LigandSystem) -> str:
    """Returns the beginning of the digest by which a scope names a system: ligand, pocket and box."""
    return system.digest[:16]


def elements(systems: Sequence[LigandSystem]) -> tuple[int, ...]:
    """Returns the atomic numbers in some ligands, ascending."""
    return tuple(sorted({atom.GetAtomicNum() for system in systems for atom in system.mol.GetAtoms()}))


def check_scope(system: LigandSystem, scope: Scope, name: str) -> None:
    """Checks that a model was trained for a system; for any ligand of its elements in any pocket, if it is transferable.

    Raises:
        InputError: If the ligand has an element that the model has not seen, or is in a pocket of which the model knows nothing.
    """
    from rdkit import Chem

    if identifier(system) in scope.systems:
        return
    table = Chem.GetPeriodicTable()
    unknown = [z for z in elements([system]) if scope.elements and z not in scope.elements]
    if unknown:
        raise InputError(
            f"{system.name}: has {', '.join(table.GetElementSymbol(z) for z in unknown)}, but the model '{name}' was trained on "
            f"{', '.join(table.GetElementSymbol(z) for z in scope.elements)} only; train or fine-tune a model for it"
        )
    if not scope.transferable:
        raise InputError(
            f"{system.name}: the model '{name}' was trained for {'another ligand, pocket or box' if len(scope.systems) == 1 else f'{len(scope.systems)} others'}; train "
            "a model for it, or allow it with --outside-scope, when nothing is known of the result"
        )


def check_features(system: LigandSystem, network: Mapping[str, Any], name: str) -> None:
    """Passes: a ligand in a pocket has all that a network of ligands reads."""


def fitting_batch(
    system: LigandSystem, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
) -> int:
    """Returns the wanted batch size, by default as many samples as memory has room for, at most those that are drawn at once."""
    if wanted:
        return wanted
    rows = max(1, _TOKENS // (len(system.torsions.heavy) * system.features.tokens))
    return max(1, min(most, rows, WITH_GRADIENTS) if gradients else min(most, rows))


def valid(system: LigandSystem, state: State) -> np.ndarray:
    """Tells which samples pass all checks, with shape (batch,)."""
    return check(pose_positions(system, state).cpu().numpy(), system).valid


def energy(system: LigandSystem, name: str) -> Energy:
    """Makes the energy of poses by its name; see `ligand_energy`."""
    return ligand_energy(system, name)


def check_energy(process: Process, name: str) -> None:
    """Checks that samples of a model can be weighted for an energy, or relaxed in one.

    Raises:
        InputError: If they are positions of atoms, which the docking score does not hold together.
    """
    if state_of(process) == "cartesian":
        raise InputError(
            f"energy: the model '{name}' is of the cartesian state, in which nothing but the model holds the bonds of a ligand: a docking score knows shift, turn and torsions "
            "only. Leave --energy and --relax out, or take a model of the torsional state"
        )


def relaxed(system: LigandSystem, state: State, energy: Energy) -> tuple[State, np.ndarray]:
    """Returns poses relaxed in an energy, and their energies in eV; see `relaxed_poses`."""
    return relaxed_poses(system, state, energy)


def positions(system: LigandSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of all atoms, in Å in the frame of the receptor, as an energy takes them."""
    return pose_positions(system, state)


def reference(system: LigandSystem) -> torch.Tensor:
    """Returns one conformation (1, N, 3) in the middle of the box, in Å, float64; it may overlap with the receptor."""
    return torch.from_numpy(system.reference)[None]


def properties(system: LigandSystem) -> dict[str, Maker]:
    """Returns nothing of the ligand's own that a guide can name."""
    return {}


def written(system: LigandSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, N, 3) of the atoms, in Å in the frame of the receptor."""
    return pose_positions(system, state)


def ensemble(system: LigandSystem, blocks: Sequence[Block], n: int, provenance: Mapping[str, Any]) -> LigandEnsemble:
    """Makes the ensemble of the first n valid samples; see `Ensemble.from_blocks`."""
    positions = []
    for block in blocks:
        fields = {name: torch.from_numpy(np.asarray(value)) for name, value in block.fields.items()}
        positions.append(pose_positions(system, State(fields)).numpy())
    return LigandEnsemble.from_blocks(system, positions, blocks, n, provenance)


def interpolate(model: Any, a: Any, b: Any, **options: Any) -> Any:
    """Refuses: what lies between two poses is no path that a ligand takes.

    Raises:
        InputError: Always.
    """
    raise InputError("interpolate: is for molecules and proteins; between two poses of a ligand lies the receptor")
