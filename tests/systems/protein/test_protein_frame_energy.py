"""The energy of frames: what residues carry, its scores, and the initial condition of PIDP."""

import math

import numpy as np
import pytest
import torch

from equilibra.diffusion.denoiser import Prediction
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.pidp import PIDP, PIDPConfig
from equilibra.diffusion.space import expand
from equilibra.energies.molecular_mechanics import molecular_mechanics
from equilibra.energies.openmm_system import ForceFieldConfig
from equilibra.errors import InputError, ShapeError
from equilibra.geometry import so3
from equilibra.state import State
from equilibra.systems.protein.energy import protein_energy
from equilibra.systems.protein.network import protein_process
from equilibra.systems.protein.peptides import all_atom_protein
from equilibra.systems.protein.relax import Relaxer
from equilibra.systems.protein.rigid import frames_of
from equilibra.systems.protein.system import ProteinSystem
from equilibra.units import thermal_energy

TEMPERATURE = 310.0


@pytest.fixture(scope="module")
def tripeptide():
    """The protein, its system, relaxed positions, and three States of frames near them."""
    system = ProteinSystem.of_chains(["AVS"], name="tripeptide")
    protein = all_atom_protein(system)
    positions = torch.from_numpy(Relaxer(protein)(protein.reference).positions)
    trans, rot = frames_of(protein, positions)
    generator = torch.Generator().manual_seed(2)
    shift, turn = (0.01 * torch.randn(3, 3, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    return protein, system, positions, State({"trans": trans + shift, "rot": so3.exp(turn) @ rot})


def test_at_its_own_frames_a_structure_comes_back_with_its_energy(tripeptide):
    protein, system, positions, _ = tripeptide
    trans, rot = frames_of(protein, positions)
    energy = protein_energy(system, temperature=TEMPERATURE, structure=positions)
    torch.testing.assert_close(energy.residues.positions(trans[None], rot[None])[0], positions)
    mechanics = molecular_mechanics(protein.topology, ForceFieldConfig(name="amber14-obc2"))
    u = energy(State({"trans": trans[None], "rot": rot[None]}))
    torch.testing.assert_close(u * thermal_energy(TEMPERATURE), mechanics.energy(positions[None]))


def test_scores_are_the_gradients_along_left_turns_and_calls_are_counted(tripeptide):
    protein, _, positions, state = tripeptide
    energy = protein_energy(protein, structure=positions)
    u, scores = energy.with_scores(state)
    assert energy.calls == 3
    shift, turn = (torch.zeros(3, 3, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    moved = State({"trans": state.fields["trans"] + shift, "rot": so3.exp(turn) @ state.fields["rot"]})
    again = energy(moved)
    gradients = torch.autograd.grad(again.sum(), (shift, turn))
    torch.testing.assert_close(u, again.detach())
    torch.testing.assert_close(scores["trans"], -gradients[0])
    torch.testing.assert_close(scores["rot"], -gradients[1])
    assert energy.calls == 6
    assert energy.carrying(protein, positions).calls == 6


def test_each_frame_can_carry_its_own_side_chains(tripeptide):
    protein, _, positions, _ = tripeptide
    rng = np.random.default_rng(0)
    structures = positions + 0.05 * torch.from_numpy(rng.normal(size=(2, *positions.shape)))
    trans, rot = frames_of(protein, structures)
    energy = protein_energy(protein, structure=structures)
    mechanics = molecular_mechanics(protein.topology, ForceFieldConfig(name="amber14-obc2"))
    u = energy(State({"trans": trans, "rot": rot}))
    torch.testing.assert_close(u * energy.kt, mechanics.energy(structures))
    with pytest.raises(ShapeError, match="one for each of the 2 all-atom structures"):
        energy(State({"trans": trans[:1], "rot": rot[:1]}))


def test_padded_residues_have_no_score(tripeptide):
    protein, _, positions, state = tripeptide
    energy = protein_energy(protein, structure=positions)
    pad = State(
        {
            "trans": torch.nn.functional.pad(state.fields["trans"], (0, 0, 0, 2)),
            "rot": torch.cat([state.fields["rot"], torch.eye(3, dtype=torch.float64).expand(3, 2, 3, 3)], 1),
        },
        {name: torch.tensor([True] * 3 + [False] * 2).expand(3, 5) for name in ("trans", "rot")},
    )
    u, scores = energy.with_scores(pad)
    exact, known = energy.with_scores(state)
    torch.testing.assert_close(u, exact)
    for name in ("trans", "rot"):
        torch.testing.assert_close(scores[name][:, :3], known[name])
        assert scores[name].shape == (3, 5, 3)
        assert not scores[name][:, 3:].any()
    with pytest.raises(ShapeError, match="a mask"):
        energy(State(dict(pad.fields)))


def test_pidp_takes_the_scores_as_its_initial_condition(tripeptide):
    """The force term vanishes for the true scores, sees a wrong factor in either field, and is in units of the network's output."""
    protein, system, positions, state = tripeptide
    energy = protein_energy(protein, structure=positions)
    batch = energy.batch(state, system.features.shared())
    process = protein_process(2.0)
    objective = PIDP(process, NoiseLevels(), PIDPConfig(residual=0.0, data=0.0, fraction=1.0))
    losses = {}
    for label, factors in {"true": (1.0, 1.0), "trans": (1.1, 1.0), "rot": (1.0, 1.1)}.items():

        def denoiser(noisy, t, features, factors=factors):
            return Prediction(
                {
                    name: factor * expand(process.sigma(name, t), batch.forces[name]) ** 2 * batch.forces[name]
                    for name, factor in zip(("trans", "rot"), factors, strict=True)
                }
            )

        losses[label] = float(objective(denoiser, batch, generator=torch.Generator().manual_seed(0))["loss_force"])
    assert losses["true"] < 1e-16
    # nothing pushes the whole molecule: the projection on mean-free vectors takes nothing away
    sigma = float(process.sigma("trans", torch.tensor([process.t_min], dtype=torch.float64)))
    out = sigma * 2.0 / math.sqrt(sigma**2 + 2.0**2)
    expected = 0.01 * float((sigma**2 / out * batch.forces["trans"]).square().sum((1, 2)).mean()) / (6 + 9)
    assert losses["trans"] == pytest.approx(expected, rel=1e-6)
    assert losses["rot"] > 0.0
    faithful = PIDP(process, NoiseLevels(), PIDPConfig.faithful(corrected=True))
    assert all(torch.isfinite(value).all() for value in faithful._forces(batch).values())


def test_unknown_force_fields_and_other_atoms_are_refused(tripeptide):
    protein, _, positions, _ = tripeptide
    with pytest.raises(InputError, match="unknown force field 'amber14-obc3'; did you mean"):
        protein_energy(protein, "amber14-obc3")
    with pytest.raises(ShapeError, match="all-atom positions"):
        protein_energy(protein, structure=positions[:-1])
    energy = protein_energy(protein)
    with pytest.raises(ShapeError, match="frames"):
        energy(State({"trans": torch.zeros(1, 2, 3), "rot": torch.zeros(1, 2, 3, 3)}))
