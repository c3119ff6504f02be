"""Memory that proteins need, known before any work: what a network or an array of pairs takes for a chain of L residues, and what is free."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from equilibra.errors import InputError
from equilibra.nn.frames import FrameNetworkConfig

COMFORTABLE = 2**28
"""Bytes that the default batch may need at most. Its arrays of pairs then stay below the 32 MiB that the C library keeps for the next call; larger ones are
mapped and cleared anew each time: of 214 residues, 24 chains at once took twice the processor time for each that two at once did."""

WITH_GRADIENTS = 3
"""A call whose gradients are kept needs so many times the memory: measured peaks are 1.8 to 2.6 times the estimate for a call without, at 4 to 12 layers."""

_MARGIN = 1.2  # measured peaks of one call are 0.65 to 0.95 of the estimate
_SHARE = 0.9  # of the free memory, for a batch that was asked for
_HALF = 0.5  # for one that was not
_CGROUP = (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"))


def memory_needed(length: int, batch: int, config: FrameNetworkConfig) -> int:
    r"""Estimates the peak memory of one network call without gradients, in bytes.

    .. math:: 4 c \, \big[B L^2 \max(5 d_p + b,\; 2 d_p + 2 n h + 4 h + v) + 12 B L d + 4 L^2 w\big]

    with c = 1.2, batch size B, pair width d_p, basis b, n layers of h heads, pair values v, token width d and the width w of real pair features: arrays of
    all pairs, first while they are embedded, then while the layers attend.

    Arguments:
        length: Number of residues L.
        batch: Samples given to the network at once.
        config: Size of the network.
    """
    embedding = 5 * config.pair_dim + config.basis + 18
    attention = 2 * config.pair_dim + (2 * config.layers + 4) * config.heads + config.pair_value
    pairs = batch * length**2 * max(embedding, attention) + 4 * length**2 * config.extra_pair
    return int(4 * _MARGIN * (pairs + 12 * batch * length * config.dim))


def require(needed: int, what: str, remedy: str) -> None:
    """Checks that something fits into the free memory, before it is made.

    Arguments:
        needed: Bytes that it needs.
        what: What needs them, for the message.
        remedy: What to do instead.

    Raises:
        InputError: If less is free.
    """
    free = free_memory()
    if free is not None and needed > _SHARE * free:
        raise InputError(f"{what} needs about {_gb(needed)} GB, {_gb(free)} GB are free: {remedy}")


def free_memory() -> int | None:
    """Returns the bytes that this process may still take, or None where the system does not tell; limits of containers count."""
    known = [value for value in (_available(), *(_left_in_cgroup(*names) for names in _CGROUP)) if value is not None]
    return min(known) if known else None


def fitting_batch(
    length: int,
    config: Any,
    wanted: int | None,
    most: int,
    *,
    free: int | None = None,
    needed: Callable[[int, int, Any], int] = memory_needed,
) -> int:
    """Returns the batch size: the wanted one, or the largest up to `most` that needs half of the free memory and no more than `COMFORTABLE`.

    Arguments:
        length: Number of residues.
        config: Size of the network, as `needed` takes it.
        wanted: Batch size asked for; None to choose it.
        most: Largest one that makes sense.
        free: Free memory in bytes; by default it is looked up.
        needed: Memory in bytes for a length, a batch size and a configuration; by default that of our own networks.

    Raises:
        InputError: If the wanted batch, or one sample, needs more memory than is free.
    """
    free = free_memory() if free is None else free
    batch = most if wanted is None else wanted
    if wanted is None:
        room = COMFORTABLE if free is None else min(COMFORTABLE, _HALF * free)
        batch = next((size for size in range(most, 1, -1) if needed(length, size, config) <= room), 1)
    size_needed = needed(length, batch, config)
    if free is not None and size_needed > _SHARE * free:
        fits = next((size for size in range(batch - 1, 0, -1) if needed(length, size, config) <= _SHARE * free), 0)
        remedy = f"use --batch-size {fits}" if fits else "take a shorter chain or a machine with more memory"
        raise InputError(
            f"a chain of {length} residues needs about {_gb(size_needed)} GB at batch size {batch}, {_gb(free)} GB are free: {remedy}"
        )
    return batch


def _gb(size: int) -> str:
    return f"{size / 2**30:.{1 if size > 0.1 * 2**30 else 3}f}"


def _available() -> int | None:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _left_in_cgroup(limit: str, used: str) -> int | None:
    """Returns what a container has left; files of its cache count as used, so it may be more."""
    folder = Path("/sys/fs/cgroup")
    try:
        bound, taken = (int((folder / name).read_text(encoding="ascii")) for name in (limit, used))
    except (OSError, ValueError):
        # no such file, or "max"
        return None
    return max(bound - taken, 0) if bound < 2**60 else None
