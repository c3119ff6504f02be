"""Equilibrium distributions of molecular systems.

>>> import equilibra
>>> ensemble = equilibra.load("molecule-ala2").sample("ACE-ALA-NME", n=1000, seed=0)  # doctest: +SKIP
>>> ensemble.save("out")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equilibra.report.evaluation import evaluate
    from equilibra.report.free_energies import free_energy
    from equilibra.report.from_ensemble import write_report
    from equilibra.systems.adsorbate.system import AdsorbateSystem
    from equilibra.systems.crystal.density import crystal_log_density
    from equilibra.systems.model import Model, load, shipped
    from equilibra.systems.molecule.density import log_density
    from equilibra.systems.molecule.simulate import simulate
    from equilibra.systems.paths import interpolate
    from equilibra.train.adsorbate import AdsorbateEntry, train_adsorbate
    from equilibra.train.adsorbate_energy import train_adsorbate_on_energy
    from equilibra.train.crystal import CrystalEntry, train_crystal
    from equilibra.train.molecule import fine_tune, train_molecule
    from equilibra.train.molecule_energy import train_molecule_on_energy
    from equilibra.train.protein import ProteinEntry, fine_tune_protein, train_protein
    from equilibra.train.protein_energy import ProteinEnergy

__version__ = "0.1.0"

_LAZY = {
    "AdsorbateEntry": "equilibra.train.adsorbate",
    "AdsorbateSystem": "equilibra.systems.adsorbate.system",
    "CrystalEntry": "equilibra.train.crystal",
    "Model": "equilibra.systems.model",
    "ProteinEnergy": "equilibra.train.protein_energy",
    "ProteinEntry": "equilibra.train.protein",
    "crystal_log_density": "equilibra.systems.crystal.density",
    "evaluate": "equilibra.report.evaluation",
    "fine_tune": "equilibra.train.molecule",
    "fine_tune_protein": "equilibra.train.protein",
    "free_energy": "equilibra.report.free_energies",
    "interpolate": "equilibra.systems.paths",
    "load": "equilibra.systems.model",
    "log_density": "equilibra.systems.molecule.density",
    "shipped": "equilibra.systems.model",
    "simulate": "equilibra.systems.molecule.simulate",
    "train_adsorbate": "equilibra.train.adsorbate",
    "train_adsorbate_on_energy": "equilibra.train.adsorbate_energy",
    "train_crystal": "equilibra.train.crystal",
    "train_molecule": "equilibra.train.molecule",
    "train_molecule_on_energy": "equilibra.train.molecule_energy",
    "train_protein": "equilibra.train.protein",
    "write_report": "equilibra.report.from_ensemble",
}

__all__ = [
    "AdsorbateEntry",
    "AdsorbateSystem",
    "CrystalEntry",
    "Model",
    "ProteinEnergy",
    "ProteinEntry",
    "__version__",
    "crystal_log_density",
    "evaluate",
    "fine_tune",
    "fine_tune_protein",
    "free_energy",
    "interpolate",
    "load",
    "log_density",
    "shipped",
    "simulate",
    "train_adsorbate",
    "train_adsorbate_on_energy",
    "train_crystal",
    "train_molecule",
    "train_molecule_on_energy",
    "train_protein",
    "write_report",
]


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used, so that importing the package costs next to nothing."""
    if name not in _LAZY:
        raise AttributeError(f"module 'equilibra' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)
