"""Thermodynamics: log-weights in; free energies, entropies, observables and their error bars out."""
