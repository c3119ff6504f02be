"""The domain of ligands: poses of a molecule in the pocket of a rigid receptor, as a distribution."""
