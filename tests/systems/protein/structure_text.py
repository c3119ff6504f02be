"""A structure with everything that files have: insertions, alternate locations, modified residues, gaps, chains, waters and ligands."""

import numpy as np

from equilibra.systems.protein.alphabet import THREE_LETTER


def backbone(sequence, shift=(0.0, 0.0, 0.0)):
    """Positions (L, 5, 3) of N, CA, C, O and CB of an extended peptide; a glycine has no CB (NaN)."""
    import PeptideBuilder

    structure = PeptideBuilder.make_structure(sequence, [-120.0] * (len(sequence) - 1), [140.0] * (len(sequence) - 1))
    rows = []
    for residue in structure.get_residues():
        rows.append([residue[name].coord if name in residue else [np.nan] * 3 for name in ("N", "CA", "C", "O", "CB")])
    return np.array(rows, dtype=np.float64) + np.array(shift)


def line(name, residue, chain, number, xyz, *, insertion=" ", altloc=" ", occupancy=1.0, record="ATOM"):
    x, y, z = xyz
    where = f"{residue:>3} {chain}{number:4d}{insertion}"
    return f"{record:6}{1:5d}  {name:3}{altloc}{where}   {x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}{0.0:6.2f}          {name[0]:>2}\n"


def residue_lines(xyz, residue, chain, number, **options):
    atoms = zip(("N", "CA", "C", "O", "CB"), xyz, strict=True)
    return "".join(line(name, residue, chain, number, r, **options) for name, r in atoms if np.isfinite(r).all())


def chain_lines(sequence, chain, xyz, numbers=None):
    numbers = range(1, len(sequence) + 1) if numbers is None else numbers
    return "".join(residue_lines(r, THREE_LETTER[s], chain, n) for s, n, r in zip(sequence, numbers, xyz, strict=True))


def rich_structure():
    """Chain A is G10 A11 M12 A12A S13 | V16 W17 K18 (two left out), chain B is A1 C2 D3; with the positions (11, 3, 3) of N, CA, C."""
    one, two = backbone("GAMASTLVWK"), backbone("ACD", shift=(40.0, 0.0, 0.0))
    text = "HEADER    IMAGINED\nMODEL        1\n"
    text += residue_lines(one[0], "GLY", "A", 10) + residue_lines(one[1], "ALA", "A", 11)
    text += residue_lines(one[2], "MSE", "A", 12, record="HETATM") + residue_lines(one[3], "ALA", "A", 12, insertion="A")
    text += residue_lines(one[4], "SER", "A", 13)
    # T14 is missing, L15 lacks its N
    text += residue_lines(np.concatenate([[[np.nan] * 3], one[6, 1:]]), "LEU", "A", 15)
    text += residue_lines(one[7], "VAL", "A", 16)
    # the second location is the occupied one
    text += residue_lines(one[8] + 0.4, "TRP", "A", 17, altloc="A", occupancy=0.3)
    text += residue_lines(one[8], "TRP", "A", 17, altloc="B", occupancy=0.7)
    # an unknown residue that is bonded
    text += residue_lines(one[9], "ZZZ", "A", 18, record="HETATM") + "TER\n"
    text += chain_lines("ACD", "B", two) + "TER\n"
    # a free amino acid, a calcium ion and a water
    text += residue_lines(two[0] + 20.0, "GLU", "B", 301, record="HETATM")
    text += line("CA", "CA", "B", 302, (1.0, 2.0, 3.0), record="HETATM") + line(
        "O", "HOH", "A", 401, (5.0, 5.0, 5.0), record="HETATM"
    )
    text += "ENDMDL\nMODEL        2\n" + chain_lines("ACD", "B", two + 1.0) + "ENDMDL\nEND\n"
    wanted = np.concatenate([one[[0, 1, 2, 3, 4, 7, 8, 9], :3], two[:, :3]])
    return text, wanted
