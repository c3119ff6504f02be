"""Production samplers on exact scores: the table of `docs/results.md`, as markdown on standard output.

    python benchmarks/exact_scores.py --samples 20000 --seeds 3

Every number is that of the shipped samplers and priors on the analytic distributions of `equilibra.testing`; z is the deviation from the exact
value in units of the standard error of the estimate. The rule of the released DiG sampler (full drift of the reverse diffusion, no noise)
is written out here, for comparison.
"""

import argparse
import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from equilibra.diffusion.schedule import Schedule, VarianceExploding, VarianceLinear, VarianceSigmoid
from equilibra.diffusion.space import Euclidean, SymmetricMatrices, Torus
from equilibra.geometry import igso3, lattice, so3
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.ode import Euler, Heun
from equilibra.sampling.sampler import Sampler, draw, integrate
from equilibra.sampling.sde import ReverseDiffusion
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

SAMPLERS: dict[str, tuple[Sampler, int]] = {
    "DPM-Solver++ 2M": (DPMSolver2M(), 48),
    "Heun": (Heun(), 40),
    "reverse diffusion": (ReverseDiffusion(), 500),
}


GAUSSIANS: dict[float, Schedule] = {
    0.5: VarianceExploding(sigma_min=0.01, sigma_max=30.0),
    1.0: VarianceLinear(),
    3.0: VarianceSigmoid(scale=3.0),
    10.0: VarianceExploding(sigma_min=0.1, sigma_max=100.0),
}


