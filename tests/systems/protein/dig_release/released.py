"""What the tests of the released network share: the fixture, and a network whose scores are exact."""

import math
from pathlib import Path

import numpy as np
import torch

from equilibra.diffusion.space import CentredEuclidean
from equilibra.geometry import igso3
from equilibra.state import Features
from equilibra.systems.protein.dig_release.denoiser import released_process
from equilibra.systems.protein.dig_release.network import DigReleaseConfig, DigReleaseNetwork
from equilibra.testing import GaussianComponents, IGSO3Components, JointDistribution

FIXTURE = Path(__file__).with_name("released_network.npz")
TINY = DigReleaseConfig(dim=16, pair_dim=8, layers=2, heads=2, feed_forward=24)


def seeded(seed):
    return torch.Generator().manual_seed(seed)


def released_tensors():
    """The fixture's weights by the release's names."""
    with np.load(FIXTURE) as file:
        return {name[6:]: torch.from_numpy(file[name]) for name in file.files if name.startswith("state/")}


def released_case(case):
    """Inputs and outputs of one case."""
    with np.load(FIXTURE) as file:
        found = {name.split("/")[1]: torch.from_numpy(file[name]) for name in file.files if name.startswith(f"{case}/")}
    found["pair"] = found.pop("pair_u")[:, :, None] * found.pop("pair_v")[:, None]
    return found


def tiny_network(seed=0, dtype=torch.float64):
    """A network with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = DigReleaseNetwork(TINY)
        for layer in network.layers:
            torch.nn.init.normal_(layer.attention.point_weight)
    return network.to(dtype).eval()


def random_features(length, seed=0):
    """Shared features of one protein."""
    g = seeded(seed)
    single, pair = torch.randn(length, 384, generator=g), torch.randn(length, length, 128, generator=g)
    return Features(node={"extra": single}, pair={"extra": pair}).shared()


class ExactFrames(DigReleaseNetwork):
    """The outputs of the released network for a law whose scores are known, computed in the release's terms: Q = R^T, turned by Exp(v) Q.

    Two states of three residues with the weights 0.7 and 0.3: positions of width 1 Å about centres that are 20 Å apart, orientations of width `turn`.
    """

    def __init__(self, separation=20.0, width=1.0, turn=0.15 * math.sqrt(2.0)):
        super().__init__(TINY)
        self.double()
        process = released_process()
        weights = torch.tensor([0.7, 0.3], dtype=torch.float64)
        shape = CentredEuclidean().project(torch.randn(1, 3, 3, generator=seeded(1), dtype=torch.float64), None)[0]
        shape = 0.5 * separation * shape / shape.norm()
        rotations = igso3.sample(torch.full((2, 3), 5.0, dtype=torch.float64), generator=seeded(2))
        widths = torch.full((2,), width, dtype=torch.float64)
        turns = torch.full((2,), turn, dtype=torch.float64)
        self.law = JointDistribution(
            weights,
            {
                "trans": GaussianComponents(torch.stack([shape, -shape]), widths, space=CentredEuclidean()),
                "rot": IGSO3Components(rotations, turns),
            },
            {name: field.schedule for name, field in process.fields.items()},
        )
        self.means, self.rotations, self.width, self.turn = torch.stack([shape, -shape]), rotations, width, turn

    def scores(self, trans, q, t):
        """Scores of the positions, and of turns Exp(v) Q, at the time t (batch,)."""
        from equilibra.state import State

        sigma_t, sigma_r = 0.1 ** (1.0 - t) * 35.0**t, 0.02 ** (1.0 - t) * 1.65**t
        share = self.law.responsibilities(State({"trans": trans, "rot": q.transpose(-1, -2)}), t)
        variance = (self.width**2 + sigma_t**2)[:, None, None, None]
        pull = (self.means[None] - trans[:, None]) / variance
        tau = (0.5 * self.turn**2 + sigma_r**2)[:, None, None].expand(-1, 2, 3)
        centres = self.rotations.transpose(-1, -2)  # of Q
        turn = igso3.score(q[:, None] @ centres.transpose(-1, -2), tau)
        return (torch.einsum("bk,bk...->b...", share, x) for x in (pull, turn))

    @staticmethod
    def units(t):
        """Units in which the release's network gives the scores: 1 / sigma_T, and n(sigma_R)."""
        if bool((t == t[0]).all()):
            t = t[:1]  # one quadrature is enough
        sigma_t, sigma_r = 0.1 ** (1.0 - t) * 35.0**t, 0.02 ** (1.0 - t) * 1.65**t
        omega = torch.linspace(0.0, math.pi, 4001, dtype=torch.float64)[1:]
        law = igso3.log_density(omega, sigma_r[:, None] ** 2).exp() * (1.0 - omega.cos()) / math.pi
        square = torch.trapezoid(law * igso3.score_magnitude(omega, sigma_r[:, None] ** 2) ** 2, omega)
        return 1.0 / sigma_t, torch.sqrt(square / math.pi)

    def forward(self, context, trans, rot, step, mask=None):
        t = 1.0 - step / 500.0
        score_t, score_q = self.scores(trans, rot.transpose(-1, -2), t)
        unit_t, unit_q = self.units(t)
        return score_t / unit_t[:, None, None], score_q / unit_q[:, None, None]
