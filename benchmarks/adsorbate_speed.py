"""Speed of adsorbates in docs/results.md: independent configurations of the model against Langevin dynamics with the same energy, the time of a density map, and the scaling with the size of the slab.

    python benchmarks/adsorbate_speed.py -o speed/ --threads 2

The two take turns, and who begins changes from round to round; the clock is the wall's, so the machine must be idle. A structure of the model without weights counts as one independent sample of the model, with weights as its share of the
effective sample size; a frame of the dynamics as one over its statistical inefficiency, the larger of that of the height and that of the kinds of sites. Where walkers hardly change their site this is too kind to the dynamics: the number of changes is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.langevin import LangevinDynamics
from equilibra.energies.walkers import evaluate
from equilibra.systems.adsorbate.domain import absolute
from equilibra.systems.adsorbate.energy import adsorbate_energy
from equilibra.systems.adsorbate.ensemble import AdsorbateEnsemble
from equilibra.systems.adsorbate.system import AdsorbateSystem
from equilibra.systems.model import Model, load
from equilibra.thermo.statistics import statistical_inefficiency

EVERY = 20
"""Steps between frames of the dynamics."""

SIZES = ("2x2x4", "3x3x4", "4x4x4", "6x6x4")
MOST_CALLS = 25
"""Most network calls of a sample that the goal allows."""


def model_rates(model: Model, system: AdsorbateSystem, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Returns structures per second without weights, and effective ones with them."""
    start = time.perf_counter()
    raw = model.sample(system, args.n, seed=seed, temperature=args.temperature, block_size=args.n)
    plain = time.perf_counter() - start
    start = time.perf_counter()
    weighted = model.sample(
        system, args.n, seed=seed, temperature=args.temperature, energy="emt", levels=args.levels, block_size=args.n
    )
    seconds = time.perf_counter() - start
    return {
        "per_s": args.n / plain,
        "effective_per_s": weighted.provenance["path_weights"]["ess"] / seconds,
        "network_calls": raw.provenance["network_calls"],
    }


def langevin_rates(system: AdsorbateSystem, args: argparse.Namespace, seed: int) -> dict[str, float]:
    """Returns independent structures per second of walkers in one batch, with their start left out of both."""
    reduced = ReducedEnergy.at(adsorbate_energy(system, "emt"), args.temperature)
    engine, generator = LangevinDynamics(step=args.step), torch.Generator().manual_seed(seed)
    walkers = evaluate(torch.tensor(system.placed(args.walkers, seed=seed)), reduced)
    *_, walkers = engine.trajectory(
        walkers, reduced, steps=max(EVERY, args.steps // 4), every=EVERY, generator=generator
    )  # towards equilibrium
    start = time.perf_counter()
    frames = [kept.x for kept in engine.trajectory(walkers, reduced, steps=args.steps, every=EVERY, generator=generator)]
    seconds = time.perf_counter() - start
    x = torch.stack(frames)  # (frames, walkers, atoms, 3)
    ensemble = AdsorbateEnsemble(system=system, positions=absolute(system, x.flatten(0, 1).numpy()))
    sites = ensemble.occupied[:, 0].reshape(len(frames), -1)
    kinds = [(sites[:, None, k] == np.unique(sites)).astype(float) for k in range(sites.shape[1])]
    heights = [column.numpy() for column in x[:, :, 0, 2].unbind(1)]
    inefficiency = max(statistical_inefficiency(heights), statistical_inefficiency(kinds))
    return {
        "frames_per_s": sites.size / seconds,
        "inefficiency_steps": inefficiency * EVERY,
        "independent_per_s": sites.size / inefficiency / seconds,
        "changes_of_site": int((sites[1:] != sites[:-1]).sum()),
    }


def density_map(model_name: str, system: str, args: argparse.Namespace) -> dict[str, float]:
    """Returns the seconds of each command: 1,000 samples, their map of 20 x 20 x 10 points, and the map of the model's own log p."""
    adsorbate, _, slab = system.partition("@")
    out = args.out / "samples"
    command = [sys.executable, "-m", "equilibra"]
    drawing = [
        "sample",
        "adsorbate",
        "--slab",
        slab,
        "--adsorbate",
        adsorbate,
        "-n",
        "1000",
        "--temperature",
        str(args.temperature),
    ]
    seconds = {}
    for name, words in (
        ("sample", [*drawing, "--model", model_name, "-o", str(out)]),
        ("density_map", ["density-map", str(out), "--grid", "20,20,10"]),
        (
            "density_map_of_the_model",
            ["density-map", str(out), "--grid", "20,20,10", "--of", "model", "-o", str(args.out / "log-p")],
        ),
    ):
        start = time.perf_counter()
        subprocess.run([*command, *words], check=True, stdout=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - start
    return seconds


def scaling(model: Model, args: argparse.Namespace) -> dict[str, float]:
    """Returns structures per second by the size of the slab."""
    found = {}
    for size in SIZES:
        system = AdsorbateSystem.of(f"Pt(111) {size}", "O")
        model.sample(system, 16, seed=0, temperature=args.temperature, block_size=16)  # tables and caches
        start = time.perf_counter()
        model.sample(system, args.n, seed=1, temperature=args.temperature, block_size=args.n)
        found[size] = args.n / (time.perf_counter() - start)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/adsorbate-speed"))
    parser.add_argument("--model", default="adsorbate-metals")
    parser.add_argument("--systems", nargs="+", default=("O@Pt(111) 2x2x4", "CO@Pt(111) 2x2x4"))
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("-n", type=int, default=500, help="structures of the model in a turn")
    parser.add_argument("--levels", type=int, default=40, help="noise levels of the weights")
    parser.add_argument("--walkers", type=int, default=64, help="walkers of the dynamics, all in one batch")
    parser.add_argument("--step", type=float, default=0.02, help="step of the dynamics, as `LangevinDynamics` takes it")
    parser.add_argument("--steps", type=int, default=10_000, help="steps of the dynamics in a turn")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)
    model, found = load(args.model), {}
    for name in args.systems:
        adsorbate, _, slab = name.partition("@")
        system = AdsorbateSystem.of(slab, adsorbate)
        model.sample(system, 16, seed=0, temperature=args.temperature, block_size=16)  # tables and caches
        turns: dict[str, list[dict[str, float]]] = {"model": [], "langevin": []}
        for number in range(args.rounds):
            for which in ("model", "langevin") if number % 2 == 0 else ("langevin", "model"):
                rates = model_rates(model, system, args, number) if which == "model" else langevin_rates(system, args, number)
                turns[which].append(rates)
                print(json.dumps({"system": name, "round": number, which: rates}), flush=True)
        ratios = {
            f"{kind}_ratio": float(
                np.median([a[kind] / b["independent_per_s"] for a, b in zip(turns["model"], turns["langevin"], strict=True)])
            )
            for kind in ("per_s", "effective_per_s")
        }
        found[name] = {**turns, **ratios, "calls_within_goal": turns["model"][0]["network_calls"] <= MOST_CALLS}
        print(json.dumps({"system": name, **ratios}), flush=True)
    found["density_map_s"] = density_map(args.model, args.systems[0], args)
    found["structures_per_s_by_slab"] = scaling(model, args)
    print(json.dumps({name: found[name] for name in ("density_map_s", "structures_per_s_by_slab")}))
    write_text(args.out / "speed.json", json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
