"""Files of a training that goes in rounds: what each round collected, what the model proposed after it, and how it was judged."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.atomic import write_text
from equilibra.data.replay import ReplayBuffer
from equilibra.energies.ladder_state import LadderState
from equilibra.errors import CheckpointError
from equilibra.run_folder import identity_of
from equilibra.state.features import Features
from equilibra.state.packing import Packing
from equilibra.train.checkpoint import read_checkpoint, write_checkpoint
from equilibra.train.collect import Frames
from equilibra.train.energy_config import EnergyConfig

STATISTICS = ("calls", "refused", "move_acceptance", "swap_acceptance", "round_trips")
"""What a round's file knows besides its frames."""


class Rounds:
    """The files of the rounds in a run folder.

    Arguments:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def collected(self, number: int) -> bool:
        """Returns whether a round has its conformations."""
        return self._frames(number).exists()

    def judged(self, number: int) -> bool:
        """Returns whether the model was judged after a round."""
        return self._judgement(number).exists()

    def write(self, number: int, frames: Frames, state: LadderState, *, calls: int, refused: int, engine: bool) -> None:
        """Writes what a round collected.

        Arguments:
            number: Number of the round.
            frames: Its conformations.
            state: The ladder after it.
            calls: Energy calls of the run so far.
            refused: Conformations that did not belong to the system.
            engine: Whether the ladder moved in this round, so that its statistics say something.
        """
        header = {
            "calls": calls,
            "refused": refused,
            "move_acceptance": _numbers(state.move_acceptance.tolist() if engine else ()),
            "swap_acceptance": _numbers(state.swap_acceptance.tolist() if engine else ()),
            "round_trips": state.round_trips,
        }
        arrays = {"frames.x": frames.x.float(), "frames.u": frames.u.double(), "frames.force": frames.force.float()}
        write_checkpoint(self._frames(number), {**arrays, **_tensors(state)}, header)

    def read(self, number: int) -> tuple[Frames, LadderState, dict[str, Any]]:
        """Reads what a round collected, with the statistics `STATISTICS`.

        Raises:
            CheckpointError: If the file is missing or damaged.
        """
        tensors, header = read_checkpoint(self._frames(number))
        frames = Frames(tensors["frames.x"], tensors["frames.u"], tensors["frames.force"])
        return frames, _state_of(tensors), {key: header[key] for key in STATISTICS}

    def write_proposed(self, number: int, state: LadderState) -> None:
        """Writes the ladder after the model's proposals."""
        write_checkpoint(self._proposed(number), _tensors(state), {})

    def read_proposed(self, number: int) -> LadderState:
        """Reads the ladder after the model's proposals."""
        return _state_of(read_checkpoint(self._proposed(number))[0])

    def write_judgement(self, number: int, found: Mapping[str, Any]) -> None:
        """Writes what a judgement found, the last file of a round; numbers that are not finite become null."""
        values = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in found.items()}
        write_text(self._judgement(number), json.dumps(values, indent=2) + "\n")

    def read_judgement(self, number: int) -> dict[str, Any]:
        """Reads what a judgement found.

        Raises:
            CheckpointError: If the file is damaged.
        """
        path = self._judgement(number)
        try:
            return dict(json.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise CheckpointError(f"'{path}' is damaged ({error}); delete it to judge the model anew") from error

    def _frames(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}.safetensors"

    def _proposed(self, number: int) -> Path:
        return self.folder / f"proposed-{number:03d}.safetensors"

    def _judgement(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}.json"


def kept_conformations(
    folder: Path, features: Features, *, focus: float, field: str = "pos", packing: Packing | None = None
) -> ReplayBuffer:
    """Reads all conformations that a training from an energy has kept in its folder, to train on them further without an energy call.

    Arguments:
        folder: Run folder.
        features: Features of the system.
        focus: Share of a batch at the lowest temperature.
        field: Name of the position field.
        packing: What the arrays are as States; by default positions, the field of that name.

    Raises:
        CheckpointError: If the folder is no such run, or a file of it is damaged.
    """
    try:
        config = EnergyConfig(**identity_of(folder)["energy"])
    except (KeyError, TypeError) as error:
        raise CheckpointError(f"'{folder}' is no training from an energy, whose run.json names its ladder ({error})") from error
    buffer, files = ReplayBuffer(features, config.betas, focus=focus, field=field, packing=packing), Rounds(folder)
    for number in range(config.rounds):
        if files.collected(number):
            frames, _, _ = files.read(number)
            buffer.add(frames.x, frames.u, frames.force)
    if not buffer.frames:
        raise CheckpointError(f"'{folder}' has no conformations yet; let its training collect some first")
    return buffer


def _numbers(values: Iterable[float]) -> list[float | None]:
    """Returns rounded numbers; None for what was never tried."""
    return [round(value, 4) if math.isfinite(value) else None for value in values]


def _tensors(state: LadderState) -> dict[str, Tensor]:
    return {f"state.{name}": torch.from_numpy(value) for name, value in state.to_arrays().items()}


def _state_of(tensors: Mapping[str, Tensor]) -> LadderState:
    arrays = {name.removeprefix("state."): value.numpy() for name, value in tensors.items() if name.startswith("state.")}
    return LadderState.from_arrays(arrays)
