"""Densities of generated distributions: flow likelihood, path weights, I-MMSE, and the log-density of an energy head."""
