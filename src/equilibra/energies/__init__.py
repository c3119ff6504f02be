"""Energies and the engines that sample them: force fields, and reference molecular dynamics."""
