"""SO3LR: a pretrained neural energy for organic and biological molecules, with long-range physics.

The optional package `so3krates-torch` (MIT) holds the network and its weights. It reads its own weight file as a pickle; nothing of that
kind is read from elsewhere.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Sequence

import torch

from equilibra.energies.adapters import AseEnergy
from equilibra.energies.engine import FloatArray
from equilibra.errors import InputError, MissingDependencyError

_LONG_RANGE_CUTOFF = 12.0
_DISPERSION_DAMPING = 2.0


class So3lrEnergy(AseEnergy):
    """SO3LR energy of one molecule in vacuum, in eV and Å, in double precision.

    Long-range terms reach 12 Å, with the damping over the last 2 Å that the model was published with. One conformation at a time: about
    0.01 to 0.2 s each on one core.

    Arguments:
        numbers: Atomic numbers (items,).
        charge: Total charge in e.

    Raises:
        MissingDependencyError: If so3krates-torch is not installed.
        InputError: If there are fewer than two atoms.

    References:
        | Molecular Simulations with a Pretrained Neural Network and Universal Pairwise Force Fields (Kabylda et al., 2025)
        | https://doi.org/10.1021/jacs.5c09558
    """

    def __init__(self, numbers: Sequence[int], *, charge: int = 0) -> None:
        try:
            # the network registers buffers in the default dtype when its module is read
            with _double(), contextlib.redirect_stdout(io.StringIO()):
                from so3krates_torch.calculator.so3 import SO3LRCalculator

                calculator = SO3LRCalculator(
                    r_max_lr=_LONG_RANGE_CUTOFF,
                    dispersion_energy_cutoff_lr_damping=_DISPERSION_DAMPING,
                    default_dtype="float64",
                )
        except ImportError as error:
            raise MissingDependencyError(
                f"SO3LR needs a package that is not installed ({error}); install it with 'pip install so3krates-torch' (equilibra's extra "
                "'so3lr')"
            ) from error
        from ase import Atoms

        if len(numbers) < 2:
            raise InputError(f"so3lr: got {len(numbers)} atoms, expected a molecule of at least two")
        super().__init__(Atoms(numbers=list(numbers), info={"charge": charge}), calculator, name="so3lr")

    def conformation(self, positions: FloatArray, forces: bool) -> tuple[float, FloatArray | None]:  # noqa: D102
        # results are gathered in the default dtype, in which an energy of thousands of eV would be rounded
        with _double():
            return super().conformation(positions, forces)


@contextlib.contextmanager
def _double() -> Iterator[None]:
    """Makes float64 torch's default dtype for a while: the package has no other way."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
