"""Small proteins of random frames, and networks of frames with random weights."""

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SO3, CentredEuclidean
from equilibra.geometry import so3
from equilibra.nn.frames import FrameNetwork, FrameNetworkConfig
from equilibra.state import Features, State
from equilibra.testing.invariance import randomise_parameters_

SCALE = 6.0
PROCESS = Process(
    {
        "trans": Field(space=CentredEuclidean(), schedule=VarianceExploding(sigma_min=0.05, sigma_max=48.0), data_scale=SCALE),
        "rot": Field(space=SO3(), schedule=VarianceExploding(sigma_min=0.02, sigma_max=2.4)),
    }
)
VOCABULARY = {"node_vocabulary": {"residue": 21}, "pair_vocabulary": {"offset": 66}}
SIZE = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 4, "basis": 8, "channels": 4, "points": 2, "pair_value": 4}
EXTRA = {"extra_node": 5, "extra_pair": 7}


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def protein(residues, seed, *, chains=1, extra=False):
    """Features and a State of a random protein of one or two chains."""
    g = seeded(seed)
    number = torch.arange(residues)
    offset = (number[None] - number[:, None]).clamp(-32, 32) + 32
    if chains == 2:
        other = (number < residues // 2)[:, None] != (number < residues // 2)[None]
        offset = torch.where(other, 65, offset)
    node, pair = {"residue": torch.randint(21, (residues,), generator=g)}, {"offset": offset}
    if extra:
        node["extra"] = torch.randn(residues, EXTRA["extra_node"], generator=g, dtype=torch.float64)
        pair["extra"] = torch.randn(residues, residues, EXTRA["extra_pair"], generator=g, dtype=torch.float64)
    x = SCALE * torch.randn(1, residues, 3, generator=g, dtype=torch.float64)
    rot = so3.uniform((1, residues), generator=g, dtype=torch.float64)
    return Features(node=node, pair=pair), State({"trans": x - x.mean(1, keepdim=True), "rot": rot})


def fresh(kind=FrameNetwork, seed=0, **changes):
    """A network with its initial weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return kind(FrameNetworkConfig(**{**VOCABULARY, **SIZE, **changes}))


def denoiser(seed=0, dtype=torch.float64, scale=0.1, **changes):
    """A denoiser with random weights."""
    network = fresh(seed=seed, **changes)
    randomise_parameters_(network, generator=seeded(seed + 1), scale=scale)
    return NetworkDenoiser(network, PROCESS).to(dtype)
