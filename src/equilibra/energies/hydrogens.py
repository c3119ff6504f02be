"""Hydrogens of peptides and proteins at pH 7, placed the same way in every process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import cache
from typing import Any


def add_hydrogens(
    topology: Any,
    positions: Any,
    *,
    force_field: str = "amber99sbildn.xml",
    variants: Sequence[str | None] | None = None,
) -> tuple[Any, Any]:
    """Adds the missing hydrogens of a molecule of standard residues; its heavy atoms stay where they are.

    Arguments:
        topology: OpenMM `Topology` of the heavy atoms.
        positions: Their positions, an OpenMM `Quantity` of length.
        force_field: OpenMM file of the force field that the hydrogens are relaxed in.
        variants: For each residue the protonation state to take, such as `HIE`, or None to choose it for pH 7. The choice for histidine
            depends on its surroundings, and so may differ between conformations of one molecule.

    Returns:
        The OpenMM `Topology` with hydrogens, and the positions of its atoms.
    """
    from openmm import Platform
    from openmm.app import Modeller

    modeller = Modeller(topology, positions)
    # OpenMM places hydrogens with Python's global generator: the same name must give the same molecule in every process
    state = random.getstate()
    try:
        random.seed(0)
        modeller.addHydrogens(
            _force_field(force_field),
            pH=7.0,
            variants=None if variants is None else list(variants),
            platform=Platform.getPlatformByName("Reference"),
        )
    finally:
        random.setstate(state)
    return modeller.topology, modeller.positions


@cache
def _force_field(name: str) -> Any:
    from openmm.app import ForceField

    return ForceField(name)
