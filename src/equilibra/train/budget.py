"""From minutes to steps: what a training from an energy can do in a given time on this machine."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from equilibra.data.replay import ReplayBuffer
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.errors import CheckpointError, InputError
from equilibra.run_folder import claim
from equilibra.state.randomness import generator_for
from equilibra.train.config import TrainConfig
from equilibra.train.energy_config import EnergyConfig

COLLECTING = 0.25
"""Share of the time that goes into collecting conformations; what judging the model takes comes first, and training has the rest."""

JUDGING = 0.15
"""Largest share of the time that goes into judging the model; the noise levels of its paths are fewer if need be, but `LEAST_LEVELS`."""

LEAST_LEVELS = 25

RESERVE = 0.1
"""Share of the time that is left over for what is not measured: starting, checkpoints, other programs."""

TRIAL = 2.0
"""Seconds for which each cost is measured, at least."""

LEAST_STEPS = 100
"""A shorter training is not worth its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured seconds.

    Attributes:
        sweep: One sweep of all walkers.
        step: One optimiser step.
        call: Call of the network for one noise level of a judgement, on the lowest rung.
        overhead: What does not grow with the budget: compiling, and measuring.
    """

    sweep: float
    step: float
    call: float
    overhead: float


def plan(cost: Cost, minutes: float, config: EnergyConfig, train: TrainConfig) -> tuple[EnergyConfig, TrainConfig]:
    """Shares out a time budget.

    Arguments:
        cost: Measured costs.
        minutes: Budget.
        config: Rounds, rungs and walkers; its sweeps are replaced, and its path levels where judging would take too long.
        train: Its steps, warm-up and averaging are replaced.

    Raises:
        InputError: If the time does not suffice for a training.
    """
    # a judgement fits the kernels, then draws as many paths as it noises reference samples
    level = config.rounds * 3 * cost.call * config.paths / max(config.path_samples, config.columns)
    allowed = int(JUDGING * 60.0 * minutes / level) if level > 0.0 else config.path_levels
    levels = min(config.path_levels, max(allowed, LEAST_LEVELS))
    judging = levels * level
    fixed = cost.overhead + judging + config.burn_in * cost.sweep
    least_collecting, least_steps = config.rounds * config.every * cost.sweep, max(LEAST_STEPS, config.rounds)
    left = (1.0 - RESERVE) * 60.0 * minutes - fixed
    collecting = max(COLLECTING * left, least_collecting)
    steps = int((left - collecting) / cost.step)
    if steps < least_steps:
        training = least_steps * cost.step
        needed = (fixed + training + max(training * COLLECTING / (1.0 - COLLECTING), least_collecting)) / (1.0 - RESERVE)
        raise InputError(
            f"minutes: got {minutes:g}, which leaves {max(steps, 0)} steps of training on this machine; expected at least "
            f"{_ceil(needed / 60.0):g} minutes"
        )
    sweeps = int(collecting / (config.rounds * cost.sweep) + 1e-9)
    sweeps -= sweeps % config.every
    return (
        dataclasses.replace(config, sweeps=sweeps, path_levels=levels),
        dataclasses.replace(train, steps=steps, warmup=min(train.warmup, steps // 10), ema=min(train.ema, 1.0 - 20.0 / steps)),
    )


def _ceil(minutes: float) -> float:
    """Rounds a time up, to a tenth of a minute below ten minutes and to a minute above."""
    return math.ceil(minutes) if minutes > 10.0 else math.ceil(10.0 * minutes) / 10.0


def planned(
    folder: Path, minutes: float | None, config: EnergyConfig, train: TrainConfig, measure: Callable[[], Cost]
) -> tuple[EnergyConfig, TrainConfig, dict[str, Any]]:
    """Returns the plan of a run: made once, and read from `run.json` afterwards, so that an interrupted run goes on with the same numbers.

    Arguments:
        folder: Run folder.
        minutes: Budget; None for the numbers of the configurations as they are.
        config: Rounds, rungs and walkers.
        train: How to train.
        measure: Measures the costs, where there is no plan yet.

    Returns:
        The configurations, and what the identity of the run (`run_folder.claim`) has to say of the plan.

    Raises:
        InputError: If the time does not suffice.
        CheckpointError: If the folder holds a run of another budget, or something else.
    """
    path = folder / "run.json"
    if not path.exists():
        if minutes is None:
            return config, train, {}
        if folder.exists() and (not folder.is_dir() or any(not entry.name.startswith(".") for entry in folder.iterdir())):
            claim(folder, {})  # says what is wrong with it before anything is measured
        cost = measure()
        config, train = plan(cost, minutes, config, train)
        sizes = {
            "sweeps": config.sweeps,
            "path_levels": config.path_levels,
            "steps": train.steps,
            "warmup": train.warmup,
            "ema": train.ema,
        }
        return config, train, {"plan": {"minutes": minutes, "cost": dataclasses.asdict(cost), **sizes}}
    try:
        kept = json.loads(path.read_text(encoding="utf-8")).get("plan")
        found = None if kept is None else float(kept["minutes"])
        if found == minutes and kept is not None:
            config = dataclasses.replace(config, sweeps=int(kept["sweeps"]), path_levels=int(kept["path_levels"]))
            train = dataclasses.replace(train, **{name: kept[name] for name in ("steps", "warmup", "ema")})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}); use another folder") from error
    if found != minutes:
        was, wanted = ("without a time budget" if m is None else f"of {m:g} minutes" for m in (found, minutes))
        raise CheckpointError(
            f"'{folder}' holds a run {was}, got one {wanted}; repeat the options of that run, or give another folder"
        )
    return config, train, {} if kept is None else {"plan": kept}


def measured(
    engine: ParallelTempering,
    start: torch.Tensor,
    buffer: ReplayBuffer,
    denoiser: Any,
    objective: torch.nn.Module,
    config: EnergyConfig,
    train: TrainConfig,
    accept: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Cost:
    """Times some sweeps, calls and optimiser steps on a throw-away copy of what will be trained.

    Arguments:
        engine: The ladder.
        start: Conformations to start from.
        buffer: An empty buffer of the same kind as the run's.
        denoiser: A fresh denoiser; it is trained for a few steps.
        objective: Its loss.
        config: Gives the numbers of samples.
        train: Gives batch size, precision, threads and whether to compile.
        accept: Check of the conformations of a round.
    """
    begin = time.perf_counter()
    threads = torch.get_num_threads()
    try:
        if train.threads is not None:
            torch.set_num_threads(train.threads)
        generator = generator_for(train.seed, 99)
        states = [engine.burn_in(engine.start(start, generator=generator), sweeps=2, generator=generator)]

        def one_sweep() -> None:
            (states[0],) = engine.run(states[0], sweeps=1, generator=generator)

        sweep = _timed(one_sweep, 0)
        state = states[0]
        if accept is not None:
            sweep += _timed(lambda: accept(state.walkers.x)) / config.every
        buffer.add(state.x, state.u, state.force)
        if train.compile:
            denoiser.compile_network()
        samples = max(config.path_samples, config.columns)
        sizes = {samples, config.columns} if config.proposes and config.rungs > 1 else {samples}
        batches = {size: buffer.batch(size, generator=generator) for size in sorted(sizes)}

        def one_level(size: int) -> None:
            shown = batches[size]
            with torch.no_grad():
                denoiser(shown.state, torch.full((size,), 0.5, dtype=shown.state.dtype), shown.features)

        denoiser.requires_grad_(False)
        for size in batches:  # each size is compiled on its own
            one_level(size)
        call = _timed(lambda: one_level(samples), 1)
        denoiser.requires_grad_(True)
        optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-5)

        def one_step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bf16"):
                loss = objective(denoiser, buffer.batch(train.batch_size, generator=generator), generator=generator)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        # the code that is compiled here is kept, and is found again by the run
        step = _timed(one_step, 2)
    finally:
        torch.set_num_threads(threads)
    return Cost(sweep=sweep, step=step, call=call, overhead=time.perf_counter() - begin)


def _timed(action: Callable[[], Any], warm_up: int = 1) -> float:
    """Returns the mean seconds of an action over at least `TRIAL` seconds; the first calls do not count."""
    for _ in range(warm_up):
        action()
    begin, count = time.perf_counter(), 0
    while not count or time.perf_counter() - begin < TRIAL:
        action()
        count += 1
    return (time.perf_counter() - begin) / count
