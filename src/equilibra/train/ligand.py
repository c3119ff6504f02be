"""Training of ligands in pockets from complexes: receptors with ligands in their places, as they are or as molecular dynamics moves them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.data.conformations import ConformationData, Conformations
from equilibra.diffusion.space import Torus
from equilibra.errors import ConfigError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.ligand.domain import elements, identifier
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import ligand_denoiser, ligand_network_config, ligand_process, network_values
from equilibra.systems.ligand.poses import pose_state
from equilibra.systems.ligand.system import CONFORMER, REFERENCE, SHIFT, TORSIONS, TURN, LigandSystem
from equilibra.systems.ligand.trajectory import ComplexTrajectory, LigandTrajectory, read_ligand_trajectory
from equilibra.systems.model import Model
from equilibra.systems.scope import Scope
from equilibra.train.config import FINE_TUNING, TrainConfig
from equilibra.train.fit import fit, starting_model, tuned, warn_left_out
from equilibra.train.run import Progress

TRANSFERABLE = 20
"""A model of more systems than this is meant for ligands and pockets that it has not seen, too."""

DEFAULT = TrainConfig(batch_size=32, noise_median=0.3, noise_width=1.6, compile=False, precision="fp32")
"""How ligands are trained by default. Batches hold ligands and pockets of many sizes, so that networks are not compiled."""

TUNING = dataclasses.replace(
    FINE_TUNING,
    **{name: getattr(DEFAULT, name) for name in ("batch_size", "noise_median", "noise_width", "compile", "precision")},
)
"""How models of ligands are trained further by default."""

SAMPLER = SamplerConfig(grid=GridConfig(steps=24, spacing="log", end="flow"))
"""The default sampler of models of ligands."""

BUCKET = 16
"""Systems are padded to a multiple of so many tokens."""

COPIES = 4
"""Places of the box about each complex that are learned from: where a box is centred says little of where in it the ligand is."""

OFFSET = 2.0
"""Standard deviation of these places per axis, in Å."""

WHOLE = (SHIFT, TURN, CONFORMER)
"""Fields that are one for a whole system."""

SPACES = {TORSIONS: Torus(period=2.0 * np.pi)}
"""Spaces that training batches are projected on."""

_STREAM = 0x504F5345


@dataclass(frozen=True, eq=False)
class LigandSources:
    """What a model of ligands is trained on.

    Attributes:
        systems: Complexes with one pose.
        trajectories: Complexes with the poses of molecular dynamics.
    """

    systems: Sequence[LigandSystem]
    trajectories: Sequence[LigandTrajectory]

    @classmethod
    def read(cls, sources: Sequence[Any]) -> LigandSources:
        """Reads complexes and trajectories. Bad records are left out; a warning names the first of them.

        Arguments:
            sources: `ComplexTrajectory`s, and what `ligand_systems` reads.

        Raises:
            InputError: If nothing can be used, or a trajectory cannot be read.
        """
        moving = [read_ligand_trajectory(source) for source in sources if isinstance(source, ComplexTrajectory)]
        others = [source for source in sources if not isinstance(source, ComplexTrajectory)]
        return cls(complex_systems(others) if others or not moving else [], moving)

    @property
    def all_systems(self) -> list[LigandSystem]:
        """The systems of both, those with one pose first."""
        return [*self.systems, *(each.system for each in self.trajectories)]

    def data(self, *, seed: int = 0) -> ConformationData:
        """Makes training batches, in which all complexes count the same.

        Poses of complexes come with the geometry that they have, and fitted to bonds, angles and rings made anew, as samples have them; those of trajectories as they were fitted.

        Arguments:
            seed: Seed of the places of the boxes about complexes with one pose.
        """
        entries = [_complex(system, number, seed) for number, system in enumerate(self.systems)]
        for each in self.trajectories:
            fields = {name: value.float() for name, value in each.state.fields.items()}
            entries.append(Conformations(each.system, fields, whole=WHOLE))
        return ConformationData(entries, bucket=BUCKET, weights=[1.0] * len(entries), spaces=SPACES)

    def save(self, folder: Path) -> None:
        """Writes for each trajectory, to a folder of its number, the input to sample it with, the ensemble of its poses, and how well its frames fit."""
        for number, each in enumerate(self.trajectories):
            own = folder / f"{number:03d}"
            poses = LigandEnsemble.from_frames(each.system, each.positions, provenance={"kind": "frames of a trajectory"})
            if len(poses):
                poses.save(own / "poses", formats=("npz",))
            write_text(own / "receptor.pdb", each.texts[0])
            write_text(own / "ligand.sdf", each.texts[1])
            write_text(own / "fit.json", json.dumps(each.numbers(), indent=2) + "\n")

    def in_words(self) -> str:
        """Returns how much there is of both."""
        frames = sum(int(each.used.sum()) for each in self.trajectories)
        one, moving = len(self.systems), len(self.trajectories)
        parts = [f"{one} complex{'es' * (one != 1)}"] if one or not moving else []
        parts += [f"{frames:,} frames of {moving} trajector{'y' if moving == 1 else 'ies'}"] if moving else []
        return " and ".join(parts)


def complex_systems(sources: Sequence[Any]) -> list[LigandSystem]:
    """Reads the complexes of some sources, each with the pose of its ligand. Bad records are left out; a warning names the first of them.

    Arguments:
        sources: What `ligand_systems` reads.

    Raises:
        InputError: If nothing can be used.
    """
    problems: list[InputError] = []
    found: list[LigandSystem] = []
    for source in sources:
        try:
            found += ligand_systems(source, on_error=problems.append)
        except InputError as error:
            problems.append(error)
    without = [system for system in found if system.pose is None or np.isnan(system.pose).any()]
    problems += [InputError(f"{system.name}: it has no pose of all its atoms to learn from") for system in without]
    warn_left_out(problems, "complexes")
    kept = [system for system in found if system.pose is not None and not np.isnan(system.pose).any()]
    if not kept:
        raise InputError(
            "training data: got no complex with a pose, expected at least one ligand with 3-D coordinates in its receptor"
        )
    return kept


def _complex(system: LigandSystem, number: int, seed: int) -> Conformations:
    assert system.pose is not None
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number, _STREAM]).generate_state(1)[0]))
    fields: dict[str, list[torch.Tensor]] = {}
    for copy in range(COPIES):
        state = pose_state(system, system.pose[None], fitted=copy % 2 == 1)
        offset = OFFSET * torch.randn(3, generator=generator, dtype=torch.float64)
        reference = state.fields[REFERENCE].double().clone()
        reference[:, len(system.torsions.heavy) :] -= offset
        moved = state.replace(**{SHIFT: state.fields[SHIFT] - offset, REFERENCE: reference})
        for name, value in moved.fields.items():
            fields.setdefault(name, []).append(value.float())
    return Conformations(system, {name: torch.cat(parts) for name, parts in fields.items()}, whole=WHOLE)


def shift_scale(data: ConformationData) -> float:
    """Returns the standard deviation per axis of the shift over training data, in Å."""
    squares = [float(entry.fields[SHIFT].double().square().mean()) for entry in data.entries]
    return max(round(float(np.sqrt(np.average(squares, weights=data.weights))), 3), 0.5)


def scope_of(systems: Sequence[LigandSystem]) -> Scope:
    """Returns what a model of some systems was trained on."""
    names = {identifier(system) for system in systems}
    return Scope(systems=tuple(sorted(names)), elements=elements(systems), transferable=len(names) > TRANSFERABLE)


def train_ligand(
    sources: Sequence[Any] | LigandSources,
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str = "ligand",
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on complexes, from random weights; the same call goes on with an interrupted run.

    Arguments:
        sources: Complexes and trajectories: what `LigandSources.read` takes, or what it made.
        folder: Run folder; the model is written to `folder/model`, what belongs to trajectories to `folder/complexes`.
        config: How to train, by default `DEFAULT`; networks of ligands are never compiled.
        name: Name of the model.
        network: Changes of the network's size, by the names of `LigandNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or DEFAULT, compile=False)
    given = sources if isinstance(sources, LigandSources) else LigandSources.read(sources)
    data = given.data(seed=config.seed)
    network_config = ligand_network_config(**(network or {}))
    model = Model(
        name=name,
        domain="ligand",
        denoiser=ligand_denoiser(ligand_process(shift_scale(data)), network_config, seed=config.seed),
        network=network_values(network_config),
        sampler=sampler or SAMPLER,
        scope=scope_of(given.all_systems),
        card=card or _card(f"Trained on {given.in_words()}."),
    )
    made = fit(model, data, Path(folder), config, progress)
    given.save(Path(folder) / "complexes")
    return made


def fine_tune_ligand(
    model: Model,
    sources: Sequence[Any] | LigandSources,
    folder: str | Path,
    config: TrainConfig | None = None,
    *,
    name: str | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model further on other complexes; the given model is left as it is.

    Arguments:
        model: Where to start.
        sources: Complexes and trajectories; to keep what the model knows, its own data may be among them.
        folder: Run folder; the new model is written to `folder/model`.
        config: How to train; by default a tenth of a full training at a third of its learning rate.
        name: Name of the new model; by default that of the old one with `-tuned`.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        ConfigError: If the network of the model is of another kind.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    config = dataclasses.replace(config or TUNING, compile=False)
    start = starting_model(model, "ligand", None)
    if start.denoiser.parametrisation == "energy":
        raise ConfigError(f"fine-tune: '{model.name}' has a conservative network, which ligands do not have")
    given = sources if isinstance(sources, LigandSources) else LigandSources.read(sources)
    data = given.data(seed=config.seed)
    scope = scope_of(given.all_systems)
    scope = dataclasses.replace(
        scope,
        systems=tuple(sorted({*scope.systems, *model.scope.systems})),
        elements=tuple(sorted({*scope.elements, *model.scope.elements})),
        transferable=scope.transferable or model.scope.transferable,
    )
    copy = tuned(start, name=name, scope=scope, card=_card(f"{model.name}, trained further on {given.in_words()}."))
    made = fit(copy, data, Path(folder), config, progress, start=model.sha256)
    given.save(Path(folder) / "complexes")
    return made


def _card(summary: str) -> Card:
    return Card(
        summary=summary,
        not_good_for="Affinities; receptors that change their shape with the ligand; covalent ligands. Poses are samples of what complexes teach: weights for an energy "
        "say how far they are from its Boltzmann distribution.",
    )
