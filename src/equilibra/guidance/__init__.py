"""Sampling towards a property: guides, the guided denoiser, and the sequential Monte Carlo that makes the result exact."""
