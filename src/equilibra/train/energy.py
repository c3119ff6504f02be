"""Training from an energy function: rounds of collecting conformations and of training on them, in one resumable folder."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.atomic import write_text
from equilibra.data.replay import ReplayBuffer, conditions
from equilibra.diffusion.denoiser import BoundDenoiser, NetworkDenoiser
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.parallel_tempering import ParallelTempering
from equilibra.energies.walkers import evaluate
from equilibra.errors import CheckpointError, ConfigError, DivergenceError
from equilibra.run_folder import claim
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler
from equilibra.sampling.sampler import draw
from equilibra.state.features import Features
from equilibra.state.randomness import generator_for
from equilibra.state.state import State
from equilibra.train.checkpoint import read_checkpoint, write_checkpoint
from equilibra.train.collect import Frames, Proposer, run_sweeps
from equilibra.train.config import TrainConfig
from equilibra.train.energy_config import ON_POLICY, TWICE_DIFFERENTIATED, EnergyConfig
from equilibra.train.run import train_denoiser

COLLECT_STREAM, JUDGE_STREAM = 11, 12


@dataclass(frozen=True, kw_only=True)
class EnergyProgress:
    """How far a training from an energy is.

    Attributes:
        round: Round at hand, from 0, of `rounds`.
        step: Optimiser steps done, of `steps`.
        doing: `collecting`, `training` or `judging`.
        calls: Energy calls so far.
        loss: Latest loss.
        ess: Effective share of the model's samples, after the round before.
        elbo: Lower bound of log Z, likewise.
        eubo: Upper bound of log Z, likewise.
        accepted: Accepted share of the model's proposals, likewise.
    """

    round: int
    rounds: int
    step: int
    steps: int
    doing: str
    calls: int
    loss: float | None = None
    ess: float | None = None
    elbo: float | None = None
    eubo: float | None = None
    accepted: float | None = None


Progress = Callable[[EnergyProgress], None]


@dataclass(frozen=True, eq=False)
class EnergyRun:
    """A finished training.

    Attributes:
        weights: Averaged parameters by name.
        buffer: All conformations, with their energies and forces.
        rounds: What is known of each round: calls, acceptance, and the model judged after it.
        calls: Energy calls of the whole run, the judging included.
    """

    weights: dict[str, Tensor]
    buffer: ReplayBuffer
    rounds: list[dict[str, Any]]
    calls: int


class EnergyTraining:
    """One training from an energy.

    Arguments:
        features: Features of the system.
        reduced: Reduced energy at the lowest temperature.
        config: Where conformations come from.
        train: How to train; its steps are shared out evenly over the rounds.
        folder: Run folder.
        masses: Masses (items,) of the moves, in any unit.
        dtype: Precision of the walkers.
        accept: Tells which conformations (F, items, axes) belong to the system, for example those of the right stereoisomer; all by default.
        field: Name of the position field.
    """

    def __init__(
        self,
        features: Features,
        reduced: ReducedEnergy,
        config: EnergyConfig,
        train: TrainConfig,
        folder: Path,
        *,
        masses: Tensor | None = None,
        dtype: torch.dtype = torch.float64,
        accept: Callable[[Tensor], Tensor] | None = None,
        field: str = "pos",
    ) -> None:
        if train.devices * train.nodes > 1:
            raise ConfigError(f"devices: got {train.devices * train.nodes}, but training from an energy runs on one device")
        if train.steps < config.rounds:
            raise ConfigError(f"steps: got {train.steps}, expected at least one for each of the {config.rounds} rounds")
        if config.objective in TWICE_DIFFERENTIATED:
            # compiled code does not differentiate a gradient, and half precision is too coarse for second derivatives
            train = dataclasses.replace(train, compile=False, precision="fp32")
        self.features, self.reduced, self.config, self.train, self.folder = features, reduced, config, train, folder
        self.accept, self.field, self.dtype = accept, field, dtype
        moves = HamiltonianMoves(
            step=config.step, leapfrog=config.leapfrog, masses=None if masses is None else masses.to(dtype)
        )
        self.engine = ParallelTempering(reduced, config.betas, config.columns, moves, moves_per_sweep=config.moves)
        self.buffer = ReplayBuffer(features, config.betas, field=field, focus=config.focus)
        self.rounds: list[dict[str, Any]] = []
        self.frames_refused = 0

    def first_round(self, start: Tensor, *, identity: Mapping[str, Any], progress: Progress) -> None:
        """Collects the conformations of the first round, which also give the data scale of a process; claims the folder.

        Arguments:
            start: Conformations (m, items, axes) to start from, on every rung.
            identity: What defines the run besides its configurations; JSON values.
            progress: Told how far it is.
        """
        claim(
            self.folder,
            {**identity, "energy": dataclasses.asdict(self.config), "train": _defining(self.train), "kt": self.reduced.kt},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self._path(0).exists():
            progress(self._progress(0, "collecting"))
            generator = generator_for(self.train.seed, COLLECT_STREAM, 0)
            state = self.engine.start(start.to(self.dtype), generator=generator)
            state = self.engine.burn_in(state, sweeps=self.config.burn_in, generator=generator)
            self._collect(0, state, generator, {})
        self._read(0)

    def run(
        self,
        denoiser: NetworkDenoiser,
        *,
        objective: torch.nn.Module | None = None,
        progress: Progress = lambda state: None,
    ) -> EnergyRun:
        """Trains a denoiser in place; the same call goes on with an interrupted run.

        Arguments:
            denoiser: Network and process.
            objective: What is minimised; by default the mixture of denoising and target score matching.
            progress: Told how far it is.

        Raises:
            DivergenceError: If training diverges; the last good checkpoint is kept.
            KeyboardInterrupt: If it was interrupted; the same call goes on from there.
        """
        judged = _twin(denoiser)
        weights: dict[str, Tensor] = {}
        for number in range(self.config.rounds):
            if number and not self._path(number).exists():
                progress(self._progress(number, "collecting"))
                self._next_round(number, judged)
            if number:
                self._read(number)
            until = self.train.steps * (number + 1) // self.config.rounds

            def report(step: int, values: dict[str, float], number: int = number) -> None:
                progress(self._progress(number, "training", step=step, loss=values["loss"]))

            weights = train_denoiser(
                denoiser,
                self.buffer,
                self.train,
                self.folder / "training",
                identity={"kind": "training from an energy"},
                objective=objective,
                until=until,
                progress=report,
            )
            judged.load_state_dict(weights)
            if not self._judgement(number).exists():
                progress(self._progress(number, "judging", step=until))
                self._judge(number, judged)
            self.rounds[number].update(json.loads(self._judgement(number).read_text(encoding="utf-8")))
        calls = int(self.rounds[-1]["calls_judged"])
        return EnergyRun(weights, self.buffer, self.rounds, calls)

    def bind(self, denoiser: NetworkDenoiser, beta: float = 1.0) -> BoundDenoiser:
        """Returns the denoiser of the system at an inverse temperature relative to the lowest rung."""
        features = self.features.shared()
        if self.config.rungs > 1:
            features = features.conditioned(conditions(torch.tensor([beta])))
        return BoundDenoiser(denoiser.process, denoiser, features)

    def _proposer(self, denoiser: NetworkDenoiser) -> Proposer:
        levels = noise_grid(denoiser.process, GridConfig(steps=self.config.path_levels, spacing="log", end="noisy"))
        return Proposer(self.bind(denoiser), levels, self.reduced, field=self.field)

    def _judge(self, number: int, denoiser: NetworkDenoiser) -> None:
        """Judges the model after a round, and lets it propose its samples."""
        generator = generator_for(self.train.seed, JUDGE_STREAM, number)
        before = self.reduced.calls
        state, header = self._state(number)
        proposer = self._proposer(denoiser)
        check = proposer.judge(state.x[0], samples=max(self.config.path_samples, self.config.columns), generator=generator)
        found: dict[str, Any] = {"ess": check.ess, "elbo": check.elbo, "eubo": check.eubo, "path_samples": len(check.u)}
        if self.config.proposes:
            state, found["accepted"] = proposer.propose(state, check, generator=generator)
            write_checkpoint(self.folder / f"proposed-{number:03d}.safetensors", _tensors(state), {})
        found["calls_judged"] = int(header["calls"]) + self.reduced.calls - before
        write_text(self._judgement(number), json.dumps(found, indent=2) + "\n")

    def _next_round(self, number: int, denoiser: NetworkDenoiser) -> None:
        proposed = self.folder / f"proposed-{number - 1:03d}.safetensors"
        state, _ = self._state(number - 1)
        if self.config.objective in ON_POLICY:
            self._draw(number, state, denoiser)
            return
        if self.config.proposes:
            tensors, _ = read_checkpoint(proposed)
            state = _state_of(tensors)
        self._collect(number, state, generator_for(self.train.seed, COLLECT_STREAM, number), self.rounds[number - 1])

    def _collect(self, number: int, state: LadderState, generator: torch.Generator, last: Mapping[str, Any]) -> None:
        before = self.reduced.calls
        frames, state = run_sweeps(self.engine, state, sweeps=self.config.sweeps, every=self.config.every, generator=generator)
        frames, refused = self._accepted(frames)
        already = int(last.get("calls_judged", 0))
        header = {
            "calls": already + (self.reduced.calls if number == 0 else self.reduced.calls - before),
            "refused": refused,
            "move_acceptance": [round(float(a), 4) for a in state.move_acceptance],
            "swap_acceptance": [round(float(a), 4) for a in state.swap_acceptance],
            "round_trips": state.round_trips,
        }
        arrays = {"frames.x": frames.x.float(), "frames.u": frames.u.double(), "frames.force": frames.force.float()}
        write_checkpoint(self._path(number), {**arrays, **_tensors(state)}, header)

    def _draw(self, number: int, state: LadderState, denoiser: NetworkDenoiser) -> None:
        """Draws the conformations of a round from the model itself, at every temperature."""
        generator = generator_for(self.train.seed, COLLECT_STREAM, number)
        levels = noise_grid(denoiser.process, GridConfig(steps=self.config.path_levels, spacing="log", end="flow"))
        count = self.config.columns * (self.config.sweeps // self.config.every)
        like = State({self.field: torch.zeros(count, *state.walkers.x.shape[1:])})
        before, rungs = self.reduced.calls, []
        for beta in self.config.betas:
            drawn = draw(Euler(), self.bind(denoiser, beta), like, levels, generator=generator)
            found = evaluate(drawn.fields[self.field], self.reduced)
            finite = torch.isfinite(found.u).nonzero()[:, 0]
            if not len(finite):
                raise DivergenceError(
                    f"round {number}: every sample of the model has an infinite energy; train longer or with `anneal`"
                )
            chosen = found[finite[torch.arange(count) % len(finite)]]
            rungs.append((chosen.x, chosen.u, chosen.force))
        frames = Frames(*(torch.stack(part) for part in zip(*rungs, strict=True)))
        header = {
            "calls": int(self.rounds[-1]["calls_judged"]) + self.reduced.calls - before,
            "refused": 0,
            "move_acceptance": [],
            "swap_acceptance": [],
            "round_trips": 0,
        }
        arrays = {"frames.x": frames.x.float(), "frames.u": frames.u.double(), "frames.force": frames.force.float()}
        write_checkpoint(self._path(number), {**arrays, **_tensors(state)}, header)

    def _accepted(self, frames: Frames) -> tuple[Frames, int]:
        """Replaces frames that do not belong to the system by others of their rung."""
        if self.accept is None:
            return frames, 0
        refused, parts = 0, []
        for x, u, force in zip(frames.x, frames.u, frames.force, strict=True):
            good = self.accept(x).nonzero()[:, 0]
            refused += len(x) - len(good)
            if not len(good):
                raise ConfigError(
                    "collecting: no conformation of a rung belongs to the system; use a lower `hottest` temperature"
                )
            index = good[torch.arange(len(x)) % len(good)]
            parts.append((x[index], u[index], force[index]))
        return Frames(*(torch.stack(part) for part in zip(*parts, strict=True))), refused

    def _read(self, number: int) -> None:
        tensors, header = read_checkpoint(self._path(number))
        if self.config.objective in ON_POLICY:
            self.buffer.clear()  # own samples of an older model teach nothing
        self.buffer.add(tensors["frames.x"], tensors["frames.u"], tensors["frames.force"])
        known = {key: header[key] for key in ("calls", "refused", "move_acceptance", "swap_acceptance", "round_trips")}
        self.rounds.append({"round": number, "frames_per_rung": tensors["frames.u"].shape[1], **known})

    def _state(self, number: int) -> tuple[LadderState, dict[str, Any]]:
        tensors, header = read_checkpoint(self._path(number))
        return _state_of(tensors), header

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}.safetensors"

    def _judgement(self, number: int) -> Path:
        return self.folder / f"round-{number:03d}.json"

    def _progress(self, number: int, doing: str, *, step: int | None = None, loss: float | None = None) -> EnergyProgress:
        last = next((entry for entry in reversed(self.rounds) if "ess" in entry), {})
        done = self.train.steps * number // self.config.rounds if step is None else step
        return EnergyProgress(
            round=number,
            rounds=self.config.rounds,
            step=done,
            steps=self.train.steps,
            doing=doing,
            calls=max(self.reduced.calls, int(self.rounds[-1]["calls"]) if self.rounds else 0),
            loss=loss,
            ess=last.get("ess"),
            elbo=last.get("elbo"),
            eubo=last.get("eubo"),
            accepted=last.get("accepted"),
        )


def _twin(denoiser: NetworkDenoiser) -> NetworkDenoiser:
    """Returns a denoiser with a network of its own, for the averaged weights; a process is shared, not copied."""
    twin = copy.copy(denoiser)
    twin._modules = dict(denoiser._modules)
    twin.network = copy.deepcopy(denoiser.network)
    return twin.requires_grad_(False).eval()


def _tensors(state: LadderState) -> dict[str, Tensor]:
    return {f"state.{name}": torch.from_numpy(value) for name, value in state.to_arrays().items()}


def _state_of(tensors: Mapping[str, Tensor]) -> LadderState:
    arrays = {name.removeprefix("state."): value.numpy() for name, value in tensors.items() if name.startswith("state.")}
    if not arrays:
        raise CheckpointError(
            "round of a training from an energy: the file has no state of the ladder; delete it to collect anew"
        )
    return LadderState.from_arrays(arrays)


def _defining(config: TrainConfig) -> dict[str, Any]:
    from equilibra.train.run import FREE_TO_CHANGE

    return {key: value for key, value in dataclasses.asdict(config).items() if key not in FREE_TO_CHANGE}
