"""Names of residues in structure files."""

from __future__ import annotations

WATERS = frozenset(("HOH", "WAT", "H2O", "DOD", "SOL", "SPC", "TIP", "TIP3", "TIP4", "TIP5", "OPC"))
"""Names of water residues."""

HISTIDINES = frozenset(("HIS", "HID", "HIE", "HIP", "HSD", "HSE", "HSP"))
"""Names of histidine in its protonation states."""

RESIDUES = HISTIDINES | {
    "ALA", "ARG", "ASN", "ASP", "CYS", "CYX", "GLN", "GLU", "GLY", "ILE", "LEU", "LYS", "MET", "MSE", "PHE", "PRO", "SER", "THR", "TRP", "TYR", "VAL",
    "ACE", "NME", "NH2", "SEP", "TPO", "PTR",
}  # fmt: skip
"""Names of residues of proteins whose atoms are typed by name."""

NUCLEOTIDES = frozenset(("A", "C", "G", "U", "I", "DA", "DC", "DG", "DT", "DU", "DI"))
"""Names of residues of RNA and DNA."""
