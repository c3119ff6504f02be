"""Crystals: compositions, cells of any shape, and the distribution of structures."""
