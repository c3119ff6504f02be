"""State of parallel tempering: frames of all rungs, statistics and random state, complete enough to go on exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor

from equilibra.energies.walkers import Walkers
from equilibra.errors import CheckpointError


@dataclass(frozen=True, eq=False)
class LadderState:
    """A point of a parallel-tempering run with K rungs and W columns.

    Attributes:
        walkers: All K W walkers, rung after rung.
        steps: Step size of each rung (K,).
        sweep: Sweeps done since burn-in.
        replicas: Which starting walker is where (K, W).
        heading: 1 if a replica was last at the lowest rung, 2 if it has reached the top since, 0 if it has not been at the lowest yet (K, W).
        accepted_moves: Sum over sweeps of the mean acceptance of each rung's moves (K,).
        attempts: Swaps tried by each pair of rungs (K - 1,).
        accepted_swaps: Sum of their acceptance probabilities (K - 1,).
        round_trips: Journeys from the lowest rung to the top and back that were finished, by all replicas together.
        random: State of the random generator.
    """

    walkers: Walkers
    steps: Tensor
    sweep: int
    replicas: Tensor
    heading: Tensor
    accepted_moves: Tensor
    attempts: Tensor
    accepted_swaps: Tensor
    round_trips: int
    random: Tensor

    @classmethod
    def fresh(cls, walkers: Walkers, steps: Tensor, columns: int, generator: Generator) -> LadderState:
        """Makes a state at sweep 0, with empty statistics, of walkers (K columns), rung after rung."""
        rungs, device = len(steps), walkers.u.device
        heading = torch.zeros(rungs, columns, dtype=torch.long, device=device)
        heading[0] = 1
        return cls(
            walkers=walkers,
            steps=steps,
            sweep=0,
            replicas=torch.arange(rungs * columns, device=device).reshape(rungs, columns),
            heading=heading,
            accepted_moves=torch.zeros(rungs, dtype=torch.float64, device=device),
            attempts=torch.zeros(rungs - 1, dtype=torch.long, device=device),
            accepted_swaps=torch.zeros(rungs - 1, dtype=torch.float64, device=device),
            round_trips=0,
            random=generator.get_state(),
        )

    def _by_rung(self, part: Tensor) -> Tensor:
        return part.reshape(*self.replicas.shape, *part.shape[1:])

    @property
    def x(self) -> Tensor:
        """Positions (K, W, items, axes)."""
        return self._by_rung(self.walkers.x)

    @property
    def u(self) -> Tensor:
        """Reduced energies (K, W), at the temperature of u on every rung."""
        return self._by_rung(self.walkers.u)

    @property
    def force(self) -> Tensor:
        """Forces -du/dx (K, W, items, axes), at the temperature of u on every rung."""
        return self._by_rung(self.walkers.force)

    @property
    def move_acceptance(self) -> Tensor:
        """Mean acceptance of each rung's moves (K,); NaN before the first sweep."""
        return self.accepted_moves / self.sweep if self.sweep else torch.full_like(self.accepted_moves, torch.nan)

    @property
    def swap_acceptance(self) -> Tensor:
        """Mean acceptance of the swaps of neighbouring rungs (K - 1,); NaN where none was tried. 0.2 to 0.4 is a good ladder."""
        return self.accepted_swaps / self.attempts

    def generator(self) -> Generator:
        """Makes a random generator in the state of this point of the run."""
        generator = Generator(device=self.walkers.u.device)
        generator.set_state(self.random)
        return generator

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Returns the whole state as arrays, for `numpy.savez` or safetensors."""
        tensors = {name: getattr(self, name) for name in _TENSORS} | {name: getattr(self.walkers, name) for name in _WALKERS}
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in tensors.items()}
        return arrays | {name: np.asarray(getattr(self, name), dtype=np.int64) for name in _COUNTS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], *, device: torch.device | str = "cpu") -> LadderState:
        """Reads a state back, bit for bit.

        Raises:
            CheckpointError: If an array is missing or unknown, or the arrays do not belong together.
        """
        expected = {*_TENSORS, *_WALKERS, *_COUNTS}
        if set(arrays) != expected:
            raise CheckpointError(
                f"parallel tempering state: missing arrays {sorted(expected - set(arrays))}, unknown arrays {sorted(set(arrays) - expected)}"
            )
        tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in (*_TENSORS, *_WALKERS)}
        values: dict[str, Any] = {name: value if name == "random" else value.to(device) for name, value in tensors.items()}
        if values["replicas"].ndim != 2 or values["replicas"].numel() != len(values["u"]):
            raise CheckpointError(
                f"parallel tempering state: {len(values['u'])} walkers for a ladder of the shape {tuple(values['replicas'].shape)}"
            )
        walkers = Walkers(*(values.pop(name) for name in _WALKERS))
        values |= {name: int(arrays[name]) for name in _COUNTS}
        return cls(walkers=walkers, **values)


_WALKERS = ("x", "u", "force")
_COUNTS = ("sweep", "round_trips")
_TENSORS = ("steps", "replicas", "heading", "accepted_moves", "attempts", "accepted_swaps", "random")
