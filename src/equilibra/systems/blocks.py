"""A sampling run: blocks of fixed size, written as they are made, until enough samples are valid.

The noise of a block depends on (seed, block) alone, and a batch is only a slice of a block given to the network at once. So the same
samples come out whatever the batch size and wherever a run was interrupted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Generator

from equilibra.atomic import read_arrays, write_arrays
from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.errors import EquilibraError, InputError
from equilibra.run_folder import claim
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, draw
from equilibra.state.randomness import generator_for
from equilibra.state.state import State

BLOCK_SIZE = 50
"""Samples of a block by default."""
_VALUES = "values."  # before the names of per-sample numbers in a block's file; fields have no prefix


@dataclass(frozen=True)
class Progress:
    """How far a run is: valid samples so far and wanted, all samples drawn, the share of the present block, and what else is being done."""

    valid: int
    wanted: int
    drawn: int
    fraction: float
    note: str = ""


@dataclass(frozen=True, eq=False)
class Block:
    """One finished block: `fields` (block, ...) by name, which samples are `valid`, and numbers (block,) that the drawing gave each, by name."""

    fields: Mapping[str, np.ndarray]
    valid: np.ndarray
    values: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Drawn:
    """All blocks of a run, with what they cost.

    Attributes:
        blocks: In order.
        seconds: Time spent in drawing the blocks of this call.
        samples: Samples drawn in this call; blocks found on disk do not count.
    """

    blocks: list[Block]
    seconds: float
    samples: int


@dataclass(frozen=True, eq=False)
class Batch:
    """What a drawing gives: clean States, and numbers (batch,) for each sample by name, such as its log-weight."""

    state: State
    values: Mapping[str, np.ndarray] = field(default_factory=dict)


class Drawing(Protocol):
    """A way to draw samples."""

    def __call__(self, denoiser: Denoiser, like: State, *, generator: Generator, report: Callable[[float, str], None]) -> Batch:
        """Draws one sample for each batch element.

        Arguments:
            denoiser: Source of scores for the system.
            like: Gives shapes, masks and fixed fields.
            generator: The only source of randomness.
            report: Called with the finished share of the batch, and what else is being done, in words.
        """
        ...


@dataclass(frozen=True)
class SamplerDrawing:
    """Drawing by a sampler along noise levels; its samples have no weights."""

    sampler: Sampler
    levels: Sequence[Level]

    @property
    def network_calls(self) -> int:
        """Denoiser calls per sample."""
        return self.sampler.calls(self.levels)

    def __call__(self, denoiser: Denoiser, like: State, *, generator: Generator, report: Callable[[float, str], None]) -> Batch:
        """Draws one sample for each batch element; see `Drawing`."""
        steps = len(self.levels) - 1
        state = draw(
            self.sampler, denoiser, like, self.levels, generator=generator, progress=lambda step, _: report(step / steps, "")
        )
        return Batch(state)


@dataclass(frozen=True)
class RelaxedDrawing:
    """Drawing by a sampler, each sample then relaxed in an energy: minima, which have no weights.

    Attributes:
        inner: What draws the samples.
        relax: Returns the relaxed States and their energies (batch,) in eV.
        name: What these energies are called among the numbers of a sample.
    """

    inner: SamplerDrawing
    relax: Callable[[State], tuple[State, np.ndarray]]
    name: str

    @property
    def network_calls(self) -> int:
        """Denoiser calls per sample."""
        return self.inner.network_calls

    def __call__(self, denoiser: Denoiser, like: State, *, generator: Generator, report: Callable[[float, str], None]) -> Batch:
        """Draws and relaxes one sample for each batch element; see `Drawing`."""
        drawn = self.inner(denoiser, like, generator=generator, report=report)
        report(1.0, "relaxing")
        state, energies = self.relax(drawn.state)
        return Batch(state, {**drawn.values, self.name: energies})


class BatchedDenoiser(Denoiser):
    """Gives a denoiser at most `size` batch elements at once."""

    def __init__(self, inner: Denoiser, size: int) -> None:
        self.inner, self.size, self.process = inner, size, inner.process

    def __call__(self, state: State, t: torch.Tensor) -> Prediction:  # noqa: D102
        if state.batch_size <= self.size:
            return self.inner(state, t)
        parts = []
        for start in range(0, state.batch_size, self.size):
            rows = slice(start, start + self.size)
            parts.append(self.inner.rows(rows)(state[rows], t[rows]).displacements)
        return Prediction({name: torch.cat([part[name] for part in parts]) for name in parts[0]})

    def rows(self, index: slice | torch.Tensor) -> BatchedDenoiser:  # noqa: D102
        return BatchedDenoiser(self.inner.rows(index), self.size)


def draw_blocks(
    denoiser: Denoiser,
    drawing: Drawing,
    template: Callable[[int], State],
    check: Callable[[Batch], np.ndarray],
    *,
    n: int,
    seed: int,
    block_size: int = BLOCK_SIZE,
    batch_size: int | None = None,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    bound: float = 4.0,
    advice: str = "",
    progress: Callable[[Progress], None] = lambda state: None,
) -> Drawn:
    """Draws blocks until `n` samples are valid.

    Arguments:
        denoiser: Source of scores for the system.
        drawing: How samples are drawn.
        template: Makes a State of the right shapes for a number of samples.
        check: Tells which samples of a batch are valid, as a boolean array (batch,).
        n: Number of valid samples wanted.
        seed: Seed of the run.
        block_size: Samples of a block; part of the run's identity.
        batch_size: Samples given to the network at once; the whole block by default.
        folder: Run folder; finished blocks go to `folder/blocks` and are not drawn again. None keeps nothing.
        identity: What defines the run; a folder of another run is refused.
        bound: The run gives up after `bound` times `n` samples (and at least two blocks).
        advice: What to do then, in words.
        progress: Called after each step.

    Raises:
        InputError: If a number is out of range or the folder cannot be written.
        CheckpointError: If the folder holds another run.
        EquilibraError: If too few samples are valid within the bound.
    """
    if n < 1 or block_size < 1 or (batch_size is not None and batch_size < 1):
        raise InputError(f"samples: got n {n}, block size {block_size}, batch size {batch_size}; expected at least 1 of each")
    if folder is not None:
        claim(folder, {**(identity or {}), "seed": seed, "block_size": block_size})
    batched = BatchedDenoiser(denoiser, batch_size or block_size)
    most = max(2, math.ceil(bound * n / block_size))
    blocks: list[Block] = []
    valid, seconds, samples = 0, 0.0, 0
    while valid < n:
        index = len(blocks)
        if index >= most:
            share = valid / max(1, index * block_size)
            raise EquilibraError(
                f"only {valid} of {index * block_size} samples passed the checks ({share:.1%}), {n} were wanted; the model is not fit "
                f"for this system, or the sampler takes too few steps{f'; {advice}' if advice else ''}. The samples drawn so far are kept"
            )
        path = None if folder is None else folder / "blocks" / f"block-{index:05d}.npz"
        block = None if path is None else _read(path)
        if block is None:
            start = time.perf_counter()
            block = _draw(
                batched,
                drawing,
                template(block_size),
                check,
                key=(seed, index),
                report=_report(progress, valid, n, index * block_size),
            )
            seconds += time.perf_counter() - start
            samples += block_size
            if path is not None:
                values = {f"{_VALUES}{name}": value for name, value in block.values.items()}
                write_arrays(path, {**block.fields, **values, "valid": block.valid})
        blocks.append(block)
        valid += int(block.valid.sum())
        progress(Progress(min(valid, n), n, len(blocks) * block_size, 0.0))
    return Drawn(blocks, seconds, samples)


def _draw(
    denoiser: Denoiser,
    drawing: Drawing,
    like: State,
    check: Callable[[Batch], np.ndarray],
    *,
    key: tuple[int, int],
    report: Callable[[float, str], None],
) -> Block:
    batch = drawing(denoiser, like, generator=generator_for(*key, device=like.device), report=report)
    fields = {name: value.cpu().numpy() for name, value in batch.state.fields.items()}
    return Block(fields, check(batch), batch.values)


def _report(progress: Callable[[Progress], None], valid: int, wanted: int, drawn: int) -> Callable[[float, str], None]:
    return lambda fraction, note: progress(Progress(valid, wanted, drawn, fraction, note))


def _read(path: Path) -> Block | None:
    """Reads a block, or None where there is none that is whole."""
    named = read_arrays(path)
    if named is None or "valid" not in named:
        return None
    valid = named.pop("valid")
    values = {name.removeprefix(_VALUES): named.pop(name) for name in list(named) if name.startswith(_VALUES)}
    return Block(named, valid, values)
