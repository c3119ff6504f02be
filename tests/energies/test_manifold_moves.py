"""Hamiltonian moves on R^3 x SO(3) x T^2: exact for known targets, by z-scores over independent walkers."""

import math

import pytest
import torch

from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, Euclidean, Fixed, Torus
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.energies.manifold_moves import ManifoldMoves
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.energies.walkers import evaluate
from equilibra.errors import InputError
from equilibra.geometry import so3
from equilibra.state.packing import Concatenated

SCHEDULE = VarianceExploding(sigma_min=0.01, sigma_max=2.0)
PROCESS = Process(
    {
        "shift": Field(space=Euclidean(), schedule=SCHEDULE),
        "turn": Field(space=SO3(), schedule=SCHEDULE),
        "torsions": Field(space=Torus(period=2 * math.pi), schedule=SCHEDULE),
        "label": Field(space=Fixed(), schedule=SCHEDULE),
    }
)
PACKING = Concatenated(
    {"label": (1,), "shift": (1, 3), "turn": (1, 3, 3), "torsions": (2, 1)},
    moving=("shift", "turn", "torsions"),
    tangents={"turn": (1, 3)},
)
KAPPA, NU, STIFF = 2.0, 1.5, 4.0


class Known(Energy):
    """Gaussian shift, matrix Fisher turn tr R, von Mises torsions, and a term that couples the turn to the first torsion."""

    items, axes, invariant, name = PACKING.width, 1, False, "known"

    def __init__(self, coupling=0.0):
        self.coupling = coupling

    def energy(self, x):
        f = PACKING.split(x)
        trace = f["turn"][:, 0].diagonal(dim1=-2, dim2=-1).sum(-1)
        angles = f["torsions"][..., 0]
        u = 0.5 * STIFF * f["shift"].square().sum((1, 2)) - NU * trace - KAPPA * torch.cos(angles).sum(1)
        return u - self.coupling * torch.cos(angles[:, 0]) * f["turn"][:, 0, 2, 2]

    def energy_and_force(self, x):
        v = {name: torch.zeros(len(x), *shape, dtype=x.dtype, requires_grad=True) for name, shape in PACKING.tangents.items()}
        f = PACKING.split(x.detach())
        with torch.enable_grad():
            moved = {name: PROCESS.fields[name].space.retract(f[name], step) for name, step in v.items()}
            u = self.energy(PACKING.joined({**f, **moved}))
            gradients = torch.autograd.grad(u.sum(), list(v.values()))
        return u.detach(), PACKING.padded({name: -g for name, g in zip(v, gradients, strict=True)})


