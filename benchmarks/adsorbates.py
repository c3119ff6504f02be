"""The shipped model of adsorbates on metals: trains it from effective medium theory, and measures it against exact maps, parallel tempering and placement.

    python benchmarks/adsorbates.py train -o runs/adsorbates          # resumable; the model goes to runs/adsorbates/model
    python benchmarks/adsorbates.py measure -o runs/adsorbates        # prints the figures; writes measured.json

Effective medium theory is no chemistry: the figures say how well the model follows its energy, not how well that follows nature.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.langevin import LangevinDynamics
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.energies.walkers import evaluate
from equilibra.systems.adsorbate.density_map import boltzmann_map, occupancy
from equilibra.systems.adsorbate.domain import absolute
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.placement import place, relax, success
from equilibra.systems.adsorbate.sources import adsorbate_systems
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.model import load
from equilibra.train.adsorbate_energy import DEFAULT, LADDER, train_adsorbate_on_energy

LOWEST, HOTTEST = 200.0, 1500.0

TRAINED = [
    f"{metal}({facet}) {size}"
    for metal in ("Al", "Ni", "Cu", "Ag", "Pt")
    for facet, size in (("111", "2x2x4"), ("100", "2x2x4"))
]
TRAINED += [
    "Cu(110) 2x2x4",
    "Pt(110) 2x2x4",
    "Ni(211) 3x2x4",
    "Pt(211) 3x2x4",
    "Cu3Au(111) 1x1x4",
    "Cu3Au(100) 1x1x4",
    "Ni3Al(111) 1x1x4",
]
"""Surfaces of the training; palladium, gold, the facets (110) of nickel and (211) of copper, and platinum with copper are kept out."""

SEEN = ["Pt(111) 2x2x4", "Cu(100) 2x2x4", "Ni(111) 2x2x4", "Cu(110) 2x2x4", "Cu3Au(111) 1x1x4"]
UNSEEN = ["Pd(111) 2x2x4", "Au(100) 2x2x4", "Pd(100) 2x2x4", "Ni(110) 2x2x4", "Pt3Cu(111) 1x1x4"]
"""Ten surfaces of the figures: of the training, and kept out of it."""

ATOMS = ("H", "C", "N", "O")
MOLECULES = ("CO", "OH", "NH", "CH3")
TEMPERATURES = (300.0, 600.0)
GRID = (20, 20, 10)


def sources(surfaces: list[str], adsorbates: tuple[str, ...]) -> list[AdsorbateSystem]:
    return [system for surface in surfaces for name in adsorbates for system in adsorbate_systems(f"{name}@{surface}")]


def train(args: argparse.Namespace) -> None:
    config = dataclasses.replace(
        LADDER, hottest=HOTTEST / LOWEST, columns=args.walkers, sweeps=args.sweeps, burn_in=args.sweeps // 2, path_samples=64
    )
    how = dataclasses.replace(DEFAULT, steps=args.steps, batch_size=args.batch_size, threads=args.threads, seed=args.seed)
    last = [0.0]

    def progress(state) -> None:
        if time.monotonic() - last[0] > 30 or state.doing == "judged":
            last[0] = time.monotonic()
            print(
                f"{state.doing}: step {state.step:,}/{state.steps:,}, {state.calls:,} energy calls, loss {state.loss}, mean ESS {state.ess}",
                flush=True,
            )

    systems = sources(TRAINED, (*ATOMS, *MOLECULES))
    model = train_adsorbate_on_energy(
        systems, args.out, "emt", config, how, name="adsorbate-metals", temperature=LOWEST, progress=progress
    )
    print(model.card.data)


def tempered(
    system: AdsorbateSystem, temperature: float, *, sweeps: int, columns: int, seed: int
) -> tuple[AdsorbateEnsemble, np.ndarray]:
    """Returns the walkers of parallel tempering at a temperature, and the column (F,) of each, of which the spread is an honest error."""
    reduced = ReducedEnergy.at(adsorbate_energy(system, "emt"), temperature)
    betas = geometric_betas(max(HOTTEST / temperature, 2.0), 8)
    engine = ParallelTempering(reduced, betas, columns, HamiltonianMoves(step=0.02, leapfrog=10), moves_per_sweep=2)
    generator = torch.Generator().manual_seed(seed)
    state = engine.start(torch.tensor(system.placed(64, seed=seed)), generator=generator)
    state = engine.burn_in(state, sweeps=sweeps // 4, generator=generator)
    x = torch.cat([kept.x[0] for kept in engine.run(state, sweeps=sweeps, every=4, generator=generator)])
    column = np.arange(len(x)) % columns
    ensemble = AdsorbateEnsemble(system=system, positions=absolute(system, x), provenance={"temperature_k": temperature})
    good = ensemble.validity.valid
    return AdsorbateEnsemble(system=system, positions=ensemble.positions[good], provenance=ensemble.provenance), column[good]


def atoms_on_surfaces(model, args: argparse.Namespace) -> list[dict]:
    """Figure 1: site coverage in 200 samples, and maps against the exact ones."""
    rows = []
    for unseen, surfaces in ((False, SEEN), (True, UNSEEN)):
        for system in sources(surfaces, ATOMS):
            few = model.sample(system, 200, seed=args.seed, temperature=TEMPERATURES[-1])
            for temperature in TEMPERATURES:
                energy = adsorbate_energy(system, "emt")
                exact = boltzmann_map(system, energy, temperature, shape=GRID)
                weighted = model.sample(
                    system, args.n, seed=args.seed, temperature=temperature, energy="emt", levels=args.levels, block_size=500
                )
                reference = _sites_of_map(weighted, exact)
                raw = occupancy(weighted, shape=GRID, weighted=False)
                near = occupancy(weighted, shape=GRID)
                row = {
                    "system": system.name,
                    "unseen": unseen,
                    "temperature": temperature,
                    "coverage": len(reference & set(few.site_labels)) / len(reference),
                    "ess": weighted.provenance["path_weights"]["ess_fraction"],
                    "weighted": near.difference(exact),
                    "raw": raw.difference(exact),
                }
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def _sites_of_map(ensemble: AdsorbateEnsemble, exact) -> set[str]:
    """Returns the kinds of sites with at least one per cent of the exact map."""
    from equilibra.systems.adsorbate.density_map import voxel_positions

    points = voxel_positions(ensemble.system, exact.density.shape, exact.heights).reshape(-1, 3)
    which, _ = ensemble.sites.nearest(points)
    share = np.bincount(which, weights=exact.probability.ravel(), minlength=len(ensemble.sites.kinds))
    return {site.label for site, part in zip(ensemble.sites.kinds, share, strict=True) if part >= 0.01}


def molecules_on_surfaces(model, args: argparse.Namespace) -> list[dict]:
    """Figure 2: site populations of molecules against parallel tempering, and the effective sample size."""
    rows = []
    for system in sources([SEEN[0], UNSEEN[0]], MOLECULES):
        reference, column = tempered(system, 600.0, sweeps=args.sweeps, columns=16, seed=args.seed + 1)
        weighted = model.sample(
            system, args.n, seed=args.seed, temperature=600.0, energy="emt", levels=args.levels, block_size=500
        )
        labels = np.array(reference.site_labels)
        ours = {row.label: row for row in weighted.populations_of_sites()}
        scores = {}
        for label in sorted(set(labels.tolist())):
            each = np.array([(labels[column == k] == label).mean() for k in range(16)])
            error = each.std(ddof=1) / 4.0
            found = ours.get(label)
            share, own = (found.population, found.error) if found else (0.0, 0.0)
            scores[label] = {
                "reference": each.mean(),
                "error": error,
                "model": share,
                "z": (share - each.mean()) / max(np.hypot(error, own), 1e-3),
            }
        tilt = [_tilts(part) for part in (reference, weighted)] if system.atoms > 1 else None
        row = {"system": system.name, "ess": weighted.provenance["path_weights"]["ess_fraction"], "sites": scores}
        if tilt is not None:
            half = len(tilt[0]) // 2
            row["orientation_jsd_bits"] = _jsd(tilt[0], tilt[1], None, weighted.weights)
            row["orientation_floor_bits"] = _jsd(tilt[0][:half], tilt[0][half:], None, None)
        rows.append(row)
        print(json.dumps(row, default=float), flush=True)
    return rows


def _tilts(ensemble: AdsorbateEnsemble) -> np.ndarray:
    d = ensemble.positions[:, -1].astype(float) - ensemble.positions[:, 0]
    return d[:, 2] / np.linalg.norm(d, axis=1)


def _jsd(a: np.ndarray, b: np.ndarray, wa, wb) -> float:
    from equilibra.analysis.adsorbate import jensen_shannon_bits

    p, q = (np.histogram(x, bins=24, range=(-1, 1), weights=w)[0].astype(float) for x, w in ((a, wa), (b, wb)))
    return jensen_shannon_bits(p / p.sum(), q / q.sum())


def placement(model, args: argparse.Namespace) -> list[dict]:
    """Figure 3: success within 0.1 eV after k structures, with the number of energy calls."""
    rows = []
    for system in sources([SEEN[0], SEEN[3], UNSEEN[1], UNSEEN[3]], ("O", "CO", "CH3")):
        cold = model.sample(system, 50, seed=args.seed, temperature=300.0)
        starts = {
            "model": cold.state_positions().numpy(),
            "random": place(system, 50, "random", seed=args.seed),
            "heuristic": place(system, 50, "heuristic", seed=args.seed),
        }
        found = {name: relax(system, x, "emt") for name, x in starts.items()}
        best = min(float(part.energies[~part.anomalous].min()) for part in found.values() if (~part.anomalous).any())
        row = {"system": system.name}
        for name, part in found.items():
            row[name] = {
                "sr": success(part, best),
                "calls": float(part.calls.mean()),
                "anomalies": float(part.anomalous.mean()),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def speed(model, args: argparse.Namespace) -> dict:
    """Figure 4: independent structures per second of the model and of Langevin dynamics with the same energy, in one run."""
    (system,) = adsorbate_systems(f"O@{SEEN[0]}")
    start = time.perf_counter()
    drawn = model.sample(system, 1000, seed=1, temperature=600.0, block_size=500)
    rate = 1000 / (time.perf_counter() - start)
    from equilibra.thermo.statistics import statistical_inefficiency

    reduced = ReducedEnergy.at(adsorbate_energy(system, "emt"), 600.0)
    engine, generator = LangevinDynamics(step=args.langevin_step), torch.Generator().manual_seed(2)
    walkers = evaluate(torch.tensor(system.placed(16, seed=2)), reduced)
    start = time.perf_counter()
    run = engine.trajectory(walkers, reduced, steps=args.langevin_steps, every=20, generator=generator)
    frames = [absolute(system, kept.x) for kept in run]
    seconds = time.perf_counter() - start
    places = np.stack(frames)
    labels = (
        AdsorbateEnsemble(system=system, positions=places.reshape(-1, system.atoms, 3)).occupied[:, 0].reshape(len(frames), -1)
    )
    series = [(labels[:, k] == labels[0, 0]).astype(float) for k in range(labels.shape[1])]
    g = statistical_inefficiency(series)
    independent = labels.size / g / seconds
    found = {
        "model_per_s": rate,
        "network_calls": drawn.provenance["network_calls"],
        "langevin_per_s": independent,
        "ratio": rate / independent,
    }
    print(json.dumps(found), flush=True)
    return found


def supercell(model, args: argparse.Namespace) -> dict:
    """Figure 5: the populations of sites of a cell and of one twice as large in both directions, at the same coverage of one atom in four."""
    found = {}
    for text in ("O@Pt(111) 2x2x4", "O,O,O,O@Pt(111) 4x4x4"):
        drawn = model.sample(adsorbate_systems(text)[0], 500, seed=3, temperature=900.0, outside_scope=True)
        names = [site.label for site in drawn.sites.kinds]
        counts = np.bincount(drawn.occupied.ravel(), minlength=len(names)) / drawn.occupied.size
        found[text] = dict(zip(names, counts.tolist(), strict=True))
    print(json.dumps(found), flush=True)
    return found


def measure(args: argparse.Namespace) -> None:
    model = load(str(args.model or args.out / "model"))
    parts = {
        "atoms": atoms_on_surfaces,
        "molecules": molecules_on_surfaces,
        "placement": placement,
        "speed": speed,
        "supercell": supercell,
    }
    chosen = args.only or list(parts)
    found = {name: parts[name](model, args) for name in chosen}
    if "atoms" in found:
        for group in (False, True):
            rows = [row for row in found["atoms"] if row["unseen"] is group]
            print(
                f"{'unseen' if group else 'seen'}: coverage {np.mean([r['coverage'] for r in rows]):.3f}, "
                f"plane correlation {np.mean([r['weighted']['correlation_plane'] for r in rows]):.4f} weighted, "
                f"{np.mean([r['raw']['correlation_plane'] for r in rows]):.4f} raw, JS {np.mean([r['weighted']['js_bits_plane'] for r in rows]):.4f} "
                f"and {np.mean([r['raw']['js_bits_plane'] for r in rows]):.4f} bits, ESS {np.mean([r['ess'] for r in rows]):.3f}"
            )
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "measured.json", json.dumps(found, indent=2, default=float) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "measure"))
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/adsorbates"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--steps", type=int, default=30_000)
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--walkers", type=int, default=16)
    parser.add_argument("--sweeps", type=int, default=240)
    parser.add_argument("--levels", type=int, default=50)
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--langevin-step", type=float, default=0.02)
    parser.add_argument("--langevin-steps", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    {"train": train, "measure": measure}[args.what](args)


if __name__ == "__main__":
    main()
