"""DW4, LJ13 and LJ55 from the energy alone: trains, then measures; the tables of `docs/results.md`, as markdown on standard output.

    python benchmarks/clusters.py train dw4 -o runs/dw4
    python benchmarks/clusters.py polish dw4 runs/dw4 -o runs/dw4-polished
    python benchmarks/clusters.py measure dw4 runs/dw4-polished --reference reference-dw4.npz

Training stops and goes on. `polish` makes no energy call: it goes on with a trained model and the conformations of its run, at larger noise. References come from `benchmarks/references.py`.
"""

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from equilibra.analysis.particle_evaluation import evaluate_particles, particle_metrics
from equilibra.analysis.symmetry_distance import Method
from equilibra.density.flow import FlowConfig, log_density
from equilibra.density.path_weights import draw_weighted, fit_variances, path_kernels, reverse_weights
from equilibra.diffusion.denoiser import BoundDenoiser, Denoiser, NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean
from equilibra.energies.analytic.particles import LennardJonesCluster, PairCluster, dw4, lj13, lj55
from equilibra.energies.annealing import anneal
from equilibra.energies.annealing_path import GaussianReference, SoftCorePath
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.memory import keep_freed_memory
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork
from equilibra.sampling.dpm_solver import DPMSolver2M
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state.features import Features
from equilibra.state.randomness import generator_for
from equilibra.state.state import State
from equilibra.systems.blocks import BatchedDenoiser
from equilibra.thermo.free_energy import bar, log_z
from equilibra.thermo.weights import diagnose, forward_effective_fraction, normalised
from equilibra.train.checkpoint import read_checkpoint, write_checkpoint
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyProgress, EnergyTraining
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.rounds import kept_conformations
from equilibra.train.run import train_denoiser

FIELD = "pos"
AT_ONCE = 100_000
"""Pairs of particles that the network is given at once when it is measured."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one cluster is trained."""

    make: Callable[[], PairCluster]
    width: float
    sigma_min: float
    energy: EnergyConfig
    train: TrainConfig
    network: dict[str, int]
    dtype: torch.dtype = torch.float64
    """Precision of the walkers: in single precision an energy of LJ55 costs a fifth."""


RECIPES: dict[str, Recipe] = {
    "dw4": Recipe(
        make=dw4,
        width=2.0,
        sigma_min=0.01,
        energy=EnergyConfig(
            rounds=4,
            rungs=4,
            hottest=3.0,
            columns=256,
            leapfrog=3,
            moves=5,
            burn_in=100,
            sweeps=200,
            every=5,
            step=0.1,
            focus=0.7,
        ),
        train=TrainConfig(steps=12_000, batch_size=256, ema=0.9995, noise_median=0.2, noise_width=1.6),
        network={"dim": 64, "pair_dim": 48, "layers": 3},
    ),
    "lj13": Recipe(
        make=lj13,
        width=1.0,
        sigma_min=0.004,
        energy=EnergyConfig(
            rounds=6,
            rungs=3,
            hottest=1.6,
            columns=256,
            leapfrog=5,
            moves=5,
            burn_in=100,
            sweeps=400,
            every=5,
            step=0.03,
            focus=0.85,
        ),
        train=TrainConfig(steps=24_000, batch_size=256, ema=0.9995, noise_median=0.12, noise_width=1.7),
        network={"dim": 128, "pair_dim": 64, "layers": 4, "r_max": 6},
    ),
    "lj55": Recipe(
        make=lj55,
        width=1.0,
        sigma_min=0.004,
        energy=EnergyConfig(
            rounds=4,
            rungs=4,
            hottest=1.6,
            columns=32,
            leapfrog=10,
            moves=5,
            burn_in=200,
            sweeps=200,
            every=5,
            step=0.02,
            focus=0.8,
        ),
        train=TrainConfig(steps=10_000, batch_size=32, ema=0.999, noise_median=0.2, noise_width=1.6),
        network={"dim": 64, "pair_dim": 32, "layers": 4},
        dtype=torch.float32,
    ),
}


def cluster(name: str) -> PairCluster:
    """Makes the energy."""
    return RECIPES[name].make()


def features(items: int) -> Features:
    """Identical particles: one kind of node, one kind of pair."""
    return Features(
        node={"element": torch.zeros(items, dtype=torch.long)}, pair={"kind": torch.zeros(items, items, dtype=torch.long)}
    )


