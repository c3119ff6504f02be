"""Metrics of crystals: validity, densities, duplicates and novelty, how much of a reference is found."""
