"""FIRE: minima of a quadratic energy in closed form; structures that are done, or fail, are not asked for again."""

import math

import numpy as np
import torch

from equilibra.energies.adapters import CallableEnergy
from equilibra.energies.fire import minimise

CENTRE = torch.tensor([[0.3, -0.2, 1.0], [1.5, 0.0, -1.0]], dtype=torch.float64)
STIFF = torch.tensor([1.0, 4.0, 20.0], dtype=torch.float64)


def bowl(x):
    energy = 0.5 * (STIFF * (x - CENTRE) ** 2).sum((1, 2)) - 3.0
    return energy + torch.where(x[:, 0, 0].detach() > 50.0, math.nan, 0.0)


def test_minima_of_a_bowl():
    calls = []
    energy = CallableEnergy(lambda x: (calls.append(len(x)), bowl(x))[1], 2, invariant=False)
    starts = CENTRE + torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    starts[1] = CENTRE
    starts[3, 0, 0] = 60.0
    before = starts.clone()
    told = []
    found = minimise(energy, starts, force=1e-4, steps=400, progress=lambda done, total: told.append((done, total)))
    assert torch.equal(starts, before)
    assert found.converged.tolist() == [True, True, True, False]
    # a force of less than 1e-4 in the softest direction
    assert (found.x[:3] - CENTRE).abs().max() < 1e-4
    assert torch.allclose(found.energy[:3], torch.full((3,), -3.0, dtype=torch.float64), atol=1e-7)
    assert torch.isnan(found.energy[3])
    assert torch.equal(found.x[3], starts[3])
    assert found.calls[1] == found.calls[3] == 1
    assert sum(calls) == int(found.calls.sum())
    assert told[0] == (0, 400)
    short = minimise(energy, starts, force=1e-4, steps=2)
    assert short.calls.tolist() == [3, 1, 3, 1]
    assert not short.converged[0]


def test_a_force_that_is_not_finite_is_no_minimum():
    energy = CallableEnergy(
        lambda x: np.zeros(len(x)), 1, forces=lambda x: np.where(x[:, :1, :1] > 0, np.nan, 0.0) + 0.0 * x, invariant=False
    )
    found = minimise(energy, torch.tensor([[[1.0, 0.0, 0.0]], [[-1.0, 0.0, 0.0]]]), force=0.01, steps=5)
    assert found.converged.tolist() == [False, True]
    assert found.calls.tolist() == [1, 1]
