"""A sampling run: blocks of fixed size, written as they are made, until enough samples are valid.

The noise of a block depends on (seed, block) alone, and a batch is only a slice of a block given to the network at once. So the same
samples come out whatever the batch size and wherever a run was interrupted.
"""

from __future__ import annotations

import math
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import atomic_path
from equilibra.diffusion.denoiser import BoundDenoiser, Denoiser, Prediction
from equilibra.errors import EquilibraError, InputError
from equilibra.run_folder import claim
from equilibra.sampling.grid import Level
from equilibra.sampling.sampler import Sampler, draw
from equilibra.state.randomness import generator_for
from equilibra.state.state import State

BLOCK_SIZE = 50
"""Samples of a block by default."""


@dataclass(frozen=True)
class Progress:
    """How far a run is: valid samples so far and wanted, all samples drawn, and the share of the present block."""

    valid: int
    wanted: int
    drawn: int
    fraction: float


@dataclass(frozen=True, eq=False)
class Block:
    """One finished block: `fields` (block, ...) by name, and which samples are `valid`."""

    fields: Mapping[str, np.ndarray]
    valid: np.ndarray


@dataclass(frozen=True, eq=False)
class Drawn:
    """All blocks of a run, with what they cost.

    Attributes:
        blocks: In order.
        network_calls: Denoiser calls per sample.
        seconds: Time spent in drawing the blocks of this call.
        samples: Samples drawn in this call; blocks found on disk do not count.
    """

    blocks: list[Block]
    network_calls: int
    seconds: float
    samples: int


class BatchedDenoiser(Denoiser):
    """Gives a denoiser at most `size` batch elements at once."""

    def __init__(self, inner: BoundDenoiser, size: int) -> None:
        self.inner, self.size, self.process = inner, size, inner.process

    def __call__(self, state: State, t: torch.Tensor) -> Prediction:  # noqa: D102
        if state.batch_size <= self.size:
            return self.inner(state, t)
        parts = []
        for start in range(0, state.batch_size, self.size):
            rows = slice(start, start + self.size)
            part = BoundDenoiser(self.process, self.inner.function, self.inner.features.rows(rows))
            parts.append(part(state[rows], t[rows]).displacements)
        return Prediction({name: torch.cat([part[name] for part in parts]) for name in parts[0]})


def draw_blocks(
    denoiser: BoundDenoiser,
    sampler: Sampler,
    levels: list[Level],
    template: Callable[[int], State],
    check: Callable[[State], np.ndarray],
    *,
    n: int,
    seed: int,
    block_size: int = BLOCK_SIZE,
    batch_size: int | None = None,
    folder: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    bound: float = 4.0,
    progress: Callable[[Progress], None] = lambda state: None,
) -> Drawn:
    """Draws blocks until `n` samples are valid.

    Arguments:
        denoiser: Source of scores for the system.
        sampler: Rule of one step.
        levels: Noise levels.
        template: Makes a State of the right shapes for a number of samples.
        check: Tells which samples of a State are valid, as a boolean array (batch,).
        n: Number of valid samples wanted.
        seed: Seed of the run.
        block_size: Samples of a block; part of the run's identity.
        batch_size: Samples given to the network at once; the whole block by default.
        folder: Run folder; finished blocks go to `folder/blocks` and are not drawn again. None keeps nothing.
        identity: What defines the run; a folder of another run is refused.
        bound: The run gives up after `bound` times `n` samples (and at least two blocks).
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
                "for this system, or the sampler takes too few steps. The samples drawn so far are kept"
            )
        path = None if folder is None else folder / "blocks" / f"block-{index:05d}.npz"
        block = None if path is None else _read(path)
        if block is None:
            start = time.perf_counter()
            block = _draw(
                batched,
                sampler,
                levels,
                template(block_size),
                check,
                seed=seed,
                index=index,
                report=_report(progress, valid, n, index * block_size, len(levels) - 1),
            )
            seconds += time.perf_counter() - start
            samples += block_size
            if path is not None:
                with atomic_path(path) as temporary, temporary.open("wb") as file:
                    arrays: dict[str, Any] = {**block.fields, "valid": block.valid}
                    np.savez(file, **arrays)
        blocks.append(block)
        valid += int(block.valid.sum())
        progress(Progress(min(valid, n), n, len(blocks) * block_size, 0.0))
    return Drawn(blocks, sampler.calls(levels), seconds, samples)


def _draw(
    denoiser: Denoiser,
    sampler: Sampler,
    levels: list[Level],
    like: State,
    check: Callable[[State], np.ndarray],
    *,
    seed: int,
    index: int,
    report: Callable[[int, State], None],
) -> Block:
    generator = generator_for(seed, index, device=like.device)
    state = draw(sampler, denoiser, like, levels, generator=generator, progress=report)
    return Block({name: value.cpu().numpy() for name, value in state.fields.items()}, check(state))


def _report(
    progress: Callable[[Progress], None], valid: int, wanted: int, drawn: int, steps: int
) -> Callable[[int, State], None]:
    return lambda step, state: progress(Progress(valid, wanted, drawn, step / steps))


def _read(path: Path) -> Block | None:
    """Reads a block; a damaged file counts as missing, since it can be made again."""
    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return Block({name: arrays[name] for name in arrays.files if name != "valid"}, arrays["valid"])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
        return None
