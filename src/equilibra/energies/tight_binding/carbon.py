r"""The carbon model of Xu, Wang, Chan and Ho: hopping integrals, repulsion and embedding as functions of distance.

.. math::
    E = 2 \sum_{k, n \in \text{occ}} w_k\, \varepsilon_n(k) + \sum_i f\Bigl(\sum_j \phi(r_{ij})\Bigr), \qquad
    s(r) = \Bigl(\frac{r_0}{r}\Bigr)^n \exp\Bigl\{n\Bigl[-\Bigl(\frac{r}{r_c}\Bigr)^{n_c} + \Bigl(\frac{r_0}{r_c}\Bigr)^{n_c}\Bigr]\Bigr\}, \qquad
    \phi(r) = \phi_0 \Bigl(\frac{d_0}{r}\Bigr)^m \exp\Bigl\{m\Bigl[-\Bigl(\frac{r}{d_c}\Bigr)^{m_c} + \Bigl(\frac{d_0}{d_c}\Bigr)^{m_c}\Bigr]\Bigr\}

Four orthogonal orbitals s, x, y, z an atom; all hopping integrals scale as s(r). Cubic tails take s from :math:`r_1` and :math:`\phi` from :math:`d_1` to
zero at 2.6 Å, with continuous first derivatives.

Note:
    Deviates from the paper where its model has no meaning, so that searches and samplers have a floor to stand on. The polynomial f falls again beyond an argument of
    146 eV, and crystals with atoms closer than about 1 Å get thousands of eV below diamond; here f goes on as a straight line from 100 eV (diamond compressed to 60 %
    of its volume). Below 0.5 Å the functions of distance stay constant instead of diverging.

References:
    | A transferable tight-binding potential for carbon (Xu, Wang, Chan and Ho, 1992), J. Phys.: Condens. Matter 4, 6047
    | https://doi.org/10.1088/0953-8984/4/28/006
"""

from __future__ import annotations

import torch
from torch import Tensor

ONSITE = {"s": -2.99, "p": 3.71}
"""Energies of the orbitals of an atom, in eV."""

HOPPING = {"ss_sigma": -5.0, "sp_sigma": 4.7, "pp_sigma": 5.5, "pp_pi": -1.55}
"""Hopping integrals at the distance r_0, in eV."""

CUTOFF = 2.6
"""Distance from which atoms do not interact, in Å."""

CORE = 0.5
"""Distance below which s and phi stay constant, in Å; see `bond_length`."""

STRAIGHT = 100.0
"""Argument from which f is a straight line, in eV."""

EMBEDDING = (-2.5909765118191, 0.5721151498619, -1.7896349903996e-3, 2.3539221516757e-5, -1.24251169551587e-7)
"""Coefficients of f, the constant first; x is in eV."""

_R0, _N, _RC, _NC, _R1 = 1.536329, 2.0, 2.18, 6.5, 2.45
_HOPPING_TAIL = (6.7392620074314e-3, -8.1885359517898e-2, 0.1932365259144, 0.3542874332380)

_PHI0, _D0, _M, _DC, _MC, _D1 = 8.18555, 1.64, 3.30304, 2.1052, 8.6655, 2.57
_REPULSION_TAIL = (2.2504290109e-8, -1.4408640561e-6, 2.1043303374e-5, 6.6024390226e-5)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    """Returns the polynomial with the given coefficients, the constant first."""
    total = torch.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total = total * x + coefficient
    return total


def _decay(r: Tensor, r0: float, power: float, rc: float, steepness: float) -> Tensor:
    """Returns (r0/r)^power exp{power [(r0/rc)^steepness - (r/rc)^steepness]}."""
    return torch.exp(power * (torch.log(r0 / r) + (r0 / rc) ** steepness - (r / rc) ** steepness))


def _joined(r: Tensor, inner: Tensor, begin: float, tail: tuple[float, ...]) -> Tensor:
    """Returns a function, its tail from `begin`, and nothing from the cut-off."""
    value = torch.where(r <= begin, inner, _polynomial(r - begin, tail))
    return torch.where(r < CUTOFF, value, 0.0)


def bond_length(vector: Tensor) -> Tensor:
    """Returns lengths (...) of vectors (..., 3) in Å, at least `CORE`: finite energies and derivatives down to atoms on top of each other."""
    return torch.linalg.vector_norm(vector, dim=-1).clamp(min=CORE)


def hopping_scale(r: Tensor) -> Tensor:
    """Returns s at distances in Å, dimensionless: 1 at r_0, 0 from the cut-off."""
    return _joined(r, _decay(r, _R0, _N, _RC, _NC), _R1, _HOPPING_TAIL)


def repulsion(r: Tensor) -> Tensor:
    """Returns phi in eV at distances in Å, 0 from the cut-off."""
    return _joined(r, _PHI0 * _decay(r, _D0, _M, _DC, _MC), _D1, _REPULSION_TAIL)


def embedding(x: Tensor) -> Tensor:
    """Returns the repulsive energy f of an atom in eV, of the sum x of phi over its neighbours in eV."""
    inner = x.clamp(max=STRAIGHT)
    slope = sum(power * c * STRAIGHT ** (power - 1) for power, c in enumerate(EMBEDDING) if power)
    return _polynomial(inner, EMBEDDING) + slope * (x - inner)


def hopping_blocks(vector: Tensor) -> Tensor:
    r"""Computes the hopping integrals between the orbitals of two atoms.

    .. math::
        H_{ss} = V_{ss\sigma}, \quad H_{sa} = l_a V_{sp\sigma} = -H_{as}, \quad
        H_{ab} = l_a l_b (V_{pp\sigma} - V_{pp\pi}) + \delta_{ab} V_{pp\pi}, \quad \text{all times } s(r)

    with the direction cosines :math:`l` of the vector from the first atom to the second.

    References:
        | Simplified LCAO method for the periodic potential problem (Slater and Koster, 1954), https://doi.org/10.1103/PhysRev.94.1498

    Arguments:
        vector: Vectors from the atom of the rows to the atom of the columns, with shape (bonds, 3), in Å.

    Returns:
        Integrals between the orbitals s, x, y, z, with shape (bonds, 4, 4), in eV.
    """
    r = bond_length(vector)
    cosines = vector / r[:, None]
    sigma = cosines[:, :, None] * cosines[:, None, :]
    identity = torch.eye(3, dtype=vector.dtype, device=vector.device)
    pp = sigma * (HOPPING["pp_sigma"] - HOPPING["pp_pi"]) + identity * HOPPING["pp_pi"]
    sp = cosines * HOPPING["sp_sigma"]
    ss = torch.full_like(r, HOPPING["ss_sigma"])[:, None]
    upper = torch.cat((ss, sp), dim=1)[:, None, :]
    lower = torch.cat((-sp[:, :, None], pp), dim=2)
    return torch.cat((upper, lower), dim=1) * hopping_scale(r)[:, None, None]
