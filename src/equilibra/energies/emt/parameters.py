r"""Parameters of effective medium theory: the elements, the cut-off, and what follows from both.

References:
    | A semi-empirical effective medium theory for metals and alloys (Jacobsen, Stoltze and Nørskov, 1996), https://doi.org/10.1016/0039-6028(96)00816-3
    | ASE's `ase.calculators.emt`, from which the numbers for H, C, N and O, the constant beta and the cut-off are taken
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from equilibra.errors import InputError

BOHR = 0.5291772105638411
"""One bohr in Å by CODATA 2014, with which ASE converts its parameters; a later value moves energies of compressed systems by 1e-7 eV an atom."""

BETA = 1.809
r"""Distance of nearest neighbours in fcc by the Wigner-Seitz radius, :math:`(16\pi/3)^{1/3}/\sqrt 2`, as rounded in the paper and in ASE."""


class Element(NamedTuple):
    """Parameters of one element, in eV and bohr, as they are tabulated.

    Attributes:
        e0: Cohesive energy, negative, in eV.
        s0: Equilibrium Wigner-Seitz radius in bohr.
        v0: Strength of the pair energy in eV.
        eta2: Decay of the density in 1/bohr.
        kappa: Decay of the pair energy in 1/bohr.
        lambda_: Decay of the cohesive function in 1/bohr.
        n0: Density at equilibrium in 1/bohr³.
    """

    e0: float
    s0: float
    v0: float
    eta2: float
    kappa: float
    lambda_: float
    n0: float


ELEMENTS: dict[str, Element] = {
    "Al": Element(-3.28, 3.00, 1.493, 1.240, 2.000, 1.169, 0.00700),
    "Cu": Element(-3.51, 2.67, 2.476, 1.652, 2.740, 1.906, 0.00910),
    "Ag": Element(-2.96, 3.01, 2.132, 1.652, 2.790, 1.892, 0.00547),
    "Au": Element(-3.80, 3.00, 2.321, 1.674, 2.873, 2.182, 0.00703),
    "Ni": Element(-4.44, 2.60, 3.673, 1.669, 2.757, 1.948, 0.01030),
    "Pd": Element(-3.90, 2.87, 2.773, 1.818, 3.107, 2.155, 0.00688),
    "Pt": Element(-5.85, 2.90, 4.067, 1.812, 3.145, 2.192, 0.00802),
    # of these ASE says that they are for fun: a check of programs, no chemistry
    "H": Element(-3.21, 1.31, 0.132, 2.652, 2.790, 3.892, 0.00547),
    "C": Element(-3.50, 1.81, 0.332, 1.652, 2.790, 1.892, 0.01322),
    "N": Element(-5.10, 1.88, 0.132, 1.652, 2.790, 1.892, 0.01222),
    "O": Element(-4.60, 1.95, 0.332, 1.652, 2.790, 1.892, 0.00850),
}
"""The elements that EMT covers."""


@dataclass(frozen=True)
class Cutoff:
    r"""Smooth cut-off :math:`\theta(r) = 1/(1 + e^{a (r - r_c)})`, and the distance from which there is nothing at all.

    Attributes:
        centre: :math:`r_c`, half way between the third and the fourth neighbours of fcc, in Å.
        steepness: a in 1/Å: θ is 1e-4 at the fourth neighbours.
        end: Distance from which pairs are left out, in Å. Energies jump here by what is left of θ: 7e-6, or 3e-3 as in ASAP.
    """

    centre: float
    steepness: float
    end: float

    @classmethod
    def of(cls, symbols: Iterable[str], *, asap: bool) -> Cutoff:
        """Returns the cut-off for the largest of all elements or, like ASAP and old versions of ASE, of those present."""
        largest = max(ELEMENTS[symbol].s0 for symbol in (symbols if asap else ELEMENTS))
        first = BETA * largest * BOHR
        centre = first * (math.sqrt(3.0) + 2.0) / 2.0
        left = 1e-4
        steepness = math.log(1.0 / left - 1.0) / (2.0 * first - centre)
        return cls(centre, steepness, 1.045 * centre if asap else centre + 0.5)

    def theta(self, r: Tensor) -> Tensor:
        """Returns θ at distances in Å, without the end."""
        return torch.sigmoid(self.steepness * (self.centre - r))


@dataclass(frozen=True)
class AtomParameters:
    r"""Parameters of each atom of a system (atoms,), in eV and Å.

    Attributes:
        e0: Cohesive energy in eV.
        s0: Wigner-Seitz radius in Å.
        v0: Strength of the pair energy in eV.
        eta2: Decay of the density in 1/Å.
        kappa: Decay of the pair energy in 1/Å.
        lambda_: Decay of the cohesive function in 1/Å.
        n0: Density in 1/Å³.
        norm1: :math:`12 \gamma_1`, which is :math:`\sigma_1` of the fcc crystal at equilibrium.
        gamma2: :math:`\gamma_2`.
    """

    e0: Tensor
    s0: Tensor
    v0: Tensor
    eta2: Tensor
    kappa: Tensor
    lambda_: Tensor
    n0: Tensor
    norm1: Tensor
    gamma2: Tensor

    @classmethod
    def of(cls, symbols: Sequence[str], cutoff: Cutoff) -> AtomParameters:
        r"""Returns the parameters of atoms, with :math:`\gamma` summed over three shells of neighbours in fcc, with the cut-off as in the sums over pairs.

        .. math::
            \gamma_1 = \tfrac1{12} \sum_k n_k\, e^{-\eta_2 (r_k - \beta s_0)}\, \theta(r_k), \qquad
            \gamma_2 = \tfrac1{12} \sum_k n_k\, e^{-\kappa (r_k/\beta - s_0)}\, \theta(r_k), \qquad r_k = \sqrt k\, \beta s_0, \quad n = (12, 6, 24)
        """
        table = torch.tensor([ELEMENTS[symbol] for symbol in symbols], dtype=torch.float64)
        e0, s0, v0, eta2, kappa, lambda_, n0 = table.unbind(1)
        s0, eta2, kappa, lambda_, n0 = s0 * BOHR, eta2 / BOHR, kappa / BOHR, lambda_ / BOHR, n0 / BOHR**3
        first = BETA * s0[:, None]
        r = first * torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64).sqrt()
        weights = torch.tensor([12.0, 6.0, 24.0], dtype=torch.float64) / 12.0 * cutoff.theta(r)
        gamma1 = (weights * torch.exp(-eta2[:, None] * (r - first))).sum(1)
        gamma2 = (weights * torch.exp(-kappa[:, None] / BETA * (r - first))).sum(1)
        return cls(e0, s0, v0, eta2, kappa, lambda_, n0, 12.0 * gamma1, gamma2)

    def __getitem__(self, index: Any) -> AtomParameters:
        """Returns the parameters of some of the atoms, or with other axes: whatever indexes a tensor (atoms,)."""
        return AtomParameters(**{name: value[index] for name, value in vars(self).items()})


def require_known(symbols: Sequence[str]) -> None:
    """Refuses elements that EMT does not cover.

    Raises:
        InputError: If there are any; the message names them and the known ones.
    """
    unknown = Counter(symbol for symbol in symbols if symbol not in ELEMENTS)
    if unknown:
        found = ", ".join(f"{symbol} ({count} atom{'s' if count > 1 else ''})" for symbol, count in unknown.items())
        raise InputError(
            f"EMT has no parameters for {found}; it knows {', '.join(ELEMENTS)}. Use another energy for this system, such as one of ASE's calculators"
        )