def start(energy: PairCluster, width: float, n: int, seed: int, reduced: ReducedEnergy) -> torch.Tensor:
    """Anneals a Gaussian to the cluster: the conformations to start from, from the energy alone."""
    path = (
        SoftCorePath(energy.items, energy.prefactor, counter=reduced.counter)
        if isinstance(energy, LennardJonesCluster)
        else None
    )
    population = anneal(
        GaussianReference(energy.items, energy.axes, width),
        reduced,
        n,
        moves=HamiltonianMoves(step=0.05, leapfrog=3),
        generator=generator_for(seed, 1),
        path=path,
    )
    print(
        f"annealing: log Z {population.log_z:.3f} ± {population.log_z_error:.3f}, {population.calls:,} calls, ESS {population.ess:.0f} of {n}",
        flush=True,
    )
    chosen = torch.multinomial(torch.softmax(population.log_weights, 0), n, replacement=True, generator=generator_for(seed, 2))
    return population.x[chosen]


def train(name: str, folder: Path, *, steps: int | None, threads: int, seed: int, precision: str | None) -> None:
    """Trains one cluster in a folder."""
    keep_freed_memory()
    recipe = RECIPES[name]
    energy = cluster(name)
    changes = {"threads": threads, "seed": seed, **({"precision": precision} if precision else {})}
    config = dataclasses.replace(recipe.train, **changes, **({"steps": steps} if steps else {}))
    torch.set_num_threads(threads)
    reduced = ReducedEnergy(energy)
    training = EnergyTraining(features(energy.items), reduced, recipe.energy, config, folder, dtype=recipe.dtype)
    begun = (folder / "round-000.safetensors").exists()
    first = torch.zeros(0) if begun else start(energy, recipe.width, recipe.energy.columns * 8, seed, reduced)
    begin = time.perf_counter()
    last = [0.0]

    def report(state: EnergyProgress) -> None:
        if state.doing != "training" or time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            values = {
                k: (round(v, 4) if isinstance(v, float) else v) for k, v in dataclasses.asdict(state).items() if v is not None
            }
            print(f"{time.perf_counter() - begin:7.0f} s  {values}", flush=True)

    training.first_round(first, identity={"kind": "training of a cluster", "name": name}, progress=report)
    scale = round(training.buffer.scale(), 4)
    denoiser = denoiser_of(name, scale, seed)
    run = training.run(denoiser, progress=report)
    for entry in run.rounds:
        print(json.dumps(entry), flush=True)
    weights = run.weights
    write_checkpoint(
        folder / "averaged.safetensors", weights, {"name": name, "scale": scale, "rounds": run.rounds, "calls": run.calls}
    )


