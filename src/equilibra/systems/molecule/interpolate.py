r"""Paths of a molecule between two conformations, through the latent space of a model.

Both conformations are encoded by the probability flow, joined by a great arc with linearly interpolated norms, and decoded; see
`sampling.interpolation`. A path is a hypothesis about a transition, not its mechanism. References: Zheng et al. (2023), eq. (A25).
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.geometry.superposition import centre, superpose
from equilibra.sampling.grid import noise_grid
from equilibra.sampling.interpolation import latent_path
from equilibra.state import State
from equilibra.systems.blocks import BatchedDenoiser
from equilibra.systems.model import Model, domain, load, versions
from equilibra.systems.molecule.ensemble import MoleculeEnsemble
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import same_system
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system

NETWORK_STEPS = 50
"""Steps of the flow by default: each direction takes two network calls per step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MoleculePath:
    """A path between two conformations.

    Attributes:
        ensemble: The conformations on the path, in order from A to B, valid or not; `validity` tells. They have no weights: a path is no
            sample of the equilibrium.
        round_trip: Root-mean-square distance per coordinate between A, B and what their encodings decode to, in Å.
    """

    ensemble: MoleculeEnsemble
    round_trip: tuple[float, float]

    def __len__(self) -> int:
        return len(self.ensemble)

    def save(self, folder: str | Path) -> Path:
        """Writes `path.pdb`, `path.xtc` and `path.csv` (torsions in degrees, checks) to a folder, and returns it.

        Raises:
            InputError: If the folder is not writable.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        for suffix in ("pdb", "xtc"):
            write_frames(folder / f"path.{suffix}", self.ensemble.positions, self.ensemble.system)
        write_text(folder / "path.csv", self._csv())
        return folder

    def _csv(self) -> str:
        torsions = self.ensemble.torsions()
        validity = self.ensemble.validity
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "fraction", "valid", *(f"{name} (degrees)" for name in torsions), "reasons"])
        for i in range(len(self)):
            angles = [f"{np.degrees(values[i]):.3f}" for values in torsions.values()]
            fraction = f"{i / max(len(self) - 1, 1):.6f}"
            rows.writerow([i, fraction, int(validity.valid[i]), *angles, "; ".join(validity.reasons(i))])
        return text.getvalue()


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
    for name, value, least in (("steps", steps, 2), ("network_steps", network_steps, 1), ("batch_size", batch_size, 1)):
        if value < least:
            raise InputError(f"{name}: got {value}, expected at least {least}")
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
    bound = BatchedDenoiser(model.bind(first), batch_size)
    levels = noise_grid(model.process, replace(model.sampler.grid, steps=network_steps))
    with torch.no_grad():
        path = latent_path(lambda size: bound, state, levels, steps=steps)
    round_trip = (float(path.round_trip[0]), float(path.round_trip[1]))
    provenance = {
        "kind": "path of molecule",
        "model": model.name,
        "weights": model.sha256,
        "system": first.digest,
        "ends": [first.name, last.name],
        "network_steps": network_steps,
        "round_trip_angstrom": [round(value, 6) for value in round_trip],
        "temperature_k": model.scope.temperature,
        "versions": versions(),
    }
    positions = path.states.fields[FIELD].numpy()
    return MoleculePath(
        ensemble=MoleculeEnsemble(system=first, positions=positions, provenance=provenance), round_trip=round_trip
    )
