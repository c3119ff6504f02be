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
from equilibra.diffusion.space import Euclidean, Torus
from equilibra.energies.docking.box import Box
from equilibra.errors import ConfigError, InputError, unknown_key_message
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig
from equilibra.systems.card import Card
from equilibra.systems.ligand.domain import elements, identifier
from equilibra.systems.ligand.ensemble import LigandEnsemble
from equilibra.systems.ligand.inputs import ligand_systems
from equilibra.systems.ligand.network import (
    STATES,
    StateKind,
    cartesian_process,
    ligand_denoiser,
    ligand_network_config,
    ligand_process,
    network_values,
    state_of,
)
from equilibra.systems.ligand.poses import cartesian_pose_state, pose_state
from equilibra.systems.ligand.system import CONFORMER, POSITIONS, REFERENCE, SHIFT, TORSIONS, TURN, LigandSystem
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

DEFAULTS: dict[StateKind, TrainConfig] = {
    "torsional": DEFAULT,
    "cartesian": dataclasses.replace(DEFAULT, noise_median=0.1, noise_width=1.8),
}
"""The same for each state. Bonds are learned at a hundredth of the noise at which places in the pocket are: of positions more of the batches have little noise."""

SAMPLER = SamplerConfig(grid=GridConfig(steps=24, spacing="log", end="flow"))
"""The default sampler of models of ligands."""

SAMPLERS: dict[StateKind, SamplerConfig] = {
    "torsional": SAMPLER,
    "cartesian": SamplerConfig(grid=GridConfig(steps=40, spacing="log", end="flow")),
}
"""The same for each state."""

BUCKET = 16
"""Systems are padded to a multiple of so many tokens."""

COPIES = 4
"""Places of the box about each complex that are learned from: where a box is centred says little of where in it the ligand is."""

OFFSET = 2.0
"""Standard deviation of these places per axis, in Å."""

WHOLE = (SHIFT, TURN, CONFORMER)
"""Fields that are one for a whole system."""

SPACES: dict[StateKind, dict[str, Any]] = {
    "torsional": {TORSIONS: Torus(period=2.0 * np.pi)},
    "cartesian": {POSITIONS: Euclidean()},
}
"""Spaces that training batches of each state are projected on."""

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

    def data(self, *, seed: int = 0, state: StateKind = "torsional") -> ConformationData:
        """Makes training batches, in which all complexes count the same.

        In the torsional state poses of complexes come with the geometry that they have, and fitted to bonds, angles and rings made anew, as samples have them; those of trajectories as
        they were fitted. In the Cartesian state all are heavy atoms where the data have them.

        Arguments:
            seed: Seed of the places of the boxes about complexes with one pose.
            state: What poses are.
        """
        entries: list[Conformations] = []
        weights: list[float] = []
        for number, system in enumerate(self.systems):
            made = [_complex(system, number, seed)] if state == "torsional" else _cartesian(system, number, seed)
            entries += made
            weights += [1.0 / len(made)] * len(made)
        for each in self.trajectories:
            fields = (each.state if state == "torsional" else cartesian_pose_state(each.system, each.positions)).fields
            whole = [name for name in WHOLE if name in fields]
            entries.append(Conformations(each.system, {name: x.float() for name, x in fields.items()}, whole=whole))
            weights.append(1.0)
        return ConformationData(entries, bucket=BUCKET, weights=weights, spaces=SPACES[state])

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


