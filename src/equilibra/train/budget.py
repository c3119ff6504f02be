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
"""Share of the time that goes into collecting conformations; judging the model takes its own, and training the rest."""

LEAST_STEPS = 100
"""A shorter training is not worth its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Measured seconds.

    Attributes:
        sweep: One sweep of all walkers.
        step: One optimiser step.
        call: One call of the network with as many samples as a judgement takes.
        overhead: What does not grow with the budget: compiling.
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
        config: Rounds, rungs and walkers; its sweeps are replaced.
        train: Its steps, warm-up and averaging are replaced.

    Raises:
        InputError: If the time does not suffice for a training.
    """
    # a judgement fits the kernels, then draws as many paths as it noises reference samples
    judging = config.rounds * 3 * config.path_levels * cost.call
    fixed = cost.overhead + judging + config.burn_in * cost.sweep
    least_collecting, least_steps = config.rounds * config.every * cost.sweep, max(LEAST_STEPS, config.rounds)
    left = 60.0 * minutes - fixed
    collecting = max(COLLECTING * left, least_collecting)
    steps = int((left - collecting) / cost.step)
    if steps < least_steps:
        training = least_steps * cost.step
        needed = fixed + training + max(training * COLLECTING / (1.0 - COLLECTING), least_collecting)
        raise InputError(
            f"minutes: got {minutes:g}, which leaves {max(steps, 0)} steps of training on this machine; expected at least "
            f"{_ceil(needed / 60.0):g} minutes"
        )
    sweeps = int(collecting / (config.rounds * cost.sweep) + 1e-9)
    sweeps -= sweeps % config.every
    return (
        dataclasses.replace(config, sweeps=sweeps),
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
        sizes = {"sweeps": config.sweeps, "steps": train.steps, "warmup": train.warmup, "ema": train.ema}
        return config, train, {"plan": {"minutes": minutes, "cost": dataclasses.asdict(cost), **sizes}}
    try:
        kept = json.loads(path.read_text(encoding="utf-8")).get("plan")
        found = None if kept is None else float(kept["minutes"])
        if found == minutes and kept is not None:
            config = dataclasses.replace(config, sweeps=int(kept["sweeps"]))
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
) -> Cost:
    """Times a few sweeps, optimiser steps and calls on a throw-away copy of what will be trained.

    Arguments:
        engine: The ladder.
        start: Conformations to start from.
        buffer: An empty buffer of the same kind as the run's.
        denoiser: A fresh denoiser; it is trained for a few steps.
        objective: Its loss.
        config: Gives the numbers of samples.
        train: Gives batch size, precision, threads and whether to compile.
    """
    begin = time.perf_counter()
    threads = torch.get_num_threads()
    try:
        if train.threads is not None:
            torch.set_num_threads(train.threads)
        generator = generator_for(train.seed, 99)
        state = engine.burn_in(engine.start(start, generator=generator), sweeps=2, generator=generator)
        first = time.perf_counter()
        *_, state = engine.run(state, sweeps=3, generator=generator)
        sweep = (time.perf_counter() - first) / 3
        buffer.add(state.x, state.u, state.force)
        compiled = train.compile and getattr(denoiser, "parametrisation", "") != "energy"
        if compiled:
            denoiser.network.compile(dynamic=False)
        optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-5)

        def one_step() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bf16"):
                loss = objective(denoiser, buffer.batch(train.batch_size, generator=generator), generator=generator)["loss"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()

        one_step()
        one_step()
        second = time.perf_counter()
        for _ in range(5):
            one_step()
        step = (time.perf_counter() - second) / 5
        # the judged copy is not compiled: a forward pass of as many samples costs about as much as a step of as many
        call = step * max(config.path_samples, config.columns) / train.batch_size
        overhead = second - begin + (second - first - 3 * sweep if compiled else 0.0)
    finally:
        torch.set_num_threads(threads)
    return Cost(sweep=sweep, step=step, call=call, overhead=overhead)
