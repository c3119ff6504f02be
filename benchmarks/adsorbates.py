"""The shipped model of adsorbates on metals: trains it from effective medium theory, and measures it against exact maps, parallel tempering and placement.

    python benchmarks/adsorbates.py train -o runs/adsorbates          # resumable; the model goes to runs/adsorbates/model
    python benchmarks/adsorbates.py further -o runs/further --model runs/adsorbates/model   # goes on with more molecules and a decaying rate
    python benchmarks/adsorbates.py measure -o runs/adsorbates        # prints the figures; writes measured.json

Effective medium theory is no chemistry: the figures say how well the model follows its energy, not how well that follows nature.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.hamiltonian import HamiltonianMoves
from equilibra.energies.parallel_tempering import ParallelTempering, geometric_betas
from equilibra.errors import EquilibraError
from equilibra.systems.adsorbate.density_map import (
    DensityMap,
    boltzmann_maps,
    correlation,
    jensen_shannon,
    occupancy,
    voxel_positions,
)
from equilibra.systems.adsorbate.domain import absolute
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.placement import place, relax, success
from equilibra.systems.adsorbate.sites import Sites
from equilibra.systems.adsorbate.sources import adsorbate_systems
from equilibra.systems.adsorbate.system import LIFT, AdsorbateSystem
from equilibra.systems.model import Model, load
from equilibra.train.adsorbate_energy import DEFAULT, LADDER, train_adsorbate_on_energy
from equilibra.train.config import TrainConfig
from equilibra.train.energy import EnergyProgress
from equilibra.train.energy_config import EnergyConfig

LOWEST, HOTTEST = 200.0, 1500.0

TRAINED = [
    "Al(111) 2x2x4",
    "Ni(111) 2x2x4",
    "Ni(100) 2x2x4",
    "Cu(111) 2x2x4",
    "Cu(100) 2x2x4",
    "Ag(111) 2x2x4",
    "Ag(100) 2x2x4",
    "Pt(111) 2x2x4",
    "Pt(100) 2x2x4",
    "Cu(110) 2x2x4",
    "Pt(110) 2x2x4",
    "Ni(211) 3x2x4",
    "Cu3Au(111) 1x1x4",
    "Pd3Cu(111) 1x1x4",
    "Pd3Ag(100) 1x1x4",
    "Au3Cu(100) 1x1x4",
]
"""Surfaces of the training. Palladium and gold are in alloys only; their own surfaces, the facets (110) of nickel and (211) of platinum, and platinum with copper are kept out."""

WITH_MOLECULES = ["Ni(111) 2x2x4", "Pt(111) 2x2x4", "Cu(100) 2x2x4"]
"""Those with molecules on them as well."""

FURTHER_WITH_MOLECULES = ["Ni(111) 2x2x4", "Pt(111) 2x2x4", "Cu(100) 2x2x4", "Ag(111) 2x2x4", "Pd3Cu(111) 1x1x4"]
"""Those with CO, OH and NH on them in the further training; single atoms are on all of the first one, so that the scope keeps its elements."""

SIZE = {"dim": 48, "pair_dim": 32, "layers": 2, "heads": 4, "basis": 32, "cutoff": 4.5}
"""Changes of the network's size."""

SEEN = ["Pt(111) 2x2x4", "Cu(100) 2x2x4", "Ni(111) 2x2x4", "Cu(110) 2x2x4", "Cu3Au(111) 1x1x4"]
UNSEEN = ["Pd(111) 2x2x4", "Au(100) 2x2x4", "Pd(100) 2x2x4", "Ni(110) 2x2x4", "Pt3Cu(111) 1x1x4"]
"""Ten surfaces of the figures: of the training, and kept out of it."""

ATOMS = ("H", "C", "N", "O")
MOLECULES = ("CO", "OH", "CH3")
GRID = (20, 20, 10)


def sources(surfaces: list[str], adsorbates: tuple[str, ...]) -> list[AdsorbateSystem]:
    return [system for surface in surfaces for name in adsorbates for system in adsorbate_systems(f"{name}@{surface}")]


