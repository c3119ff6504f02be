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
from equilibra.diffusion.denoiser import Denoiser, Prediction
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy, ReducedEnergy
from equilibra.errors import ConfigError, InputError
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.blocks import Batch, Block
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import log_z
from equilibra.thermo.weights import diagnose, normalised

LEVELS = 200
"""Noise levels of a path by default."""
FITTED_ON = 200
"""Samples of the model that the variances of the kernels are fitted to."""
LOG_WEIGHT, ENERGY = "log_weight", "energy"
"""Names of the numbers that a block keeps of each sample: the log-weight, and the energy in the unit of kT."""

ANCESTOR = "ancestor"
"""Name of the number that a block of an annealed population keeps: which path of the block each sample descends from."""

ENERGY_CALLS = "energy_calls"
"""Name of the number of energy calls that each sample of an annealed population took; one each without it."""

_SAMPLES_STREAM, _NOISE_STREAM, _BOOTSTRAP_STREAM = 0x50415448, 0x4E4F4953, 0x424F4F54  # no block has such a number
_FEWEST_VALID = 20  # fewer valid samples say less of the variances than all samples do
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
        rule, levels = self.sampler.make(), noise_grid(denoiser.process, self.sampler.grid)
        total = rule.calls(levels) + self.path.steps
        counted = _Counted(denoiser, lambda calls: report(0.0, f"fitting the kernels of the path, {100 * calls / total:.0f} %"))
        states = draw(rule, counted, like, levels, generator=generator_for(self.seed, _SAMPLES_STREAM, device=like.device))
        good = self.valid(states)
        if good.sum() >= _FEWEST_VALID:
            states = states[torch.from_numpy(np.flatnonzero(good))]
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


class _Counted(Denoiser):
    """A denoiser that says how often it was called."""

    def __init__(self, inner: Denoiser, tell: Callable[[int], None]) -> None:
        self.inner, self.tell, self.process, self.calls = inner, tell, inner.process, 0

    def __call__(self, state: State, t: Tensor) -> Prediction:
        self.calls += 1
        self.tell(self.calls)
        return self.inner(state, t)


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
        `n`, `ess`, `ess_fraction`, `pareto_k`, `verdict` and `sentence` of `thermo.weights.diagnose`, where relatives of an annealed population count as
        one; `drawn`, all samples up to the nth that counts;
        `rejected` of them, which have the weight zero, and the share `rejected_weight` of the weight that they would have; `infinite_energy`, those
        rejected for that; `log_z` and `elbo` with errors; `energy_calls` of all blocks. What is not finite is None.
    """
    counts = np.concatenate([block.valid for block in blocks])
    last = int(np.flatnonzero(counts)[n - 1]) + 1
    counts = counts[:last]
    log_weights = np.concatenate([block.values[LOG_WEIGHT] for block in blocks])[:last]
    energies = np.concatenate([block.values[ENERGY] for block in blocks])[:last]
    kept = log_weights[counts]
    diagnosis = diagnose(_of_lineages(blocks, last, counts, kept))
    rng = np.random.default_rng([seed & 0xFFFFFFFFFFFFFFFF, _BOOTSTRAP_STREAM])
    everything = np.where(counts, log_weights, -np.inf)
    families = populations_of(np.repeat(np.arange(len(blocks)), [len(block.valid) for block in blocks])[:last])
    annealed = ANCESTOR in blocks[0].values
    z = log_z(everything, rng, blocks=families if annealed and len(families) > 1 else None)
    if annealed:
        # the mean over independent populations of the log of an unbiased estimate
        each = np.array([log_z(everything[family], rng, resamples=2).value for family in families])
        lower, lower_error = float(each.mean()), float(each.std(ddof=1) / math.sqrt(len(each))) if len(each) > 1 else math.inf
    else:
        # two independent parts: the mean over the samples that count, and the share of those
        spread = float(kept.var(ddof=1)) / n if n > 1 else math.inf
        lower, lower_error = float(kept.mean()) + math.log(n / last), math.sqrt(spread + (1.0 - n / last) / n)
    record: dict[str, Any] = {
        "n": n,
        "ess": diagnosis.ess,
        "ess_fraction": diagnosis.ess / n,
        "pareto_k": diagnosis.pareto_k,
        "verdict": diagnosis.verdict,
        "sentence": diagnosis.sentence,
        "drawn": last,
        "rejected": last - n,
        "rejected_weight": float(normalised(log_weights)[~counts].sum()),
        "infinite_energy": int(np.isposinf(energies).sum()),
        "log_z": z.value,
        "log_z_error": math.inf if annealed and len(families) == 1 else z.error,
        "elbo": lower,
        "elbo_error": lower_error,
        "energy_calls": sum(int(block.values[ENERGY_CALLS].sum()) if annealed else len(block.valid) for block in blocks),
    }
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}


def populations_of(block: np.ndarray) -> list[np.ndarray]:
    """Returns the indices of the samples of each block, for the numbers (n,) of their blocks: what a bootstrap of annealed populations draws whole."""
    return [np.flatnonzero(block == number) for number in np.unique(block)]


def _of_lineages(blocks: Sequence[Block], last: int, counts: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """Returns one log-weight for each family of samples that descend from one path, and of a sample without relatives its own."""
    if ANCESTOR not in blocks[0].values:
        return log_weights
    family = np.concatenate([block.values[ANCESTOR] + index * len(block.valid) for index, block in enumerate(blocks)])[:last]
    _, member = np.unique(family[counts], return_inverse=True)
    top = log_weights.max()
    summed = np.bincount(member, weights=np.exp(log_weights - top))
    with np.errstate(divide="ignore"):
        return np.log(summed) + top


def weight_lines(record: Mapping[str, Any]) -> tuple[str, str]:
    """Returns a record of weights in two sentences: the numbers, and the verdict."""

    def estimate(name: str) -> str:
        error = record[f"{name}_error"]
        return str(Estimate.normal(record[name], math.inf if error is None else error, record["n"]))

    k = "not fitted" if record["pareto_k"] is None else f"{record['pareto_k']:.2f}"
    share = f"{record['ess']:.0f} of {record['n']:,} ({100 * record['ess_fraction']:.1f} %)"
    lost = f"{record['rejected']:,} of {record['drawn']:,} drawn have no weight" if record["rejected"] else ""
    infinite = f", {record['infinite_energy']:,} for an infinite energy" if record["infinite_energy"] else ""
    numbers = f"ESS {share}, Pareto k {k}, log Z {estimate('log_z')}, ELBO {estimate('elbo')}"
    return f"{numbers}{'; ' if lost else ''}{lost}{infinite}", record["sentence"]
