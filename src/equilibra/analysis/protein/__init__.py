"""Metrics of protein ensembles, one a file: arrays of coordinates in Å in, numbers out.

C-alpha coordinates have the shape (frames, residues, 3), backbones (frames, residues, 3, 3) with the atoms N, CA, C of each residue.
"""
