r"""The energy of a protein as a function of its frames.

Each residue is a rigid body that its frame carries,

.. math:: X_a = t_{i(a)} + R_{i(a)}\, X'_a, \qquad u(t, R) = E(X) / kT.

The local coordinates :math:`X'` come from all-atom structures: from one of them for all conformations, or from each its own, in which case the
energy and the scores are those of that very structure. An amide hydrogen and a carbonyl oxygen move with their own residue although the
neighbour's position should place them, so that far from the structure that gave the local coordinates the energy is that of strained peptide planes.

Note:
    The score of rigid residues is not that of the frames' density, which is an average over side chains and solvent: it is a noisy label of
    it, never an exact boundary value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.openmm_system import FORCE_FIELDS, ForceFieldConfig
from equilibra.errors import InputError, ShapeError, unknown_key_message
from equilibra.nn.frames import ROT, TRANS
from equilibra.state import Features, State
from equilibra.systems.protein.forces import frame_scores
from equilibra.systems.protein.peptides import AllAtomProtein, FloatArray, all_atom_protein
from equilibra.systems.protein.rigid import RigidResidues
from equilibra.systems.protein.system import ProteinSystem


class FrameEnergy:
    """Reduced energy of frames with counted calls.

    Arguments:
        energy: Reduced energy of all atoms; it counts the calls.
        residues: The atoms that the frames carry.
    """

    def __init__(self, energy: ReducedEnergy, residues: RigidResidues) -> None:
        if energy.energy.items != len(residues.residue):
            raise ShapeError("residues", f"{len(residues.residue)} atoms", f"the {energy.energy.items} atoms of the energy")
        self.reduced = energy
        self.residues = residues

    @property
    def calls(self) -> int:
        """Conformations whose energy was asked for so far; an energy with its scores is one call."""
        return self.reduced.calls

    @property
    def kt(self) -> float:
        """Thermal energy in eV."""
        return self.reduced.kt

    def carrying(self, protein: AllAtomProtein, positions: FloatArray | Tensor) -> FrameEnergy:
        """Returns the energy with the side chains of other all-atom structures; calls are counted together."""
        return FrameEnergy(self.reduced, RigidResidues.of(protein, positions))

    def __call__(self, state: State) -> Tensor:
        """Returns u (batch,) of the fields `trans` and `rot`; differentiable."""
        return self.reduced(self.residues.positions(*self._frames(state)))

    def with_scores(self, state: State) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns u (batch,), and the scores at zero noise of `trans` (1/Å) and `rot` (1/rad, global frame); all detached, zero where padded."""
        trans, rot = (field.detach() for field in self._frames(state))
        x = self.residues.positions(trans, rot)
        u, force = self.reduced.with_force(x)
        scores = frame_scores(x, force, self.residues.residue.to(x.device), trans, 1.0)
        short = state.fields[TRANS].shape[1] - self.residues.length
        return u, {name: torch.nn.functional.pad(score, (0, 0, 0, short)) for name, score in scores.items()}

    def batch(self, state: State, features: Features) -> TrainingBatch:
        """Returns clean frames with their energies and scores as an objective wants them."""
        u, scores = self.with_scores(state)
        return TrainingBatch(state, features, forces=scores, energies=u)

    def _frames(self, state: State) -> tuple[Tensor, Tensor]:
        """Returns the frames of the protein's residues; padding comes after them."""
        trans, rot = state.fields[TRANS], state.fields[ROT]
        length = self.residues.length
        if trans.shape[1] < length:
            raise ShapeError("frames of the energy", tuple(trans.shape), f"(batch, {length}, 3), or padded to more residues")
        if trans.shape[1] > length:
            mask = state.mask(TRANS)
            if mask is None or bool((mask.sum(1) != length).any()):
                raise ShapeError("frames of the energy", f"{trans.shape[1]} residues", f"{length}, or a mask of so many")
        return trans[:, :length], rot[:, :length]


def protein_energy(
    system: ProteinSystem | AllAtomProtein,
    name: str = "amber14-obc2",
    *,
    temperature: float = 300.0,
    structure: FloatArray | Tensor | None = None,
    compile: bool = False,
) -> FrameEnergy:
    """Makes the reduced energy of a protein's frames in a force field, batched and differentiable in PyTorch.

    Arguments:
        system: The protein, or its all-atom form.
        name: A key of `FORCE_FIELDS`.
        temperature: Temperature in K.
        structure: All-atom positions ([batch,] atoms, 3) in Å, in the order of the all-atom form, that give the side chains, for example relaxed
            frames of an ensemble; by default the built, extended structure, which is good for little but tests.
        compile: Compile the energy: pays from some thousand calls on.

    Raises:
        InputError: If there is no such force field, or it cannot describe the protein.
        ShapeError: If the structure has other atoms.
    """
    from equilibra.energies.molecular_mechanics import molecular_mechanics

    if name not in FORCE_FIELDS:
        raise InputError(unknown_key_message("force field", name, FORCE_FIELDS))
    protein = system if isinstance(system, AllAtomProtein) else all_atom_protein(system)
    mechanics = molecular_mechanics(protein.topology, ForceFieldConfig(name=name), compile=compile)
    residues = RigidResidues.of(protein, np.array(protein.reference) if structure is None else structure)
    return FrameEnergy(ReducedEnergy.at(mechanics, temperature), residues)
