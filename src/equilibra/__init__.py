"""Equilibrium distributions of molecular systems.

>>> import equilibra
>>> ensemble = equilibra.load("molecule-ala2").sample("ACE-ALA-NME", n=1000, seed=0)  # doctest: +SKIP
>>> ensemble.save("out")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equilibra.systems.model import Model, load, shipped

__version__ = "0.1.0"

_LAZY = {
    "Model": "equilibra.systems.model",
    "load": "equilibra.systems.model",
    "shipped": "equilibra.systems.model",
}

__all__ = ["Model", "__version__", "load", "shipped"]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that importing the package costs next to nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module 'equilibra' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)
