"""Samplers: from the prior to the data with a Process and a Denoiser, on every Space."""
