r"""Weighted samples of a system: a model's paths with their exact weights for the Boltzmann distribution of an energy.

A path of Gaussian kernels through K noise levels has a log-weight :math:`\ln w` with :math:`\mathrm E[w] = Z`, whatever the model (`density.path_weights`). The
variances of the kernels are fitted once per run, to samples that the model's own sampler draws with a key of its own; any choice leaves the weights exact.

The target is the Boltzmann distribution restricted to conformations that pass the checks and have a finite energy: any other sample has the weight zero.
Of n samples drawn, the m that count give

.. math::
    \ln Z = \ln \frac1n \sum_{i=1}^m w_i \ge \frac1m \sum_{i=1}^m \ln w_i + \ln \frac mn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from equilibra.atomic import write_text
from equilibra.density.path_annealing import anneal_paths
from equilibra.density.path_weights import PathKernels, draw_weighted, fit_variances, path_kernels
from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import ConfigError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.block_weights import (
    ANCESTOR,
    LOG_WEIGHT,
    BlockWeights,
    effective_in_words,
    finite,
    in_words,
    lost_in_words,
)
from equilibra.systems.blocks import Batch, Block
from equilibra.systems.own_samples import Counted, own_calls, own_samples
from equilibra.thermo.free_energy import log_z

LEVELS = 200
"""Noise levels of a path by default."""
FITTED_ON = 200
"""Samples of the model that the variances of the kernels are fitted to."""
ENERGY = "energy"
"""Name of the number that a block keeps of each sample besides its log-weight: the energy in the unit of kT."""

ENERGY_CALLS = "energy_calls"
"""Name of the number of energy calls that each sample of an annealed population took; one each without it."""

_NOISE_STREAM = 0x4E4F4953  # no block has such a number
_ENERGY_ROWS = 256  # conformations given to the energy at once


def path_of(process: Process, levels: int) -> PathKernels:
    """Returns a path of `levels` noise levels, uniform in the logarithm, with the variances of a point mass.

    Raises:
        ConfigError: If there are fewer than two levels.
        SpaceError: If a field moves on a Space that is not flat.
    """
    if levels < 2:
        raise ConfigError(f"levels: got {levels}, expected at least 2 noise levels")
    return path_kernels(process, noise_grid(process, GridConfig(steps=levels - 1, spacing="log", end="noisy")))


def boltzmann(energy: Energy, temperature: float | None, reference: Tensor) -> ReducedEnergy:
    """Returns the reduced energy of a target, after asking for the energy of a reference conformation.

    Arguments:
        energy: Potential energy, in eV.
        temperature: Temperature in K.
        reference: Sensible conformation (1, items, axes).

    Raises:
        InputError: If the temperature is unknown or not positive, or the energy does not fit the system.
    """
    if temperature is None:
        raise InputError("temperature: the model has none, so the weights are not defined; give one in K")
    ReducedEnergy.at(energy, temperature).check(reference)
    return ReducedEnergy.at(energy, temperature)


@dataclass(eq=False)
class PathDrawing:
    """Drawing along a path with exact weights. The variances of its kernels are fitted, or read from `file`, at the first drawing.

    Arguments:
        path: Noise levels of the path.
        reduced: Reduced energy of the target.
        positions: Gives the positions (batch, items, axes) of a State.
        valid: Tells which samples of a State pass the checks.
        sampler: The model's own sampler, for the samples that the variances are fitted to.
        seed: Seed of the run.
        file: Where to keep the variances; None keeps them in memory.
        moves: Moves of each path between values of lambda, where a block is annealed as one population (`density.path_annealing`); 0 weights
            every path on its own.
    """

    path: PathKernels
    reduced: ReducedEnergy
    positions: Callable[[State], Tensor]
    valid: Callable[[State], np.ndarray]
    sampler: SamplerConfig
    seed: int
    file: Path | None = None
    moves: int = 0
    _kernels: PathKernels | None = field(default=None, init=False)
    _calls: list[int] = field(default_factory=list, init=False)

    @property
    def network_calls(self) -> int:
        """Denoiser calls per sample; the mean over the blocks of this run where their number is not fixed beforehand."""
        return round(sum(self._calls) / len(self._calls)) if self._calls else self.path.steps

    def kernels(self, denoiser: Denoiser, like: State, report: Callable[[float, str], None]) -> PathKernels:
        """Returns the kernels, fitted to `FITTED_ON` samples of the model; the same for the same seed.

        Arguments:
            denoiser: Source of scores for the system.
            like: Gives shapes and fixed fields of one system.
            report: Called with zero and how far the fit is, in words.
        """
        if self._kernels is None:
            self._kernels = _read_kernels(self.file, self.path)
        if self._kernels is None:
            self._kernels = self._fit(denoiser, like[torch.zeros(FITTED_ON, dtype=torch.int64)], report)
            if self.file is not None:
                variances = {name: list(values) for name, values in self._kernels.variances.items()}
                write_text(self.file, json.dumps({"fitted_on": FITTED_ON, "variances": variances}) + "\n")
        return self._kernels

    def _fit(self, denoiser: Denoiser, like: State, report: Callable[[float, str], None]) -> PathKernels:
        total = own_calls(denoiser.process, self.sampler) + self.path.steps
        counted = Counted(denoiser, lambda calls: report(0.0, f"fitting the kernels of the path, {100 * calls / total:.0f} %"))
        states = own_samples(counted, like, self.sampler, self.valid, self.seed)
        return fit_variances(counted, states, self.path, generator=generator_for(self.seed, _NOISE_STREAM, device=like.device))

    def __call__(self, denoiser: Denoiser, like: State, *, generator: Generator, report: Callable[[float, str], None]) -> Batch:
        """Draws one path for each batch element; see `blocks.Drawing`. An energy that is no finite number gives the weight zero."""
        kernels = self.kernels(denoiser, like, report)
        if self.moves:
            return self._annealed(denoiser, like, kernels, generator, report)
        sample = draw_weighted(
            denoiser,
            like,
            kernels,
            self._reduced_energy,
            generator=generator,
            progress=lambda step: report(step / kernels.steps, ""),
        )
        values = {LOG_WEIGHT: sample.log_weights, ENERGY: sample.reduced_energy * self.reduced.kt}
        return Batch(sample.state, {name: value.cpu().numpy() for name, value in values.items()})

    def _annealed(
        self,
        denoiser: Denoiser,
        like: State,
        kernels: PathKernels,
        generator: Generator,
        report: Callable[[float, str], None],
    ) -> Batch:
        def told(share: float) -> None:
            report(max(share, 0.0), "" if share > 0.0 else f"drawing the population, {100 * (1 + share):.0f} %")

        made = anneal_paths(denoiser, like, kernels, self._reduced_energy, generator=generator, moves=self.moves, progress=told)
        self._calls.append(made.calls)
        values = {LOG_WEIGHT: made.log_weights, ENERGY: made.reduced_energy * self.reduced.kt, ANCESTOR: made.ancestors}
        numbers = {name: value.cpu().numpy() for name, value in values.items()}
        energy_calls = 1 + self.moves * len(made.lambdas)
        return Batch(made.state, {**numbers, ENERGY_CALLS: np.full(like.batch_size, energy_calls)})

    def check(self, batch: Batch) -> np.ndarray:
        """Tells which samples (batch,) count: those that pass the checks and have a weight."""
        return np.asarray(self.valid(batch.state) & np.isfinite(batch.values[LOG_WEIGHT]))

    def _reduced_energy(self, state: State) -> Tensor:
        x = self.positions(state).double()
        u = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
        # an energy need not know what to do with coordinates that are no numbers
        rows = torch.isfinite(x).flatten(1).all(1).nonzero()[:, 0]
        for part in rows.split(_ENERGY_ROWS):
            found = self.reduced(x[part]).double()
            u[part] = torch.where(torch.isfinite(found), found, math.inf)
        return u


def _read_kernels(file: Path | None, path: PathKernels) -> PathKernels | None:
    """Reads the variances of a path; a damaged file counts as missing, since it can be made again."""
    if file is None or not file.exists():
        return None
    try:
        variances = json.loads(file.read_text(encoding="utf-8"))["variances"]
        found = {name: [float(value) for value in variances[name]] for name in path.sigmas}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    sound = all(len(values) == path.steps and all(0.0 < v < math.inf for v in values) for values in found.values())
    return replace(path, variances=found) if sound else None


def weight_record(blocks: Sequence[Block], n: int, seed: int) -> dict[str, Any]:
    """Returns what is to be known of the weights of the first n samples that count, as JSON.

    Arguments:
        blocks: Blocks with the values `LOG_WEIGHT` and `ENERGY`.
        n: Number of samples that count.
        seed: Seed of the run, which is that of the bootstrap too.

    Returns:
        All that `BlockWeights.record` has, with `log_z` and its error; `infinite_energy`, the samples rejected for that; the `elbo` with its error;
        `energy_calls` of all blocks. What is not finite is None.
    """
    weights = BlockWeights(blocks, n, seed)
    if weights.related:
        # the mean over independent populations of the log of an unbiased estimate
        rng = weights.generator()
        each = np.array([log_z(weights.everything[family], rng, resamples=2).value for family in weights.families])
        lower, lower_error = float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.inf
    else:
        # two independent parts: the mean over the samples that count, and the share of those
        spread = float(weights.kept.var(ddof=1)) / n if n > 1 else math.inf
        lower = float(weights.kept.mean()) + math.log(n / weights.last)
        lower_error = math.sqrt(spread + (1.0 - n / weights.last) / n)
    calls = (int(block.values[ENERGY_CALLS].sum()) if weights.related else len(block.valid) for block in blocks)
    return finite(
        {
            **weights.record("log_z"),
            "infinite_energy": int(np.isposinf(weights.value(ENERGY)).sum()),
            "elbo": lower,
            "elbo_error": lower_error,
            "energy_calls": sum(calls),
        }
    )


def weight_lines(record: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a record of weights in two sentences: the numbers, and the verdict."""
    infinite = f", {record['infinite_energy']:,} for an infinite energy" if record["infinite_energy"] else ""
    numbers = f"{effective_in_words(record)}, log Z {in_words(record, 'log_z')}, ELBO {in_words(record, 'elbo')}"
    failed: Mapping[str, int] = record.get("failures", {})
    if failed:
        most = max(failed, key=lambda cause: failed[cause])
        infinite += f"; in this call the energy failed on {sum(failed.values()):,}, most often with {most}"
    return f"{numbers}{lost_in_words(record)}{infinite}", record["sentence"]
