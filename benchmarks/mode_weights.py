"""Which objectives learn the weights of two wells from an energy, and the temperature: the tables of `docs/results.md`, as markdown on standard output.

    python benchmarks/mode_weights.py
    python benchmarks/mode_weights.py --quick

Two wells of unit width, `2 m` apart, with the weights 0.7 and 0.3. The training data are wrong: half of them in each well, right within a well, with the
right energies and forces. A small network learns from them by

* `dsm`: denoising, which knows the data only;
* `pidp`: the score's Fokker-Planck equation with the forces as its initial condition, mixed with denoising, as published but with whole forces;
* `scalar-fp`: a log-density that obeys the Fokker-Planck equation, pinned to the energies, mixed with denoising;
* `scalar-fp, no data`: the same without denoising: the equation and the pins alone, at all noises;
* `anneal`: the default, from the same wrong data as starting points. At one temperature moves cannot leave a well (far wells), and only the model's own
  proposals can mend the populations; a ladder of temperatures that is hot enough crosses the barrier as well. Batches are drawn from all frames, or from
  the newest half of them, without those of the rounds before the populations were right.

Populations are of samples of the model without weights, of the same samples with path weights, and for `scalar-fp` of its log-density by quadrature.
"""

import argparse
import dataclasses
import math
import tempfile
import time
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from equilibra.data.replay import ReplayBuffer
from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels
from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import BoundDenoiser, NetworkDenoiser
from equilibra.diffusion.objectives.choose import choose_objective
from equilibra.diffusion.objectives.fokker_planck import FokkerPlanckConfig
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.pidp import PIDP, PIDPConfig
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import Euclidean
from equilibra.energies.analytic.gaussian_mixture import GaussianMixtureEnergy
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.memory import keep_freed_memory
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.state.features import Features
from equilibra.state.randomness import generator_for
from equilibra.state.state import State
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import populations
from equilibra.thermo.weights import effective_sample_size
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyTraining
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.run import train_denoiser

FIELD, WEIGHT = "pos", 0.7
FEATURES = Features(node={"element": torch.zeros(1, dtype=torch.long)})


def tensor(values: object) -> Tensor:
    """Returns a float64 tensor."""
    return torch.tensor(values, dtype=torch.float64)


class Perceptron(nn.Module):
    """A plain network of one particle on a line: its position, the noise, and a condition where there is one.

    Arguments:
        width: Width of its three hidden layers.
        conditions: Number of conditions of the system.
        scalar: Whether it gives a potential and an offset, for a conservative denoiser, and not a displacement.
    """

    def __init__(self, width: int, conditions: int, *, scalar: bool) -> None:
        super().__init__()
        self.scalar = scalar
        inputs = 2 + conditions
        layers = [nn.Linear(inputs, width), nn.SiLU()]
        for _ in range(2):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Linear(width, 1))
        self.offset = nn.Sequential(nn.Linear(inputs - 1, width), nn.SiLU(), nn.Linear(width, 1)) if scalar else None

    def forward(self, inputs: Mapping[str, Tensor], levels: Tensor, features: Features):
        """Returns the raw output of the field, or its potential and an offset."""
        x = inputs[FIELD]
        known = [levels]
        if "conditions" in features.graph:
            known.append(features.graph["conditions"].to(levels.dtype).expand(len(levels), -1))
        rest = torch.cat(known, 1)
        out = self.body(torch.cat([2.0 * x[:, 0], rest], 1))
        if self.offset is None:
            return {FIELD: out[:, :, None]}
        return {FIELD: out[:, 0]}, self.offset(rest)[:, 0]


def process_of(scale: float) -> Process:
    """Returns the process of data of unit structure: noise from 0.05 up to ten times their extent."""
    schedule = VarianceExploding(sigma_min=0.05, sigma_max=10.0 * scale)
    return Process({FIELD: Field(space=Euclidean(), schedule=schedule, data_scale=scale)})


