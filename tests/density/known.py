"""Distributions with known densities on every Space, and helpers of the density tests."""

import math

import torch

from equilibra.diffusion.denoiser import Denoiser, NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import CentredEuclidean, Torus
from equilibra.geometry import so3
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork
from equilibra.state import Features, State
from equilibra.testing import (
    GaussianMixture,
    IGSO3Mixture,
    JointDistribution,
    LatticeGaussian,
    RelativeTorusMixture,
    SlabMixture,
    WrappedNormalMixture,
)
from equilibra.testing.components import FixedComponents, GaussianComponents
from equilibra.testing.curved_components import IGSO3Components, WrappedNormalComponents


def tensor(values):
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


WEIGHTS = tensor([0.7, 0.3])
WIDE = VarianceExploding(sigma_min=0.01, sigma_max=200.0)


def euclidean(schedule=WIDE):
    # zero mean, as the prior has
    return GaussianMixture(WEIGHTS, tensor([[1.2, -0.6], [-2.8, 1.4]]), tensor([1.0, 0.3]), schedule=schedule)


def gaussian():
    return GaussianMixture(tensor([1.0]), tensor([[0.0, 0.0, 0.0]]), tensor([0.7]), schedule=WIDE)


def harmonic(items=3):
    """Particles tied to their centre, u = k/2 sum |x_i - x_c|^2 with k = 4: width 1/2 per mean-free axis."""
    return GaussianMixture(
        tensor([1.0]), torch.zeros(1, items, 2, dtype=torch.float64), tensor([0.5]), schedule=WIDE, space=CentredEuclidean()
    )


def centred():
    means = torch.randn(2, 3, 2, generator=seeded(3), dtype=torch.float64)
    means = means - means.mean(1, keepdim=True)
    means = means - (WEIGHTS[:, None, None] * means).sum(0)
    return GaussianMixture(WEIGHTS, means, tensor([0.6, 0.3]), schedule=WIDE, space=CentredEuclidean())


def lattice():
    covariance = torch.diag(tensor([0.3, 0.5, 0.4, 0.2, 0.6, 0.3]))
    covariance[0, 3] = covariance[3, 0] = 0.1
    return LatticeGaussian(torch.zeros(3, 3, dtype=torch.float64), schedule=WIDE, covariance=covariance)


def torus():
    schedule = VarianceExploding(sigma_min=0.02, sigma_max=14.0)
    means = tensor([[[0.5], [2.0]], [[-2.0], [3.0]]])
    return WrappedNormalMixture(WEIGHTS, means, tensor([0.5, 0.3]), schedule=schedule, space=Torus(period=2.0 * math.pi))


def relative():
    schedule = VarianceExploding(sigma_min=0.003, sigma_max=1.5)
    return RelativeTorusMixture(WEIGHTS, tensor([[0.2, 0.3], [-0.3, 0.1]]), tensor([0.08, 0.05]), schedule=schedule)


def rotations():
    means = so3.exp(tensor([[[0.3, 0.2, -0.5], [1.0, 0.0, 0.4]], [[-1.5, 0.7, 0.2], [0.1, 2.0, 0.3]]]))
    return IGSO3Mixture(WEIGHTS, means, tensor([0.5, 0.4]), schedule=VarianceExploding(sigma_min=0.03, sigma_max=4.5))


def slab():
    schedule = VarianceExploding(sigma_min=0.003, sigma_max=6.0)
    means = tensor([[[0.1, 0.2, 0.03]], [[-0.3, 0.4, -0.07]]])
    return SlabMixture(WEIGHTS, means, tensor([0.08, 0.06]), schedule=schedule)