def steps_of(args: argparse.Namespace, **changes: Any) -> TrainConfig:
    return dataclasses.replace(
        DEFAULT,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=1e-3,
        checkpoint_every=250,
        threads=args.threads,
        seed=args.seed,
        **changes,
    )


def reporter() -> Callable[[EnergyProgress], None]:
    """Returns what prints the state of a training, at most twice a minute."""
    last = [0.0]

    def progress(state: EnergyProgress) -> None:
        if time.monotonic() - last[0] > 30 or state.doing == "judged":
            last[0] = time.monotonic()
            print(
                f"{state.doing}: step {state.step:,}/{state.steps:,}, {state.calls:,} energy calls, loss {state.loss}, mean ESS {state.ess}",
                flush=True,
            )

    return progress


def ladder_of(**changes: Any) -> EnergyConfig:
    return dataclasses.replace(LADDER, hottest=HOTTEST / LOWEST, rungs=6, leapfrog=6, moves=1, **changes)


def learn(
    systems: list[AdsorbateSystem], out: Path, ladder: EnergyConfig, how: TrainConfig, *, weights: Model | None = None
) -> None:
    model = train_adsorbate_on_energy(
        systems,
        out,
        "emt",
        ladder,
        how,
        name="adsorbate-metals",
        temperature=LOWEST,
        network=SIZE,
        weights=weights,
        progress=reporter(),
    )
    print(model.card.data)


def train(args: argparse.Namespace) -> None:
    ladder = ladder_of(columns=args.walkers, burn_in=12, sweeps=12, path_samples=32, path_levels=8)
    how = steps_of(args, schedule="constant", warmup=200, ema=0.998)
    learn(sources(TRAINED, ATOMS) + sources(WITH_MOLECULES, MOLECULES), args.out, ladder, how)


def further(args: argparse.Namespace) -> None:
    """Goes on from a model: a third of the batches of molecules, walkers with more sweeps to come to equilibrium, and a rate that decays to nothing."""
    ladder = ladder_of(objective="tsm", columns=24, burn_in=30, sweeps=20, path_samples=24, path_levels=4)
    how = steps_of(args, schedule="cosine", warmup=50, ema=0.99)
    molecules = sources(FURTHER_WITH_MOLECULES, ("CO", "OH", "NH"))
    # twice, so that a third of the batches is of them
    learn(sources(TRAINED, ATOMS) + 2 * molecules, args.out, ladder, how, weights=load(str(args.model)))


