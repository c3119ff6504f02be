"""The protein's domain, as a Model uses it: input, network, scope, checks, memory and ensemble."""

from __future__ import annotations

import importlib
import importlib.util
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
from equilibra.errors import CheckpointError, InputError
from equilibra.nn.frames import ROT, TRANS, FrameNetworkConfig
from equilibra.state import State
from equilibra.systems.blocks import Block
from equilibra.systems.properties import Maker
from equilibra.systems.protein import memory
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import extended_frames, positions_of, written_atoms
from equilibra.systems.protein.network import protein_denoiser
from equilibra.systems.protein.properties import protein_properties
from equilibra.systems.protein.sources import protein_systems
from equilibra.systems.protein.system import NO_PROVIDER, ProteinSystem
from equilibra.systems.protein.validity import check
from equilibra.systems.scope import Scope

OTHER_NETWORKS = {"dig-release": "equilibra.systems.protein.dig_release.denoiser"}
"""Modules of networks that are not our own, by the `kind` in their JSON form. Each offers `network_config`, `denoiser` and `memory_needed`; its configuration has
`extra_node` and `extra_pair`.
"""

_SHOWN = 3  # sequences of a scope that a message names
_LONGEST = 30  # letters of a sequence in a message


def systems(source: Any) -> list[ProteinSystem]:
    """Reads the proteins of a source; see `protein_systems`."""
    return protein_systems(source)


def denoiser(
    process: Process, network: Mapping[str, Any], parametrisation: Parametrisation | Literal["energy"]
) -> TrainedDenoiser:
    """Makes the denoiser from the JSON form of its network."""
    if "kind" in network:
        made: TrainedDenoiser = _other(network).denoiser(process, network)
        return made
    return protein_denoiser(process, read_fields(FrameNetworkConfig, network), parametrisation=parametrisation)


def meant(source: Any, scope: Scope) -> Any:
    """Returns the source as it is: a sequence has one meaning."""
    return source


def template(system: ProteinSystem, n: int) -> State:
    """Makes a State with the shapes of n samples."""
    return State({TRANS: torch.zeros(n, system.length, 3), ROT: torch.eye(3).repeat(n, system.length, 1, 1)})


def identifier(system: ProteinSystem) -> str:
    """Returns the sequence, with `:` between chains."""
    return system.text


def check_scope(system: ProteinSystem, scope: Scope, name: str) -> None:
    """Checks that a model was trained for a protein: any, if it is transferable, else one of its scope's sequences.

    Raises:
        InputError: If the model has not seen the sequence and is not meant for others.
    """
    if scope.transferable or identifier(system) in scope.systems:
        return
    shown = ", ".join(_short(sequence) for sequence in scope.systems[:_SHOWN])
    others = len(scope.systems) - _SHOWN
    raise InputError(
        f"{system.name}: is the sequence {_short(identifier(system))}, but the model '{name}' was trained on "
        f"{shown}{f' and {others} other sequences' if others > 0 else ''} only; train or fine-tune a model for it, or allow it with "
        "--outside-scope, when nothing is known of the result"
    )


def check_features(system: ProteinSystem, network: Mapping[str, Any], name: str) -> None:
    """Checks that a protein has the features of residues and pairs that a network was made for, and no others; or none, if the network was trained for both.

    Raises:
        InputError: If features are missing, of another width, or not known to the network.
    """
    config = _other(network).network_config(network) if "kind" in network else read_fields(FrameNetworkConfig, network)
    wanted = {"residues": config.extra_node, "pairs": config.extra_pair}
    found = dict(zip(wanted, system.extra_widths, strict=True))
    if network.get("optional_features", False) and not any(found.values()):
        return
    for scope, width in wanted.items():
        if found[scope] == width:
            continue
        source = f" from the provider '{system.provider}'" if system.provider != NO_PROVIDER else ""
        if not found[scope]:
            raise InputError(
                f"{system.name}: the model '{name}' needs features of {scope} of the width {width}, but the protein has none{source}; give those of the "
                "provider that the model was trained with"
            )
        expected = f"needs the width {width}" if width else "knows none: leave them out"
        raise InputError(
            f"{system.name}: got features of {scope} of the width {found[scope]}{source}, but the model '{name}' {expected}"
        )


def memory_needed(network: Mapping[str, Any], length: int, batch: int) -> int:
    """Returns the bytes that one call of a network needs for a batch of chains of some length; see `memory.memory_needed`."""
    if "kind" in network:
        other = _other(network)
        return int(other.memory_needed(length, batch, other.network_config(network)))
    return memory.memory_needed(length, batch, read_fields(FrameNetworkConfig, network))


def fitting_batch(
    system: ProteinSystem, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
) -> int:
    """Returns a batch size that memory allows; see `memory.fitting_batch`."""
    factor = memory.WITH_GRADIENTS if gradients else 1
    return memory.fitting_batch(
        system.length,
        network,
        wanted,
        most,
        needed=lambda length, batch, config: factor * memory_needed(config, length, batch),
    )


def valid(system: ProteinSystem, state: State) -> np.ndarray:
    """Tells which samples pass all checks, with shape (batch,)."""
    trans, rot = (state.fields[name].cpu().numpy() for name in (TRANS, ROT))
    return check(written_atoms(trans, rot, system), system).valid


def energy(system: ProteinSystem, name: str) -> Energy:
    """Refuses: exact weights need noise on flat spaces, and orientations have none.

    Raises:
        InputError: Always.
    """
    raise InputError(
        f"energy: got '{name}', but samples of proteins cannot be weighted by an energy: the energy of frames without side chains is not known"
    )


def positions(system: ProteinSystem, state: State) -> torch.Tensor:
    """Returns the C-alpha positions (batch, L, 3) of a State, in Å."""
    return state.fields[TRANS]


def reference(system: ProteinSystem) -> torch.Tensor:
    """Returns the C-alpha positions (1, L, 3) of an extended chain, in Å, float64."""
    return extended_frames(system)[0]


def properties(system: ProteinSystem) -> dict[str, Maker]:
    """Returns what makes the properties that a guide can name; see `protein_properties`."""
    return protein_properties(system, partial(positions, system))


def written(system: ProteinSystem, state: State) -> torch.Tensor:
    """Returns the positions (batch, atoms, 3) of the atoms that are written, in Å."""
    return positions_of(state.fields[TRANS], state.fields[ROT], system)


def ensemble(system: ProteinSystem, blocks: Sequence[Block], n: int, provenance: Mapping[str, Any]) -> ProteinEnsemble:
    """Makes the ensemble of the first n valid samples; see `Ensemble.from_blocks`."""
    atoms = [written_atoms(block.fields[TRANS], block.fields[ROT], system) for block in blocks]
    return ProteinEnsemble.from_blocks(system, atoms, blocks, n, provenance)


def interpolate(model: Any, a: Any, b: Any, **options: Any) -> Any:
    """Interpolates between two structures of one protein; see `protein.interpolate`."""
    from equilibra.systems.protein.interpolate import interpolate as path

    return path(model, a, b, **options)


def _other(network: Mapping[str, Any]) -> Any:
    """Returns the module of a network of another kind than ours, which may not be there."""
    kind = network["kind"]
    module = OTHER_NETWORKS.get(kind)
    if module is None or importlib.util.find_spec(module.rpartition(".")[0]) is None:
        raise CheckpointError(
            f"model: its network is of the kind '{kind}', which this installation does not know; update equilibra"
        )
    return importlib.import_module(module)


def _short(sequence: str) -> str:
    return sequence if len(sequence) <= _LONGEST else f"{sequence[:12]}...{sequence[-6:]} ({len(sequence)} letters)"