def denoiser_of(scale: float, seed: int, *, conditions: int = 0, scalar: bool = False, width: int = 64):
    """Makes an untrained denoiser."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Perceptron(width, conditions, scalar=scalar)
        return ConservativeDenoiser(network, process_of(scale)) if scalar else NetworkDenoiser(network, process_of(scale))


def wells(m: float, weight: float = WEIGHT) -> GaussianMixtureEnergy:
    """Wells 2 m apart, of unit width; placed so that the right distribution has the mean zero, which the prior has."""
    centre = (2.0 * WEIGHT - 1.0) * m
    return GaussianMixtureEnergy(tensor([weight, 1.0 - weight]), tensor([[m - centre], [-m - centre]]), tensor([1.0, 1.0]))


def border(m: float) -> float:
    """The point half-way between the wells."""
    return -(2.0 * WEIGHT - 1.0) * m


def exact_population(m: float) -> float:
    """Probability of the upper side."""
    inside = 0.5 * (1.0 + math.erf(m / math.sqrt(2.0)))
    return WEIGHT * inside + (1.0 - WEIGHT) * (1.0 - inside)


def wrong_data(m: float, n: int, seed: int) -> Tensor:
    """Samples (n, 1, 1) of the wells with equal weights."""
    return wells(m, 0.5).sample(n, generator=generator_for(seed, 1))


def scale_of(x: Tensor) -> float:
    """Standard deviation of data."""
    return float(x.std())


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one training gave.

    Attributes:
        raw: Population of the upper well in samples without weights.
        weighted: The same with path weights.
        ess: Effective share of the samples.
        head: Population by quadrature of the log-density, where there is one.
        walkers: Population of the walkers of the last round, where there are any.
        calls: Energy calls of training.
        seconds: Wall time of training.
        variance: Variance of the samples without weights.
    """

    raw: Estimate
    weighted: Estimate
    ess: float
    head: float | None = None
    walkers: float | None = None
    calls: int
    seconds: float
    variance: float = math.nan


def measure(
    bound: BoundDenoiser, reduced: ReducedEnergy, like: Tensor, m: float, n: int, seed: int, name: str, **known
) -> Outcome:
    """Draws n weighted samples of a model and measures them; the calls of this are not those of training. Each name has noise of its own."""
    stream = zlib.crc32(f"{name} {m}".encode())
    levels = noise_grid(bound.process, GridConfig(steps=100, spacing="log", end="noisy"))
    kernels = path_kernels(bound.process, levels)
    start = State({FIELD: like[torch.arange(n) % len(like)].float()})
    kernels = fit_variances(bound, start, kernels, generator=generator_for(seed, 21, stream))
    drawn = draw_weighted(
        bound, start, kernels, lambda state: reduced(state.fields[FIELD].double()), generator=generator_for(seed, 22, stream)
    )
    x, w = drawn.state.fields[FIELD][:, 0, 0].double().numpy(), drawn.log_weights.numpy()
    rng = np.random.default_rng([seed, 23, stream])
    upper = {"upper": x > border(m)}
    return Outcome(
        raw=populations(None, upper, rng)["upper"],
        weighted=populations(w, upper, rng)["upper"],
        ess=effective_sample_size(w).fraction,
        variance=float(x.var()),
        **known,
    )


def head_population(denoiser: ConservativeDenoiser, m: float) -> float:
    """Population of the upper well by quadrature of the log-density at the smallest noise."""
    x = torch.linspace(-3.0 * m - 8.0, 3.0 * m + 8.0, 8001)
    t = torch.full_like(x, denoiser.process.t_min)
    with torch.no_grad():
        p = torch.softmax(denoiser.log_density(State({FIELD: x[:, None, None]}), t, FEATURES.shared()).double(), 0)
    return float(p[x > border(m)].sum())


def buffer_of(x: Tensor, reduced: ReducedEnergy) -> ReplayBuffer:
    """Returns a buffer of one temperature with energies and forces of the given conformations."""
    u, force = reduced.with_force(x)
    buffer = ReplayBuffer(FEATURES, (1.0,))
    buffer.add(x[None], u[None], force[None])
    return buffer


