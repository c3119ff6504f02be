"""The Lightning module and data module: one optimiser step per batch, everything a function of (seed, step, rank)."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from equilibra.diffusion.objectives.batch import TrainingBatch
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.errors import CheckpointError, DivergenceError
from equilibra.state.randomness import generator_for
from equilibra.train.average import WeightAverage
from equilibra.train.batches import BatchSource
from equilibra.train.checkpoint import optimiser_tensors, restore_optimiser, write_checkpoint
from equilibra.train.config import TrainConfig, learning_rate
from equilibra.train.interruption import Interruption

BATCH_STREAM, NOISE_STREAM = 1, 2


class StepBatches(Dataset[tuple[int, TrainingBatch]]):
    """Item k is the batch of optimiser step `first` + k, up to `last`: the same in every run with the same seed, also after a restart."""

    def __init__(self, data: BatchSource, config: TrainConfig, *, first: int, last: int, rank: int) -> None:
        self.data, self.config, self.first, self.last, self.rank = data, config, first, last, rank
        self.size = config.batch_size // (config.devices * config.nodes)

    def __len__(self) -> int:
        return max(0, self.last - self.first)

    def __getitem__(self, index: int) -> tuple[int, TrainingBatch]:
        if index >= len(self):
            raise IndexError(index)
        step = self.first + index
        generator = generator_for(self.config.seed, BATCH_STREAM, step, self.rank)
        return step, self.data.batch(self.size, generator=generator)


class TrainingData(lightning.LightningDataModule):
    """Serves the batches of the steps that are left."""

    def __init__(self, data: BatchSource, config: TrainConfig, first: int, last: int) -> None:
        super().__init__()
        self.data, self.config, self.first, self.last = data, config, first, last

    def train_dataloader(self) -> DataLoader[Any]:
        """Returns the loader; batches are made in the main process, since making one is an index operation."""
        rank = self.trainer.global_rank if self.trainer is not None else 0
        batches = StepBatches(self.data, self.config, first=self.first, last=self.last, rank=rank)
        # a generator of its own: the loader seeds its workers, of which there are none, from the global one otherwise
        return DataLoader(batches, batch_size=None, shuffle=False, generator=torch.Generator())

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch to its device."""
        step, data = batch
        return step, data.to(device)


class DenoiserTraining(lightning.LightningModule):
    """Trains a denoiser on an objective.

    Arguments:
        denoiser: What to train, in place.
        objective: Loss.
        config: How to train.
        folder: Where checkpoints and the log go.
        first: First step; more than 0 for a resumed run.
        last: Step to stop at; a checkpoint is written there.
        restored: Tensors of the checkpoint that the run goes on from.
        interruption: Tells whether to stop after the present step; by default never.
        progress: Called after each logged step with the step and the averaged log values.
    """

    def __init__(
        self,
        denoiser: TrainedDenoiser,
        objective: torch.nn.Module,
        config: TrainConfig,
        folder: Path,
        *,
        first: int = 0,
        last: int | None = None,
        restored: dict[str, Tensor] | None = None,
        interruption: Interruption | None = None,
        progress: Callable[[int, dict[str, float]], None] = lambda step, values: None,
    ) -> None:
        super().__init__()
        self.denoiser = denoiser
        self.objective = objective
        self.average = WeightAverage(denoiser, config.ema)
        self.train_config = config
        self.folder = folder
        self.step = first
        self.last = config.steps if last is None else last
        self.restored = restored
        self.interruption = interruption or Interruption()
        self.progress = progress
        self._recent: list[dict[str, Tensor]] = []
        if config.compile:
            denoiser.compile_network()
        if restored is not None:
            own = {key.removeprefix("module."): value for key, value in restored.items() if key.startswith("module.")}
            try:
                self.load_state_dict(own)
            except RuntimeError as error:
                raise CheckpointError(f"checkpoint in '{folder}': it does not fit this network: {error}") from error

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Returns AdamW; its learning rate is set at each step."""
        config = self.train_config
        # an objective may learn numbers of its own, such as log Z
        parameters = [*self.denoiser.parameters(), *self.objective.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay)
        if self.restored is not None:
            restore_optimiser(optimiser, self.restored)
        return optimiser

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Sets the learning rate of the step."""
        optimiser = self.optimizers()
        for group in optimiser.param_groups:  # type: ignore[union-attr]
            group["lr"] = learning_rate(self.train_config, batch[0])

    def training_step(self, batch: tuple[int, TrainingBatch], batch_idx: int) -> Tensor:
        """Returns the loss of one batch."""
        step, data = batch
        generator = generator_for(self.train_config.seed, NOISE_STREAM, step, self.global_rank, device=data.state.device)
        parts = self.objective(self.denoiser, data, generator=generator)
        if not torch.isfinite(parts["loss"]):
            raise DivergenceError(
                f"training diverged at step {step}: the loss is {float(parts['loss'].detach())}. The checkpoint of the last good step is kept; "
                "use a smaller --learning-rate"
            )
        self._recent.append({name: value.detach() for name, value in parts.items()})
        return parts["loss"]

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Averages the weights, logs, and writes a checkpoint where one is due."""
        config = self.train_config
        self._share_mixture()
        self.average.update(self.denoiser, self.step)
        self.step += 1
        if self.step % config.log_every == 0 or self.step == self.last:
            # the part that comes from a checkpoint is on the CPU
            values = {name: float(torch.stack([r[name].cpu() for r in self._recent]).mean()) for name in self._recent[0]}
            values["learning_rate"] = learning_rate(config, self.step - 1)
            self._recent.clear()
            if self.trainer.is_global_zero:
                with (self.folder / "log.jsonl").open("a") as file:
                    file.write(json.dumps({"step": self.step, **values}) + "\n")
                if self.logger is not None:
                    self.logger.log_metrics(values, self.step)
                self.progress(self.step, values)
        stop = self.interruption.requested and self.step < self.last
        if (stop or self.step % config.checkpoint_every == 0 or self.step == self.last) and self.trainer.is_global_zero:
            self.save()
        if stop:
            raise KeyboardInterrupt

    def save(self) -> None:
        """Writes the checkpoint of the present step.

        Raises:
            DivergenceError: If a weight is not finite; the checkpoint of the last good step stays in place.
        """
        optimiser: Any = self.optimizers()
        tensors = {f"module.{name}": value for name, value in self.state_dict().items()}
        tensors |= optimiser_tensors(optimiser.optimizer)
        if not all(bool(torch.isfinite(value).all()) for value in tensors.values()):
            raise DivergenceError(
                f"training diverged before step {self.step}: there are weights that are not finite. The checkpoint of the last good step is "
                "kept; use a smaller --learning-rate"
            )
        recent = [{name: float(value) for name, value in entry.items()} for entry in self._recent]
        write_checkpoint(self.folder / "checkpoint.safetensors", tensors, {"step": self.step, "recent": recent})

    def restore_recent(self, recent: list[dict[str, float]]) -> None:
        """Puts back the losses since the last log line, so that the log of a resumed run is that of an uninterrupted one."""
        self._recent = [{name: torch.tensor(value) for name, value in entry.items()} for entry in recent]

    def _share_mixture(self) -> None:
        """Averages the mixture's statistics over processes, so that all ranks train on the same targets."""
        mixture = getattr(self.objective, "mixture", None)
        if mixture is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
            return
        for buffer in (mixture.numerator, mixture.denominator):
            torch.distributed.all_reduce(buffer)
            buffer /= torch.distributed.get_world_size()
