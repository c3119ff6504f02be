"""Paths of a molecule between two conformations, through the latent space of a model; see `systems.paths`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.geometry.superposition import centre, superpose
from equilibra.state import State
from equilibra.systems.model import Model, domain, load
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import same_system
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.systems.paths import NETWORK_STEPS, EnsemblePath, check_options, path_between


@dataclass(frozen=True, kw_only=True, eq=False)
class MoleculePath(EnsemblePath):
    """A path between two conformations of a molecule; see `EnsemblePath`."""

    ensemble: MoleculeEnsemble


def interpolate(
    model: Model | str | Path,
    a: Any,
    b: Any,
    *,
    steps: int = 50,
    network_steps: int = NETWORK_STEPS,
    batch_size: int = 64,
    outside_scope: bool = False,
) -> MoleculePath:
    """Interpolates between two conformations of one molecule; B is first laid over A by its heavy atoms.

    Arguments:
        model: A model, or what `load` takes.
        a: The first conformation: a PDB or SDF file, or a system whose reference it is.
        b: The last conformation, of the same atoms in the same order.
        steps: Conformations on the path, A and B included.
        network_steps: Steps of the flow in each direction.
        batch_size: Conformations given to the network at once.
        outside_scope: Allow a molecule that the model was not trained for.

    Raises:
        InputError: If a number is out of range, a file cannot be read, the two are different molecules, or the model was not trained for
            the molecule.
    """
    check_options(steps=steps, network_steps=network_steps, batch_size=batch_size)
    first, last = (end if isinstance(end, MoleculeSystem) else molecule_system(end) for end in (a, b))
    same_system([first, last])
    model = model if isinstance(model, Model) else load(model)
    if not outside_scope:
        domain(model.domain).check_scope(first, model.scope, model.name)
    ends = torch.from_numpy(np.stack([first.reference, last.reference]))
    heavy = torch.tensor([atom.GetAtomicNum() > 1 for atom in first.mol.GetAtoms()])
    heavy = heavy if int(heavy.sum()) > 2 else torch.ones_like(heavy)
    laid = torch.stack([ends[0], superpose(ends[1], ends[0], heavy)])
    # one shift for each: the model's positions have their mean at the origin, and a shift does not undo the rotation
    state = State({FIELD: centre(laid).float()})
    path, provenance = path_between(
        model,
        first,
        state,
        names=(first.name, last.name),
        steps=steps,
        network_steps=network_steps,
        batch_size=batch_size,
    )
    positions = path.states.fields[FIELD].numpy()
    return MoleculePath(
        ensemble=MoleculeEnsemble(system=first, positions=positions, provenance=provenance),
        round_trip=(float(path.round_trip[0]), float(path.round_trip[1])),
    )
