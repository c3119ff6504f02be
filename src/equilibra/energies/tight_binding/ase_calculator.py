"""The tight-binding energy as an ASE calculator, for relaxations, phonons and whatever else ASE does."""

from __future__ import annotations

from typing import Any

import torch

from equilibra.energies.tight_binding.energy import CarbonTightBinding
from equilibra.errors import InputError

_CARBON = 6


def tight_binding_calculator(model: CarbonTightBinding | None = None) -> Any:
    """Makes an ASE calculator of the model, in double precision.

    It knows energy and free energy (the same), forces, stress and energies of atoms; ``results["gap"]`` holds the signed gap in eV. For relaxations of
    cells give the model a grid of fixed size, so that the energy stays continuous.

    Arguments:
        model: The model; by default that of `CarbonTightBinding()`.

    Returns:
        An ASE `Calculator`. It raises `InputError` for atoms other than carbon, and for cells that are not periodic along three vectors.
    """
    from ase.calculators.calculator import Calculator, all_changes
    from ase.stress import full_3x3_to_voigt_6_stress

    used = CarbonTightBinding() if model is None else model

    class TightBindingCalculator(Calculator):
        """ASE calculator of the tight-binding model."""

        name = "equilibra tight binding"
        implemented_properties = ["energy", "free_energy", "forces", "stress", "energies"]  # noqa: RUF012 - as ASE declares it

        def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
            super().calculate(atoms, properties, system_changes)
            current: Any = self.atoms
            if any(number != _CARBON for number in current.numbers):
                other = next(symbol for symbol in current.symbols if symbol != "C")
                raise InputError(
                    f"tight binding: got the element {other}, expected carbon alone, which is all that the model knows"
                )
            if not all(current.pbc):
                raise InputError(
                    "tight binding: the atoms are not periodic along three lattice vectors; set pbc=True, with 3 Å of vacuum or more where nothing repeats"
                )
            frac = torch.tensor(current.get_scaled_positions(wrap=False), dtype=torch.float64)
            cell = torch.tensor(current.cell.array, dtype=torch.float64)
            found = used.evaluate(frac[None], cell[None])
            energy = float(found.energy[0])
            if energy != energy:
                raise InputError(
                    "tight binding: the cell cannot be evaluated; expected finite positions and lattice planes 0.5 Å apart or more"
                )
            self.results = {
                "energy": energy,
                "free_energy": energy,
                "forces": found.forces[0].numpy(),
                "stress": full_3x3_to_voigt_6_stress(found.stress[0].numpy()),
                "energies": found.atom_energies[0].numpy(),
                "gap": float(found.signed_gap[0]),
            }

    return TightBindingCalculator()
