"""Molecular mechanics in torch: any OpenMM `System` without a cut-off as a batched, differentiable energy.

Inside this room positions are `(3, atoms, batch)` in Å, the batch last: an elementwise kernel then runs over contiguous conformations, and the
parameters of a bond or a pair are broadcast along them. Every term returns its energies together with its gradient, written out by hand.
"""

from equilibra.energies.molecular_mechanics.energy import MolecularMechanics
from equilibra.energies.molecular_mechanics.read import molecular_mechanics, read_openmm_system

__all__ = ["MolecularMechanics", "molecular_mechanics", "read_openmm_system"]
