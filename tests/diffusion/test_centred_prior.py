"""Priors about a point other than the origin: cells about a cube."""

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import SymmetricMatrices
from equilibra.geometry import lattice
from equilibra.state import Features, State

CENTRE, SCALE = 2.5, 0.4


class Zero(torch.nn.Module):
    """The ideal network for Gaussian data, which keeps what it was given."""

    def forward(self, inputs, levels, features):
        self.inputs = inputs
        return {"cell": torch.zeros_like(inputs["cell"])}


def process():
    schedule = VarianceExploding(sigma_min=0.01, sigma_max=4.0)
    return Process({"cell": Field(space=SymmetricMatrices(centre=CENTRE), schedule=schedule, data_scale=SCALE)})


def cells(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    return CENTRE * torch.eye(3, dtype=torch.float64) + SCALE * lattice.goe((count,), generator=g, dtype=torch.float64)


def test_gaussian_data_about_the_centre_need_no_network():
    made, t = process(), torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    x = made.noise(State({"cell": cells(3)}), t, generator=torch.Generator().manual_seed(1))
    denoiser = NetworkDenoiser(Zero(), made)
    found = denoiser(x, t, Features(node={"a": torch.zeros(3, 1)})).displacements["cell"]
    sigma = made.sigma("cell", t)[:, None, None]
    expected = -(x.fields["cell"] - CENTRE * torch.eye(3)) * sigma**2 / (sigma**2 + SCALE**2)
    assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_the_network_sees_unit_variance_at_every_noise():
    made, denoiser = process(), NetworkDenoiser(Zero(), process())
    t = torch.linspace(0.0, 1.0, 4000, dtype=torch.float64)
    x = made.noise(State({"cell": cells(4000)}), t, generator=torch.Generator().manual_seed(2))
    denoiser(x, t, Features(node={"a": torch.zeros(4000, 1)}))
    z = lattice.to_vector(denoiser.network.inputs["cell"])
    assert abs(float(z.mean())) < 4.0 / z.numel() ** 0.5
    assert abs(float(z.square().mean()) - 1.0) < 4.0 * (2.0 / z.numel()) ** 0.5


def test_the_prior_is_about_the_centre():
    made = process()
    like = State({"cell": torch.zeros(20_000, 3, 3, dtype=torch.float64)})
    drawn = made.prior(like, generator=torch.Generator().manual_seed(3)).fields["cell"]
    width = (4.0**2 + SCALE**2) ** 0.5
    z = lattice.to_vector(drawn - CENTRE * torch.eye(3)) / width
    assert float(z.mean(0).abs().max()) < 4.5 / len(z) ** 0.5
    assert float((z.square().mean(0) - 1.0).abs().max()) < 4.5 * (2.0 / len(z)) ** 0.5
    exact = torch.distributions.Normal(0.0, width).log_prob(z * width).sum(-1)
    assert torch.allclose(made.log_prior(State({"cell": drawn})), exact)


def test_a_path_between_two_cells_bends_about_the_centre():
    space, both = SymmetricMatrices(centre=CENTRE), cells(2, seed=4)
    middle = space.interpolate(both[:1], both[1:], 0.5, None) - CENTRE * torch.eye(3)
    plain = SymmetricMatrices().interpolate(*(part - CENTRE * torch.eye(3) for part in (both[:1], both[1:])), 0.5, None)
    assert torch.allclose(middle, plain)
