r"""Speed of ligands in docs/results.md: `ligand-pocket` against AutoDock Vina on the same cores, and what a pose costs.

    python benchmarks/ligand_speed.py data/ --threads 2

`data/` is what `benchmarks/ligands.py split` writes. Pairs of DiG's benchmark, one of each target in turn: Vina docks into the same box with that many threads; the model draws poses and each is relaxed in the Vina score.
Both take turns, and who begins changes from pair to pair; the clock is the wall's, so the machine must be idle. Making the system and the maps of the receptor is left out on both sides and told apart. Then the cost of a
network call and of a relaxation against the size of the ligand and of the pocket. Extra `docking` is needed.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import equilibra
from equilibra.analysis.poses import SUCCESS, success_of
from equilibra.energies.docking import VinaProgram
from equilibra.geometry.symmetric_rmsd import symmetric_rmsd
from equilibra.memory import keep_freed_memory
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import noise_grid
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.blocks import SamplerDrawing
from equilibra.systems.ligand.domain import template
from equilibra.systems.ligand.energy import ligand_energy
from equilibra.systems.ligand.features import pocket_features
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.poses import pose_positions, random_state
from equilibra.systems.ligand.relaxation import relaxed_poses
from equilibra.systems.ligand.sources import read_ligands
from equilibra.systems.ligand.symmetry import automorphisms
from equilibra.systems.ligand.system import LigandSystem
from equilibra.systems.model import Model
from equilibra.systems.stereo import perceive_stereo

EXHAUSTIVENESS = 8
MOST_CALLS = 25
"""Most network calls of a pose that the goal allows."""

SIZES, POCKETS = (10, 20, 30, 40, 50), (32, 64, 96, 128)
"""Heavy atoms of ligands, and atoms of the pocket that the network sees."""


@dataclasses.dataclass(frozen=True)
class Found:
    """Poses of one pair, the best by energy first: their RMSDs (F,) in Å, and the seconds that they took, by part."""

    rmsd: np.ndarray
    seconds: dict[str, float]

    @property
    def total(self) -> float:
        """All seconds."""
        return sum(self.seconds.values())


def first_pairs(data: Path, number: int, seed: int) -> list[dict[str, str]]:
    """Returns one pair of each target at random, and of these targets so many at random."""
    rng = np.random.default_rng(seed)
    targets: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader((data / "test.csv").open(encoding="utf-8")):
        targets.setdefault(row["receptor"], []).append(row)
    drawn = [members[int(rng.integers(len(members)))] for members in targets.values()]
    return [drawn[i] for i in rng.permutation(len(drawn))[:number]]


def docked(system: LigandSystem, threads: int, seed: int) -> tuple[Found, float]:
    """Docks with Vina; returns the poses, and the seconds that its maps took."""
    start = time.perf_counter()
    program = VinaProgram(system.receptor, system.box, search=True, seed=seed + 1, cpu=threads)
    maps = time.perf_counter() - start
    start = time.perf_counter()
    poses = program.dock(system.mol, exhaustiveness=EXHAUSTIVENESS)
    return Found(_rmsd(system, poses), {"search": time.perf_counter() - start}), maps


def drawn(model: Model, system: LigandSystem, sampler: SamplerConfig, poses: int, seed: int) -> Found:
    """Draws poses with the model, and relaxes each in the Vina score."""
    denoiser, energy = model.bind(system), ligand_energy(system, "vina")
    drawing = SamplerDrawing(sampler.make(), noise_grid(model.process, sampler.grid))
    start = time.perf_counter()
    with torch.no_grad():
        state: State = drawing(
            denoiser,
            template(system, poses),
            generator=generator_for(seed, 0, device=torch.device("cpu")),
            report=lambda done, note: None,
        ).state
    middle = time.perf_counter()
    relaxed, energies = relaxed_poses(system, state, energy)
    end = time.perf_counter()
    order = np.argsort(energies)
    return Found(
        _rmsd(system, pose_positions(system, relaxed).numpy())[order], {"network": middle - start, "relaxation": end - middle}
    )


def _rmsd(system: LigandSystem, poses: np.ndarray) -> np.ndarray:
    heavy = system.torsions.heavy
    assert system.pose is not None
    return symmetric_rmsd(poses[:, heavy], system.pose[heavy], automorphisms(system.mol))


def top_of(rmsd: np.ndarray, k: int) -> float:
    """Returns the probability that of k of n poses, which are sorted by energy, that of the lowest energy is right."""
    n = len(rmsd)
    lowest = [math.comb(n - 1 - i, k - 1) / math.comb(n, k) for i in range(n)]
    return float(np.dot(lowest, rmsd <= SUCCESS))


def fewest(found: Sequence[Found], success: Callable[[np.ndarray, int], float], goal: float) -> int | None:
    """Returns the fewest poses of each pair with which the mean success is that of the other program; None where all of them are too few."""
    most = min(len(each.rmsd) for each in found)
    return next((k for k in range(1, most + 1) if np.mean([success(each.rmsd, k) for each in found]) >= goal - 1e-9), None)


def against_vina(model: Model, data: Path, *, pairs: int, poses: int, steps: int | None, threads: int, seed: int) -> None:
    """Prints the table of both programs on pairs of DiG's benchmark."""
    sampler = model.sampler
    if steps is not None:
        sampler = dataclasses.replace(sampler, grid=dataclasses.replace(sampler.grid, steps=steps))
    calls = SamplerDrawing(sampler.make(), noise_grid(model.process, sampler.grid)).network_calls
    ours: list[Found] = []
    theirs: list[Found] = []
    aside: list[tuple[float, float]] = []
    for number, row in enumerate(first_pairs(data, pairs, seed)):
        start = time.perf_counter()
        (system,) = ligand_systems(LigandInput(receptor=row["receptor"], ligand=row["ligand"], name=row["name"]))
        reading = time.perf_counter() - start
        if number == 0:
            drawn(model, system, sampler, 2, seed)  # what is made once in a process
        for turn in (0, 1):
            if (number + turn) % 2:
                found, maps = docked(system, threads, seed)
                theirs.append(found)
            else:
                ours.append(drawn(model, system, sampler, poses, seed))
        aside.append((reading, maps))
        print(
            f"{row['name']}: Vina {theirs[-1].total:.1f} s for {len(theirs[-1].rmsd)} poses, ours {ours[-1].total:.1f} s for {poses}",
            flush=True,
        )
    top, best = (
        float(np.mean([f.rmsd[0] <= SUCCESS for f in theirs])),
        float(np.mean([f.rmsd.min() <= SUCCESS for f in theirs])),
    )
    seconds = sum(f.total for f in ours) / len(ours)
    vina = sum(f.total for f in theirs) / len(theirs)
    print(
        f"\n{len(ours)} pairs, {threads} threads; exhaustiveness {EXHAUSTIVENESS}; {calls} network calls a pose (goal: at most {MOST_CALLS})\n"
    )
    print(f"| N = {len(ours)} pairs | Vina | `ligand-pocket`, relaxed |\n|---|---|---|")
    print(
        f"| seconds a ligand | {vina:.1f} | {seconds:.1f} ({', '.join(f'{name} {np.mean([f.seconds[name] for f in ours]):.1f}' for name in ours[0].seconds)}) |"
    )
    print(f"| poses a ligand | {np.mean([len(f.rmsd) for f in theirs]):.1f} | {poses} |")
    print(f"| poses/s | {sum(len(f.rmsd) for f in theirs) / sum(f.total for f in theirs):.2f} | {poses / seconds:.2f} |")
    print(
        f"| lowest energy within {SUCCESS:g} Å | {100 * top:.0f} % | {100 * np.mean([f.rmsd[0] <= SUCCESS for f in ours]):.0f} % |"
    )
    print(
        f"| best of these poses within {SUCCESS:g} Å | {100 * best:.0f} % | {100 * np.mean([f.rmsd.min() <= SUCCESS for f in ours]):.0f} % |"
    )
    for name, goal, success in (("lowest energy", top, top_of), ("best pose", best, success_of)):
        k = fewest(ours, success, goal)
        if goal == 0.0:
            told = "Vina finds none"
        elif k is None:
            told = f"not reached with {poses} poses"
        else:
            told = f"{k} poses, {seconds * k / poses:.1f} s: {vina * poses / (seconds * k):.1f} times as fast"
        print(f"| at the success of Vina's {name} ({100 * goal:.0f} %) | {vina:.1f} s | {told} |")
    print(
        f"\nBesides, seconds a ligand: the system {np.mean([a for a, _ in aside]):.1f}, Vina's maps {np.mean([b for _, b in aside]):.1f}."
    )


