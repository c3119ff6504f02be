"""Training from an energy function: rounds of collecting conformations and of training on them, in one resumable folder."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.data.replay import ReplayBuffer, conditions
from equilibra.diffusion.denoiser import BoundDenoiser
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.ladder_state import LadderState
from equilibra.energies.parallel_tempering import Moves, ParallelTempering
from equilibra.energies.walkers import evaluate
from equilibra.errors import ConfigError, DivergenceError
from equilibra.run_folder import claim
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler
from equilibra.sampling.sampler import draw
from equilibra.state.features import Features
from equilibra.state.packing import Packing, SingleField
from equilibra.state.randomness import generator_for
from equilibra.state.state import State
from equilibra.train.collect import Frames, Proposer, run_sweeps
from equilibra.train.config import TrainConfig, twice_differentiated
from equilibra.train.energy_config import ON_POLICY, TWICE_DIFFERENTIATED, EnergyConfig
from equilibra.train.rounds import Rounds
from equilibra.train.run import defining, train_denoiser

COLLECT_STREAM, JUDGE_STREAM, FIT_STREAM = 11, 12, 13

UNJUDGED = "unjudged"
"""Key of a round's record: why path weights could not be computed on a rung, the first of them."""


@dataclass(frozen=True, kw_only=True)
class EnergyProgress:
    """How far a training from an energy is.

    Attributes:
        round: Round at hand, from 0, of `rounds`.
        step: Optimiser steps done, of `steps`.
        doing: `collecting`, `training`, `judging` or `judged`, which ends a round.
        calls: Energy calls so far.
        loss: Latest loss.
        ess: Effective share of the model's samples, when it was last judged.
        elbo: Lower bound of log Z, likewise.
        eubo: Upper bound of log Z, likewise.
        accepted: Accepted share of the model's proposals, likewise.
        system: Of a training of several systems, which of them is at hand, from 0; None where it is all.
        systems: How many there are. Of several, shares are means over them, and log Z is not told.
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
    system: int | None = None
    systems: int = 1

    @property
    def log_z(self) -> str:
        """What the bounds say of log Z, in words."""
        return log_z_words(self.elbo, self.eubo)


def log_z_words(elbo: float | None, eubo: float | None) -> str:
    """Returns a bracket of log Z in words, for people; a bound that is None is not known."""
    if elbo is None:
        return "unknown" if eubo is None else f"at most {eubo:.2f}"
    return f"at least {elbo:.2f}" if eubo is None else f"between {elbo:.2f} and {eubo:.2f}"


def ess_words(entry: Mapping[str, Any]) -> str:
    """Returns the effective share of a model's samples after a round in words: a percentage, or that it is unknown."""
    return "unknown" if entry["ess"] is None else f"{100.0 * float(entry['ess']):.1f} %"


def unjudged_words(last: Sequence[Mapping[str, Any]]) -> str:
    """Returns a sentence on the systems that could not be judged after the last round, empty if there are none."""
    reasons = [str(entry[UNJUDGED]) for entry in last if UNJUDGED in entry]
    if not reasons:
        return ""
    which = "The model" if len(last) == 1 else f"{len(reasons)} of {len(last)} systems"
    return f" {which} could not be judged at every temperature: {reasons[0]}."


Progress = Callable[[EnergyProgress], None]

Start = Tensor | Callable[[], Tensor]
"""Conformations to start from, or what makes them."""


