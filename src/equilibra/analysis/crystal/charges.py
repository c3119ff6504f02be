"""Whether the charges of a composition can balance: a property of what is in the cell, not of where the atoms are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from equilibra.analysis.crystal.crystals import Crystal, composition
from equilibra.errors import MissingDependencyError


def charge_neutral(crystals: Sequence[Crystal]) -> np.ndarray:
    """Tells of which crystals (F,) the elements have common oxidation states whose sum is zero; metals and alloys of metals count as neutral.

    The oxidation states are those that pymatgen's `Composition.oxi_state_guesses` takes, the ones found in the ICSD. CDVAE asks SMACT, whose lists are longer, and
    wants the more electronegative elements to have the negative states besides.

    Arguments:
        crystals: The crystals.

    Raises:
        MissingDependencyError: If pymatgen is not installed.
    """
    try:
        from pymatgen.core import Composition, Element
    except ImportError as error:
        raise MissingDependencyError(
            "balancing charges needs pymatgen, which is not installed; install it with `pip install 'equilibra[crystal]'`"
        ) from error
    known: dict[tuple[tuple[int, int], ...], bool] = {}
    found = []
    for crystal in crystals:
        parts = composition(crystal)
        if parts not in known:
            elements = {Element.from_Z(number): count for number, count in parts}
            metals = all(element.is_metal for element in elements)
            known[parts] = len(elements) == 1 or metals or bool(Composition(elements).oxi_state_guesses())
        found.append(known[parts])
    return np.array(found, dtype=bool)
