"""Log-densities of many conformations in blocks, which are kept as they are made.

The probes of a block depend on (seed, block) alone, so that results depend neither on the batch size nor on interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilibra.atomic import read_arrays, write_arrays
from equilibra.density import flow
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Trace
from equilibra.diffusion.denoiser import Denoiser
from equilibra.state import State
from equilibra.state.randomness import generator_for

_PARTS = ("log_density", "integration_error", "trace_error")


@dataclass(frozen=True)
class DensityProgress:
    """How far a run is: conformations done and wanted, and the seconds that are left if the rest is as fast as this call so far was; None at first."""

    done: float
    wanted: int
    seconds_left: float | None


class DensityBlocks:
    """The blocks of a run; those on disk are read, the others computed and kept.

    Arguments:
        denoiser: Source of scores for the system.
        state: All conformations, at the smallest noise.
        config: Integration.
        trace: Divergences.
        seed: Seed of the probes.
        block_size: Conformations of a block.
        folder: Where blocks are kept; None keeps nothing.

    Attributes:
        seconds: Time spent in computing blocks.
        computed: Conformations computed; those found on disk do not count.
        network_calls: Denoiser calls per conformation, those inside traces counted once for each direction.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        state: State,
        *,
        config: FlowConfig,
        trace: Trace,
        seed: int,
        block_size: int,
        folder: Path | None,
    ) -> None:
        self.denoiser, self.state, self.config, self.trace = denoiser, state, config, trace
        self.seed, self.block_size, self.folder = seed, block_size, folder
        self.seconds = 0.0
        self.computed = 0
        self.network_calls = 0

    def all_blocks(self, progress: Callable[[DensityProgress], None]) -> dict[str, np.ndarray]:
        """Returns `log_density`, `integration_error` and `trace_error` (n,) of all conformations, in nats."""
        count = self.state.batch_size
        parts: list[dict[str, np.ndarray]] = []
        for number, start in enumerate(range(0, count, self.block_size)):
            rows = self.state[start : start + self.block_size]
            path = None if self.folder is None else self.folder / f"block-{number:05d}.npz"
            part = None if path is None else _read(path, rows.batch_size)
            if part is None:
                part = self._compute(rows, number, start, progress)
                if path is not None:
                    write_arrays(path, part)
            parts.append(part)
            self.network_calls = int(part["network_calls"])
            done = start + rows.batch_size
            progress(DensityProgress(done, count, self._left(self.seconds, self.computed, count - done)))
        return {name: np.concatenate([part[name] for part in parts]) for name in _PARTS}

    def _compute(
        self, rows: State, number: int, start: int, progress: Callable[[DensityProgress], None]
    ) -> dict[str, np.ndarray]:
        began = time.perf_counter()

        def report(share: float) -> None:
            here = share * rows.batch_size
            spent = self.seconds + time.perf_counter() - began
            left = self._left(spent, self.computed + here, self.state.batch_size - start - here)
            progress(DensityProgress(start + here, self.state.batch_size, left))

        progress(
            DensityProgress(
                start, self.state.batch_size, self._left(self.seconds, self.computed, self.state.batch_size - start)
            )
        )
        found = flow.log_density(
            self.denoiser,
            rows,
            generator=generator_for(self.seed, number),
            config=self.config,
            trace=self.trace,
            progress=report,
        )
        self.seconds += time.perf_counter() - began
        self.computed += rows.batch_size
        values = {name: getattr(found, name).cpu().numpy() for name in _PARTS}
        return {**values, "network_calls": np.array(found.network_calls)}

    @staticmethod
    def _left(seconds: float, done: float, missing: float) -> float | None:
        return seconds / done * missing if done > 0 else None


def _read(path: Path, rows: int) -> dict[str, np.ndarray] | None:
    """Reads a block of a number of conformations, or None where there is none that is whole."""
    part = read_arrays(path)
    if part is None or not {*_PARTS, "network_calls"} <= set(part):
        return None
    return part if all(part[name].shape == (rows,) for name in _PARTS) else None