@dataclass(frozen=True, eq=False)
class EnergyRun:
    """A finished training.

    Attributes:
        weights: Averaged parameters by name.
        buffer: All conformations, with their energies and forces.
        rounds: What is known of each round: calls, acceptance, and the model judged after it.
        calls: Energy calls of the whole run: collecting, judging, and those of the objective itself.
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
        packing: What the arrays of walkers are as States; by default positions, the field of that name.
        moves: How walkers move; by default Hamiltonian moves of positions.
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
        packing: Packing | None = None,
        moves: Moves | None = None,
    ) -> None:
        if train.devices * train.nodes > 1:
            raise ConfigError(f"devices: got {train.devices * train.nodes}, but training from an energy runs on one device")
        if train.steps < config.rounds:
            raise ConfigError(f"steps: got {train.steps}, expected at least one for each of the {config.rounds} rounds")
        if config.objective in TWICE_DIFFERENTIATED:
            train = twice_differentiated(train)
        self.features, self.reduced, self.config, self.train, self.folder = features, reduced, config, train, folder
        self.accept, self.field, self.dtype = accept, field, dtype
        self.packing = SingleField(field) if packing is None else packing
        if moves is None:
            heavy = None if masses is None else masses.to(dtype)
            moves = HamiltonianMoves(step=config.step, leapfrog=config.leapfrog, masses=heavy)
        self.engine = ParallelTempering(reduced, config.betas, config.columns, moves, moves_per_sweep=config.moves)
        self.buffer = ReplayBuffer(
            features, config.betas, field=field, packing=self.packing, focus=config.focus, newest=config.newest
        )
        self.rounds: list[dict[str, Any]] = []
        self.files = Rounds(folder)
        # energy calls at a point of the run that is known from its files, and what the counter showed there
        self._calls, self._mark = 0, 0

    @property
    def calls(self) -> int:
        """Energy calls of the run so far; what an interrupted run did twice counts once."""
        return self._calls + self.reduced.calls - self._mark

    def first_round(self, start: Start, *, identity: Mapping[str, Any], progress: Progress) -> None:
        """Collects the conformations of the first round, which also give the data scale of a process; claims the folder.

        Arguments:
            start: Conformations (m, items, axes) to start from, on every rung, or what makes them, asked only where they are needed. The energy calls that
                made them count as calls of the run.
            identity: What defines the run besides its configurations; JSON values.
            progress: Told how far it is.

        Raises:
            CheckpointError: If the folder holds another run.
            InputError: If the conformations or their energies cannot be used.
        """
        claim(
            self.folder,
            {**identity, "energy": dataclasses.asdict(self.config), "train": defining(self.train), "kt": self.reduced.kt},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.files.collected(0):
            progress(self._progress(0, "collecting"))
            generator = generator_for(self.train.seed, COLLECT_STREAM, 0)
            first = start() if callable(start) else start
            state = self.engine.start(first.to(self.dtype), generator=generator)
            state = self.engine.burn_in(state, sweeps=self.config.burn_in, generator=generator)
            self._collect(0, state, generator)
        self._read(0)

    def run(
        self,
        denoiser: TrainedDenoiser,
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
        judged = averaged_twin(denoiser)
        if self.train.compile:
            judged.compile_network()
        weights: dict[str, Tensor] = {}
        # energy calls of one optimiser step, for objectives that ask for energies themselves
        step_calls = self.train.batch_size * int(getattr(objective, "calls_per_sample", 0))
        for number in range(self.config.rounds):
            if number:
                progress(self._progress(number, "collecting"))
                self.collect_round(number, judged)
            first, until = (self.train.steps * n // self.config.rounds for n in (number, number + 1))
            collected = self._calls

            def report(
                step: int, values: dict[str, float], number: int = number, done: int = collected - step_calls * first
            ) -> None:
                self._known(done + step_calls * step)
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
            self._known(collected + step_calls * (until - first))
            judged.load_state_dict(weights)
            progress(self._progress(number, "judging", step=until))
            self.judge_round(number, judged)
            progress(self._progress(number, "judged", step=until))
        return EnergyRun(weights, self.buffer, self.rounds, self.calls)

    def collect_round(self, number: int, denoiser: TrainedDenoiser) -> None:
        """Collects the conformations of a round after the first, with the model of the one before, or reads them where they are there."""
        if not self.files.collected(number):
            self._next_round(number, denoiser)
        self._read(number)

    def judge_round(self, number: int, denoiser: TrainedDenoiser) -> None:
        """Judges the model after a round, or reads what was found."""
        if not self.files.judged(number):
            self._judge(number, denoiser)
        self.rounds[number].update(self.files.read_judgement(number))
        self._known(int(self.rounds[number]["calls_judged"]))

    def bind(self, denoiser: TrainedDenoiser, beta: float = 1.0) -> BoundDenoiser:
        """Returns the denoiser of the system at an inverse temperature relative to the lowest rung."""
        features = self.features.shared()
        if self.config.rungs > 1:
            features = features.conditioned(conditions(torch.tensor([beta], dtype=torch.float64)))
        return BoundDenoiser(denoiser.process.of_system(features), denoiser, features)

    def walkers(self) -> tuple[Tensor, Tensor]:
        """Returns what the walkers of the lowest temperature went through, each a Markov chain: arrays (frames, columns, ...) and their reduced energies (frames, columns).

        The oldest rounds are left out, as in the buffer's `newest` share: walkers start far from equilibrium.
        """
        config = self.config
        first = min(config.rounds - 1, round((1.0 - config.newest) * config.rounds))
        rounds = [self.files.read(number)[0] for number in range(first, config.rounds)]
        x, u = torch.cat([one.x[0] for one in rounds]), torch.cat([one.u[0] for one in rounds])
        return x.unflatten(0, (-1, config.columns)), u.unflatten(0, (-1, config.columns))

    def _judge(self, number: int, denoiser: TrainedDenoiser) -> None:
        """Judges the model after a round, and lets it propose its samples; a rung whose weights cannot be computed gets no proposals, and the reason is kept."""
        generator = generator_for(self.train.seed, JUDGE_STREAM, number)
        config, (_, state, known) = self.config, self.files.read(number)
        samples = max(config.path_samples, config.columns)
        levels = noise_grid(denoiser.process, GridConfig(steps=config.path_levels, spacing="log", end="noisy"))
        found: dict[str, Any] = {name: value for name, value in known.items() if name != "calls"}
        # every rung gets proposals, or hot walkers that cannot cross a barrier would feed wrong populations to the cold ones
        for rung, beta in enumerate(config.betas if config.proposes else config.betas[:1]):
            count = samples if rung == 0 else config.columns
            proposer = Proposer(
                self.bind(denoiser, beta),
                levels,
                self.reduced,
                rung=rung,
                beta=beta,
                field=self.field,
                accept=self.accept,
                packing=self.packing,
            )
            own = slice(rung * config.columns, (rung + 1) * config.columns)
            if rung == 0:
                found |= {"ess": None, "elbo": None, "eubo": None, "path_samples": samples}
            try:
                check = proposer.judge(
                    state.walkers[own], self._earlier(number, count, rung), samples=count, generator=generator
                )
            except DivergenceError as error:
                # paths that leave the numbers say that the model is bad, not that what it learned is lost: walkers stay where they are
                found.setdefault(UNJUDGED, str(error))
                continue
            if rung == 0:
                found |= {"ess": check.ess, "elbo": check.elbo, "eubo": check.eubo}
            if config.proposes:
                state, accepted = proposer.propose(state, check, generator=generator)
                found.setdefault("accepted", accepted)
                found.setdefault("accepted_rungs", []).append(round(accepted, 4))
        if config.proposes:
            self.files.write_proposed(number, state)
        self.files.write_judgement(number, {**found, "calls_judged": self.calls})

    def _earlier(self, number: int, samples: int, rung: int) -> Tensor:
        """Draws conformations of a rung that were kept before the walkers came to where they are."""
        x, _, _ = self.buffer.rung(rung)
        before = max(len(x) - self.config.columns, min(len(x), self.config.columns))
        oldest = min(int((1.0 - self.config.newest) * len(x)), before - 1)
        generator = generator_for(self.train.seed, FIT_STREAM, number, rung)
        return x[torch.randint(oldest, before, (samples,), generator=generator)]

    def _next_round(self, number: int, denoiser: TrainedDenoiser) -> None:
        if self.config.objective in ON_POLICY:
            self._draw(number, denoiser)
        else:
            proposes = self.config.proposes
            state = self.files.read_proposed(number - 1) if proposes else self.files.read(number - 1)[1]
            self._collect(number, state, generator_for(self.train.seed, COLLECT_STREAM, number))

    def _collect(self, number: int, state: LadderState, generator: torch.Generator) -> None:
        sweeps, every = self.config.sweeps, self.config.every
        frames, state = run_sweeps(self.engine, state, sweeps=sweeps, every=every, generator=generator)
        frames, refused = self._accepted(frames)
        self.files.write(number, frames, state, calls=self.calls, refused=refused, engine=True)

    def _draw(self, number: int, denoiser: TrainedDenoiser) -> None:
        """Draws the conformations of a round from the model itself, at every temperature."""
        generator = generator_for(self.train.seed, COLLECT_STREAM, number)
        _, state, _ = self.files.read(number - 1)
        levels = noise_grid(denoiser.process, GridConfig(steps=self.config.path_levels, spacing="log", end="flow"))
        count = self.config.columns * (self.config.sweeps // self.config.every)
        like = State({self.field: torch.zeros(count, *state.walkers.x.shape[1:])})
        rungs, refused = [], 0
        for beta in self.config.betas:
            drawn = draw(Euler(), self.bind(denoiser, beta), like, levels, generator=generator)
            found = evaluate(drawn.fields[self.field].to(self.dtype), self.reduced)
            finite = torch.isfinite(found.u)
            if not bool(finite.any()):
                raise DivergenceError(
                    f"round {number + 1}: every sample of the model has an infinite energy; train longer or with `anneal`"
                )
            own = finite if self.accept is None else finite & self.accept(found.x)
            # a young model has no sample that belongs to the system; it learns from the forces of what it has
            good = (own if bool(own.any()) else finite).nonzero()[:, 0]
            refused += count - int(own.sum())
            chosen = found[good[torch.arange(count) % len(good)]]
            rungs.append((chosen.x, chosen.u, chosen.force))
        frames = Frames(*(torch.stack(part) for part in zip(*rungs, strict=True)))
        self.files.write(number, frames, state, calls=self.calls, refused=refused, engine=False)

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
            # the others stay where they are: frames of a walker remain in order of time
            index = torch.arange(len(x))
            bad = torch.ones(len(x), dtype=torch.bool).index_fill(0, good, False)
            index[bad] = good[torch.arange(int(bad.sum())) % len(good)]
            parts.append((x[index], u[index], force[index]))
        return Frames(*(torch.stack(part) for part in zip(*parts, strict=True))), refused

    def _read(self, number: int) -> None:
        frames, _, known = self.files.read(number)
        if self.config.objective in ON_POLICY:
            self.buffer.clear()  # own samples of an older model teach nothing
        self.buffer.add(frames.x, frames.u, frames.force)
        self.rounds.append({"round": number, "frames_per_rung": frames.u.shape[1], **known})
        self._known(int(known["calls"]))

    def _known(self, calls: int) -> None:
        """Takes the number of energy calls at this point of the run from its files."""
        self._calls, self._mark = calls, self.reduced.calls

    def _progress(self, number: int, doing: str, *, step: int | None = None, loss: float | None = None) -> EnergyProgress:
        last: dict[str, Any] = next((entry for entry in reversed(self.rounds) if "ess" in entry), {})
        return EnergyProgress(
            round=number,
            rounds=self.config.rounds,
            step=self.train.steps * number // self.config.rounds if step is None else step,
            steps=self.train.steps,
            doing=doing,
            calls=self.calls,
            loss=loss,
            ess=last.get("ess"),
            elbo=last.get("elbo"),
            eubo=last.get("eubo"),
            accepted=last.get("accepted"),
        )


def averaged_twin(denoiser: TrainedDenoiser) -> TrainedDenoiser:
    """Returns a denoiser with a network of its own, for the averaged weights; a process is shared, not copied."""
    twin = copy.copy(denoiser)
    twin._modules = dict(denoiser._modules)
    twin.network = copy.deepcopy(denoiser.network)
    return twin.requires_grad_(False).eval()
