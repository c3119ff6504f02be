"""Training of one model from the energies of many systems: each collects its own conformations, one network learns from all, and from known conformations if there are any."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from equilibra.data.conformations import ConformationData
from equilibra.data.mixed_buffers import AT_ONCE, MixedBuffers, WithKnown
from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.errors import ConfigError
from equilibra.train.energy import EnergyProgress, EnergyTraining, Progress, Start, averaged_twin
from equilibra.train.energy_config import ON_POLICY, EnergyConfig
from equilibra.train.run import train_denoiser


@dataclass(frozen=True, eq=False)
class EnergiesRun:
    """A finished training.

    Attributes:
        weights: Averaged parameters by name.
        rounds: For each system what is known of each round.
        calls: Energy calls of all systems.
    """

    weights: dict[str, Tensor]
    rounds: list[list[dict[str, Any]]]
    calls: int


class EnergiesTraining:
    """One training from many energies.

    Arguments:
        systems: The training of each system on its own, all with one configuration, in folders of their own.
        folder: Run folder.
        at_once: Most systems in a batch.
        known: Known conformations that are learned besides, by denoising; what they are has to be part of what defines the run.
        share: Share of the batches that are of these.

    Raises:
        ConfigError: If there is no system, their configurations differ, or the objective asks for energies itself.
    """

    def __init__(
        self,
        systems: Sequence[EnergyTraining],
        folder: Path,
        *,
        at_once: int = AT_ONCE,
        known: ConformationData | None = None,
        share: float = 0.5,
    ) -> None:
        if not systems or any((one.config, one.train) != (systems[0].config, systems[0].train) for one in systems):
            raise ConfigError(f"training: got {len(systems)} systems, expected at least one, all with one configuration")
        self.systems, self.folder = list(systems), folder
        self.config: EnergyConfig = systems[0].config
        self.train = systems[0].train
        if self.config.objective in ON_POLICY:
            raise ConfigError(f"objective: '{self.config.objective}' is for one system; train many with 'anneal' or 'tsm'")
        buffers = MixedBuffers([one.buffer for one in systems], at_once=at_once)
        self.data = buffers if known is None else WithKnown(buffers, known, share)

    @property
    def calls(self) -> int:
        """Energy calls of all systems so far."""
        return sum(one.calls for one in self.systems)

    def first_round(self, starts: Sequence[Start], *, identities: Sequence[dict[str, Any]], progress: Progress) -> None:
        """Collects the conformations of the first round of every system; arguments as for `EnergyTraining.first_round`, one for each system."""
        for number, (one, start, identity) in enumerate(zip(self.systems, starts, identities, strict=True)):
            place = {"system": number, "systems": len(self.systems)}
            one.first_round(
                start,
                identity=identity,
                progress=lambda state, place=place: progress(replace(state, calls=self.calls, **place)),  # type: ignore[misc]
            )

    def run(
        self,
        denoiser: TrainedDenoiser,
        *,
        identity: dict[str, Any],
        objective: torch.nn.Module | None = None,
        progress: Progress = lambda state: None,
    ) -> EnergiesRun:
        """Trains a denoiser in place; the same call goes on with an interrupted run.

        Arguments:
            denoiser: Network and process.
            identity: What defines the run besides its configuration, as JSON.
            objective: What is minimised; by default the mixture of denoising and target score matching.
            progress: Told how far it is.

        Raises:
            DivergenceError: If training diverges; the last good checkpoint is kept.
            KeyboardInterrupt: If it was interrupted or terminated; the same call goes on from there.
        """
        judged = averaged_twin(denoiser)
        weights: dict[str, Tensor] = {}
        for number in range(self.config.rounds):
            if number:
                for place, one in enumerate(self.systems):
                    progress(self._progress(number, "collecting", system=place))
                    one.collect_round(number, judged)
            until = self.train.steps * (number + 1) // self.config.rounds

            def report(step: int, values: dict[str, float], number: int = number) -> None:
                progress(self._progress(number, "training", step=step, loss=values["loss"]))

            weights = train_denoiser(
                denoiser,
                self.data,
                self.train,
                self.folder / "training",
                identity={"kind": "training from energies", **identity},
                objective=objective,
                until=until,
                progress=report,
            )
            judged.load_state_dict(weights)
            for place, one in enumerate(self.systems):
                progress(self._progress(number, "judging", step=until, system=place))
                one.judge_round(number, judged)
            progress(self._progress(number, "judged", step=until))
        return EnergiesRun(weights, [one.rounds for one in self.systems], self.calls)

    def _progress(
        self, number: int, doing: str, *, step: int | None = None, loss: float | None = None, system: int | None = None
    ) -> EnergyProgress:
        return EnergyProgress(
            round=number,
            rounds=self.config.rounds,
            step=self.train.steps * number // self.config.rounds if step is None else step,
            steps=self.train.steps,
            doing=doing,
            calls=self.calls,
            loss=loss,
            ess=self._mean("ess"),
            accepted=self._mean("accepted"),
            elbo=self._mean("elbo") if len(self.systems) == 1 else None,
            eubo=self._mean("eubo") if len(self.systems) == 1 else None,
            system=system,
            systems=len(self.systems),
        )

    def _mean(self, name: str) -> float | None:
        """Returns the mean over the systems of what they were last judged by; None where that is not known of any."""
        last = [next((entry[name] for entry in reversed(one.rounds) if name in entry), None) for one in self.systems]
        known = [float(value) for value in last if value is not None]
        return sum(known) / len(known) if known else None


def digest_of(digests: Sequence[str]) -> str:
    """Returns one hash of many."""
    return hashlib.sha256(json.dumps(list(digests)).encode()).hexdigest()
