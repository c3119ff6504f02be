"""Physics-informed training of proteins: snapshots with mean forces join the data, and the score equation joins the loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from equilibra.data.conformations import ConformationData
from equilibra.diffusion.objectives.choose import TrainedDenoiser, choose_objective
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.pidp import PIDPConfig
from equilibra.errors import ConfigError, InputError
from equilibra.run_folder import claim
from equilibra.systems.protein.mean_forces import FrameForceConfig
from equilibra.systems.protein.snapshots import ForceProgress, check_proteins, mean_forces
from equilibra.train.config import TrainConfig
from equilibra.train.fit import data_digest

FORCES = "mean-forces"
"""Folder of the snapshots within a run folder."""

OPTIMISER = "training"
"""Folder of the optimiser within the run folder of a training with an energy."""


@dataclass(frozen=True, kw_only=True)
class ProteinEnergy:
    """How proteins are trained with an energy.

    Snapshots of short dynamics, with the mean forces on their frames, are drawn beside the data. They are where the score has to be the force at the smallest
    noise, and where its Fokker-Planck equation is imposed. Score matching sees data and snapshots, always by denoising: the mixture with target
    score matching exists on flat Spaces, and orientations are none, so that forces act on proteins through the physical terms alone.

    Attributes:
        forces: Where mean forces come from.
        share: Share of the samples of a set that are its snapshots.
        pidp: Weights and settings of the physical terms. By default forces are compared at noised structures, since peptide bonds are about as stiff as the smallest
            noise is wide.

    Raises:
        ConfigError: If the share is out of range.
    """

    forces: FrameForceConfig = field(default_factory=FrameForceConfig)
    share: float = 0.2
    pidp: PIDPConfig = field(default_factory=lambda: PIDPConfig(smoothed=True))

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"share: got {self.share}, expected a share above 0 and up to 1")

    def objective(self, denoiser: TrainedDenoiser, config: TrainConfig) -> nn.Module:
        """Returns the loss of a denoiser."""
        levels = NoiseLevels(median=config.noise_median, width=config.noise_width)
        return choose_objective("pidp", denoiser, levels, config=self.pidp, forces=False)


@dataclass(frozen=True, kw_only=True, eq=False)
class ForceData:
    """Data with snapshots that have forces.

    Attributes:
        data: All of it.
        snapshots: Number of snapshots.
        calls: Energy calls that they took.
        skipped: Number of conformations that no dynamics could start from.
    """

    data: ConformationData
    snapshots: int
    calls: int
    skipped: int

    def summary(self, config: FrameForceConfig) -> str:
        """Returns in words where the forces come from, for a card."""
        kind = "instantaneous" if config.average == 1 else "mean"
        left = f"; {self.skipped} conformations could not be built with all atoms" if self.skipped else ""
        where = f"{config.force_field} at {config.temperature:g} K"
        return f"{self.snapshots} snapshots with {kind} forces of {where} ({self.calls:,} energy calls{left})"


def with_mean_forces(
    data: ConformationData,
    plain: Sequence[bool],
    energy: ProteinEnergy,
    folder: Path,
    *,
    identity: Mapping[str, Any],
    progress: Callable[[ForceProgress], None],
) -> ForceData:
    """Adds snapshots with mean forces to data, in a run folder, which is claimed first; the same call goes on with an interrupted run.

    Arguments:
        data: Data without forces.
        plain: For each of its entries, whether it stays as it is.
        energy: How.
        folder: Run folder.
        identity: What else defines the run, as JSON.
        progress: Told how far it is after each snapshot.

    Raises:
        InputError: If a protein cannot be built, or all entries are plain.
        CheckpointError: If the folder holds another run.
        DivergenceError: If dynamics diverges; what was finished before is kept.
    """
    chosen = [index for index, left in enumerate(plain) if not left]
    if not chosen:
        raise InputError("training with an energy: all sets are plain, expected one with forces at least")
    check_proteins([data.entries[index] for index in chosen])
    claimed = {
        "kind": "training of a protein model from data and an energy",
        "systems": [entry.system.digest for entry in data.entries],
        "plain": list(plain),
        "data": data_digest(data),
        "energy": dataclasses.asdict(energy),
        **identity,
    }
    claim(folder, claimed)
    found = mean_forces([data.entries[index] for index in chosen], energy.forces, folder / FORCES, progress=progress)
    weights = [weight * (1.0 if left else 1.0 - energy.share) for weight, left in zip(data.weights, plain, strict=True)]
    mixed = ConformationData(
        [*data.entries, *(made.conformations for made in found)],
        weights=[*weights, *(energy.share * data.weights[index] for index in chosen)],
        crop=data.crop,
        budget=data.budget,
        spaces=data.spaces,
    )
    snapshots = sum(len(made.conformations) for made in found)
    calls, skipped = sum(made.calls for made in found), sum(len(made.skipped) for made in found)
    return ForceData(data=mixed, snapshots=snapshots, calls=calls, skipped=skipped)
