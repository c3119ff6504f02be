"""Objectives: what a denoiser is trained on. One trainer, pluggable objectives."""