def tempered(
    system: AdsorbateSystem, temperature: float, *, sweeps: int, columns: int, seed: int
) -> tuple[AdsorbateEnsemble, np.ndarray]:
    """Returns the walkers of parallel tempering at a temperature, and the column (F,) of each, of which the spread is an honest error."""
    reduced = ReducedEnergy.at(adsorbate_energy(system, "emt"), temperature)
    betas = geometric_betas(max(HOTTEST / temperature, 2.0), 4)
    engine = ParallelTempering(reduced, betas, columns, HamiltonianMoves(step=0.02, leapfrog=8), moves_per_sweep=1)
    generator = torch.Generator().manual_seed(seed)
    state = engine.start(torch.tensor(system.placed(4 * columns, seed=seed)), generator=generator)
    state = engine.burn_in(state, sweeps=sweeps // 4, generator=generator)
    x = torch.cat([kept.x[0] for kept in engine.run(state, sweeps=sweeps, every=4, generator=generator)])
    column = np.arange(len(x)) % columns
    ensemble = AdsorbateEnsemble(system=system, positions=absolute(system, x), provenance={"temperature_k": temperature})
    good = ensemble.validity.valid
    return AdsorbateEnsemble(system=system, positions=ensemble.positions[good], provenance=ensemble.provenance), column[good]


def atoms_on_surfaces(model, args: argparse.Namespace) -> list[dict]:
    """Figure 1: coverage of sites in 200 samples, populations of sites, and maps against the exact ones, beside the floor of as many independent draws from these and a gas that is uniform in the window."""
    rows = []
    for name in args.atoms:
        for system in sources(SEEN + UNSEEN, (name,)):
            energy = adsorbate_energy(system, "emt")
            exact_maps = boltzmann_maps(system, energy, args.temperatures, shape=GRID, finer=(2, 2, 4))
            for temperature, exact in zip(args.temperatures, exact_maps, strict=True):
                few = model.sample(system, 200, seed=args.seed, temperature=temperature)
                weighted = model.sample(
                    system, args.n, seed=args.seed, temperature=temperature, energy="emt", levels=args.levels, block_size=500
                )
                site_of = _site_of_voxels(weighted, exact)
                maps = {
                    "weighted": occupancy(weighted, shape=GRID),
                    "raw": occupancy(weighted, shape=GRID, weighted=False),
                    "floor": exact.drawn(args.n, np.random.default_rng(args.seed)),
                    "gas": dataclasses.replace(exact, density=np.ones(GRID)),
                }
                true = np.bincount(site_of, weights=exact.probability.ravel())
                names = [site.label for site in weighted.sites.kinds]
                known = {label for label, share in zip(names, true, strict=False) if share >= 0.01}
                row = {
                    "system": system.name,
                    "unseen": system.name.partition("@")[2] in UNSEEN,
                    "temperature": temperature,
                    "sites": {label: round(float(share), 4) for label, share in zip(names, true, strict=False)},
                    "coverage": len(known & set(few.site_labels)) / len(known),
                    "ess": weighted.provenance["path_weights"]["ess_fraction"],
                }
                for kind, found in maps.items():
                    shares = np.bincount(site_of, weights=found.probability.ravel(), minlength=len(true))
                    folded, folded_exact = (_folded(grid, system.name) for grid in (found, exact))
                    row[kind] = {
                        "tv_sites": 0.5 * float(np.abs(shares - true).sum()),
                        "correlation": correlation(folded, folded_exact),
                        "js_bits": jensen_shannon(folded, folded_exact),
                        "correlation_plane": correlation(folded.sum(2), folded_exact.sum(2)),
                        "js_bits_plane": jensen_shannon(folded.sum(2), folded_exact.sum(2)),
                    }
                rows.append(row)
                print(json.dumps(row), flush=True)
    return rows


def _folded(grid: DensityMap, name: str) -> np.ndarray:
    """Returns the probability of a map folded into one cell of the surface: of N x M cells, which are all the same, the sum."""
    a, b = (int(number) for number in name.rpartition(" ")[2].split("x")[:2])
    p = grid.probability
    nx, ny, nz = p.shape
    return p.reshape(a, nx // a, b, ny // b, nz).sum((0, 2))


def _site_of_voxels(ensemble: AdsorbateEnsemble, exact: DensityMap) -> np.ndarray:
    """Returns the kind of site that is nearest to each voxel, flat."""
    points = voxel_positions(ensemble.system, exact.density.shape, exact.heights).reshape(-1, 3)
    return ensemble.sites.nearest(points)[0]


def molecules_on_surfaces(model, args: argparse.Namespace) -> list[dict]:
    """Figure 2: site populations and orientations of molecules against parallel tempering, and the effective sample size."""
    rows, columns = [], 16
    for system in sources([SEEN[0], UNSEEN[0]], MOLECULES):
        try:
            weighted = model.sample(
                system, args.n, seed=args.seed, temperature=600.0, energy="emt", levels=args.levels, block_size=500
            )
        except EquilibraError as error:
            # a model that makes next to no sound sample is a result, too
            rows.append({"system": system.name, "failed": str(error)})
            print(json.dumps(rows[-1]), flush=True)
            continue
        reference, column = tempered(system, 600.0, sweeps=args.sweeps, columns=columns, seed=args.seed + 1)
        labels = np.array(reference.site_labels)
        ours = {row.label: row for row in weighted.populations_of_sites()}
        plain = np.array(weighted.site_labels)
        scores = {}
        for label in sorted(set(labels.tolist()) | set(ours)):
            each = np.array([(labels[column == k] == label).mean() for k in range(columns)])
            error = each.std(ddof=1) / math.sqrt(columns)
            found = ours.get(label)
            share, own = (found.population, found.error) if found else (0.0, 0.0)
            scores[label] = {
                "reference": each.mean(),
                "error": error,
                "weighted": share,
                "weighted_error": own,
                "raw": float((plain == label).mean()),
                "z": (share - each.mean()) / max(np.hypot(error, own), 1e-3),
            }
        tilt, own_tilt = (_tilts(part) for part in (reference, weighted))
        first = column < columns // 2
        row = {
            "system": system.name,
            "valid": len(weighted) / (len(weighted) + len(weighted.rejected)),
            "ess": weighted.provenance["path_weights"]["ess_fraction"],
            "sites": scores,
            "orientation_jsd_bits": _jsd(tilt, own_tilt, None, weighted.weights),
            "orientation_raw_bits": _jsd(tilt, own_tilt, None, None),
            "orientation_floor_bits": _jsd(tilt[first], tilt[~first], None, None),
            "orientation_isotropic_bits": _jsd(tilt, np.linspace(-1.0, 1.0, 9999), None, None),
        }
        rows.append(row)
        print(json.dumps(row, default=float), flush=True)
    return rows


def _tilts(ensemble: AdsorbateEnsemble) -> np.ndarray:
    d = ensemble.positions[:, -1].astype(float) - ensemble.positions[:, 0]
    return d[:, 2] / np.linalg.norm(d, axis=1)


def _jsd(a: np.ndarray, b: np.ndarray, wa: np.ndarray | None, wb: np.ndarray | None) -> float:
    p, q = (np.histogram(x, bins=24, range=(-1, 1), weights=w)[0].astype(float) for x, w in ((a, wa), (b, wb)))
    return jensen_shannon(p / p.sum(), q / q.sum())


def placement(model, args: argparse.Namespace) -> list[dict]:
    """Figure 3: success within 0.1 eV after k structures that are relaxed by the energy, beside random and heuristic placement; and those of as many energy calls."""
    rows = []
    systems = sources([SEEN[0], SEEN[3], UNSEEN[1], UNSEEN[3]], ("O", "CO", "CH3"))
    systems += [AdsorbateSystem.of(str(path)) for path in args.structures or ()]
    for system in systems:
        try:
            cold = model.sample(system, args.placed, seed=args.seed, temperature=300.0)
        except EquilibraError as error:
            rows.append({"system": system.name, "failed": str(error)})
            print(json.dumps(rows[-1]), flush=True)
            continue
        starts = {
            "model": cold.state_positions().numpy(),
            "random": place(system, args.placed, "random", seed=args.seed),
            "heuristic": place(system, args.placed, "heuristic", seed=args.seed),
        }
        found = {name: relax(system, x, "emt") for name, x in starts.items()}
        best = min(float(part.energies[~part.anomalous].min()) for part in found.values() if (~part.anomalous).any())
        row = {"system": system.name, "best": best}
        for name, part in found.items():
            as_dear = [max(1, round(k * found["model"].calls.mean() / part.calls.mean())) for k in (1, 10)]
            row[name] = {
                "sr": success(part, best),
                "sr_at_the_calls_of_the_model": list(success(part, best, tuple(as_dear)).values()),
                "calls": float(part.calls.mean()),
                "anomalies": float(part.anomalous.mean()),
            }
        rows.append(row)
        print(json.dumps(row), flush=True)
    return rows


def preferences(model, args: argparse.Namespace) -> list[dict]:
    """Figure 3, second part: the order of sites by effective medium theory and by the model, against energies of density functional theory at a quarter of a monolayer."""
    from scipy.stats import spearmanr

    if args.energies is None:
        return []
    known, rows = json.loads(args.energies.read_text(encoding="utf-8")), []
    for metal in ("Pt", "Ag", "Au"):
        for system in sources([f"{metal}(111) 2x2x4"], ATOMS):
            name = system.adsorbates[0].name
            dft = {site: values["0.25"] for site, values in known[metal][name].items()}
            energy, points = adsorbate_energy(system, "emt"), {site.label: site.points for site in Sites(system.slab).kinds}
            heights = torch.arange(system.window[0], system.window[1], 0.02, dtype=torch.float64)
            emt = {}
            for site in dft:
                x = torch.zeros(len(heights), 1, 3, dtype=torch.float64)
                x[:, 0, :2] = torch.tensor(points[site][0, :2])
                x[:, 0, 2] = heights
                above = heights > 0.0 - LIFT  # of atoms on the surface, not within
                emt[site] = float(energy.energy(x)[above].min())
            drawn = np.array(model.sample(system, 500, seed=args.seed, temperature=600.0).site_labels)
            # of one site of a kind: there are three bridges for each top
            seen = {site: float((drawn == site).mean()) / len(points[site]) for site in dft}
            order = [dft[site] for site in dft]
            row = {
                "system": system.name,
                "dft": dft,
                "emt": {site: value - min(emt.values()) for site, value in emt.items()},
                "model": seen,
                "spearman_emt_dft": float(spearmanr(order, [emt[site] for site in dft])[0]),
                "spearman_model_dft": float(spearmanr(order, [-seen[site] for site in dft])[0]),
                "same_lowest": min(dft, key=lambda site: dft[site]) == min(emt, key=lambda site: emt[site]),
            }
            rows.append(row)
            print(json.dumps(row), flush=True)
    return rows


def supercell(model, args: argparse.Namespace) -> dict:
    """Figure 5: the populations of sites of one atom in cells of three sizes."""
    found = {}
    for size in ("2x2x4", "3x3x4", "4x4x4"):
        (system,) = adsorbate_systems(f"O@Pt(111) {size}")
        drawn = model.sample(system, 1000, seed=3, temperature=900.0)
        found[size] = {row.label: [row.population, row.error] for row in drawn.populations_of_sites()}
    print(json.dumps(found), flush=True)
    return found


def measure(args: argparse.Namespace) -> None:
    model = load(str(args.model or args.out / "model"))
    parts = {
        "atoms": atoms_on_surfaces,
        "molecules": molecules_on_surfaces,
        "placement": placement,
        "preferences": preferences,
        "supercell": supercell,
    }
    chosen = args.only or list(parts)
    found = {name: parts[name](model, args) for name in chosen}
    for group in (False, True):
        rows = [row for row in found.get("atoms", ()) if row["unseen"] is group]
        for temperature in sorted({row["temperature"] for row in rows}):
            print(
                "unseen" if group else "seen",
                f"{temperature:g} K:",
                _summary([r for r in rows if r["temperature"] == temperature]),
            )
    args.out.mkdir(parents=True, exist_ok=True)
    write_text(args.out / "measured.json", json.dumps(found, indent=2, default=float) + "\n")


def _summary(rows: list[dict]) -> str:
    """Returns the means over systems in words."""
    words = [
        f"{len(rows)} systems, coverage {np.mean([r['coverage'] for r in rows]):.3f}, ESS {np.mean([r['ess'] for r in rows]):.3f}"
    ]
    for kind in ("weighted", "raw", "floor", "gas"):
        means = {name: np.mean([r[kind][name] for r in rows]) for name in rows[0][kind]}
        words.append(f"{kind}: " + ", ".join(f"{name} {value:.4f}" for name, value in means.items()))
    return "; ".join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("train", "further", "measure"))
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/adsorbates"))
    parser.add_argument("--model", type=Path)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--steps", type=int, default=5_000)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--walkers", type=int, default=48)
    parser.add_argument("--sweeps", type=int, default=320)
    parser.add_argument("--levels", type=int, default=40)
    parser.add_argument("-n", type=int, default=2_000)
    parser.add_argument("--temperatures", type=float, nargs="+", default=(300.0, 600.0))
    parser.add_argument("--atoms", nargs="+", default=ATOMS)
    parser.add_argument("--placed", type=int, default=30)
    parser.add_argument("--structures", type=Path, nargs="*", help="files of slabs with adsorbates, for placement")
    parser.add_argument("--energies", type=Path, help="energies.json of sites by metal, adsorbate and coverage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    {"train": train, "further": further, "measure": measure}[args.what](args)


if __name__ == "__main__":
    main()
