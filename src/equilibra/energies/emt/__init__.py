"""Effective medium theory in torch: slabs with adsorbates, crystals and molecules of Al, Ni, Cu, Pd, Ag, Pt, Au with H, C, N, O, agreeing with ASE's EMT.

Inside this room positions are `(3, atoms, batch)` in Å, the batch last, and tables of pairs are `(rows, images, columns, batch)`: the rows are the atoms
that move, the columns all atoms, the images the lattice translations that suffice for the cut-off.
"""

from equilibra.energies.emt.energy import SlabEMT
from equilibra.energies.emt.parameters import ELEMENTS

__all__ = ["ELEMENTS", "SlabEMT"]