def recipe(steps: int, batch: int, seed: int) -> TrainConfig:
    """How all networks are trained."""
    return TrainConfig(
        steps=steps,
        batch_size=batch,
        learning_rate=3e-3,
        warmup=min(100, steps // 10),
        ema=0.995,
        noise_median=0.5,
        noise_width=1.6,
        precision="fp32",
        compile=False,
        threads=torch.get_num_threads(),
        seed=seed,
        checkpoint_every=steps,
        log_every=max(1, steps // 4),
        accelerator="cpu",
    )


PURE = FokkerPlanckConfig(score=0.0, residual_sigma=100.0, fraction=1.0, clean_pin=10.0, prior_pin=10.0)


def fixed_data(method: str, m: float, options: argparse.Namespace, seed: int) -> Outcome:
    """Trains on the wrong data alone."""
    reduced = ReducedEnergy(wells(m))
    x = wrong_data(m, options.data, seed)
    buffer, scalar = buffer_of(x, reduced), method.startswith("scalar-fp")
    denoiser = denoiser_of(scale_of(x), seed, scalar=scalar)
    train = recipe(options.steps, options.batch, seed)
    name = method.partition(",")[0]
    settings = {} if name == "dsm" else {"forces": method != "scalar-fp, no data"}
    objective = choose_objective(
        name,
        denoiser,
        NoiseLevels(median=train.noise_median, width=train.noise_width),
        config=PURE if method == "scalar-fp, no data" else None,
        **settings,
    )
    calls, begin = reduced.calls, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        weights = train_denoiser(denoiser, buffer, train, Path(folder) / "run", identity={"kind": method}, objective=objective)
    seconds = time.perf_counter() - begin
    denoiser.load_state_dict(weights)
    denoiser.requires_grad_(False).eval()
    bound = BoundDenoiser(denoiser.process, denoiser, FEATURES.shared())
    head = head_population(denoiser, m) if scalar else None
    return measure(bound, reduced, x, m, options.samples, seed, method, calls=calls, seconds=seconds, head=head)


def ladder(options: argparse.Namespace, rungs: int, hottest: float) -> EnergyConfig:
    """The default objective for this toy: short moves, many walkers, one leapfrog step each."""
    return EnergyConfig(
        rounds=options.rounds,
        rungs=rungs,
        hottest=hottest,
        columns=options.columns,
        leapfrog=1,
        moves=2,
        burn_in=20,
        sweeps=options.sweeps,
        every=max(1, options.sweeps // 4),
        step=0.5,
        focus=0.7,
        path_levels=100,
        path_samples=options.columns,
    )


def annealed(rungs: int, hottest: float, newest: float, m: float, options: argparse.Namespace, seed: int) -> Outcome:
    """Trains by the default, from the wrong data."""
    reduced = ReducedEnergy(wells(m))
    x = wrong_data(m, rungs * options.columns, seed)
    config, begin = ladder(options, rungs, hottest), time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        training = EnergyTraining(FEATURES, reduced, config, recipe(options.steps, options.batch, seed), Path(folder) / "run")
        training.buffer.newest = newest
        training.first_round(x, identity={"kind": "mode weights"}, progress=lambda state: None)
        denoiser = denoiser_of(scale_of(x), seed, conditions=int(rungs > 1))
        run = training.run(denoiser)
        _, state, _ = training.files.read(config.rounds - 1)
    seconds = time.perf_counter() - begin
    if options.verbose:
        for entry in run.rounds:
            print(f"  round {entry}", flush=True)
    denoiser.load_state_dict(run.weights)
    denoiser.requires_grad_(False).eval()
    walkers = float((state.x[0] > border(m)).double().mean())
    name = f"anneal {rungs} {newest}"
    known = {"calls": run.calls, "seconds": seconds, "walkers": walkers}
    return measure(training.bind(denoiser), reduced, x, m, options.samples, seed, name, **known)


CHAINS = 64
"""Columns of the ladder of the baseline."""


def tempering(m: float, hottest: float, calls: int, seed: int) -> tuple[float, float, int]:
    """Parallel tempering from the same wrong data: population of the lowest rung after half of the calls, its error over columns, and calls."""
    reduced = ReducedEnergy(wells(m))
    rungs, columns, moves = 6, CHAINS, 2
    engine = ParallelTempering(
        reduced, geometric_betas(hottest, rungs), columns, HamiltonianMoves(step=0.5), moves_per_sweep=moves
    )
    generator = generator_for(seed, 31)
    state = engine.start(wrong_data(m, rungs * columns, seed), generator=generator)
    sweeps = max(4, (calls - reduced.calls) // (rungs * columns * moves))
    state = engine.burn_in(state, sweeps=sweeps // 2, generator=generator)
    shares = torch.stack(
        [
            (frame.x[0, :, 0, 0] > border(m)).double()
            for frame in engine.run(state, sweeps=sweeps - sweeps // 2, generator=generator)
        ]
    ).mean(0)
    return float(shares.mean()), float(shares.std()) / math.sqrt(columns), reduced.calls


def row(name: str, m: float, found: list[Outcome], samples: int) -> str:
    """Returns a row of the table: means over seeds, with the larger of the spread over seeds and the mean error of one seed over √seeds."""
    truth = exact_population(m)

    def show(values: list[float], own: float) -> str:
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        error = max(spread, own) / math.sqrt(len(values))
        return (
            f"{np.mean(values):.4f} ± {error:.4f} | {np.mean(values) - truth:+.4f} | {(np.mean(values) - truth) / error:+.1f}"
        )

    raw = show([o.raw.value for o in found], found[0].raw.error)
    weighted = show([o.weighted.value for o in found], found[0].weighted.error)
    heads = [o.head for o in found if o.head is not None]
    walkers = [o.walkers for o in found if o.walkers is not None]
    return (
        f"| {name} | {m:g} | {truth:.4f} | {raw} | {weighted} | {100 * np.mean([o.ess for o in found]):.1f} % | "
        f"{f'{np.mean(heads):.4f}' if heads else '–'} | {f'{np.mean(walkers):.4f}' if walkers else '–'} | {len(found)} x {samples} | "
        f"{found[0].calls:,} | {np.mean([o.seconds for o in found]):.0f} |"
    )


HEADER = (
    "| method | m | exact | without weights ± error | deviation | z | with path weights ± error | deviation | z | ESS | density by quadrature | walkers | "
    "seeds x N | energy calls | s |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"
)


def mode_weights(options: argparse.Namespace) -> None:
    """Prints the populations: all methods at the largest separation, some of them at the others."""
    print(
        f"\nPopulation of the upper well, 0.7; data and starting points have 0.5. {options.steps} steps of {options.batch}.\n\n{HEADER}"
    )
    far = max(options.separations)
    for m in options.separations:
        seeds = range(options.seeds if m == far else 1)
        for method in ("dsm", "pidp", "scalar-fp", "scalar-fp, no data"):
            if not options.only or method in options.only:
                print(row(method, m, [fixed_data(method, m, options, seed) for seed in seeds], options.samples), flush=True)
        hottest, calls = max(2.0, 0.5 * m * m), 0
        ways = [
            ("anneal, one temperature, all frames", 1, 2.0, 1.0),
            ("anneal, one temperature, newest half", 1, 2.0, 0.5),
            (f"anneal, 4 temperatures up to {hottest:g} T, newest half", 4, hottest, 0.5),
        ]
        for name, *how in ways if m == far else ways[1:2]:
            if not options.only or "anneal" in options.only:
                found = [annealed(*how, m, options, seed) for seed in seeds]
                calls = found[0].calls
                print(row(name, m, found, options.samples), flush=True)
                baseline(m, hottest, calls, options, seeds)
        truth = exact_population(m)
        floor = math.sqrt(truth * (1.0 - truth) / options.samples)
        blank = "– | " * 9
        print(
            f"| floor √(p(1-p)/N) of N exact samples | {m:g} | {truth:.4f} | ± {floor:.4f} | {blank}1 x {options.samples} | – | – |"
        )


def baseline(m: float, hottest: float, calls: int, options: argparse.Namespace, seeds: range) -> None:
    """Prints parallel tempering with as many energy calls as the row above."""
    runs = [tempering(m, hottest, calls, seed) for seed in seeds]
    truth, blank = exact_population(m), "– | " * 6
    value, error = float(np.mean([r[0] for r in runs])), float(np.mean([r[1] for r in runs])) / math.sqrt(len(runs))
    print(
        f"| parallel tempering, 6 temperatures up to {hottest:g} T, as many calls | {m:g} | {truth:.4f} | {value:.4f} ± {error:.4f} | {value - truth:+.4f} | "
        f"{(value - truth) / max(error, 1e-12):+.1f} | {blank}{len(runs)} x {CHAINS} chains | {runs[0][2]:,} | – |",
        flush=True,
    )


def direction_only(
    x: Tensor, reduced: ReducedEnergy, options: argparse.Namespace, seed: int
) -> tuple[BoundDenoiser, dict[str, Tensor], list[float]]:
    """Trains by PIDP with the directions of forces on given structures; returns the model, its weights and the logged losses."""
    denoiser, train, losses = denoiser_of(scale_of(x), seed), recipe(options.steps, options.batch, seed), []
    levels = NoiseLevels(median=train.noise_median, width=train.noise_width)
    objective = PIDP(denoiser.process, levels, PIDPConfig(direction_only=True))
    with tempfile.TemporaryDirectory() as folder:
        weights = train_denoiser(
            denoiser,
            buffer_of(x, reduced),
            train,
            Path(folder) / "run",
            identity={"kind": "direction"},
            objective=objective,
            progress=lambda step, values: losses.append(values["loss"]),
        )
    denoiser.load_state_dict(weights)
    denoiser.requires_grad_(False).eval()
    return BoundDenoiser(denoiser.process, denoiser, FEATURES.shared()), weights, losses


def temperature(options: argparse.Namespace) -> None:
    """Prints what is learned from E and from 2 E, of a harmonic energy."""
    print(
        "\nHarmonic E = x²/2 and 2 E at the same temperature, kT = 1, one dimension, samples without weights. The default collects from the energy; "
        "direction-only PIDP gets the same structures, samples of E, for both.\n\n"
        "| method | energy | variance ± error | exact | z | ⟨E⟩ ± error | exact | z | N | energy calls |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    seed, n = 0, options.samples
    structures = torch.randn(options.data, 1, 1, generator=generator_for(seed, 41), dtype=torch.float64)
    learned = []
    for strength in (1.0, 2.0):
        reduced = ReducedEnergy(GaussianMixtureEnergy(torch.ones(1), torch.zeros(1, 1), tensor([strength**-0.5])))
        config = dataclasses.replace(ladder(options, 1, 2.0), rounds=2)
        with tempfile.TemporaryDirectory() as folder:
            training = EnergyTraining(
                FEATURES, reduced, config, recipe(options.steps, options.batch, seed), Path(folder) / "run"
            )
            training.first_round(structures, identity={"kind": "temperature"}, progress=lambda state: None)
            denoiser = denoiser_of(scale_of(training.buffer.rung(0)[0]), seed)
            run = training.run(denoiser)
        denoiser.load_state_dict(run.weights)
        denoiser.requires_grad_(False).eval()
        known = {"calls": run.calls, "seconds": 0.0}
        found = measure(training.bind(denoiser), reduced, structures, 0.0, n, seed, f"E2 {strength}", **known)
        print(temperature_row("anneal (default)", strength, found.variance, n, found.calls), flush=True)
        learned.append((strength, reduced, *direction_only(structures, reduced, options, seed)))
    for strength, reduced, bound, _, _ in learned:
        known = {"calls": len(structures), "seconds": 0.0}
        found = measure(bound, reduced, structures, 0.0, n, seed, "direction only", **known)
        print(temperature_row("direction-only pidp", strength, found.variance, n, found.calls))
    (*_, one, losses), (*_, two, others) = learned
    gap = max(abs(a - b) for a, b in zip(losses, others, strict=True))
    same = all(torch.equal(one[name], two[name]) for name in one)
    print(
        f"\nDirection-only PIDP: the losses logged for E and for 2 E differ by at most {gap:.1e}; the two networks are "
        f"{'identical, bit for bit' if same else 'different'}."
    )


def temperature_row(name: str, strength: float, variance: float, n: int, calls: int) -> str:
    """Returns a row; the mean of x²/2 is half the variance, as E has the mean zero."""
    error = variance * math.sqrt(2.0 / n)
    z = (variance - 1.0 / strength) / error
    return (
        f"| {name} | {'E' if strength == 1.0 else '2 E'} | {variance:.4f} ± {error:.4f} | {1.0 / strength:g} | {z:+.1f} | {variance / 2:.4f} ± {error / 2:.4f} | "
        f"{0.5 / strength:g} | {z:+.1f} | {n} | {calls:,} |"
    )


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--separations", type=float, nargs="+", default=[2.0, 3.0, 4.0, 5.0], help="half distances m")
    parser.add_argument("--seeds", type=int, default=3, help="seeds for the largest separation; the others have one")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--data", type=int, default=4000, help="wrong data")
    parser.add_argument("--samples", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--columns", type=int, default=4000, help="walkers at each temperature")
    parser.add_argument("--sweeps", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="+", help="some of dsm, pidp, scalar-fp, 'scalar-fp, no data', anneal, temperature")
    parser.add_argument("--verbose", action="store_true", help="print every round of the default")
    parser.add_argument("--quick", action="store_true", help="much smaller numbers, to see that it runs")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    if options.quick:
        options.separations, options.seeds, options.steps, options.data, options.samples = [5.0], 1, 160, 500, 500
        options.columns, options.rounds, options.batch = 100, 2, 64
    start = time.perf_counter()
    mode_weights(options)
    if not options.only or "temperature" in options.only:
        temperature(options)
    print(f"\n{time.perf_counter() - start:.0f} s on {torch.get_num_threads()} thread(s), torch {torch.__version__}.")


if __name__ == "__main__":
    main()
