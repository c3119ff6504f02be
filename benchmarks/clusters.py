"""DW4, LJ13 and LJ55 from the energy alone: trains, then measures; the tables of `docs/results.md`, as markdown on standard output.

    python benchmarks/clusters.py train dw4 -o runs/dw4
    python benchmarks/clusters.py measure dw4 runs/dw4 --reference reference-dw4.npz

Training stops and goes on. References come from `benchmarks/references.py`.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import torch

from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean
from equilibra.energies.analytic.particles import LennardJonesCluster, PairCluster, dw4, lj13, lj55
from equilibra.energies.annealing import anneal
from equilibra.energies.annealing_path import GaussianReference, SoftCorePath
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork
from equilibra.state.features import Features
from equilibra.state.randomness import generator_for
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyProgress, EnergyTraining
from equilibra.train.energy_config import EnergyConfig

FIELD = "pos"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Recipe:
    """How one cluster is trained."""

    make: type | object
    width: float
    sigma_min: float
    energy: EnergyConfig
    train: TrainConfig
    network: dict[str, int]


RECIPES: dict[str, Recipe] = {
    "dw4": Recipe(
        make=dw4,
        width=2.0,
        sigma_min=0.01,
        energy=EnergyConfig(rounds=4, rungs=4, hottest=3.0, columns=256, leapfrog=3, moves=5, burn_in=100, sweeps=200, every=5, step=0.1, focus=0.7),
        train=TrainConfig(steps=6000, batch_size=256, ema=0.999, noise_median=0.2, noise_width=1.6),
        network={"dim": 64, "pair_dim": 48, "layers": 3},
    ),
    "lj13": Recipe(
        make=lj13,
        width=1.0,
        sigma_min=0.004,
        energy=EnergyConfig(rounds=5, rungs=3, hottest=1.6, columns=256, leapfrog=5, moves=5, burn_in=100, sweeps=200, every=5, step=0.03, focus=0.8),
        train=TrainConfig(steps=20_000, batch_size=256, ema=0.9995, noise_median=0.2, noise_width=1.6),
        network={"dim": 96, "pair_dim": 48, "layers": 4},
    ),
    "lj55": Recipe(
        make=lj55,
        width=1.0,
        sigma_min=0.004,
        energy=EnergyConfig(rounds=4, rungs=4, hottest=1.6, columns=32, leapfrog=10, moves=5, burn_in=200, sweeps=200, every=5, step=0.02, focus=0.8),
        train=TrainConfig(steps=10_000, batch_size=32, ema=0.999, noise_median=0.2, noise_width=1.6),
        network={"dim": 64, "pair_dim": 32, "layers": 4},
    ),
}


def cluster(name: str) -> PairCluster:
    """Makes the energy."""
    return RECIPES[name].make()  # type: ignore[operator]


def features(items: int) -> Features:
    """Identical particles: one kind of node, one kind of pair."""
    return Features(node={"element": torch.zeros(items, dtype=torch.long)}, pair={"kind": torch.zeros(items, items, dtype=torch.long)})


def start(energy: PairCluster, width: float, n: int, seed: int, reduced: ReducedEnergy) -> torch.Tensor:
    """Anneals a Gaussian to the cluster: the conformations to start from, from the energy alone."""
    path = SoftCorePath(energy.items, energy.prefactor, counter=reduced.counter) if isinstance(energy, LennardJonesCluster) else None
    population = anneal(
        GaussianReference(energy.items, energy.axes, width),
        reduced,
        n,
        moves=HamiltonianMoves(step=0.05, leapfrog=3),
        generator=generator_for(seed, 1),
        path=path,
    )
    print(f"annealing: log Z {population.log_z:.3f} ± {population.log_z_error:.3f}, {population.calls:,} calls, ESS {population.ess:.0f} of {n}", flush=True)
    chosen = torch.multinomial(torch.softmax(population.log_weights, 0), n, replacement=True, generator=generator_for(seed, 2))
    return population.x[chosen]


def train(name: str, folder: Path, *, steps: int | None, threads: int, seed: int, precision: str | None) -> None:
    """Trains one cluster in a folder."""
    recipe = RECIPES[name]
    energy = cluster(name)
    changes = {"threads": threads, "seed": seed, **({"steps": steps} if steps else {}), **({"precision": precision} if precision else {})}
    config = dataclasses.replace(recipe.train, **changes)
    torch.set_num_threads(threads)
    reduced = ReducedEnergy(energy)
    training = EnergyTraining(features(energy.items), reduced, recipe.energy, config, folder)
    begun = (folder / "round-000.safetensors").exists()
    first = torch.zeros(0) if begun else start(energy, recipe.width, recipe.energy.columns * 8, seed, reduced)
    begin = time.perf_counter()
    last = [0.0]

    def report(state: EnergyProgress) -> None:
        if state.doing != "training" or time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            values = {k: (round(v, 4) if isinstance(v, float) else v) for k, v in dataclasses.asdict(state).items() if v is not None}
            print(f"{time.perf_counter() - begin:7.0f} s  {values}", flush=True)

    training.first_round(first, identity={"kind": "training of a cluster", "name": name}, progress=report)
    scale = round(training.buffer.scale(), 4)
    schedule = VarianceExploding(sigma_min=recipe.sigma_min, sigma_max=10.0 * scale)
    process = Process({FIELD: Field(space=CentredEuclidean(), schedule=schedule, data_scale=scale)})
    network = GraphormerConfig(
        node_vocabulary={"element": 1}, pair_vocabulary={"kind": 1}, conditions=int(recipe.energy.rungs > 1), **recipe.network
    )
    torch.manual_seed(seed)
    denoiser = NetworkDenoiser(PositionNetwork(network, FIELD), process)
    run = training.run(denoiser, progress=report)
    for entry in run.rounds:
        print(json.dumps(entry), flush=True)
    torch.save({"weights": run.weights, "scale": scale}, folder / "final.pt")


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
    options = vars(parser.parse_args())
    if options.pop("command") == "train":
        train(options.pop("name"), options.pop("out"), **options)
    math.nan  # noqa: B018


if __name__ == "__main__":
    main()
