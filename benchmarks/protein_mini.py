r"""The figures of proteins in docs/results.md: unseen chains, one protein against its simulation, and two-state proteins.

    python benchmarks/protein_mini.py split cgdms/protein_data/train_val -o data/
    python benchmarks/protein_mini.py blocks trp_cage.xtc --topology trp_cage.pdb -o data/trp-cage
    python benchmarks/protein_mini.py unseen MODEL data/ -n 20
    python benchmarks/protein_mini.py ensemble MODEL data/trp-cage -n 1000
    python benchmarks/protein_mini.py states MODEL multiconf_benchmark_0.1/domainmotion -n 1000 --features structure:known/
    python benchmarks/protein_mini.py path adk-path/path.csv --plot adk-path.png

`split` keeps a tenth of the chains out, by clusters of like sequences; `blocks` keeps out the last contiguous part of a trajectory, since random frames of one trajectory share its slow motions.
Training is `equilibra train protein` and `equilibra fine-tune` on what they write.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import mdtraj
import numpy as np
import torch

import equilibra
from equilibra.analysis.protein.evaluate import evaluate_proteins
from equilibra.analysis.protein.state_coverage import rmsd_to_states, state_coverage
from equilibra.analysis.protein.tm_score import tm_score
from equilibra.data.sequence_clusters import split_by_cluster
from equilibra.memory import keep_freed_memory
from equilibra.nn.frames import ROT, TRANS
from equilibra.sampling.grid import noise_grid
from equilibra.state.randomness import generator_for
from equilibra.systems.blocks import SamplerDrawing
from equilibra.systems.model import Model
from equilibra.systems.protein import domain
from equilibra.systems.protein.data.backbones import Backbones
from equilibra.systems.protein.data.read import backbones_of
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import written_atoms
from equilibra.systems.protein.named_provider import read_provider
from equilibra.systems.protein.providers import condition
from equilibra.systems.protein.sources import protein_system
from equilibra.systems.protein.system import ProteinSystem

BATCH = 250
"""Samples given to the network at once, if memory allows."""

TOPOLOGY, TRAIN, KEPT = "topology.pdb", "train.dcd", "kept.dcd"
KEPT_FILES = "kept*.dcd"
"""One file, or one of each independent walker."""
THRESHOLD = 2.0
"""A state is reached by a sample with a smaller C-alpha RMSD, in Å."""


def split(folder: Path, out: Path, *, share: float, seed: int) -> None:
    """Copies chains to `train/` and `kept/`, no cluster of like sequences in both."""
    files = sorted(folder.glob("*.txt"))
    sequences = [path.read_text(encoding="utf-8").split("\n", 1)[0].strip() for path in files]
    parts = dict(zip(("train", "kept"), split_by_cluster(sequences, share, seed=seed), strict=True))
    for name, chosen in parts.items():
        (out / name).mkdir(parents=True, exist_ok=True)
        for index in chosen:
            shutil.copyfile(files[index], out / name / files[index].name)
    print(
        f"{len(files)} chains: {len(parts['train'])} for training, {len(parts['kept'])} kept out (share {share}, seed {seed})"
    )


def blocks(trajectory: Path, topology: Path, out: Path, *, share: float) -> None:
    """Cuts a trajectory in a part for training and the last contiguous part, which is kept out."""
    frames = mdtraj.load(str(trajectory), top=str(topology))
    begin = len(frames) - round(share * len(frames))
    out.mkdir(parents=True, exist_ok=True)
    frames[0].save_pdb(str(out / TOPOLOGY))
    frames[:begin].save_dcd(str(out / TRAIN))
    frames[begin:].save_dcd(str(out / KEPT))
    print(f"{len(frames)} frames: the first {begin} for training, the last {len(frames) - begin} kept out")


def unseen(model: Model, folder: Path, *, n: int, chains: int, seed: int) -> None:
    """Prints the TM-score of samples to the native structure, of chains kept out and of chains of the training.

    The baseline is the native structure of another chain, cut to the same length: what a compact shape of that size scores for no reason.
    """
    print("| chains | number | samples | TM, mean | TM, best | share of chains with best > 0.5 | baseline TM | valid |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for part in ("kept", "train"):
        entries = [entry for entry in backbones_of(folder / part) if _whole(entry)]
        rng = np.random.default_rng(seed)
        chosen = rng.choice(len(entries), min(chains, len(entries)), replace=False)
        mean, best, base, valid = [], [], [], []
        for index in chosen.tolist():
            entry = entries[index]
            native = _ca(entry)[0]
            ours = drawn(model, entry.system, n, seed)
            scores = tm_score(ours.ca, native, stride=4)
            mean.append(scores.mean())
            best.append(scores.max())
            valid.append(ours.validity.valid.mean())
            longer = [other for other in entries if other is not entry and other.system.length >= entry.system.length]
            if longer:
                other = _ca(longer[int(rng.integers(len(longer)))])[0][: entry.system.length]
                base.append(tm_score(other[None], native, stride=4)[0])
        words = {"kept": "kept out", "train": "of the training"}[part]
        print(
            f"| {words} | {len(chosen)} | {n} | {_error(mean)} | {_error(best)} | {np.mean(np.array(best) > 0.5):.2f} | {_error(base)} | {np.mean(valid):.3f} |",
            flush=True,
        )


def ensemble(
    model: Model, folder: Path, *, n: int, native: Path | None, features: str | None, lag: int | None, seed: int
) -> None:
    """Prints every metric of samples, and of the training's own frames, against the part of the simulation that was kept out."""
    topology = folder / TOPOLOGY
    kept = [mdtraj.load(str(path), top=str(topology)) for path in sorted(folder.glob(KEPT_FILES))]
    trained = mdtraj.load(str(folder / TRAIN), top=str(topology))
    n_kept = sum(len(run) for run in kept)
    begin = time.perf_counter()
    system = protein_system(str(topology), read_provider(features) if features else None)
    ours = drawn(model, system, n, seed)
    failed = {name: total - passed for name, passed, total in ours.validity_table() if passed < total}
    print(f"{n} samples without filter in {time.perf_counter() - begin:.0f} s; checks failed: {failed or 'none'}\n", flush=True)
    frames = ours.to_mdtraj()
    structure = mdtraj.load(str(native)) if native else None
    rows = {}
    for name, theirs in {"samples": frames, "training": trained}.items():
        rng = np.random.default_rng(seed)
        table = evaluate_proteins(theirs, kept, rng=rng, native=structure, n=n, transport_n=min(n, n_kept), lag=lag)
        rows[name] = {row.metric: row for row in table.rows}
    print(
        "| metric | unit | samples | training frames | ratio | floor (halves of the part kept out) | Gaussian baseline | in the part kept out | N |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, row in rows["samples"].items():
        other = rows["training"][name]
        print(
            f"| {name} | {row.unit} | {row.value:.3f} ± {row.error:.3f} | {other.value:.3f} ± {other.error:.3f} | {row.value / other.value if other.value else np.nan:.2f} "
            f"| {row.floor:.3f} ± {row.floor_std:.3f} | {row.baseline:.3f} | {row.reference:.3f} | {row.n} |"
        )


def states(model: Model, folder: Path, *, n: int, features: str | None, seed: int) -> None:
    """Prints how near samples of two-state proteins come to each state, and how often each is the nearer one."""
    print("| protein | residues | RMSD between states (Å) | nearest to each (Å) | samples nearer to each | valid |")
    print("|---|---|---|---|---|---|", flush=True)
    reached = []
    provider = read_provider(features)
    for entry in backbones_of(folder):
        if len(entry) < 2:
            continue
        shown = np.full(entry.system.length, True) if entry.observed is None else entry.observed.all(axis=0)
        native = _ca(entry)
        ours = drawn(model, condition(entry.system, provider), n, seed)
        rmsd = rmsd_to_states(ours.ca, native, residues=shown)
        best, nearer = rmsd.min(axis=0), np.bincount(rmsd.argmin(axis=1), minlength=len(entry)) / n
        apart = rmsd_to_states(native[:1], native, residues=shown)[0].max()
        coverage = state_coverage(rmsd, np.random.default_rng(seed), n=n, thresholds=[THRESHOLD])
        reached.append(coverage.at(THRESHOLD))
        print(
            f"| {entry.system.name} | {entry.system.length} | {apart:.1f} | {', '.join(f'{value:.2f}' for value in best)} "
            f"| {', '.join(f'{value:.2f}' for value in nearer)} | {ours.validity.valid.mean():.3f} |",
            flush=True,
        )
    print(
        f"\nstates within {THRESHOLD} Å in {n} samples: {np.mean(reached):.2f} of all; both states: {np.mean(np.array(reached) > 0.99):.2f} of {len(reached)} proteins"
    )


def path(table: Path, plot: Path) -> None:
    """Draws how far the conformations of `equilibra interpolate` are from both ends."""
    from matplotlib.figure import Figure

    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    step = np.arange(1, len(rows) + 1)
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.subplots()
    for end, colour in (("A", "#d9822b"), ("B", "#3f8f5f")):
        values = np.array([float(row[f"C-alpha RMSD to {end} (Å)"]) for row in rows])
        axes.plot(step, values, "o-", color=colour, markersize=3, label=f"to {end}")
        print(f"to {end}: {'monotone' if (np.diff(values) >= 0).all() or (np.diff(values) <= 0).all() else 'not monotone'}")
    print(f"{sum(int(row['valid']) for row in rows)} of {len(rows)} conformations valid")
    axes.set(xlabel="step", ylabel="C-alpha RMSD (Å)")
    axes.legend(frameon=False)
    figure.savefig(plot, dpi=150)


def drawn(model: Model, system: ProteinSystem, n: int, seed: int) -> ProteinEnsemble:
    """Draws n samples with the model's own sampler, and keeps all of them, whatever the checks say."""
    drawing = SamplerDrawing(model.sampler.make(), noise_grid(model.process, model.sampler.grid))
    bound, parts = model.bind(system), []
    most = domain.fitting_batch(system, model.network, None, BATCH)
    for number, start in enumerate(range(0, n, most)):
        like = domain.template(system, min(most, n - start))
        state = drawing(bound, like, generator=generator_for(seed, number), report=lambda share, words: None).state
        parts.append(written_atoms(state.fields[TRANS].numpy(), state.fields[ROT].numpy(), system))
    return ProteinEnsemble(system=system, positions=np.concatenate(parts))


def _whole(entry: Backbones) -> bool:
    return entry.observed is None or bool(entry.observed.all())


def _ca(entry: Backbones) -> np.ndarray:
    return np.asarray(entry.coordinates[:, :, 1], dtype=np.float64)


def _error(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1) / np.sqrt(len(values)):.3f}"


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    first = commands.add_parser("split")
    first.add_argument("folder", type=Path)
    first.add_argument("-o", "--out", type=Path, required=True)
    first.add_argument("--share", type=float, default=0.1)
    second = commands.add_parser("blocks")
    second.add_argument("trajectory", type=Path)
    second.add_argument("--topology", type=Path, required=True)
    second.add_argument("-o", "--out", type=Path, required=True)
    second.add_argument("--share", type=float, default=0.2)
    measured = {name: commands.add_parser(name) for name in ("unseen", "ensemble", "states")}
    for name, command in measured.items():
        command.add_argument("model")
        command.add_argument("folder", type=Path)
        command.add_argument("-n", type=int, default=20 if name == "unseen" else 1000)
        command.add_argument("--threads", type=int, default=2)
    third = commands.add_parser("path")
    third.add_argument("table", type=Path)
    third.add_argument("--plot", type=Path, required=True)
    for command in (first, *measured.values()):
        command.add_argument("--seed", type=int, default=0)
    measured["unseen"].add_argument("--chains", type=int, default=50)
    measured["ensemble"].add_argument("--native", type=Path)
    for name in ("ensemble", "states"):
        measured[name].add_argument("--features")
    measured["ensemble"].add_argument("--lag", type=int, default=10)
    options = vars(parser.parse_args())
    name = options.pop("command")
    if name in measured:
        keep_freed_memory()
        torch.set_num_threads(options.pop("threads"))
        options["model"] = equilibra.load(options["model"])
        print(f"model {options['model'].name} ({options['model'].sha256[:12]})\n")
    {"split": split, "blocks": blocks, "unseen": unseen, "ensemble": ensemble, "states": states, "path": path}[name](**options)


if __name__ == "__main__":
    main()
