"""A joint (fixed, R^3, SO(3), torus, lattice) state whose label couples the fields: marginals and couplings come out right."""

import math

import pytest
import torch
from targets import WEIGHTS, seeded, tensor

from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import SymmetricMatrices, Torus
from equilibra.errors import ConfigError
from equilibra.geometry import lattice, so3
from equilibra.sampling.churn import Churn
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Heun
from equilibra.sampling.sampler import draw
from equilibra.sampling.sde import ReverseDiffusion
from equilibra.testing import FixedComponents, GaussianComponents, IGSO3Components, JointDistribution, WrappedNormalComponents

STDS = tensor([0.35, 0.45])
ANGLES = tensor([[-1.0, 2.9], [1.2, 0.5]])
TURNS = so3.exp(tensor([[0.0, 0.0, 0.0], [0.4, 1.9, -0.8]]))
SHIFTS = tensor([[0.6, -0.3, 0.0], [-1.4, 0.7, 0.0]])
CELLS = lattice.from_vector(tensor([[0.3, 0.3, 0.0, 0.3, 0.0, 0.0], [-0.7, -0.7, 0.0, -0.7, 0.0, 0.0]]))
SAMPLERS = {
    "heun": (Heun(), 30),
    "dpm2m": (DPMSolver2M(), 45),
    "sde": (ReverseDiffusion(), 150),
    "churned": (Churn(Heun(), gamma=0.1), 35),
}


@pytest.fixture(scope="module")
def joint():
    pocket = torch.randn(5, 3, generator=seeded(0), dtype=torch.float64)
    return JointDistribution(
        WEIGHTS,
        {
            "pocket": FixedComponents(pocket),
            "shift": GaussianComponents(SHIFTS, tensor([0.5, 0.6])),
            "turn": IGSO3Components(TURNS, STDS),
            "torsions": WrappedNormalComponents(ANGLES, STDS, space=Torus(period=2 * math.pi)),
            "cell": GaussianComponents(CELLS, tensor([0.4, 0.3]), space=SymmetricMatrices()),
        },
        {
            "pocket": VarianceLinear(),
            "shift": VarianceExploding(sigma_min=0.01, sigma_max=40.0),
            "turn": VarianceExploding(sigma_min=0.02, sigma_max=1.65 * 2**0.5),
            "torsions": VarianceExploding(sigma_min=0.02, sigma_max=2 * math.pi),
            "cell": VarianceLinear(),
        },
    )


@pytest.mark.parametrize("name", list(SAMPLERS))
def test_joint_samples(joint, name):
    sampler, steps = SAMPLERS[name]
    n = 800
    like = joint.sample(n, generator=seeded(1))
    state = draw(sampler, joint, like, noise_grid(joint.process, GridConfig(steps=steps)), generator=seeded(2))
    assert torch.equal(state.fields["pocket"], like.fields["pocket"])

    label = 1.0 - 2.0 * (state.fields["shift"][:, 0] < -0.4).double()
    # averages given nothing, and products of two fields: with a factorised law the products would be those of the averages
    shift, turn = state.fields["shift"][:, 0], state.fields["turn"].diagonal(dim1=1, dim2=2).sum(1)
    torsion, cell = torch.cos(state.fields["torsions"][:, 0] - ANGLES[0, 0]), lattice.to_vector(state.fields["cell"])[:, 0]
    decay = torch.exp(-0.5 * STDS**2)
    mean_turn = torch.exp(-(STDS**2)) * TURNS.diagonal(dim1=1, dim2=2).sum(1)
    mean_torsion = decay * torch.cos(ANGLES[:, 0] - ANGLES[0, 0])
    mean_cell = lattice.to_vector(CELLS)[:, 0]
    exact = {
        "shift": (shift, SHIFTS[:, 0]),
        "shift squared": (shift**2, SHIFTS[:, 0] ** 2 + tensor([0.5, 0.6]) ** 2),
        "turn": (turn, mean_turn),
        "torsion": (torsion, mean_torsion),
        "cell": (cell, mean_cell),
        "cell squared": (cell**2, mean_cell**2 + tensor([0.4, 0.3]) ** 2),
        "shift x turn": (shift * turn, SHIFTS[:, 0] * mean_turn),
        "turn x torsion": (turn * torsion, mean_turn * mean_torsion),
        "torsion x cell": (torsion * cell, mean_torsion * mean_cell),
        "cell x turn": (cell * turn, mean_cell * mean_turn),
    }
    z = {k: float((v.mean() - (WEIGHTS * e).sum()) / (v.std() / math.sqrt(n))) for k, (v, e) in exact.items()}
    assert all(abs(value) < 4.0 for value in z.values()), z
    # the coupling is strong enough that a factorised sampler would fail
    assert (
        abs(float((WEIGHTS * SHIFTS[:, 0] * mean_turn).sum() - (WEIGHTS * SHIFTS[:, 0]).sum() * (WEIGHTS * mean_turn).sum()))
        > 0.3
    )
    share = joint.responsibilities(state)[:, 0]
    assert abs(float(share.mean()) - 0.7) < 4.0 * math.sqrt(0.21 / n)
    assert float((share * (label < 0)).mean()) < 0.05  # labels agree between fields


def test_all_fields_stay_on_their_spaces(joint):
    like = joint.sample(50, generator=seeded(3))
    state = draw(Heun(), joint, like, noise_grid(joint.process, GridConfig(steps=8)), generator=seeded(4))
    r = state.fields["turn"]
    assert float((r @ r.transpose(1, 2) - torch.eye(3)).abs().max()) < 1e-10
    assert float(state.fields["torsions"].abs().max()) <= math.pi
    assert torch.equal(state.fields["cell"], state.fields["cell"].transpose(1, 2))


def test_the_grid_ends_where_every_field_has_noise(joint):
    """A variance-preserving field has none at t = 0, where a variance-exploding reference has its smallest."""
    levels = noise_grid(joint.process, GridConfig(steps=20))
    assert levels[-2].t == pytest.approx(VarianceLinear().t_min, rel=1e-9)
    assert levels[-2].sigma["cell"] == pytest.approx(VarianceLinear().sigma_min, rel=1e-9)
    assert levels[-2].sigma["shift"] == pytest.approx(0.01, rel=0.01)
    assert set(levels[-1].sigma.values()) == {0.0}
    with pytest.raises(ConfigError, match="not every field has noise"):
        noise_grid(joint.process, GridConfig(steps=20, sigma_min=0.01))


def test_single_precision(joint):
    like = joint.sample(400, generator=seeded(5)).to(dtype=torch.float32)
    state = draw(DPMSolver2M(), joint, like, noise_grid(joint.process, GridConfig(steps=30)), generator=seeded(6))
    assert state.dtype == torch.float32
    share = joint.responsibilities(state.to(dtype=torch.float64))[:, 0]
    assert abs(float(share.mean()) - 0.7) < 4.0 * math.sqrt(0.21 / 400)