def starts(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    return PACKING.joined(
        {
            "label": torch.arange(n, dtype=torch.float64)[:, None],
            "shift": torch.randn(n, 1, 3, generator=g, dtype=torch.float64),
            "turn": so3.uniform((n, 1), generator=g, dtype=torch.float64),
            "torsions": 2 * math.pi * (torch.rand(n, 2, 1, generator=g, dtype=torch.float64) - 0.5),
        }
    )


def expected_cosine(kappa):
    angle = torch.linspace(-math.pi, math.pi, 20_001, dtype=torch.float64)
    w = torch.exp(kappa * torch.cos(angle))
    return float((w * torch.cos(angle)).sum() / w.sum())


def expected_trace(nu):
    omega = torch.linspace(0, math.pi, 20_001, dtype=torch.float64)
    trace = 1 + 2 * torch.cos(omega)
    w = (1 - torch.cos(omega)) * torch.exp(nu * trace)
    return float((w * trace).sum() / w.sum())


def z_score(values, expected):
    return abs(float(values.mean()) - expected) / (float(values.std()) / math.sqrt(len(values)))


@pytest.mark.parametrize("jumps", [0.0, 0.4])
@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_targets_with_known_answers(beta, jumps):
    g = torch.Generator().manual_seed(1)
    reduced = ReducedEnergy(Known())
    masses = {"shift": 4.0, "turn": 3.0}
    moves = ManifoldMoves(PROCESS, PACKING, 0.5, leapfrog=4, masses=masses, jumps=jumps, free=("torsions",))
    n = 1500
    walkers, acceptance = moves(evaluate(starts(n), reduced), reduced, generator=g, beta=beta, moves=40)
    assert 0.5 < float(acceptance.mean()) < 0.999
    f = PACKING.split(walkers.x)
    assert torch.equal(f["label"][:, 0], torch.arange(n, dtype=torch.float64))
    assert torch.allclose(f["turn"] @ f["turn"].mT, torch.eye(3, dtype=torch.float64).expand(n, 1, 3, 3), atol=1e-10)
    assert float(f["torsions"].abs().max()) <= math.pi
    assert z_score(f["shift"].square().sum((1, 2)), 3 / (STIFF * beta)) < 4
    assert z_score(f["turn"][:, 0].diagonal(dim1=-2, dim2=-1).sum(-1), expected_trace(NU * beta)) < 4
    assert z_score(torch.cos(f["torsions"][:, 0, 0]), expected_cosine(KAPPA * beta)) < 4
    # a mean zero that a wrong frame of momenta would not keep
    assert z_score(f["turn"][:, 0, 0, 1] - f["turn"][:, 0, 1, 0], 0.0) < 4
    assert torch.allclose(walkers.u, reduced(walkers.x), atol=1e-9)


def test_coupled_fields_under_parallel_tempering():
    reduced = ReducedEnergy(Known(coupling=3.0))
    moves = ManifoldMoves(PROCESS, PACKING, 0.2, leapfrog=3, masses={"shift": 4.0, "turn": 3.0})
    engine = ParallelTempering(reduced, geometric_betas(3.0, 3), 300, moves, moves_per_sweep=1)
    g = torch.Generator().manual_seed(2)
    state = engine.burn_in(engine.start(starts(300, seed=3), generator=g), sweeps=25, generator=g)
    last = list(engine.run(state, sweeps=10, every=10, generator=g))[-1]
    f = PACKING.split(last.x[0])
    # quadrature over the angle of the axis and the torsion: R_33 is even on [-1, 1] for uniform turns, with the trace marginalised by sampling
    turns = so3.uniform((40_000,), generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    trace, zz = turns.diagonal(dim1=-2, dim2=-1).sum(-1), turns[:, 2, 2]
    angle = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)[:-1]
    w = torch.exp(NU * trace[:, None] + (KAPPA + 3.0 * zz[:, None]) * torch.cos(angle))
    expected = float((w * zz[:, None] * torch.cos(angle)).sum() / w.sum())
    assert z_score(f["turn"][:, 0, 2, 2] * torch.cos(f["torsions"][:, 0, 0]), expected) < 4
    assert bool((last.swap_acceptance > 0.05).all())


class OfKinds(Known):
    """The same, of three kinds that a label tells: each with an energy of its own, and a width of its own of the second torsion."""

    offsets = torch.tensor([0.0, 1.2, -0.4], dtype=torch.float64)
    kappas = torch.tensor([0.0, 1.0, -2.5], dtype=torch.float64)

    def energy(self, x):
        f = PACKING.split(x)
        kind = f["label"][:, 0].long()
        return super().energy(x) + self.offsets[kind] - self.kappas[kind] * torch.cos(f["torsions"][:, 1, 0])


@pytest.mark.parametrize("beta", [1.0, 0.4])
def test_kinds_have_the_populations_of_their_partition_functions(beta):
    g = torch.Generator().manual_seed(5)
    reduced = ReducedEnergy(OfKinds())
    masses = {"shift": 4.0, "turn": 3.0}
    moves = ManifoldMoves(PROCESS, PACKING, 0.5, leapfrog=4, masses=masses, jumps=0.6, free=("torsions",), choices={"label": 3})
    x = starts(1500)
    x[:, -1] = 0.0  # all of one kind
    walkers, _ = moves(evaluate(x, reduced), reduced, generator=g, beta=beta, moves=40)
    f = PACKING.split(walkers.x)
    kind = f["label"][:, 0]
    assert set(kind.tolist()) == {0.0, 1.0, 2.0}
    z = torch.exp(-beta * OfKinds.offsets) * torch.special.i0(beta * (KAPPA + OfKinds.kappas))
    for number, p in enumerate((z / z.sum()).tolist()):
        assert z_score((kind == number).double(), p) < 4
    assert torch.allclose(walkers.u, reduced(walkers.x), atol=1e-9)


def test_what_cannot_be():
    with pytest.raises(InputError, match="step"):
        ManifoldMoves(PROCESS, PACKING, 0.0)
    with pytest.raises(InputError, match="leapfrog 0"):
        ManifoldMoves(PROCESS, PACKING, 0.1, leapfrog=0)
    with pytest.raises(InputError, match="masses"):
        ManifoldMoves(PROCESS, PACKING, 0.1, masses={"turn": -1.0})
    with pytest.raises(InputError, match="choices"):
        ManifoldMoves(PROCESS, PACKING, 0.1, choices={"label": 0})
    stuck = Concatenated({"label": (1,)}, moving=("label",))
    with pytest.raises(InputError, match="fixed field"):
        ManifoldMoves(PROCESS, stuck, 0.1)


def test_packing_is_undone():
    x = starts(5)
    state = PACKING.state(x)
    assert torch.equal(PACKING.array(state), x)
    forces = {"shift": torch.randn(5, 1, 3), "turn": torch.randn(5, 1, 3), "torsions": torch.randn(5, 2, 1)}
    back = PACKING.forces(PACKING.padded(forces))
    assert all(torch.equal(back[name], value) for name, value in forces.items())
