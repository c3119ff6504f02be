"""ASE calculators of crystals by name: those that read the cell they are for, such as the grid of k-points, and all of `energies.calculators`."""

from __future__ import annotations

import difflib
import importlib.util
import math
from collections.abc import Callable
from typing import Any

from equilibra.energies.calculators import NEURAL, make_calculator
from equilibra.errors import InputError, MissingDependencyError

Factory = Callable[[Any], Any]
"""Makes the ASE calculator of ASE `Atoms`, which it leaves as they are."""

K_SPACING = 0.5
"""Largest distance of k-points, in 1/Å, that the size of a grid follows from: relaxations keep the grid that a cell has at their start."""

_PACKAGES = {"tight-binding": "", "xtb": "tblite", "gpaw": "gpaw"}
_INSTALL = {
    "xtb": "pip install 'equilibra[xtb]'",
    "gpaw": "apt-get install libxc-dev libopenblas-dev, then CC=g++ pip install gpaw gpaw-data (https://gpaw.readthedocs.io/install.html)",
}
NAMES = tuple(_PACKAGES)
"""Names of calculators that are made for each cell."""


def calculator(name: str) -> Factory:
    """Returns what makes an ASE calculator.

    Arguments:
        name: One of `NAMES`: `tight-binding` of carbon, `xtb` (GFN1-xTB at the Γ point) or `gpaw` (PBE, plane waves); or what
            `energies.calculators.make_calculator` makes.

    Raises:
        InputError: If there is no such calculator.
        MissingDependencyError: If its package is not installed.
    """
    if name in _PACKAGES:
        require(name)
        makers: dict[str, Factory] = {"tight-binding": _tight_binding, "xtb": _xtb, "gpaw": pbe}
        return makers[name]
    if ":" not in name:
        _check_name(name)
    made = make_calculator(name, "calculator")
    return lambda atoms: made


def _check_name(name: str) -> None:
    from ase.calculators.calculator import names

    known = (*NAMES, *NEURAL, *names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        own = "a name of ASE, or a function of your own, my.py:function"
        raise InputError(f"unknown calculator '{name}'{hint} (known: {', '.join((*NAMES, *NEURAL))}, {own})")


def require(name: str) -> None:
    """Raises `MissingDependencyError`, with the line that installs it, if the package of a calculator is not installed."""
    package = _PACKAGES[name]
    if package and importlib.util.find_spec(package) is None:
        raise MissingDependencyError(f"the calculator '{name}' needs {package}; install it with: {_INSTALL[name]}")


def k_size(cell: Any, spacing: float = K_SPACING) -> tuple[int, int, int]:
    """Returns the number of k-points along each reciprocal vector of a cell (3, 3), in Å, at most `spacing` apart, in 1/Å."""
    import numpy as np

    reciprocal = 2 * math.pi * np.linalg.norm(np.linalg.inv(np.asarray(cell)), axis=0)
    first, second, third = (max(1, math.ceil(length / spacing - 1e-6)) for length in reciprocal)
    return first, second, third


def pbe(atoms: Any, *, cutoff: float = 400.0, spacing: float = 0.35) -> Any:
    """Returns GPAW's calculator of PBE in plane waves.

    Arguments:
        atoms: ASE `Atoms`, of which the cell is read.
        cutoff: Energy of the plane waves, in eV.
        spacing: Largest distance of k-points, in 1/Å; Γ is one of them.
    """
    from gpaw import GPAW, PW

    points = {"size": k_size(atoms.cell, spacing), "gamma": True}
    filling = {"name": "fermi-dirac", "width": 0.01}
    # gaps need the lowest empty bands as well, which are not converged by default
    bands: dict[str, Any] = {"nbands": "120%", "convergence": {"bands": "CBM+0.5"}}
    return GPAW(mode=PW(cutoff), xc="PBE", kpts=points, occupations=filling, txt=None, **bands)


def _tight_binding(atoms: Any) -> Any:
    from equilibra.energies.tight_binding import CarbonTightBinding, KGrid
    from equilibra.energies.tight_binding.ase_calculator import tight_binding_calculator

    return tight_binding_calculator(CarbonTightBinding(kgrid=KGrid(size=k_size(atoms.cell)), smearing=0.05))


def _xtb(atoms: Any) -> Any:
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", verbosity=0)
