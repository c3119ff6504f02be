r"""The distribution of poses against long parallel tempering on the same energy: figures of ligands in docs/results.md.

    python benchmarks/ligand_distribution.py choose data/train.csv -o chosen.csv --systems 8
    python benchmarks/ligand_distribution.py train chosen.csv -o runs/energy --start-from ligand-pocket
    python benchmarks/ligand_distribution.py reference chosen.csv -o runs/reference
    python benchmarks/ligand_distribution.py compare chosen.csv runs/energy runs/reference -o runs/compared

`data/train.csv` is what `benchmarks/ligands.py split` writes. `choose` draws small complexes at random; `train` makes one model of all of them from the energy alone; `reference` runs parallel tempering without any
model, from other starts and another seed than the training; `compare` weights samples of the model by their paths, and prints the tables. Each goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import equilibra
from equilibra.analysis.poses import mode_populations
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.memory import keep_freed_memory
from equilibra.report.pose_evaluation import evaluate_poses
from equilibra.systems.ensemble import WALKERS
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.engine import PoseEnergy, PosePacking, pose_moves
from equilibra.systems.ligand.ensemble import CLUSTER_RADIUS, LigandEnsemble
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.poses import pose_positions
from equilibra.systems.ligand.sources import read_ligands
from equilibra.systems.ligand.system import LigandSystem
from equilibra.systems.ligand.torsions import find_torsions
from equilibra.thermo.statistics import resampled_frames
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyProgress
from equilibra.train.ligand_energy import LIGAND, start_poses, train_ligand_on_energy

TEMPERATURE, ENERGY = 300.0, "vina"

RUNGS, HOTTEST, COLUMNS = 6, 5.0, 8
"""The ladder, of training and reference: 300 to 1,500 K, so many chains."""

LEAST = 0.05
"""Least population of a binding mode that is compared: of rarer ones some hundred samples hold too few for an error."""

_REPEATS = 50
_REFERENCE_SEED = 1_000


def choose(table: Path, out: Path, *, systems: int, most_heavy: int, most_torsions: int, seed: int) -> None:
    """Writes a table of complexes drawn at random among the small ones that turn about a bond at least."""
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    small = []
    for row in rows:
        record = read_ligands(Path(row["ligand"]))[0]
        if isinstance(record, Exception):
            continue
        torsions = find_torsions(record.mol)
        if len(torsions.heavy) <= most_heavy and 1 <= len(torsions.axes) <= most_torsions:
            small.append(row)
    chosen = [small[i] for i in np.random.default_rng(seed).permutation(len(small))[:systems]]
    with out.open("w", encoding="utf-8", newline="") as text:
        writer = csv.DictWriter(text, ("receptor", "ligand", "name"))
        writer.writeheader()
        writer.writerows(chosen)
    print(
        f"{len(chosen)} of {len(small)} complexes with at most {most_heavy} heavy atoms and 1 to {most_torsions} torsions, of {len(rows)}"
    )


def systems_of(table: Path) -> list[LigandSystem]:
    """Reads the complexes, with the bonds, angles and rings that their files have: one ring conformer each."""
    rows = csv.DictReader(table.open(encoding="utf-8"))
    return ligand_systems(
        [LigandInput(receptor=r["receptor"], ligand=r["ligand"], name=r["name"], keep_geometry=True) for r in rows]
    )


def train(
    table: Path,
    out: Path,
    *,
    start_from: str | None,
    steps: int,
    batch_size: int,
    learning_rate: float,
    rounds: int,
    sweeps: int,
    seed: int,
    threads: int | None,
) -> None:
    """Trains one model of all complexes from their energies."""
    weights = None if start_from is None else equilibra.load(start_from)
    sizes = ("dim", "pair_dim", "layers", "heads", "expansion", "basis", "channels")
    config = dataclasses.replace(
        LIGAND,
        objective="tsm",
        rounds=rounds,
        rungs=RUNGS,
        hottest=HOTTEST,
        columns=COLUMNS,
        burn_in=sweeps // 2,
        sweeps=sweeps,
        every=1,
        focus=0.8,
        path_levels=30,
        path_samples=32,
    )
    learning = TrainConfig(
        steps=steps, batch_size=batch_size, learning_rate=learning_rate, warmup=min(100, steps // 4), ema=0.998, noise_median=0.2, noise_width=1.6, compile=False, precision="bf16",
        threads=threads, seed=seed, checkpoint_every=250,
    )  # fmt: skip
    start, last = time.monotonic(), [""]

    def report(state: EnergyProgress) -> None:
        where = f"round {state.round + 1} {state.doing} {'' if state.system is None else state.system + 1}"
        if where != last[0] or state.step % 100 == 0:
            loss = "" if state.loss is None else f", loss {state.loss:.4f}"
            print(
                f"{where}: step {state.step:,}, {state.calls:,} energy calls{loss}, {time.monotonic() - start:,.0f} s",
                flush=True,
            )
        last[0] = where

    model = train_ligand_on_energy(
        systems_of(table),
        out,
        ENERGY,
        config,
        learning,
        name="ligand-energy",
        temperature=TEMPERATURE,
        network=None if weights is None else {key: weights.network[key] for key in sizes},
        weights=weights,
        from_pose=True,
        progress=report,
    )
    print(model.card.data)


def reference(table: Path, out: Path, *, burn_in: int, sweeps: int, every: int, seed: int) -> None:
    """Runs parallel tempering of each complex, half of the walkers from the known pose, half from anywhere in the box; writes the poses of the lowest temperature, a block of each chain."""
    for system in systems_of(table):
        folder = out / system.name
        if (folder / "ensemble.json").is_file():
            continue
        packing = PosePacking(system)
        reduced = ReducedEnergy.at(PoseEnergy(ligand_energy(system, ENERGY), packing), TEMPERATURE)
        engine = ParallelTempering(
            reduced,
            geometric_betas(HOTTEST, RUNGS),
            COLUMNS,
            pose_moves(packing, step=LIGAND.step, leapfrog=LIGAND.leapfrog),
            moves_per_sweep=LIGAND.moves,
        )
        generator = torch.Generator().manual_seed(_REFERENCE_SEED + seed)
        state = engine.start(packing.array(start_poses(system, _REFERENCE_SEED + seed, from_pose=True)), generator=generator)
        state = engine.burn_in(state, sweeps=burn_in, generator=generator)
        kept, last = [], state
        for point in engine.run(state, sweeps=sweeps, every=every, generator=generator):
            kept.append((point.x[0], point.u[0]))
            last = point
        x, u = torch.cat([x for x, _ in kept]), torch.cat([u for _, u in kept])
        made = LigandEnsemble.from_frames(
            system,
            pose_positions(system, packing.state(x)).numpy(),
            energies=u.numpy() * reduced.kt,
            blocks=np.tile(np.arange(COLUMNS), len(kept)),
            provenance={
                "kind": WALKERS,
                "temperature_k": TEMPERATURE,
                "energy": ENERGY,
                "energy_calls": reduced.calls,
                "round_trips": last.round_trips,
                "move_acceptance": [round(value, 3) for value in last.move_acceptance.tolist()],
                "swap_acceptance": [round(value, 3) for value in last.swap_acceptance.tolist()],
            },
        )
        made.save(folder)
        print(
            f"{system.name}: {len(made)} poses of {len(u)}, {reduced.calls:,} energy calls, {last.round_trips} round trips",
            flush=True,
        )


def compare(
    table: Path,
    run: Path,
    references: Path,
    out: Path,
    *,
    samples: int,
    levels: int,
    smc: int | None,
    block_size: int,
    only: Sequence[str],
    seed: int,
) -> None:
    """Weights samples of the model and holds them against the reference, complex by complex; prints the tables."""
    model = equilibra.load(run / "model")
    found = []
    for system in systems_of(table):
        if not (references / system.name / "ensemble.json").is_file() or (only and system.name not in only):
            print(f"{system.name}: there is no reference, or it was not asked for", flush=True)
            continue
        file = out / f"{system.name}.json"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            theirs = LigandEnsemble.read(references / system.name)
            start = time.process_time()
            try:
                ours = model.sample(
                    system,
                    samples,
                    seed=seed,
                    energy=ENERGY,
                    levels=levels,
                    smc=smc,
                    block_size=block_size,
                    folder=out / system.name,
                    precision="bf16",
                )
            except equilibra.errors.EquilibraError as error:
                made: dict[str, Any] = {"name": system.name, "error": str(error)}
            else:
                made = {**measured(ours, theirs, seed), "processor_s": round(time.process_time() - start, 1)}
            file.write_text(json.dumps(made) + "\n", encoding="utf-8")
        found.append(json.loads(file.read_text(encoding="utf-8")))
        print(found[-1], flush=True)
    _print(found)


def measured(ours: LigandEnsemble, theirs: LigandEnsemble, seed: int) -> dict[str, Any]:
    """Returns how far weighted samples are from a reference: what `evaluate_poses` says of them with and without their weights, and every binding mode with its errors.

    A goal is met where a divergence is at most twice its floor, or a population within two errors. `noise` is the divergence of so many poses of the reference, drawn independently, as the effective
    number of the samples: what would be found of a perfect model.
    """
    rng = np.random.default_rng(seed)
    plain = dataclasses.replace(ours, log_weights=np.zeros(len(ours)))
    w = ours.weights
    made: dict[str, Any] = {
        "name": ours.system.name,
        "heavy": len(ours.system.torsions.heavy),
        "torsions": len(ours.system.torsions.axes),
        "samples": len(ours),
        "valid": len(ours) / (len(ours) + len(ours.rejected)),
        "effective": float(1.0 / (w * w).sum()),
        "reference": len(theirs),
        "round_trips": theirs.provenance["round_trips"],
    }
    count = max(2, round(made["effective"]))
    drawn = rng.choice(len(theirs), count, p=theirs.weights)
    perfect = LigandEnsemble.from_frames(
        theirs.system, theirs.positions[drawn], energies=None if theirs.energies is None else theirs.energies[drawn]
    )
    for name, ensemble in (("weighted", ours), ("unweighted", plain), ("noise", perfect)):
        for row in evaluate_poses(ensemble, theirs, n=0, seed=seed, repeats=_REPEATS).rows:
            if row.metric in METRICS:
                made.setdefault(row.metric, {"floor": row.floor})[name] = row.value
            if row.metric == "slope of ln p" and name == "weighted":
                made["slope"] = [row.value, row.error]
    made["modes"] = _modes(ours, theirs, rng)
    return made


METRICS = ("JSD of torsions", "JSD of the centroid", "TV of binding modes")


def _modes(ours: LigandEnsemble, theirs: LigandEnsemble, rng: np.random.Generator) -> list[list[float]]:
    """Returns for each binding mode of the reference, with a population of `LEAST` at least: both populations and their errors, `[p, error, reference, error]`."""
    leaders = theirs.heavy[[cluster.best for cluster in theirs.clusters]]
    both = []
    for ensemble in (ours, theirs):
        families = ensemble.populations()

        def shares(rows: np.ndarray, ensemble: LigandEnsemble = ensemble) -> np.ndarray:
            w = ensemble.weights[rows]
            return mode_populations(ensemble.heavy[rows], w / w.sum(), leaders, ensemble.symmetries, CLUSTER_RADIUS)

        again = np.stack([shares(resampled_frames(len(ensemble), families, rng)) for _ in range(_REPEATS)])
        both.append((shares(np.arange(len(ensemble))), again.std(axis=0)))
    (p, error), (q, floor) = both
    return [[float(p[i]), float(error[i]), float(q[i]), float(floor[i])] for i in range(len(leaders)) if q[i] >= LEAST]


def within(mode: Sequence[float]) -> bool:
    """Returns whether two populations agree within two of their joint standard errors."""
    p, error, q, floor = mode
    return abs(p - q) <= 2.0 * math.hypot(error, floor)


def _print(found: Sequence[dict[str, Any]]) -> None:
    good = [each for each in found if "error" not in each]
    print(
        "\n| complex | heavy atoms, torsions | ESS | JSD of torsions (floor) | JSD of the centroid (floor) | TV of modes (floor) | modes within errors | slope of ln p |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for each in found:
        if "error" in each:
            print(f"| {each['name']} | {each['error']} | | | | | | |")
            continue
        jsd = [f"{each[metric]['weighted']:.3f} ({each[metric]['floor']:.3f})" for metric in METRICS]
        right = f"{sum(map(within, each['modes']))} of {len(each['modes'])}"
        slope = "{:.2f} ± {:.2f}".format(*each["slope"]) if "slope" in each else "-"
        print(
            f"| {each['name']} | {each['heavy']}, {each['torsions']} | {each['effective']:.0f} of {each['samples']} | "
            + " | ".join(jsd)
            + f" | {right} | {slope} |"
        )
    if not good:
        return
    print(
        f"\n| N = {len(good)} complexes | without weights | with weights | perfect model of that ESS | floor | within 2 x floor |"
    )
    print("|---|---|---|---|---|---|")
    for metric in METRICS:
        values = {name: np.mean([each[metric][name] for each in good]) for name in ("unweighted", "weighted", "noise", "floor")}
        met = sum(each[metric]["weighted"] <= 2.0 * each[metric]["floor"] for each in good)
        print(
            f"| {metric} | {values['unweighted']:.3f} | {values['weighted']:.3f} | {values['noise']:.3f} | {values['floor']:.3f} | {met} of {len(good)} |"
        )
    modes = [mode for each in good for mode in each["modes"]]
    slopes = [each["slope"][0] for each in good if "slope" in each]
    print(
        f"\nmodes within errors: {sum(map(within, modes))} of {len(modes)}; slope within 10 % of 1: {sum(abs(s - 1) <= 0.1 for s in slopes)} of {len(slopes)}; ",
        end="",
    )
    print(
        f"ESS {min(e['effective'] / e['samples'] for e in good):.3f} to {max(e['effective'] / e['samples'] for e in good):.3f} of the samples; valid {np.mean([e['valid'] for e in good]):.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("choose")
    one.add_argument("--systems", type=int, default=20)
    one.add_argument("--most-heavy", type=int, default=18)
    one.add_argument("--most-torsions", type=int, default=3)
    two = verbs.add_parser("train")
    two.add_argument("--start-from", help="a model whose weights training starts from")
    two.add_argument("--steps", type=int, default=2500)
    two.add_argument("--batch-size", type=int, default=32)
    two.add_argument("--learning-rate", type=float, default=7e-4)
    two.add_argument("--rounds", type=int, default=1)
    two.add_argument("--sweeps", type=int, default=120, help="of a round; half as many before the first")
    two.add_argument("--threads", type=int)
    three = verbs.add_parser("reference")
    three.add_argument("--burn-in", type=int, default=150)
    three.add_argument("--sweeps", type=int, default=600)
    three.add_argument("--every", type=int, default=2)
    four = verbs.add_parser("compare")
    for each in (one, two, three, four):
        each.add_argument("table", type=Path)
        each.add_argument("-o", "--out", type=Path, required=True)
        each.add_argument("--seed", type=int, default=0)
    four.add_argument("run", type=Path)
    four.add_argument("references", type=Path)
    four.add_argument("--samples", type=int, default=500)
    four.add_argument("--levels", type=int, default=100)
    four.add_argument("--smc", type=int, help="moves between levels of annealed paths")
    four.add_argument("--block-size", type=int, default=50)
    four.add_argument("--only", nargs="*", default=(), help="names of complexes")
    given = vars(parser.parse_args())
    keep_freed_memory()
    {"choose": choose, "train": train, "reference": reference, "compare": compare}[given.pop("verb")](**given)


if __name__ == "__main__":
    main()