def tensor(values: object) -> Tensor:
    """Returns a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


def seeded(seed: int) -> torch.Generator:
    """Returns a generator with the given seed."""
    return torch.Generator().manual_seed(seed)


def samples(target: AnalyticDistribution, sampler: Sampler, steps: int, n: int, seeds: int) -> State:
    """Draws n samples for each seed, from the production prior."""
    levels = noise_grid(target.process, GridConfig(steps=steps))
    like = target.sample(n, generator=seeded(0))
    return State.cat([draw(sampler, target, like, levels, generator=seeded(seed)) for seed in range(1, seeds + 1)])


def estimate(values: Tensor) -> tuple[float, float]:
    """Returns a mean and its standard error."""
    return float(values.mean()), float(values.std()) / math.sqrt(len(values))


def row(name: str, sampler: str, calls: int | str, quantity: str, exact: float, value: float, error: float) -> str:
    """Returns a row of the table."""
    z = f"{(value - exact) / error:+.1f}" if error > 0 else "–"
    return f"| {name} | {sampler} | {calls} | {quantity} | {exact:.4g} | {value:.4f} ± {error:.4f} | {100 * (value / exact - 1):+.2f} % | {z} |"


def gaussian_widths(n: int, seeds: int) -> None:
    """Prints the widths of Gaussians under the three schedules."""
    for (std, schedule), (name, (sampler, steps)) in itertools.product(GAUSSIANS.items(), SAMPLERS.items()):
        target = GaussianMixture(torch.ones(1), tensor([[0.0]]), tensor([std]), schedule=schedule)
        x = samples(target, sampler, steps, n, seeds).fields["x"][:, 0]
        value = float(x.std())
        levels = noise_grid(target.process, GridConfig(steps=steps))
        label = f"Gaussian, {type(schedule).__name__}"
        print(row(label, name, sampler.calls(levels), "std", std, value, value / math.sqrt(2 * len(x))))


def released_rule(target: AnalyticDistribution, x: Tensor, steps: int = 500) -> Tensor:
    """The released sampler: Euler in time with the full drift g^2 s of the reverse diffusion, without its noise."""
    schedule = target.process.fields["x"].schedule
    variance = 2.0 * math.log(schedule.sigma_max / schedule.sigma_min) / steps
    for k in range(steps):
        t = torch.full((len(x),), 1.0 - k / steps, dtype=torch.float64)
        x = x + variance * target(State({"x": x}), t).displacements["x"]
    return x


def mixture_weight(n: int, seeds: int) -> None:
    """Prints the mode weights of an unequal mixture, and those of the released rule."""
    schedule = VarianceExploding(sigma_min=0.1, sigma_max=35.0)
    target = GaussianMixture(tensor([0.7, 0.3]), tensor([[6.0], [-14.0]]), tensor([1.0, 1.0]), schedule=schedule)

    def report(name: str, calls: int, x: Tensor) -> None:
        upper = x > -4.0
        value, error = estimate(upper.double())
        print(row("mixture 0.7 / 0.3, 20 std apart", name, calls, "weight of the larger mode", 0.7, value, error))
        width = float(x[upper].std())
        print(row("", name, calls, "std of the larger mode", 1.0, width, width / math.sqrt(2 * int(upper.sum()))))

    for name, (sampler, steps) in SAMPLERS.items():
        levels = noise_grid(target.process, GridConfig(steps=steps))
        report(name, sampler.calls(levels), samples(target, sampler, steps, n, seeds).fields["x"][:, 0])
    start = 35.0 * torch.randn(n * seeds, 1, generator=seeded(1), dtype=torch.float64)
    report("released DiG rule", 500, released_rule(target, start)[:, 0])


def rotations(n: int, seeds: int) -> None:
    """Prints rms angles of IGSO(3) laws of finite width."""
    schedule = VarianceExploding(sigma_min=0.02, sigma_max=1.65, convention="A")
    for std in (0.15 * math.sqrt(2.0), 0.8):
        target = IGSO3Mixture(torch.ones(1), torch.eye(3)[None], tensor([std]), schedule=schedule)
        omega = torch.linspace(0.0, math.pi, 20001, dtype=torch.float64)
        density = igso3.log_density(omega, 0.5 * std**2).exp() * (1.0 - omega.cos()) / math.pi
        exact = math.sqrt(float(torch.trapezoid(density * omega**2, omega)))
        for name, (sampler, steps) in SAMPLERS.items():
            angle = so3.angle(samples(target, sampler, steps, n // 5, seeds).fields["x"])
            mean, error = estimate(angle**2)
            calls = sampler.calls(noise_grid(target.process, GridConfig(steps=steps)))
            print(
                row(f"IGSO(3), σ = {std:.3f}", name, calls, "rms angle", exact, math.sqrt(mean), 0.5 * error / math.sqrt(mean))
            )


def torus(n: int, seeds: int) -> None:
    """Prints the characteristic function of a wrapped normal mixture."""
    period, stds, means, weights = 2.0 * math.pi, tensor([0.3, 0.6]), tensor([-1.1, 1.3]), tensor([0.7, 0.3])
    schedule = VarianceExploding(sigma_min=0.02, sigma_max=period)
    target = WrappedNormalMixture(weights, means[:, None], stds, schedule=schedule, space=Torus(period=period))
    for name, (sampler, steps) in SAMPLERS.items():
        x = samples(target, sampler, steps, n // 2, seeds).fields["x"][:, 0]
        calls = sampler.calls(noise_grid(target.process, GridConfig(steps=steps)))
        for k in (1, 2):
            exact = float((weights * torch.exp(-0.5 * (k * stds) ** 2) * torch.cos(k * means)).sum())
            print(row("wrapped normal mixture", name, calls, f"E cos {k}φ", exact, *estimate(torch.cos(k * x))))


def joint(n: int, seeds: int) -> None:
    """Prints the weight and the couplings of a joint state on four Spaces."""
    weights, widths = tensor([0.7, 0.3]), tensor([0.35, 0.45])
    shifts, turns = tensor([[0.6, -0.3, 0.0], [-1.4, 0.7, 0.0]]), so3.exp(tensor([[0.0, 0.0, 0.0], [0.4, 1.9, -0.8]]))
    angles, cells = tensor([[-1.0], [1.2]]), lattice.from_vector(tensor([[0.3] * 2 + [0.0] * 4, [-0.7] * 2 + [0.0] * 4]))
    target = JointDistribution(
        weights,
        {
            "shift": GaussianComponents(shifts, tensor([0.5, 0.6])),
            "turn": IGSO3Components(turns, widths),
            "torsion": WrappedNormalComponents(angles, widths, space=Torus(period=2.0 * math.pi)),
            "cell": GaussianComponents(cells, tensor([0.4, 0.3]), space=SymmetricMatrices()),
        },
        {
            "shift": VarianceExploding(sigma_min=0.01, sigma_max=40.0),
            "turn": VarianceExploding(sigma_min=0.02, sigma_max=2.4),
            "torsion": VarianceExploding(sigma_min=0.02, sigma_max=2.0 * math.pi),
            "cell": VarianceLinear(),
        },
    )
    trace: Callable[[Tensor], Tensor] = lambda x: x.diagonal(dim1=1, dim2=2).sum(1)  # noqa: E731
    conditional = {
        "shift": shifts[:, 0],
        "turn": torch.exp(-(widths**2)) * trace(turns),
        "torsion": torch.exp(-0.5 * widths**2) * torch.cos(angles[:, 0]),
        "cell": trace(cells),
    }
    for name, (sampler, steps) in SAMPLERS.items():
        steps = min(steps, 200)
        state = samples(target, sampler, steps, n // 10, seeds)
        calls = sampler.calls(noise_grid(target.process, GridConfig(steps=steps)))
        value = {
            "shift": state.fields["shift"][:, 0],
            "turn": trace(state.fields["turn"]),
            "torsion": torch.cos(state.fields["torsion"][:, 0]),
            "cell": trace(state.fields["cell"]),
        }
        share, error = estimate(target.responsibilities(state)[:, 0])
        print(row("joint (R³, SO(3), T, lattice)", name, calls, "weight of the larger mode", 0.7, share, error))
        for a, b in (("shift", "turn"), ("turn", "torsion"), ("torsion", "cell")):
            exact = float((weights * conditional[a] * conditional[b]).sum())
            print(row("", name, calls, f"E[{a} × {b}]", exact, *estimate(value[a] * value[b])))


def bias_of_reverse_diffusion() -> None:
    """Prints the bias of the width of Gaussian data under reverse diffusion, exactly: each step is x -> A x + B z; A and B are probed."""
    print("\n| Gaussian | bias of the std, reverse diffusion, 250 / 500 / 1000 / 2000 steps |\n|---|---|")
    z = float(torch.randn(1, 1, generator=seeded(0), dtype=torch.float64))
    for std, schedule in GAUSSIANS.items():
        target = GaussianMixture(torch.ones(1), tensor([[0.0]]), tensor([std]), schedule=schedule)
        biases = []
        for steps in (250, 500, 1000, 2000):
            levels = noise_grid(target.process, GridConfig(steps=steps))
            variance = levels[0].sigma["x"] ** 2 + std**2
            for level, lower in itertools.pairwise(levels):
                ends = [
                    ReverseDiffusion().step(
                        target, State({"x": tensor([[x]])}), level, lower, memory=None, generator=seeded(0)
                    )[0]
                    for x in (0.0, 1.0)
                ]
                at_zero, at_one = (float(end.fields["x"]) for end in ends)
                variance = (at_one - at_zero) ** 2 * variance + (at_zero / z) ** 2
            biases.append(f"{100 * (math.sqrt(variance) / std - 1):+.2f} %")
        print(f"| std {std}, {type(schedule).__name__} | {' / '.join(biases)} |")


def orders() -> None:
    """Prints the slopes of the errors of the flow solvers against the number of steps."""
    print("\n| Space | solver | declared order | slope | errors at 24, 48, 96, 192 steps |\n|---|---|---|---|---|")
    weights = tensor([0.7, 0.3])
    wide = VarianceExploding(sigma_min=0.02, sigma_max=12.0)
    problems: dict[str, tuple[AnalyticDistribution, float, float]] = {
        "Euclidean": (
            GaussianMixture(weights, tensor([[0.9, -0.6], [-2.1, 1.4]]), tensor([0.5, 0.8]), schedule=wide, space=Euclidean()),
            0.1,
            10.0,
        ),
        "torus": (
            WrappedNormalMixture(
                weights, tensor([[-1.1, 3.0], [1.0, 0.8]]), tensor([0.3, 0.5]), schedule=wide, space=Torus(period=2 * math.pi)
            ),
            0.1,
            3.0,
        ),
        "SO(3)": (
            IGSO3Mixture(weights, so3.exp(tensor([[0.0, 0.0, 0.0], [0.9, 1.5, -0.6]])), tensor([0.4, 0.3]), schedule=wide),
            0.2,
            2.0,
        ),
    }
    steps = [24, 48, 96, 192]
    for name, (target, low, high) in problems.items():
        start = target.process.prior(target.sample(16, generator=seeded(0)), generator=seeded(1))

        def solve(sampler: Sampler, k: int, target=target, low=low, high=high, start=start) -> Tensor:
            levels = noise_grid(target.process, GridConfig(steps=k, sigma_min=low, sigma_max=high, end="noisy"))
            return integrate(sampler, target, start, levels, generator=seeded(0)).fields["x"]

        fine, space = solve(Heun(), 1536), target.process.fields["x"].space
        for label, sampler in (("Euler", Euler()), ("Heun", Heun()), ("DPM-Solver++ 2M", DPMSolver2M())):
            errors = [float(space.log(fine, solve(sampler, k)).norm(dim=-1).median()) for k in steps]
            slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
            print(f"| {name} | {label} | {sampler.order} | {slope:.2f} | {', '.join(f'{e:.1e}' for e in errors)} |")


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=20000, help="samples per seed (fewer for costly Spaces)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds")
    arguments = parser.parse_args()
    start = time.perf_counter()
    print(
        f"N = {arguments.samples} × seeds 1 to {arguments.seeds} (a half, a fifth, a tenth of N on torus, SO(3), joint), float64. Rows of one sampler share their random numbers: their deviations are not independent.\n"
    )
    print("| target | sampler | calls | quantity | exact | measured | deviation | z |\n|---|---|---|---|---|---|---|---|")
    for part in (gaussian_widths, mixture_weight, rotations, torus, joint):
        part(arguments.samples, arguments.seeds)
    bias_of_reverse_diffusion()
    orders()
    print(f"\n{time.perf_counter() - start:.0f} s on {torch.get_num_threads()} thread(s), torch {torch.__version__}.")


if __name__ == "__main__":
    main()
