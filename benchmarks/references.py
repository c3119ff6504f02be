"""Fair references for DW4, LJ13 and LJ55 (P = 2): independent equilibrium samples from the energy alone, checked before anyone uses them.

    python benchmarks/references.py dw4 -n 10000 --seed 0 -o dw4.npz
    python benchmarks/references.py lj13 -n 10000 --seed 0 -o lj13.npz --floors

Walkers are annealed from a Gaussian to the target (a pilot run finds the levels and steps, so that Z is unbiased), resampled within their group,
and moved on by Hamiltonian Monte Carlo. Groups never exchange walkers: they are the independent runs of the reference, and every error is the
spread of the groups. Prints log Z, the mean energy, the entropy and the virial beside the published constants (docs/results.md), and with
`--floors` the noise floors of the metrics. Exit code 1 if the virial or a constant is off by four standard errors or more.

The file holds `x` (n, items, axes), `u` (n) and `run` (n), and `log_z`, `log_z_error`, `calls`, `seed` as numbers.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from equilibra.analysis.baseline import isotropic_gaussian
from equilibra.analysis.particle_evaluation import particle_floors, particle_metrics
from equilibra.analysis.symmetry_distance import Method
from equilibra.energies.analytic import PairCluster, dw4, lj13, lj55
from equilibra.energies.annealing import AnnealedPopulation, AnnealingSchedule, anneal
from equilibra.energies.annealing_path import AnnealingPath, GaussianReference, GeometricPath, SoftCorePath
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.resampling import resample_groups
from equilibra.energies.walkers import Walkers
from equilibra.memory import keep_freed_memory
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.observables import VirialCheck, virial
from equilibra.thermo.statistics import contiguous_blocks


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """How the reference of one system is drawn and compared."""

    energy: Callable[[], PairCluster]
    path: Callable[[ReducedEnergy], AnnealingPath]
    leapfrog: int
    conditional_ess: float
    method: Method


BENCHMARKS = {
    "dw4": Benchmark(
        energy=dw4,
        path=lambda u: GeometricPath(GaussianReference(4, 2, std=2.2), u),
        leapfrog=16,
        conditional_ess=0.97,
        method="exact",
    ),
    "lj13": Benchmark(
        energy=lj13,
        path=lambda u: SoftCorePath(13, counter=u.counter),
        leapfrog=4,
        conditional_ess=0.97,
        method="hungarian-kabsch",
    ),
    "lj55": Benchmark(
        energy=lj55,
        path=lambda u: SoftCorePath(55, counter=u.counter),
        leapfrog=4,
        conditional_ess=0.97,
        method="hungarian-kabsch",
    ),
}


@dataclass(frozen=True, eq=False)
class EquilibriumSamples:
    """Walkers at equilibrium in consecutive groups of equal size, and what they say about their system."""

    walkers: Walkers
    means: torch.Tensor
    """Mean energy and virial of each group over the second half of the moves (2, groups)."""
    population: AnnealedPopulation
    calls: int

    @property
    def groups(self) -> int:
        """The number of independent groups."""
        return self.means.shape[1]

    @property
    def run(self) -> np.ndarray:
        """The group of each walker (n,)."""
        return np.repeat(np.arange(self.groups), len(self.walkers) // self.groups)

    @property
    def log_z(self) -> Estimate:
        """Log of the partition function."""
        return Estimate.normal(self.population.log_z, self.population.log_z_error, self.groups)

    @property
    def mean_energy(self) -> Estimate:
        """Mean reduced energy along the moves."""
        return between_groups(self.means[0])

    @property
    def mean_virial(self) -> Estimate:
        """Mean of -x · f along the moves."""
        return between_groups(self.means[1])

    @property
    def entropy(self) -> Estimate:
        """S/k = log Z + mean energy."""
        z, u = self.log_z, self.mean_energy
        return Estimate.normal(z.value + u.value, math.hypot(z.error, u.error), self.groups)

    def virial(self, rng: np.random.Generator) -> VirialCheck:
        """The check of equipartition of the samples themselves."""
        each = len(self.walkers) // self.groups
        blocks = contiguous_blocks([each] * self.groups, each)
        return virial(self.walkers.x.numpy(), self.walkers.force.numpy(), rng, blocks=blocks)

    def runs(self) -> list[np.ndarray]:
        """The positions of each group."""
        return np.split(self.walkers.x.numpy(), self.groups)


def between_groups(means: torch.Tensor) -> Estimate:
    """Returns the mean of independent groups with the error from their spread."""
    return Estimate.normal(float(means.mean()), float(means.std()) / math.sqrt(len(means)), len(means))


def equilibrium_samples(
    name: str, n: int, seed: int, *, groups: int = 20, moves_per_level: int = 3, moves: int = 100
) -> EquilibriumSamples:
    """Draws n walkers of a benchmark system, n a multiple of the number of groups."""
    benchmark, generator = BENCHMARKS[name], torch.Generator().manual_seed(seed)
    reduced = ReducedEnergy(benchmark.energy())
    path = benchmark.path(reduced)
    start = HamiltonianMoves(0.05, leapfrog=benchmark.leapfrog)

    def annealed(walkers: int, schedule: AnnealingSchedule | None) -> AnnealedPopulation:
        return anneal(
            path.reference,
            reduced,
            walkers,
            moves=start,
            path=path,
            groups=groups,
            moves_per_level=moves_per_level,
            conditional_ess=benchmark.conditional_ess,
            schedule=schedule,
            generator=generator,
        )

    pilot = annealed(max(n // (5 * groups), 10) * groups, None)
    population = annealed(n, pilot.schedule)
    log_w = population.log_weights.reshape(groups, -1)
    _, index, _ = resample_groups(log_w, math.inf, generator=generator)
    walkers = Walkers(population.x, population.u, population.force)[index]
    hmc = start.with_step(pilot.schedule.steps[-1])
    hmc, walkers = hmc.adapt(walkers, reduced, generator=generator, rounds=30)
    walkers, _ = hmc(walkers, reduced, generator=generator, moves=moves - moves // 2)
    seen = []
    for _ in range(moves // 2):
        walkers, _ = hmc(walkers, reduced, generator=generator)
        virials = -(walkers.x * walkers.force).sum((1, 2))
        seen.append(torch.stack([walkers.u, virials]).reshape(2, groups, -1).mean(2))
    return EquilibriumSamples(walkers, torch.stack(seen).mean(0), population, reduced.calls)


def print_constants(name: str, drawn: EquilibriumSamples) -> bool:
    """Prints the constants beside the published ones, where there are any; returns whether all agree within four standard errors."""
    known = BENCHMARKS[name].energy().reference
    check = drawn.virial(np.random.default_rng(0))
    found = {
        "log_z": ("log Z", drawn.log_z),
        "mean_energy": ("mean energy [kT]", drawn.mean_energy),
        "entropy": ("S/k", drawn.entropy),
    }
    rows = [
        *(
            (words, own, getattr(known, key, math.nan), getattr(known, f"{key}_error", 0.0))
            for key, (words, own) in found.items()
        ),
        ("virial along the moves", drawn.mean_virial, check.expected, 0.0),
        ("virial of the samples", check.virial, check.expected, 0.0),
    ]
    print("| quantity | measured | published | z |\n|---|---|---|---|")
    scores = []
    for quantity, own, value, error in rows:
        if math.isnan(value):
            print(f"| {quantity} | {own} | not known | |")
            continue
        scores.append((own.value - value) / math.hypot(own.error, error))
        published = f"{value:g} ± {error:g}" if error else f"{value:g} (exact)"
        print(f"| {quantity} | {own} | {published} | {scores[-1]:+.1f} |")
    print(f"\n{check.sentence}")
    return all(abs(z) < 4.0 for z in scores)


def print_floors(name: str, drawn: EquilibriumSamples, sizes: list[int], repeats: int, seed: int) -> None:
    """Prints each metric between independent halves of the groups, and for a Gaussian with the reference's moments."""
    benchmark = BENCHMARKS[name]
    energy, runs, rng = benchmark.energy(), drawn.runs(), np.random.default_rng(seed)
    joined = np.concatenate(runs)
    print("\n| metric | N | floor | baseline (Gaussian) | definition |\n|---|---|---|---|---|")
    for n in sizes:
        metrics = particle_metrics(
            lambda x: energy.energy(torch.from_numpy(x)).numpy(),
            method=benchmark.method,
            n=n,
            geometric_n=n,
            geometric_repeats=repeats,
        )
        floors = particle_floors(runs, metrics, rng)
        for metric in metrics:
            noise = floors[metric.name]
            target = joined[rng.choice(len(joined), size=noise.n, replace=False)]
            baseline = metric(isotropic_gaussian(joined, noise.n, rng), target)
            value = f"{noise.mean:.4f} ± {noise.std:.4f}" if noise.repeats > 1 else f"{noise.mean:.4f}"
            print(f"| {metric.name} | {noise.n} | {value} | {baseline:.3g} {metric.unit} | {metric.definition} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", choices=list(BENCHMARKS))
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--groups", type=int, default=20, help="independent runs; n must be a multiple")
    parser.add_argument("--moves", type=int, default=100, help="Hamiltonian moves after the annealing")
    parser.add_argument("-o", "--output", type=Path, default=None)
    parser.add_argument(
        "--floors", type=int, nargs="*", default=None, metavar="N", help="print noise floors, by default at N = 2000"
    )
    parser.add_argument("--floor-repeats", type=int, default=3, help="pairs of draws for the floor of the geometric W2")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.n % arguments.groups or arguments.groups < 2 or arguments.moves < 2:
        parser.error(
            f"got -n {arguments.n} in {arguments.groups} groups and {arguments.moves} moves; expected n a multiple of at least 2 groups, 2 moves"
        )
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()

    start = time.perf_counter()
    drawn = equilibrium_samples(arguments.system, arguments.n, arguments.seed, groups=arguments.groups, moves=arguments.moves)
    seconds = time.perf_counter() - start
    print(
        f"{arguments.system}: {arguments.n} samples in {arguments.groups} independent groups, seed {arguments.seed}, "
        f"{len(drawn.population.lambdas)} levels, {drawn.calls:.3g} energy calls, {seconds:.0f} s\n"
    )
    good = print_constants(arguments.system, drawn)
    if arguments.output:
        np.savez(
            arguments.output,
            x=drawn.walkers.x.numpy(),
            u=drawn.walkers.u.numpy(),
            run=drawn.run,
            log_z=drawn.population.log_z,
            log_z_error=drawn.population.log_z_error,
            calls=drawn.calls,
            seed=arguments.seed,
        )
    if arguments.floors is not None:
        print_floors(arguments.system, drawn, arguments.floors or [2000], arguments.floor_repeats, arguments.seed)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
