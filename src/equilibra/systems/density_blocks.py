"""Log-densities of many conformations in blocks, which are kept as they are made.

The probes of a block depend on (seed, block) alone, so that results depend neither on the batch size nor on interruptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from equilibra.atomic import read_arrays, write_arrays
from equilibra.density import flow
from equilibra.density.flow import FlowConfig
from equilibra.density.trace import Trace
from equilibra.diffusion.denoiser import Denoiser
from equilibra.errors import InputError
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.model import Model, load

BLOCK_SIZE = 16
"""Conformations of a block by default: the unit that is kept when a run is interrupted."""
TOLERANCE = 0.05
"""Wanted integration error of a conformation in nats: its square, as the variance of a log-weight, costs no effective samples to speak of."""

Check = Literal["estimate", "halving", "nodes"]
"""Where the integration error comes from; see `flow_config`."""

_PARTS = ("log_density", "integration_error", "trace_error")
_LARGEST_ERROR = 0.1  # nats, or nats² for a variance; above it weights made of the densities are spoilt


def flow_config(steps: int | None, check: Check, tolerance: float, batch_size: int | None) -> FlowConfig:
    """Returns how densities are integrated.

    Arguments:
        steps: Steps of the flow; by default as many as the tolerance needs, or 50 of fourth order for `halving` and `nodes`.
        check: Where the integration error comes from. `estimate`: traces are taken where the integral needs them, and what is left out is
            estimated. `halving` and `nodes`: a trace at every step, and a second run of half the steps, or every second node, which costs nothing
            and sees less.
        tolerance: Integration error in nats up to which `estimate` goes on.
        batch_size: Conformations treated at once; a block by default.

    Raises:
        InputError: If the tolerance is not positive.
    """
    if not tolerance > 0.0:
        raise InputError(f"tolerance: got {tolerance}, expected a positive number of nats")
    config = FlowConfig(steps=steps, tolerance=tolerance, batch_size=batch_size)
    return config if check == "estimate" else replace(config, solver="rk4", check=check)


def drawing_model(model: Model | str | Path | None, provenance: Mapping[str, Any]) -> Model:
    """Returns a model, by default the one that drew an ensemble of this provenance.

    Raises:
        InputError: If none is named, or the one that drew it is not to be found here.
    """
    if isinstance(model, Model):
        return model
    if model is not None:
        return load(model)
    name = provenance.get("model")
    if name is None:
        raise InputError("model: the conformations do not say which model drew them; name one")
    try:
        found = load(str(name))
    except InputError as error:
        raise InputError(
            f"model: the conformations were drawn by '{name}', which is not among the shipped ones; give its folder"
        ) from error
    if provenance.get("weights", found.sha256) != found.sha256:
        raise InputError(
            f"model: the conformations were drawn by other weights of '{name}' than the ones here; name the model, or give its folder"
        )
    return found


def chosen(count: int, most: int | None) -> np.ndarray:
    """Returns the places of at most so many conformations, spread evenly.

    Raises:
        InputError: If there is none.
    """
    if count == 0:
        raise InputError("log-density: there is no conformation")
    return np.arange(count) if most is None or most >= count else np.linspace(0, count - 1, most).round().astype(np.int64)


def error_notes(values: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Returns what a reader must know of the errors `integration_error` and `trace_error` (n,), in words."""
    notes = []
    integration, variance = float(values["integration_error"].mean()), float((values["trace_error"] ** 2).mean())
    if integration > _LARGEST_ERROR:
        notes.append(
            f"The integration error is {integration:.2g} nats on average; take more steps or a lower tolerance before building on single values."
        )
    if variance > _LARGEST_ERROR:
        notes.append(
            f"The trace's noise has the variance {variance:.2g}, more than {_LARGEST_ERROR:g}: good for means over many conformations, not for weights or single "
            "values; take more probes, or the exact trace."
        )
    return tuple(notes)


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