def cropped(system: LigandSystem, atoms: int) -> LigandSystem:
    """Returns a system whose network sees fewer atoms of the pocket, the nearest to the middle of the box."""
    distance = np.linalg.norm(system.receptor.positions.numpy()[system.pocket] - system.centre, axis=1)
    pocket = np.sort(system.pocket[np.argsort(distance, kind="stable")[:atoms]])
    features = pocket_features(system.mol, perceive_stereo(system.mol), system.receptor, pocket, system.torsions)
    return dataclasses.replace(system, pocket=pocket, features=features)


def cost(model: Model, data: Path, *, poses: int, turns: int) -> None:
    """Prints milliseconds a pose of a network call, and of a relaxation, against the size of ligand and pocket; all take turns."""
    rows = [row for file in ("train.csv", "test.csv") for row in csv.DictReader((data / file).open(encoding="utf-8"))]
    sizes = []
    for row in rows:
        record = read_ligands(Path(row["ligand"]))[0]
        if not isinstance(record, Exception):
            sizes.append((record.mol.GetNumHeavyAtoms(), row))
    runs: dict[tuple[int, int, int | str], Callable[[], object]] = {}
    for wanted in SIZES:
        heavy, row = min(sizes, key=lambda each: abs(each[0] - wanted))
        (system,) = ligand_systems(
            LigandInput(receptor=row["receptor"], ligand=row["ligand"], name=row["name"], keep_geometry=True)
        )
        state = random_state(system, poses, generator=torch.Generator().manual_seed(0))
        torsions, energy = len(system.torsions.axes), ligand_energy(system, "vina")
        for atoms in POCKETS:
            runs[heavy, torsions, atoms] = _call(model, cropped(system, atoms), poses)
        runs[heavy, torsions, "relaxation"] = lambda system=system, state=state, energy=energy: relaxed_poses(
            system, state, energy
        )
    times: dict[tuple[int, int, int | str], list[float]] = {key: [] for key in runs}
    for turn in range(turns + 1):
        for key, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:
                times[key].append(1e3 * (time.perf_counter() - start) / poses)
    columns = (*POCKETS, "relaxation")
    print(f"\nMilliseconds a pose, {poses} poses at once, medians of {turns} turns\n")
    print(
        "| heavy atoms, torsions | "
        + " | ".join(f"call, {c} pocket atoms" if isinstance(c, int) else c for c in columns)
        + " |\n|"
        + "---|" * (len(columns) + 1)
    )
    for heavy, torsions in dict.fromkeys(key[:2] for key in runs):
        print(
            f"| {heavy}, {torsions} | "
            + " | ".join(f"{statistics.median(times[heavy, torsions, c]):.2f}" for c in columns)
            + " |"
        )


def _call(model: Model, system: LigandSystem, poses: int) -> Callable[[], object]:
    denoiser, state = model.bind(system), template(system, poses)
    time_ = torch.full((poses,), noise_grid(model.process, model.sampler.grid)[1].t)

    def run() -> object:
        with torch.no_grad():
            return denoiser(state, time_)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="ligand-pocket")
    parser.add_argument("--pairs", type=int, default=6)
    parser.add_argument("--poses", type=int, default=50, help="poses that the model draws of each pair")
    parser.add_argument("--steps", type=int, help="steps of the sampler; the model's own by default")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3, help="of the table of costs")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", default="vina,cost")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_freed_memory()
    model = equilibra.load(options.model)
    if "vina" in options.parts.split(","):
        against_vina(
            model,
            options.data,
            pairs=options.pairs,
            poses=options.poses,
            steps=options.steps,
            threads=options.threads,
            seed=options.seed,
        )
    if "cost" in options.parts.split(","):
        cost(model, options.data, poses=options.poses, turns=options.turns)


if __name__ == "__main__":
    main()
