import pytest
import torch

from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import CentredEuclidean, SymmetricMatrices, Torus
from equilibra.geometry import lattice, so3
from equilibra.testing import (
    FixedComponents,
    GaussianComponents,
    GaussianMixture,
    IGSO3Components,
    IGSO3Mixture,
    JointDistribution,
    LatticeGaussian,
    RelativeTorusMixture,
    SlabMixture,
    WrappedNormalComponents,
    WrappedNormalMixture,
)

WEIGHTS = torch.tensor([0.7, 0.3], dtype=torch.float64)
EXPLODING = VarianceExploding(sigma_min=0.02, sigma_max=3.0)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariances(k, d, seed):
    a = random(k, d, d, seed=seed)
    return 0.3 * torch.eye(d, dtype=torch.float64) + 0.2 * a @ a.transpose(-1, -2)


def joint(schedule=EXPLODING):
    return JointDistribution(
        WEIGHTS,
        {
            "pocket": FixedComponents(random(4, 3, seed=9)),
            "shift": GaussianComponents(random(2, 3, seed=1), torch.tensor([0.5, 0.7])),
            "turn": IGSO3Components(so3.exp(random(2, 3, seed=2)), torch.tensor([0.4, 0.5])),
            "torsions": WrappedNormalComponents(
                random(2, 2, seed=3), torch.tensor([0.3, 0.5]), space=Torus(period=6.283185307179586)
            ),
            "cell": GaussianComponents(
                lattice.from_vector(random(2, 6, seed=4)), covariances=covariances(2, 6, 5), space=SymmetricMatrices()
            ),
        },
        schedule,
    )


DISTRIBUTIONS = {
    "gaussian": lambda: GaussianMixture(WEIGHTS, random(2, 3), torch.tensor([0.5, 0.8]), schedule=VarianceLinear()),
    "anisotropic": lambda: GaussianMixture(WEIGHTS, random(2, 2, 2), random(2, 4, seed=1).abs() + 0.3, schedule=EXPLODING),
    "correlated": lambda: GaussianMixture(WEIGHTS, random(2, 3), covariances=covariances(2, 3, 2), schedule=EXPLODING),
    "centred": lambda: GaussianMixture(
        WEIGHTS, random(2, 3, 2), covariances=covariances(2, 4, 3), schedule=EXPLODING, space=CentredEuclidean()
    ),
    "lattice": lambda: LatticeGaussian(
        lattice.from_vector(random(6)), covariance=covariances(1, 6, 4)[0], schedule=VarianceLinear()
    ),
    "torus": lambda: WrappedNormalMixture(
        WEIGHTS, random(2, 2), torch.tensor([0.2, 0.6]), schedule=EXPLODING, space=Torus(period=2.5)
    ),
    "relative": lambda: RelativeTorusMixture(WEIGHTS, random(2, 2), torch.tensor([0.1, 0.3]), schedule=EXPLODING),
    "so3": lambda: IGSO3Mixture(WEIGHTS, so3.exp(random(2, 2, 3)), torch.tensor([[0.3, 0.5], [0.6, 0.4]]), schedule=EXPLODING),
    "slab": lambda: SlabMixture(WEIGHTS, 0.3 * random(2, 2, 3), torch.tensor([0.1, 0.3]), schedule=EXPLODING),
    "joint": joint,
}


@pytest.fixture(params=list(DISTRIBUTIONS))
def distribution(request):
    return DISTRIBUTIONS[request.param]()


@pytest.fixture
def joint_distribution():
    return joint()


@pytest.fixture
def make():
    return lambda name: DISTRIBUTIONS[name]()
