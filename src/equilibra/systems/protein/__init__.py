"""Proteins: ensembles of backbones, one frame per residue."""
