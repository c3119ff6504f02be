"""Runs a training: new, resumed, or from the weights of another model."""

import dataclasses
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from equilibra.atomic import write_text
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.errors import ConfigError
from equilibra.memory import keep_freed_memory
from equilibra.run_folder import claim
from equilibra.train.batches import BatchSource
from equilibra.train.checkpoint import read_checkpoint
from equilibra.train.config import TrainConfig
from equilibra.train.interruption import Interruption

Progress = Callable[[int, dict[str, float]], None]

MOST_SHAPES = 64
"""Sizes of batches that a network is compiled for: systems are padded to several lengths."""

# how a run is cut up does not change what it computes
FREE_TO_CHANGE = ("checkpoint_every", "threads", "compile", "accelerator")


def train_denoiser(
    denoiser: TrainedDenoiser,
    data: BatchSource,
    config: TrainConfig,
    folder: Path,
    *,
    identity: dict[str, Any],
    objective: torch.nn.Module | None = None,
    until: int | None = None,
    progress: Progress = lambda step, values: None,
) -> dict[str, torch.Tensor]:
    """Trains a denoiser in a folder, going on with the checkpoint there if it is of the same run.

    Arguments:
        denoiser: Network and process; its weights are the starting point of a new run, and are trained in place.
        data: Training batches.
        config: How to train.
        folder: Run folder: `run.json`, `log.jsonl`, `checkpoint.safetensors`, `tensorboard/`.
        identity: What else defines the run, such as digests of data and starting weights; JSON values.
        objective: What is minimised; by default score matching, with the data's forces if they have any.
        until: Step to stop at, where the data of the later steps are not there yet; a checkpoint is written. The end by default.
        progress: Called after each logged step with the step and the log values.

    Returns:
        The averaged parameters by name.

    Raises:
        CheckpointError: If the folder holds another run, or a corrupted checkpoint.
        DivergenceError: If the loss or the weights leave the finite numbers; the last good checkpoint is kept.
        KeyboardInterrupt: If it was interrupted or terminated. The step at hand was finished and its checkpoint written; the same call
            goes on from there.
    """
    from equilibra.train.module import DenoiserTraining

    claim(folder, {**identity, "train": defining(config)})
    last = config.steps if until is None else until
    if not 0 < last <= config.steps:
        raise ConfigError(f"until: got {last}, expected a step from 1 to {config.steps}")
    objective = objective or ScoreMatching(
        denoiser.process,
        NoiseLevels(median=config.noise_median, width=config.noise_width),
        forces=config.forces and data.has_forces,
    )
    first, restored, recent = 0, None, []
    checkpoint = folder / "checkpoint.safetensors"
    if checkpoint.exists():
        restored, header = read_checkpoint(checkpoint)
        first, recent = int(header["step"]), header["recent"]
    _cut_log(folder / "log.jsonl", first)
    interruption = Interruption()
    module = DenoiserTraining(
        denoiser,
        objective,
        config,
        folder,
        first=first,
        last=last,
        restored=restored,
        interruption=interruption,
        progress=progress,
    )
    module.restore_recent(recent)
    if first < last:
        keep_freed_memory()
        with _settings(config), interruption.listening():
            _fit(module, data, config, folder, first, last)
    return {name: value.detach().cpu() for name, value in module.average.state_of().items()}


def _fit(module: Any, data: BatchSource, config: TrainConfig, folder: Path, first: int, last: int) -> None:
    import lightning
    from lightning.pytorch.loggers import TensorBoardLogger

    from equilibra.train.module import TrainingData

    trainer = lightning.Trainer(
        accelerator=config.accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy=config.strategy,
        precision="bf16-mixed" if config.precision == "bf16" else "32-true",
        max_steps=last - first,
        max_epochs=1,
        gradient_clip_val=config.clip,
        logger=TensorBoardLogger(str(folder), name="tensorboard", version=""),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        deterministic="warn" if config.accelerator == "cpu" else None,
        num_sanity_val_steps=0,
    )
    try:
        trainer.fit(module, datamodule=TrainingData(data, config, first, last))
    except SystemExit as end:
        # Lightning turns interrupts into the end of the process; what a caller sees is an interrupt
        raise KeyboardInterrupt(_stopped(module, config)) from end
    if module.step < last:
        raise KeyboardInterrupt(_stopped(module, config))


def _stopped(module: Any, config: TrainConfig) -> str:
    return f"training stopped at step {module.step} of {config.steps}; the same call goes on from the last checkpoint"


@contextmanager
def _settings(config: TrainConfig) -> Iterator[None]:
    """Sets threads, determinism, warnings and logging for a training, and puts back what was there before."""
    threads = torch.get_num_threads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            # Lightning advises on loader workers and on the batch count; batches here are index operations
            warnings.filterwarnings("ignore", module="lightning")
            warnings.filterwarnings("ignore", module="torch")
            with _many_shapes() if config.compile else nullcontext():
                yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.set_num_threads(threads)


def _many_shapes() -> Any:
    """Lets a network be compiled for many sizes; beyond its own small limit the compiler goes on uncompiled, without a word."""
    from torch._dynamo import config as compiler

    return compiler.patch(recompile_limit=MOST_SHAPES)


def defining(config: TrainConfig) -> dict[str, Any]:
    """Returns what of a configuration defines a run, as JSON: a resumed run must have the same."""
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE_TO_CHANGE}


def _cut_log(path: Path, step: int) -> None:
    """Drops the log lines after the checkpoint that the run goes on from."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue  # the last line of a killed run may be half-written
    write_text(path, "".join(line + "\n" for line in kept))
