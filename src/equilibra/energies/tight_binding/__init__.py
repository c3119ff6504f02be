"""Tight binding for crystals of carbon: a batched, differentiable energy with band gaps, on regular grids of k-points."""

from equilibra.energies.tight_binding.ase_calculator import tight_binding_calculator
from equilibra.energies.tight_binding.energy import Bands, CarbonTightBinding, Evaluation
from equilibra.energies.tight_binding.kpoints import KGrid

__all__ = ["Bands", "CarbonTightBinding", "Evaluation", "KGrid", "tight_binding_calculator"]
