"""Domains: what is particular to molecules, proteins, ligands, adsorbates and crystals, and the Models built of them."""
