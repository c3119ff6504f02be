r"""Figure 5 of docs/results.md: alanine dipeptide from its energy, starting from frames of one basin only.

    python benchmarks/ala2_from_energy.py start md/ -o start/
    python benchmarks/ala2_from_energy.py train start/ -o run/
    python benchmarks/ala2_from_energy.py refine run/ -o refined/
    python benchmarks/ala2_from_energy.py polish refined/ -o polished/
    python benchmarks/ala2_from_energy.py measure polished/model --reference reference/ -o measured/

`start` takes 400 frames with phi < 0 of a simulation; `train` knows nothing else but the energy; `refine` goes on from its model and the last frames of its walkers,
with four times as many walkers; `polish` makes no energy call: it goes on with the conformations of `refine`, at the noise where populations are decided; `measure`
compares with a simulation of at least two independent runs
(`equilibra simulate ACE-ALA-NME --runs 2 --replica-exchange 5 --top-temperature 650`), whose frames were not used. Training stops and goes on.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import equilibra
from equilibra.analysis.floor import draw_pair
from equilibra.analysis.histogram import histogram_1d, kl_divergence
from equilibra.analysis.ramachandran import ramachandran_jsd
from equilibra.analysis.torus_w2 import torus_w2
from equilibra.data.trajectory import TrajectoryFiles
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.memory import keep_freed_memory
from equilibra.systems.model import Model
from equilibra.systems.molecule.files import write_frames
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import load_runs
from equilibra.systems.molecule.system import molecule_system
from equilibra.systems.molecule.torsions import torsion_quadruples
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyProgress
from equilibra.train.energy_config import EnergyConfig
from equilibra.train.fit import network_weights
from equilibra.train.molecule_energy import MOLECULE, train_molecule_on_energy
from equilibra.train.rounds import kept_conformations
from equilibra.train.run import train_denoiser

ENERGY = "amber99sbildn-obc"
STATES = ("phi<0", "0<phi<2")
FRAMES = 400
CONFIG = dataclasses.replace(MOLECULE, rounds=6, burn_in=300, sweeps=1500, path_levels=100, path_samples=200)
TRAIN = TrainConfig(
    steps=22_000,
    batch_size=256,
    learning_rate=1e-3,
    ema=0.9995,
    noise_median=0.08,
    noise_width=1.7,
    warmup=500,
    checkpoint_every=250,
)

REFINE = dataclasses.replace(CONFIG, rounds=3, columns=128, sweeps=3000, every=6)
REFINE_TRAIN = dataclasses.replace(TRAIN, steps=12_000, learning_rate=5e-4)

# a median of 0.08 Å spends a fifteenth of the training above 1 Å, where a model learns how often each basin is visited
POLISH_TRAIN = dataclasses.replace(TRAIN, steps=9_000, learning_rate=4e-4, noise_median=0.3)
POLISH_FOCUS = 0.8


def start(simulation: Path, out: Path) -> None:
    """Writes frames of the basin phi < 0, evenly over the first run."""
    out.mkdir(parents=True, exist_ok=True)
    run = load_runs(simulation)[0]
    phi = next(values for name, values in run.torsions().items() if name.startswith("phi"))
    low = np.flatnonzero(phi < 0)
    chosen = low[np.linspace(0, len(low) - 1, FRAMES).astype(int)]
    write_frames(out / "start.pdb", run.positions[chosen[:1]], run.system)
    write_frames(out / "start.dcd", run.positions[chosen], run.system)
    print(f"{len(chosen)} frames, phi from {phi[chosen].min():.2f} to {phi[chosen].max():.2f} rad")


def train(folder: Path, out: Path, threads: int) -> None:
    """Trains from the energy; the same call goes on."""
    _train(out, threads, CONFIG, TRAIN, TrajectoryFiles(topology=folder / "start.pdb", trajectories=(folder / "start.dcd",)))


def refine(run: Path, out: Path, threads: int) -> None:
    """Goes on from a trained model and the last frames of its walkers, with more walkers; the same call goes on."""
    walkers = load_runs(run / "walkers")
    last = np.concatenate([part.positions[-REFINE.columns * REFINE.rungs // len(walkers) :] for part in walkers])
    # a walker's frames lie one after another; each rung shall start from all of them
    last = np.random.default_rng(0).permutation(last)
    begin = out.with_name(f"{out.name}-start")
    if not begin.exists():
        begin.mkdir(parents=True)
        write_frames(begin / "start.pdb", last[:1], walkers[0].system)
        write_frames(begin / "start.dcd", last, walkers[0].system)
    files = TrajectoryFiles(topology=begin / "start.pdb", trajectories=(begin / "start.dcd",))
    _train(out, threads, REFINE, REFINE_TRAIN, files, equilibra.load(run / "model"))


def polish(run: Path, out: Path, threads: int) -> None:
    """Goes on with the model and the kept conformations of a run; the same call goes on."""
    keep_freed_memory()
    model = equilibra.load(run / "model")
    buffer = kept_conformations(run, molecule_system("ACE-ALA-NME").features, focus=POLISH_FOCUS, field=FIELD)
    last = [time.perf_counter()]

    def report(step: int, values: dict[str, float]) -> None:
        if time.perf_counter() - last[0] > 60:
            last[0] = time.perf_counter()
            print(f"step {step} of {POLISH_TRAIN.steps}, loss {values['loss']:.4f}", flush=True)

    weights = train_denoiser(
        model.denoiser.requires_grad_(True).train(),
        buffer,
        dataclasses.replace(POLISH_TRAIN, threads=threads),
        out / "training",
        identity={"kind": "polish", "weights": model.sha256, "frames": buffer.frames},
        progress=report,
    )
    model.with_weights(network_weights(weights)).save(out / "model")
    print(f"{out / 'model'} is written")


def _train(
    out: Path, threads: int, config: EnergyConfig, train: TrainConfig, files: TrajectoryFiles, weights: Model | None = None
) -> None:
    keep_freed_memory()
    torch.set_num_threads(threads)
    begin, last = time.perf_counter(), [0.0]

    def report(state: EnergyProgress) -> None:
        if state.doing != "training" or time.perf_counter() - last[0] > 60:
            last[0] = time.perf_counter()
            print(f"{last[0] - begin:7.0f} s  {dataclasses.asdict(state)}", flush=True)

    model = train_molecule_on_energy(
        "ACE-ALA-NME",
        out,
        ENERGY,
        config,
        dataclasses.replace(train, threads=threads),
        name="molecule-ala2",
        temperature=300.0,
        start=[files],
        weights=weights,
        progress=report,
    )
    print(model.card.to_text())


def measure(
    name: str, reference: Path, out: Path, *, n: int, weighted: int, levels: list[int], seeds: int, threads: int
) -> None:
    """Prints the figures."""
    keep_freed_memory()
    torch.set_num_threads(threads)
    model = equilibra.load(name)
    runs = load_runs(reference)
    system = molecule_system("ACE-ALA-NME")
    print(f"model {model.name} ({model.sha256[:12]}), reference runs of {[len(run) for run in runs]} frames\n")
    known = equilibra.free_energy(runs, cv="phi", states=STATES)
    print(
        f"reference: population of {STATES[1]} {known.states[1].population}, ΔF {known.differences[0].kt} kT; {known.samples.sentence}\n"
    )
    print(
        "| samples | levels | n | population 0<phi<2 | ΔF (kT) | error against the reference (kT) | ESS | Pareto k | log Z | ELBO | energy calls | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)

    def row(kind: str, ensemble: Any, level: int, seconds: float) -> None:
        found = equilibra.free_energy(ensemble, cv="phi", states=STATES, allow_untrusted=True)
        record = ensemble.provenance.get("path_weights", {})
        away = found.differences[0].kt.value - known.differences[0].kt.value
        values = [
            f"{record[key]:.2f}" if key in record and record[key] is not None else "–" for key in ("pareto_k", "log_z", "elbo")
        ]
        ess = f"{record['ess']:.0f} ({100 * record['ess_fraction']:.1f} %)" if record else "–"
        print(
            f"| {kind} | {level} | {len(ensemble)} | {found.states[1].population} | {found.differences[0].kt} | {away:+.2f} | {ess} | "
            f"{' | '.join(values)} | {record.get('energy_calls', 0):,} | {seconds:.0f} |",
            flush=True,
        )

    for seed in range(seeds):
        for level in levels:
            begin = time.perf_counter()
            ensemble = model.sample(
                system,
                weighted,
                seed=seed,
                energy=ENERGY,
                levels=level,
                block_size=250,
                folder=out / f"weighted-{level}-{seed}",
                compile=True,
            )
            row(f"weighted, seed {seed}", ensemble, level, time.perf_counter() - begin)
    quadruples = np.array(list(torsion_quadruples(system).values()))
    names = list(torsion_quadruples(system))
    phi, psi = (next(i for i, text in enumerate(names) if text.startswith(kind)) for kind in ("phi", "psi"))

    def angles(x: np.ndarray) -> np.ndarray:
        return dihedrals(x.astype(np.float64), quadruples)[:, [phi, psi]]

    theirs = [angles(run.positions) for run in runs]
    pool, lengths = np.concatenate(theirs), [len(part) for part in theirs]

    def kl(a: np.ndarray, b: np.ndarray, axis: int) -> float:
        """KL of reference b to samples a of one torsion, 200 bins."""
        p, q = (histogram_1d(values[:, axis], bins=200, limits=(-np.pi, np.pi)) for values in (b, a))
        return kl_divergence(p, q)

    rng = np.random.default_rng(0)
    metrics = {
        "KL of phi, 200 bins (nats)": (lambda a, b: kl(a, b, 0), n),
        "KL of psi, 200 bins (nats)": (lambda a, b: kl(a, b, 1), n),
        "Ramachandran JSD, 64 x 64 (bits)": (ramachandran_jsd, n),
        "torus W2 of (phi, psi) (rad)": (lambda a, b: torus_w2(a, b, rng=rng, n=2000), 2000),
    }
    print("\n| samples without weights | metric | N | value | floor | ratio | baseline |\n|---|---|---|---|---|---|---|")
    for seed in range(seeds):
        begin = time.perf_counter()
        ensemble = model.sample(system, n, seed=1000 + seed, block_size=250, compile=True)
        seconds = time.perf_counter() - begin
        ours = angles(ensemble.positions)
        for text, (metric, size) in metrics.items():
            size = min(size, len(ours), min(lengths))
            values = [
                metric(ours[rng.choice(len(ours), size, replace=False)], pool[rng.choice(len(pool), size, replace=False)])
                for _ in range(5)
            ]
            pairs = [draw_pair(lengths, size, rng) for _ in range(5)]
            floors = [metric(pool[i], pool[j]) for i, j in pairs]
            moments = pool.mean(0), np.cov(pool.T)
            gaussian = (rng.multivariate_normal(*moments, size=size) + np.pi) % (2 * np.pi) - np.pi
            base = metric(gaussian, pool[rng.choice(len(pool), size, replace=False)])
            print(
                f"| seed {seed} | {text} | {size} | {np.mean(values):.4f} ± {np.std(values):.4f} | {np.mean(floors):.4f} ± {np.std(floors):.4f} | "
                f"{np.mean(values) / np.mean(floors):.2f} | {base:.3f} |",
                flush=True,
            )
        share = equilibra.free_energy(ensemble, cv="phi", states=STATES)
        print(
            f"\nseed {seed}: population of {STATES[1]} without weights {share.states[1].population}, ΔF {share.differences[0].kt} kT; {seconds:.0f} s\n"
        )


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("start")
    first.add_argument("simulation", type=Path)
    first.add_argument("-o", "--out", type=Path, required=True)
    second = commands.add_parser("train")
    second.add_argument("folder", type=Path)
    second.add_argument("-o", "--out", type=Path, required=True)
    second.add_argument("--threads", type=int, default=1)
    between = commands.add_parser("refine")
    between.add_argument("run", type=Path)
    between.add_argument("-o", "--out", type=Path, required=True)
    between.add_argument("--threads", type=int, default=1)
    last = commands.add_parser("polish")
    last.add_argument("run", type=Path)
    last.add_argument("-o", "--out", type=Path, required=True)
    last.add_argument("--threads", type=int, default=1)
    third = commands.add_parser("measure")
    third.add_argument("name")
    third.add_argument("--reference", type=Path, required=True)
    third.add_argument("-o", "--out", type=Path, required=True)
    third.add_argument("-n", type=int, default=10_000)
    third.add_argument("--weighted", type=int, default=2000)
    third.add_argument("--levels", type=int, nargs="+", default=[200, 400])
    third.add_argument("--seeds", type=int, default=3)
    third.add_argument("--threads", type=int, default=2)
    options = vars(parser.parse_args())
    {"start": start, "train": train, "refine": refine, "polish": polish, "measure": measure}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
