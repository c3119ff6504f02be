"""Densities and free energies on systems with known answers: the tables of `docs/results.md`, as markdown on standard output.

    python benchmarks/exact_thermodynamics.py
    python benchmarks/exact_thermodynamics.py --quick

1. The log-density of the shipped probability flow, on exact scores, with the exact trace and with Hutchinson's probes.
2. log Z, entropy and free-energy differences of a **wrong** model, whose weights therefore vary, by the shipped path weights and estimators: the mean over
   seeds, its z-score, and how often the 95 % interval of a small sample holds the truth.
"""

import argparse
import dataclasses
import math
import time
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from equilibra.density.flow import FlowConfig, log_density
from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels, reverse_weights
from equilibra.density.trace import Trace
from equilibra.diffusion.schedule import VarianceExploding, VarianceLinear
from equilibra.diffusion.space import CentredEuclidean, Torus
from equilibra.energies.analytic.gaussian_mixture import GaussianMixtureEnergy
from equilibra.energies.analytic.harmonic import HarmonicCluster, HarmonicCrystal
from equilibra.energies.analytic.solved import SolvedEnergy
from equilibra.energies.analytic.wells import DoubleWell
from equilibra.geometry import so3
from equilibra.geometry.mean_free import helmert
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state.randomness import generator_for
from equilibra.state.state import State
from equilibra.testing import (
    AnalyticDistribution,
    GaussianComponents,
    GaussianMixture,
    IGSO3Components,
    IGSO3Mixture,
    JointDistribution,
    WrappedNormalComponents,
    WrappedNormalMixture,
)
from equilibra.thermo.entropy import entropy
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import bar, difference, log_z
from equilibra.thermo.weights import effective_sample_size

WIDE = VarianceExploding(sigma_min=0.01, sigma_max=200.0)
PERIOD = 2.0 * math.pi


