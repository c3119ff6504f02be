"""From minutes to steps: what a training from an energy can do in a given time on this machine."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from equilibra.atomic import write_text
from equilibra.data.replay import ReplayBuffer
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.errors import CheckpointError, InputError
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
    total = 60.0 * minutes
    # a judgement fits the kernels, then draws as many paths as it noises reference samples
    judging = config.rounds * 3 * config.path_levels * cost.call
    left = total - cost.overhead - judging - config.burn_in * cost.sweep
    sweeps = max(config.every, int(COLLECTING * left / (config.rounds * cost.sweep)))
    steps = int((1.0 - COLLECTING) * left / cost.step)
    if steps < max(LEAST_STEPS, config.rounds):
        needed = (cost.overhead + judging + config.burn_in * cost.sweep + LEAST_STEPS * cost.step / (1.0 - COLLECTING)) / 60.0
        raise InputError(
            f"minutes: got {minutes:g}, which leaves {max(steps, 0)} steps of training on this machine; expected at least {needed:.0f} minutes"
        )
    sweeps -= sweeps % config.every
    return (
        dataclasses.replace(config, sweeps=sweeps),
        dataclasses.replace(train, steps=steps, warmup=min(train.warmup, steps // 10), ema=min(train.ema, 1.0 - 20.0 / steps)),
    )


def planned(
    folder: Path, minutes: float, config: EnergyConfig, train: TrainConfig, measure: Callable[[], Cost]
) -> tuple[EnergyConfig, TrainConfig]:
    """Returns the plan of a folder, made at the first call and kept there, so that an interrupted run goes on with the same numbers."""
    path = folder / "plan.json"
    if not path.exists():
        cost = measure()
        config, train = plan(cost, minutes, config, train)
        values = {"minutes": minutes, "cost": dataclasses.asdict(cost), "sweeps": config.sweeps}
        values |= {"steps": train.steps, "warmup": train.warmup, "ema": train.ema}
        write_text(path, json.dumps(values, indent=2) + "\n")
        return config, train
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        found = float(values["minutes"])
        sizes: dict[str, Any] = {name: values[name] for name in ("steps", "warmup", "ema")}
        config = dataclasses.replace(config, sweeps=int(values["sweeps"]))
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' is damaged ({error}); use another folder") from error
    if found != minutes:
        raise CheckpointError(
            f"'{folder}' holds a run of {found:g} minutes, not of {minutes:g}; give the same, or another folder"
        )
    return config, dataclasses.replace(train, **sizes)


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
