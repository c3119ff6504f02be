"""The pair terms against the formula of the paper, written out with `math`."""

import math

import pytest
import torch

from equilibra.energies.docking.atom_types import XSCORE_TYPES, type_parameters
from equilibra.energies.docking.terms import CUTOFF, distances, pair_terms


def by_the_paper(r, first, second):
    a, b = XSCORE_TYPES[first], XSCORE_TYPES[second]
    d = r - a.radius - b.radius
    energy = -0.035579 * math.exp(-((d / 0.5) ** 2)) - 0.005156 * math.exp(-(((d - 3.0) / 2.0) ** 2))
    energy += 0.840245 * d * d if d < 0 else 0.0
    if a.hydrophobic and b.hydrophobic:
        energy -= 0.035069 * (1.0 if d <= 0.5 else 0.0 if d >= 1.5 else 1.5 - d)
    if (a.donor and b.acceptor) or (a.acceptor and b.donor):
        energy -= 0.587439 * (1.0 if d <= -0.7 else 0.0 if d >= 0 else d / -0.7)
    return energy if r < 8.0 else 0.0


def evaluate(r, first, second):
    (radius, hydrophobic, donor, acceptor) = type_parameters([first, second])
    bonding = (donor[0] * acceptor[1] + acceptor[0] * donor[1]).clamp_max(1.0)
    one = torch.ones_like(r)
    return pair_terms(r, radius.sum() * one, hydrophobic.prod() * one, bonding * one)


PAIRS = [
    ("C_H", "C_H"),
    ("C_H", "C_P"),
    ("N_D", "O_A"),
    ("N_DA", "O_DA"),
    ("O_A", "O_A"),
    ("Met_D", "N_A"),
    ("I_H", "Br_H"),
    ("P_P", "S_P"),
]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_terms_are_those_of_the_paper(first, second):
    r = torch.cat((torch.linspace(0.0, 8.5, 400, dtype=torch.float64), torch.tensor([CUTOFF], dtype=torch.float64)))
    expected = torch.tensor([by_the_paper(float(each), first, second) for each in r], dtype=torch.float64)
    energy, _ = evaluate(r, first, second)
    assert torch.allclose(energy, expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_slopes_are_the_derivatives(first, second):
    r = torch.linspace(0.05, 7.95, 1234, dtype=torch.float64)
    step = 1e-6
    _, slope = evaluate(r, first, second)
    difference = (evaluate(r + step, first, second)[0] - evaluate(r - step, first, second)[0]) / (2 * step)
    contact = XSCORE_TYPES[first].radius + XSCORE_TYPES[second].radius
    kink = torch.stack([(r - contact - at).abs() < 2 * step for at in (-0.7, 0.0, 0.5, 1.5)]).any(0)
    assert torch.allclose(slope[~kink], difference[~kink], rtol=1e-6, atol=1e-8)


def test_step_at_the_cutoff_and_contact_are_as_documented():
    names = list(XSCORE_TYPES)
    last = torch.tensor([CUTOFF - 1e-9], dtype=torch.float64)
    steps = [float(evaluate(last, first, second)[0]) for first in names for second in names]
    assert min(steps) >= -0.005156
    assert max(steps) < 0
    contact, slope = evaluate(torch.tensor([1e-6], dtype=torch.float64), "C_P", "C_P")
    assert float(contact) == pytest.approx(0.840245 * 3.8**2, abs=1e-2)
    assert float(slope) == pytest.approx(-2 * 0.840245 * 3.8, abs=1e-2)


def test_atoms_on_top_of_each_other_have_a_finite_derivative():
    difference = torch.zeros(3, 1, dtype=torch.float64, requires_grad=True)
    length = distances(difference)
    (gradient,) = torch.autograd.grad(length.sum(), difference)
    assert float(length.detach()) == pytest.approx(1e-6)
    assert torch.equal(gradient, torch.zeros_like(gradient))