def _offsets(number: int, seed: int) -> torch.Tensor:
    """Draws by how much (COPIES, 3) the box about a complex is moved, in Å."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, number, _STREAM]).generate_state(1)[0]))
    return OFFSET * torch.stack([torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(COPIES)])


def _complex(system: LigandSystem, number: int, seed: int) -> Conformations:
    assert system.pose is not None
    fields: dict[str, list[torch.Tensor]] = {}
    for copy, offset in enumerate(_offsets(number, seed)):
        state = pose_state(system, system.pose[None], fitted=copy % 2 == 1)
        reference = state.fields[REFERENCE].double().clone()
        reference[:, len(system.torsions.heavy) :] -= offset
        moved = state.replace(**{SHIFT: state.fields[SHIFT] - offset, REFERENCE: reference})
        for name, value in moved.fields.items():
            fields.setdefault(name, []).append(value.float())
    return Conformations(system, {name: torch.cat(parts) for name, parts in fields.items()}, whole=WHOLE)


def _cartesian(system: LigandSystem, number: int, seed: int) -> list[Conformations]:
    """Returns the heavy atoms of a complex among the pocket atoms of each place of its box."""
    assert system.pose is not None
    made = []
    for offset in _offsets(number, seed).tolist():
        x, y, z = (middle + by for middle, by in zip(system.box.centre, offset, strict=True))
        moved = system.in_box(Box((x, y, z), system.box.size))
        fields = cartesian_pose_state(moved, system.pose[None]).fields
        made.append(Conformations(moved, {name: value.float() for name, value in fields.items()}))
    return made


def shift_scale(data: ConformationData) -> float:
    """Returns the standard deviation per axis of the shift over training data, in Å; in the Cartesian state that of the heavy atoms about the middle of the pocket's."""
    squares = []
    for entry in data.entries:
        x = entry.fields[SHIFT] if SHIFT in entry.fields else entry.fields[POSITIONS][:, entry.system.features.node["ligand"]]
        squares.append(float(x.double().square().mean()))
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
    state: StateKind = "torsional",
    network: dict[str, int] | None = None,
    sampler: SamplerConfig | None = None,
    card: Card | None = None,
    progress: Progress = lambda step, values: None,
) -> Model:
    """Trains a model on complexes, from random weights; the same call goes on with an interrupted run.

    Arguments:
        sources: Complexes and trajectories: what `LigandSources.read` takes, or what it made.
        folder: Run folder; the model is written to `folder/model`, what belongs to trajectories to `folder/complexes`.
        config: How to train, by default as `DEFAULTS` has it; networks of ligands are never compiled.
        name: Name of the model.
        state: What its poses are: shift, turn and torsions, or positions of the heavy atoms (`cartesian`).
        network: Changes of the network's size, by the names of `LigandNetworkConfig`.
        sampler: The model's default sampler.
        card: Its card.
        progress: Called after each logged step with the step and the log values.

    Raises:
        InputError: If the data cannot be used.
        ConfigError: If there is no such state.
        CheckpointError: If the folder holds another run.
        DivergenceError: If training diverges; the last good checkpoint is kept.
    """
    if state not in STATES:
        raise ConfigError(unknown_key_message("state", state, STATES))
    config = dataclasses.replace(config or DEFAULTS[state], compile=False)
    given = sources if isinstance(sources, LigandSources) else LigandSources.read(sources)
    data = given.data(seed=config.seed, state=state)
    process = (ligand_process if state == "torsional" else cartesian_process)(shift_scale(data))
    network_config = ligand_network_config(state, **(network or {}))
    model = Model(
        name=name,
        domain="ligand",
        denoiser=ligand_denoiser(process, network_config, seed=config.seed),
        network=network_values(network_config),
        sampler=sampler or SAMPLERS[state],
        scope=scope_of(given.all_systems),
        card=card or _card(f"Trained on {given.in_words()}.", state),
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
    """Trains a model further on other complexes, in its own state; the given model is left as it is.

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
    start = starting_model(model, "ligand", None)
    state = state_of(start.process)
    config = dataclasses.replace(config or tuning(state), compile=False)
    if start.denoiser.parametrisation == "energy":
        raise ConfigError(f"fine-tune: '{model.name}' has a conservative network, which ligands do not have")
    given = sources if isinstance(sources, LigandSources) else LigandSources.read(sources)
    data = given.data(seed=config.seed, state=state)
    scope = scope_of(given.all_systems)
    scope = dataclasses.replace(
        scope,
        systems=tuple(sorted({*scope.systems, *model.scope.systems})),
        elements=tuple(sorted({*scope.elements, *model.scope.elements})),
        transferable=scope.transferable or model.scope.transferable,
    )
    copy = tuned(start, name=name, scope=scope, card=_card(f"{model.name}, trained further on {given.in_words()}.", state))
    made = fit(copy, data, Path(folder), config, progress, start=model.sha256)
    given.save(Path(folder) / "complexes")
    return made


def tuning(state: StateKind) -> TrainConfig:
    """Returns how models of ligands are trained further by default."""
    names = ("batch_size", "noise_median", "noise_width", "compile", "precision")
    return dataclasses.replace(FINE_TUNING, **{name: getattr(DEFAULTS[state], name) for name in names})


def _card(summary: str, state: StateKind) -> Card:
    what, weights = {
        "torsional": ("", "weights for an energy say how far they are from its Boltzmann distribution."),
        "cartesian": (
            " Poses are positions of heavy atoms (cartesian state).",
            "bonds, angles and stereo-centres among it, so that some are wrong and rejected; there are no weights for a docking score.",
        ),
    }[state]
    return Card(
        summary=f"{summary}{what}",
        not_good_for="Affinities; receptors that change their shape with the ligand; covalent ligands. Poses are samples of what complexes teach: "
        f"{weights}",
    )