def polish(name: str, run: Path, folder: Path, *, steps: int, noise_median: float, rate: float, threads: int) -> None:
    """Goes on with a trained cluster and the conformations that its run has kept."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    recipe = RECIPES[name]
    weights, header = read_checkpoint(run / "averaged.safetensors")
    denoiser = denoiser_of(name, header["scale"])
    denoiser.load_state_dict(weights)
    buffer = kept_conformations(run, features(cluster(name).items), focus=recipe.energy.focus)
    config = dataclasses.replace(recipe.train, steps=steps, learning_rate=rate, noise_median=noise_median, threads=threads)
    last = [time.perf_counter()]

    def report(step: int, values: dict[str, float]) -> None:
        if time.perf_counter() - last[0] > 60:
            last[0] = time.perf_counter()
            print(f"step {step} of {steps}, loss {values['loss']:.4f}", flush=True)

    identity = {"kind": "polish of a cluster", "name": name, "calls": header["calls"], "frames": buffer.frames}
    averaged = train_denoiser(denoiser, buffer, config, folder / "training", identity=identity, progress=report)
    write_checkpoint(folder / "averaged.safetensors", averaged, header)
    for path in run.glob("round-*.safetensors"):
        if not (folder / path.name).exists():
            (folder / path.name).symlink_to(path.resolve())


def denoiser_of(name: str, scale: float, seed: int = 0) -> NetworkDenoiser:
    """Makes the untrained denoiser of a recipe."""
    recipe = RECIPES[name]
    schedule = VarianceExploding(sigma_min=recipe.sigma_min, sigma_max=10.0 * scale)
    process = Process({FIELD: Field(space=CentredEuclidean(), schedule=schedule, data_scale=scale)})
    network = GraphormerConfig(
        node_vocabulary={"element": 1}, pair_vocabulary={"kind": 1}, conditions=int(recipe.energy.rungs > 1), **recipe.network
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return NetworkDenoiser(PositionNetwork(network, FIELD), process)


def trained(name: str, folder: Path) -> tuple[BoundDenoiser, dict]:
    """Reads a trained denoiser at kT = 1, and what is known of its training."""
    weights, header = read_checkpoint(folder / "averaged.safetensors")
    denoiser = denoiser_of(name, header["scale"])
    denoiser.load_state_dict(weights)
    denoiser.requires_grad_(False).eval()
    shared = features(cluster(name).items).shared()
    if RECIPES[name].energy.rungs > 1:
        shared = shared.conditioned([0.0])
    return BoundDenoiser(denoiser.process, denoiser, shared), header


def batched(n: int, size: int) -> list[int]:
    """Cuts n into batches."""
    return [min(size, n - start) for start in range(0, n, size)]


def measure(name: str, folder: Path, *, reference: Path, samples: int, paths: int, nll: int, seeds: int, threads: int) -> None:
    """Prints every figure of a trained cluster beside its floor and baselines."""
    torch.set_num_threads(threads)
    energy = cluster(name)
    alone, header = trained(name, folder)
    # arrays of pairs above 32 MiB would be cleared anew each time
    bound = BatchedDenoiser(alone, max(16, AT_ONCE // energy.items**2))
    loaded = np.load(reference, allow_pickle=False)
    print(f"{name}: training {header['calls']:,} energy calls, last round {json.dumps(header['rounds'][-1])}\n", flush=True)

    def u_of(state: State) -> torch.Tensor:
        return energy.energy(state.fields[FIELD].double())

    def u_array(x: np.ndarray) -> np.ndarray:
        return energy.energy(torch.from_numpy(np.asarray(x, dtype=np.float64))).numpy()

    levels = noise_grid(bound.process, GridConfig(steps=60, spacing="log", end="flow"))
    runs = [np.asarray(loaded["x"][loaded["run"] == number], dtype=np.float64) for number in np.unique(loaded["run"])]
    method: Method = "exact" if name == "dw4" else "hungarian-kabsch"
    metrics = particle_metrics(u_array, method=method, n=samples, geometric_n=samples)
    tempered = np.concatenate(
        [read_checkpoint(path)[0]["frames.x"][0].double().numpy() for path in sorted(folder.glob("round-*.safetensors"))]
    )
    drawn, log_weights = thermodynamics(name, bound, u_of, np.concatenate(runs), paths=paths)
    print(f"\n| samples, N = {samples} | metric | value | floor | baseline |\n|---|---|---|---|---|")
    for seed in range(seeds):
        raw = []
        for number, size in enumerate(batched(samples, 500)):
            shaped = State({FIELD: torch.zeros(size, energy.items, energy.axes)})
            out = draw(DPMSolver2M(), bound, shaped, levels, generator=generator_for(seed, 3, number))
            raw.append(out.fields[FIELD].double().numpy())
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(drawn), samples, p=normalised(log_weights))
        kinds = {
            "probability flow, 61 network calls each": np.concatenate(raw),
            "reverse diffusion of the path weights, 201 network calls each": drawn[
                rng.choice(len(drawn), samples, replace=False)
            ],
            "the same, resampled by their weights": drawn[chosen],
            f"parallel tempering of the training, {header['calls']:,} energy calls": tempered[
                rng.choice(len(tempered), samples)
            ],
        }
        for kind, x in kinds.items():
            table = evaluate_particles(x, runs, u_array, name=name, rng=rng, metrics=metrics)
            for row in table.rows:
                print(
                    f"| {kind}, seed {seed} | {row.metric} | {row.value:.4g} ± {row.error:.2g} | {row.floor:.4g} ± {row.floor_std:.2g} "
                    f"| {row.baseline:.4g} |",
                    flush=True,
                )
    likelihood(bound, u_array, runs, energy, n=nll)


def likelihood(
    bound: Denoiser, u_of: Callable[[np.ndarray], np.ndarray], runs: list[np.ndarray], energy: PairCluster, *, n: int
) -> None:
    r"""Prints the mean NLL of reference samples under the model.

    The energy is a control variate: :math:`-\ln q - u` varies much less than :math:`-\ln q`, and the mean of u is known from all frames.
    """
    everything = np.concatenate(runs)
    x = everything[:: max(1, len(everything) // n)][:n]
    density = log_density(
        bound,
        State({FIELD: torch.from_numpy(x).float()}),
        config=FlowConfig(tolerance=0.03, batch_size=100),
        generator=generator_for(0, 5),
    )
    minus_log_q = -density.log_density.numpy()
    plain = minus_log_q.mean(), minus_log_q.std(ddof=1) / math.sqrt(len(x))
    difference = minus_log_q - u_of(x)
    means = np.array([u_of(run).mean() for run in runs])
    known = u_of(everything).mean()
    # independent runs give the error of the known mean; it is small beside that of the likelihoods
    error = math.hypot(difference.std(ddof=1) / math.sqrt(len(x)), means.std(ddof=1) / math.sqrt(len(means)))
    print(
        f"\nNLL (probability flow, exact trace, N = {len(x)}, energy as control variate): {difference.mean() + known:.3f} ± {error:.3f}; "
        f"without the control variate {plain[0]:.3f} ± {plain[1]:.3f}; integration error {float(density.integration_error.abs().mean()):.4f}; "
        f"floor S/k {energy.reference.entropy if energy.reference else math.nan}"
    )


def thermodynamics(
    name: str, bound: Denoiser, u_of: Callable[[State], torch.Tensor], x: np.ndarray, *, paths: int, steps: int = 200
) -> tuple[np.ndarray, np.ndarray]:
    """Returns weighted samples and their log-weights; prints log Z by path weights, BAR, the bracket, and the diagnostics."""
    energy = cluster(name)
    levels = noise_grid(bound.process, GridConfig(steps=steps, spacing="log", end="noisy"))
    rng = np.random.default_rng(7)
    chosen = torch.from_numpy(x[rng.choice(len(x), paths, replace=len(x) < paths)]).float()
    kernels = fit_variances(
        bound, State({FIELD: chosen[:1000]}), path_kernels(bound.process, levels), generator=generator_for(0, 6)
    )
    forward, backward, drawn = [], [], []
    for number, size in enumerate(batched(paths, 1000)):
        part = State({FIELD: chosen[1000 * number : 1000 * number + size]})
        made = draw_weighted(bound, part, kernels, u_of, generator=generator_for(0, 7, number))
        forward.append(made.log_weights)
        drawn.append(made.state.fields[FIELD].double().numpy())
        backward.append(reverse_weights(bound, part, kernels, u_of, generator=generator_for(0, 8, number)).log_weights)
    model, back = torch.cat(forward).numpy(), torch.cat(backward).numpy()
    bracket = bar(model, back)
    diagnosis = diagnose(model)
    print(f"\nlog Z: path weights {log_z(model, rng)}, BAR {bracket.log_z}, ELBO {bracket.elbo}, EUBO {bracket.eubo}")
    print(f"truth {energy.reference.log_z if energy.reference else math.nan}; {diagnosis.sentence}")
    print(
        f"forward effective share {forward_effective_fraction(back, bracket.log_z.value):.3f}, {paths} paths of {steps} steps",
        flush=True,
    )
    return np.concatenate(drawn), model


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    trainer = commands.add_parser("train")
    trainer.add_argument("name", choices=RECIPES)
    trainer.add_argument("-o", "--out", type=Path, required=True)
    trainer.add_argument("--steps", type=int)
    trainer.add_argument("--threads", type=int, default=1)
    trainer.add_argument("--seed", type=int, default=0)
    trainer.add_argument("--precision", choices=("fp32", "bf16"))
    polisher = commands.add_parser("polish")
    polisher.add_argument("name", choices=RECIPES)
    polisher.add_argument("run", type=Path)
    polisher.add_argument("-o", "--out", type=Path, required=True)
    polisher.add_argument("--steps", type=int, default=9000)
    polisher.add_argument("--noise-median", type=float, default=0.3)
    polisher.add_argument("--rate", type=float, default=4e-4)
    polisher.add_argument("--threads", type=int, default=1)
    measurer = commands.add_parser("measure")
    measurer.add_argument("name", choices=RECIPES)
    measurer.add_argument("folder", type=Path)
    measurer.add_argument("--reference", type=Path, required=True)
    measurer.add_argument("--samples", type=int, default=2000)
    measurer.add_argument("--paths", type=int, default=10_000)
    measurer.add_argument("--nll", type=int, default=500)
    measurer.add_argument("--seeds", type=int, default=3)
    measurer.add_argument("--threads", type=int, default=1)
    options = vars(parser.parse_args())
    command = options.pop("command")
    if command == "train":
        train(options.pop("name"), options.pop("out"), **options)
    elif command == "polish":
        polish(options.pop("name"), options.pop("run"), options.pop("out"), **options)
    else:
        measure(options.pop("name"), options.pop("folder"), **options)


if __name__ == "__main__":
    main()