def tensor(values: object) -> Tensor:
    """Returns a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def crystal() -> GaussianMixture:
    """Displacements of a square of springs with one diagonal, the model that knows its covariance."""
    sites = tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    pairs = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 0], [0, 2]])
    energy = HarmonicCrystal.from_springs(sites, pairs, tensor([4.0, 6.0, 3.0, 8.0, 5.0]))
    basis = torch.kron(helmert(4).double(), torch.eye(2, dtype=torch.float64))
    covariance = torch.linalg.inv(basis @ energy.hessian @ basis.T)
    return GaussianMixture(
        torch.ones(1), torch.zeros(1, 4, 2), covariances=covariance[None], schedule=WIDE, space=CentredEuclidean()
    )


def cluster() -> GaussianMixture:
    """Five particles on springs to their centre, k = 4."""
    energy = HarmonicCluster(5, 3, stiffness=4.0)
    width = tensor([energy.stiffness**-0.5])
    return GaussianMixture(torch.ones(1), torch.zeros(1, 5, 3), width, schedule=WIDE, space=CentredEuclidean())


def joint() -> JointDistribution:
    """Position, rotation and torsion, coupled by the label; the position under a variance-preserving schedule."""
    laws = {
        "shift": GaussianComponents(tensor([[0.6, 0.0], [-1.4, 0.0]]), tensor([0.7, 0.4])),
        "turn": IGSO3Components(so3.exp(tensor([[[0.3, 0.2, -0.5]], [[-1.2, 0.3, 0.2]]])), tensor([0.5, 0.4])),
        "torsion": WrappedNormalComponents(tensor([[0.5], [-2.0]]), tensor([0.5, 0.3]), space=Torus(period=PERIOD)),
    }
    schedules = {
        "shift": VarianceLinear(scale=1.0, t_min=2e-3),
        "turn": VarianceExploding(sigma_min=0.03, sigma_max=4.5),
        "torsion": VarianceExploding(sigma_min=0.02, sigma_max=14.0),
    }
    return JointDistribution(tensor([0.7, 0.3]), laws, schedules)


DENSITIES: dict[str, Callable[[], AnalyticDistribution]] = {
    "Gaussian, std 0.7, 3-d": lambda: GaussianMixture(torch.ones(1), torch.zeros(1, 3), tensor([0.7]), schedule=WIDE),
    "mixture 0.7 / 0.3, 2-d": lambda: GaussianMixture(
        tensor([0.7, 0.3]), tensor([[1.2, -0.6], [-2.8, 1.4]]), tensor([1.0, 0.3]), schedule=WIDE
    ),
    "harmonic cluster, 5 particles, 12-d": cluster,
    "harmonic crystal, 4 particles in the plane, 6-d": crystal,
    "torus, mixture 0.7 / 0.3, 2-d": lambda: WrappedNormalMixture(
        tensor([0.7, 0.3]),
        tensor([[[0.5], [2.0]], [[-2.0], [3.0]]]),
        tensor([0.5, 0.3]),
        schedule=VarianceExploding(sigma_min=0.02, sigma_max=14.0),
        space=Torus(period=PERIOD),
    ),
    "SO(3)², mixture 0.7 / 0.3, 6-d": lambda: IGSO3Mixture(
        tensor([0.7, 0.3]),
        so3.exp(tensor([[[0.3, 0.2, -0.5], [1.0, 0.0, 0.4]], [[-1.5, 0.7, 0.2], [0.1, 2.0, 0.3]]])),
        tensor([0.5, 0.4]),
        schedule=VarianceExploding(sigma_min=0.03, sigma_max=4.5),
    ),
    "joint: plane (VP), SO(3), torus, 6-d": joint,
}


def densities(samples: int, probes: int) -> None:
    """Prints errors of log-densities, and z-scores of Hutchinson's estimate; fewer points and steps on curved Spaces, which are costly."""
    print(
        f"\nlog p of N exact samples by the probability flow with the default rule; the exact value is that at the smallest noise. Hutchinson: {probes} probes; "
        "z of a sample is (estimate - exact trace) / its own standard error, 'pooled' is that of the mean over samples.\n"
    )
    print(
        "| distribution | N | max error, exact trace (nat) | mean error | integration error it reports, max | smoothing by σ_min, max | ≤ 0.01 | "
        "Hutchinson - exact, mean ± error (nat) | pooled z | rms z | network calls, exact |\n|---|---|---|---|---|---|---|---|---|---|---|"
    )
    for number, (name, make) in enumerate(DENSITIES.items()):
        target = make()
        flat = all(target.process.fields[field].space.linear for field in target.process.moving)
        n = samples if flat else max(2, samples // 5)
        state = target.sample(n, generator=generator_for(number, 0))
        t = torch.full((n,), target.process.t_min, dtype=torch.float64)
        truth = target.log_density(state, t)
        exact = log_density(target, state, trace=Trace(kind="exact"), generator=generator_for(number, 1))
        error = exact.log_density - truth
        smoothing = (truth - target.log_density(state)).abs().max()
        # both on the same nodes, so that nothing but the probes differs
        grid = FlowConfig(solver="rk4", steps=16, check="nodes")
        rough, same = (
            log_density(target, state, config=grid, trace=trace, generator=generator_for(number, 2))
            for trace in (Trace(kind="hutchinson", probes=probes), Trace(kind="exact"))
        )
        gap, spread = rough.log_density - same.log_density, rough.trace_error
        if float(spread.max()) < 1e-9:
            hutchinson = f"{float(gap.mean()):.1e} (no variance) | – | –"
        else:
            pooled = float(spread.square().sum().sqrt()) / n
            z = float(gap.mean()) / pooled
            hutchinson = (
                f"{float(gap.mean()):+.4f} ± {pooled:.4f} | {z:+.1f} | {float((gap / spread).square().mean().sqrt()):.2f}"
            )
        worst = float(error.abs().max())
        print(
            f"| {name} | {n} | {worst:.1e} | {float(error.mean()):+.1e} | {float(exact.integration_error.max()):.1e} | {float(smoothing):.1e} | "
            f"{'yes' if worst <= 0.01 else 'NO'} | {hutchinson} | {exact.network_calls} |",
            flush=True,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """An energy with a wrong model of it.

    Attributes:
        name: In the table.
        energy: Energy with exact log Z and samples.
        model: Exact scores of another distribution.
        border: States A and B are the two sides of this value of the first coordinate.
        log_z: Exact log Z.
        entropy: Exact S/k.
        difference: Exact free energy of the upper side less that of the lower, in kT.
    """

    name: str
    energy: SolvedEnergy
    model: GaussianMixture
    border: float
    log_z: float
    entropy: float
    difference: float

    def u(self, state: State) -> Tensor:
        """Reduced energies of a State."""
        return self.energy.energy(state.fields["x"])


def gaussian_problem() -> Problem:
    """A Gaussian in three dimensions, whose model is 30 % too wide."""
    energy = GaussianMixtureEnergy(torch.ones(1), torch.zeros(1, 3), tensor([1.0]), log_z=2.0)
    model = GaussianMixture(torch.ones(1), torch.zeros(1, 1, 3), tensor([1.3]), schedule=SCHEDULE)
    below = NormalDist().cdf(0.5)
    return Problem(
        name="Gaussian, 3-d; model 30 % too wide",
        energy=energy,
        model=model,
        border=0.5,
        log_z=2.0,
        entropy=1.5 * math.log(2.0 * math.pi * math.e),
        difference=-math.log((1.0 - below) / below),
    )


def mixture_problem() -> Problem:
    """Two unequal wells, whose model has equal weights and is 25 % too wide."""
    energy = GaussianMixtureEnergy(tensor([0.7, 0.3]), tensor([[1.2], [-2.8]]), tensor([0.8, 0.6]), log_z=-1.5)
    model = GaussianMixture(tensor([0.5, 0.5]), tensor([[[1.2]], [[-2.8]]]), tensor([1.0, 0.75]), schedule=SCHEDULE)
    # whatever is outside of this range weighs less than 1e-15
    x = torch.linspace(-9.0, 9.0, 200_001, dtype=torch.float64)
    u = energy.energy(x[:, None, None])
    p = torch.exp(-u - energy.log_z())
    upper = float(torch.trapezoid(torch.where(x > -1.0, p, 0.0), x))
    return Problem(
        name="wells 0.7 / 0.3, 1-d; model 0.5 / 0.5, 25 % too wide",
        energy=energy,
        model=model,
        border=-1.0,
        log_z=-1.5,
        entropy=float(torch.trapezoid(p * u, x)) - 1.5,
        difference=-math.log(upper / (1.0 - upper)),
    )


def quartic_problem() -> Problem:
    """A tilted quartic double well with a harmonic axis, whose model is a mixture of two Gaussians."""
    energy = DoubleWell(a=0.5, b=3.0, c=-0.3, axes=2)
    model = GaussianMixture(
        tensor([0.4, 0.6]), tensor([[[-1.7, 0.0]], [[1.7, 0.0]]]), tensor([[0.5, 1.1], [0.5, 1.1]]), schedule=SCHEDULE
    )
    upper = energy.probability(low=0.0)
    return Problem(
        name="quartic double well, 2-d; model two Gaussians",
        energy=energy,
        model=model,
        border=0.0,
        log_z=energy.log_z(),
        entropy=energy.entropy(),
        difference=-math.log(upper / (1.0 - upper)),
    )


SCHEDULE = VarianceExploding(sigma_min=0.05, sigma_max=30.0)


def paths(problem: Problem, n: int, steps: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns log-weights, energies and first coordinates of n paths of the model, and log-weights of n reverse paths from exact samples."""
    levels = noise_grid(problem.model.process, GridConfig(steps=steps, spacing="log", end="noisy"))
    kernels = fit_variances(
        problem.model,
        problem.model.sample(2000, generator=generator_for(seed, 0)),
        path_kernels(problem.model.process, levels),
        generator=generator_for(seed, 1),
    )
    like = State({"x": torch.zeros(n, problem.energy.items, problem.energy.axes, dtype=torch.float64)})
    drawn = draw_weighted(problem.model, like, kernels, problem.u, generator=generator_for(seed, 2))
    reference = State({"x": problem.energy.sample(n, generator=generator_for(seed, 3))})
    back = reverse_weights(problem.model, reference, kernels, problem.u, generator=generator_for(seed, 4))
    return (
        drawn.log_weights.numpy(),
        drawn.reduced_energy.numpy(),
        drawn.state.fields["x"][:, 0, 0].numpy(),
        back.log_weights.numpy(),
    )


def estimates(
    problem: Problem, w: np.ndarray, u: np.ndarray, first: np.ndarray, back: np.ndarray, rng: np.random.Generator
) -> dict[str, Estimate]:
    """Returns every estimate of one set of paths."""
    upper = first > problem.border
    return {
        "log Z, path weights": log_z(w, rng),
        "log Z, BAR": bar(w, back).log_z,
        "S/k": entropy(u, w, rng),
        "ΔF of the two sides (kT)": difference(w, ~upper, upper, rng),
    }


def free_energies(n: int, repeats: int, seeds: int, steps: int) -> None:
    """Prints the means over seeds, their z-scores, and the coverage of the intervals."""
    each = repeats // seeds
    print(
        f"\nWrong models, {steps} levels; {seeds} seeds of {each * n:,} paths; coverage of the 95 % intervals of {each * seeds} sets of {n} paths "
        "(± its own standard error). One energy call per path; BAR takes as many reference samples again.\n"
    )
    print(
        "| system | quantity | exact | mean over seeds ± error | z of the mean | largest abs(z) of a seed | coverage | within 90 to 99 % | ESS |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for make in (gaussian_problem, mixture_problem, quartic_problem):
        problem = make()
        exact = {
            "log Z, path weights": problem.log_z,
            "log Z, BAR": problem.log_z,
            "S/k": problem.entropy,
            "ΔF of the two sides (kT)": problem.difference,
        }
        whole: dict[str, list[Estimate]] = {name: [] for name in exact}
        inside: dict[str, list[bool]] = {name: [] for name in exact}
        shares = []
        for seed in range(seeds):
            parts = paths(problem, each * n, steps, seed)
            rng = np.random.default_rng([seed, 7])
            for name, value in estimates(problem, *parts, rng).items():
                whole[name].append(value)
            shares.append(effective_sample_size(parts[0]).fraction)
            for k in range(each):
                part = tuple(values[k * n : (k + 1) * n] for values in parts)
                for name, value in estimates(problem, *part, rng).items():
                    inside[name].append(value.low <= exact[name] <= value.high)
        for name, truth in exact.items():
            values = np.array([found.value for found in whole[name]])
            error = float(values.std(ddof=1)) / math.sqrt(seeds)
            worst = max(abs(found.z_score(truth)) for found in whole[name])
            coverage = float(np.mean(inside[name]))
            own = math.sqrt(max(coverage * (1.0 - coverage), 0.0) / len(inside[name]))
            print(
                f"| {problem.name} | {name} | {truth:.4f} | {values.mean():.4f} ± {error:.4f} | {(values.mean() - truth) / error:+.1f} | {worst:.1f} | "
                f"{100 * coverage:.1f} ± {100 * own:.1f} % | {'yes' if 0.9 <= coverage <= 0.99 else 'NO'} | {100 * np.mean(shares):.0f} % |",
                flush=True,
            )


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=200, help="points whose log-density is computed")
    parser.add_argument("--probes", type=int, default=32, help="Hutchinson's probes")
    parser.add_argument("--paths", type=int, default=500, help="paths of one set")
    parser.add_argument("--repeats", type=int, default=400, help="sets whose intervals are counted, over all seeds")
    parser.add_argument("--seeds", type=int, default=20, help="seeds of log Z")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="much smaller numbers, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.quick:
        options.samples, options.repeats, options.seeds, options.paths = 12, 20, 5, 200
        options.probes = 8
    start = time.perf_counter()
    densities(options.samples, options.probes)
    middle = time.perf_counter()
    free_energies(options.paths, options.repeats, options.seeds, steps=24)
    end = time.perf_counter()
    print(
        f"\nfloat64; {middle - start:.0f} s and {end - middle:.0f} s on {torch.get_num_threads()} thread(s), torch {torch.__version__}."
    )


if __name__ == "__main__":
    main()