def joint():
    """Position (linear schedule), rotation, torsion and a fixed field, coupled by the label, each with its own schedule."""
    laws = {
        "x": GaussianComponents(tensor([[0.6, 0.0], [-1.4, 0.0]]), tensor([0.7, 0.4])),
        "anchor": FixedComponents(tensor([1.0, 2.0])),
        "turn": IGSO3Components(so3.exp(tensor([[[0.3, 0.2, -0.5]], [[-1.2, 0.3, 0.2]]])), tensor([0.5, 0.4])),
        "torsion": WrappedNormalComponents(tensor([[0.5], [-2.0]]), tensor([0.5, 0.3]), space=Torus(period=2.0 * math.pi)),
    }
    schedules = {
        "x": VarianceLinear(scale=1.0, t_min=2e-3),
        "anchor": WIDE,
        "turn": VarianceExploding(sigma_min=0.03, sigma_max=4.5),
        "torsion": VarianceExploding(sigma_min=0.02, sigma_max=14.0),
    }
    return JointDistribution(WEIGHTS, laws, schedules)


EVERY = {
    "gaussian": gaussian,
    "euclidean": euclidean,
    "harmonic": harmonic,
    "centred": centred,
    "lattice": lattice,
    "torus": torus,
    "relative": relative,
    "rotations": rotations,
    "slab": slab,
    "joint": joint,
}


def exact(distribution, state):
    """Returns the log-density at the smallest noise of the process."""
    t = torch.full((state.batch_size,), distribution.process.t_min, dtype=torch.float64)
    return distribution.log_density(state, t)


class Function(Denoiser):
    """A denoiser of one centred field "x" from a function of its positions and noise."""

    def __init__(self, function, space=None):
        schedule = VarianceExploding(sigma_min=0.05, sigma_max=20.0)
        self.process = Process({"x": Field(space=space or CentredEuclidean(), schedule=schedule)})
        self.function = function

    def __call__(self, state, t):
        from equilibra.diffusion.denoiser import Prediction

        x = state.fields["x"]
        value = self.process.fields["x"].space.project(self.function(x), state.mask("x"))
        sigma = self.process.sigma("x", t)[:, None, None]
        return Prediction({"x": sigma**2 / (1.0 + sigma**2) * (value - x)})


def network(tokens=4, seed=0):
    """Returns a network of double precision with random weights, and features of one system."""
    torch.manual_seed(seed)
    config = GraphormerConfig(
        node_vocabulary={"kind": 3}, pair_vocabulary={"bond": 2}, dim=16, pair_dim=8, layers=1, heads=2, basis=8
    )
    process = Process({"pos": Field(space=CentredEuclidean(), schedule=VarianceExploding(sigma_min=0.05, sigma_max=20.0))})
    model = NetworkDenoiser(PositionNetwork(config), process).double().eval()
    features = Features(
        node={"kind": torch.arange(tokens) % 3}, pair={"bond": torch.ones(tokens, tokens, dtype=torch.long).tril(1).triu(-1)}
    )
    return model, features


def positions(batch, tokens=4, seed=0):
    x = torch.randn(batch, tokens, 3, generator=seeded(seed), dtype=torch.float64)
    return State({"pos": x - x.mean(1, keepdim=True)})


def pose(weights):
    """Poses of a ligand: two modes of shift, turn and two torsions that exclude each other."""
    turns = torch.stack([so3.exp(tensor([0.5, -1.0, 0.3])), so3.exp(tensor([-0.8, 0.2, 2.0]))])[:, None]
    return JointDistribution(
        tensor(list(weights)),
        {
            "shift": GaussianComponents(tensor([[[0.8, -0.4, 0.0]], [[-1.0, 0.6, 0.4]]]), tensor([0.4, 0.3])),
            "turn": IGSO3Components(turns, tensor([0.4, 0.3])),
            "torsions": WrappedNormalComponents(
                tensor([[[1.0], [-2.8]], [[-1.2], [0.4]]]), tensor([0.4, 0.5]), space=Torus(period=2 * math.pi)
            ),
        },
        {
            "shift": VarianceExploding(sigma_min=0.05, sigma_max=8.0),
            "turn": VarianceExploding(sigma_min=0.05, sigma_max=2.5),
            "torsions": VarianceExploding(sigma_min=0.05, sigma_max=5.0),
        },
        log_z=1.3,
    )
