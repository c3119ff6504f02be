"""How to train."""

from dataclasses import dataclass, replace
from typing import Literal

from equilibra.errors import ConfigError

LearningRateSchedule = Literal["cosine", "inverse-sqrt", "constant"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How to train.

    Attributes:
        steps: Optimiser steps of the whole run.
        batch_size: Conformations per step, over all devices.
        learning_rate: Peak learning rate of AdamW.
        schedule: `cosine` to zero, `inverse-sqrt` after the warm-up, or `constant`.
        warmup: Steps of linear warm-up.
        weight_decay: Decoupled weight decay.
        clip: Largest gradient norm.
        ema: Decay per step of the averaged weights, which are the ones that a model keeps.
        noise_median: Median training noise in units of the data scale.
        noise_width: Standard deviation of the logarithm of the training noise.
        forces: Use forces, where the data have them, for the mixture of denoising and target score matching.
        precision: `bf16` autocast or `fp32`; coordinates and accumulations stay in fp32.
        compile: Compile the network.
        threads: CPU threads; None leaves the choice to PyTorch.
        seed: Seed of weights, batches and noise.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between log lines.
        devices: Devices per node, as Lightning takes it.
        nodes: Nodes.
        strategy: Lightning's strategy, for example `ddp`.
        accelerator: Lightning's accelerator.
    """

    steps: int = 20_000
    batch_size: int = 256
    learning_rate: float = 1e-3
    schedule: LearningRateSchedule = "cosine"
    warmup: int = 500
    weight_decay: float = 0.0
    clip: float = 1.0
    ema: float = 0.999
    noise_median: float = 0.15
    noise_width: float = 1.6
    forces: bool = True
    precision: Literal["bf16", "fp32"] = "bf16"
    compile: bool = True
    threads: int | None = None
    seed: int = 0
    checkpoint_every: int = 500
    log_every: int = 50
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    accelerator: str = "auto"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "log_every", "devices", "nodes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected at least 1")
        for name in ("learning_rate", "clip", "noise_median", "noise_width"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected a positive number")
        for name in ("warmup", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}: got {getattr(self, name)}, expected a number that is not negative")
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads: got {self.threads}, expected at least 1")
        if not 0.0 <= self.ema < 1.0:
            raise ConfigError(f"ema: got {self.ema}, expected a number from 0 up to, but not including, 1")
        if self.schedule not in ("cosine", "inverse-sqrt", "constant"):
            raise ConfigError(f"schedule: got '{self.schedule}', expected cosine, inverse-sqrt or constant")
        if self.precision not in ("bf16", "fp32"):
            raise ConfigError(f"precision: got '{self.precision}', expected bf16 or fp32")
        if self.batch_size % (self.devices * self.nodes):
            raise ConfigError(
                f"batch_size: got {self.batch_size}, expected a multiple of the number of processes, {self.devices * self.nodes}"
            )


FINE_TUNING = TrainConfig(steps=2000, warmup=100, learning_rate=3e-4)
"""Default of fine-tuning: a tenth of a full training at a third of its learning rate."""


def twice_differentiated(config: TrainConfig) -> TrainConfig:
    """Returns the configuration for losses that contain derivatives of the score: compiled code does not differentiate a gradient, and half precision is too coarse."""
    return replace(config, compile=False, precision="fp32")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Returns the learning rate of a step; it depends on the step alone, so that a resumed run repeats it."""
    import math

    rise = min(1.0, (step + 1) / max(config.warmup, 1))
    if config.schedule == "cosine":
        done = min(1.0, max(0.0, (step - config.warmup) / max(config.steps - config.warmup, 1)))
        return config.learning_rate * rise * 0.5 * (1.0 + math.cos(math.pi * done))
    if config.schedule == "inverse-sqrt":
        return config.learning_rate * rise * math.sqrt(max(config.warmup, 1) / max(step + 1, config.warmup, 1))
    return config.learning_rate * rise
