"""Crystals with the band gap that was asked for: how often an independent judge finds it, with and without what the guidance is made of.

    python benchmarks/crystals_on_demand.py MODEL --formula C8 -n 200 -o on-demand/

For each target the model is sampled by itself, guided with weights (sequential Monte Carlo), guided without them, and guided without the gradient of the cell; a structure is a hit if
the judge's gap is within the tolerance of the target. Finished runs in the folder are not done again. Weighted shares count each structure by its weight.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

import numpy as np

from equilibra.analysis.crystal.duplicates import duplicate_groups
from equilibra.guidance.guide import Guide, Property
from equilibra.guidance.targets import Value
from equilibra.nn.crystal import CELL
from equilibra.sampling.choose import SamplerConfig
from equilibra.state import State
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.judge import judge
from equilibra.systems.crystal.properties import crystal_properties
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.model import Model, load

WAYS = ("by itself", "weights", "no weights", "no weights, no gradient of the cell")


def blind_to_cells(prop: Property) -> Property:
    """Returns a property whose gradient leaves the clean cell alone."""

    def compute(state: State) -> object:
        return prop.compute(state.replace(**{CELL: state.fields[CELL].detach()}))

    return dataclasses.replace(prop, compute=compute, content="no gradient of the cell")


def folder_of(way: str, target: float, options: argparse.Namespace) -> Path:
    """Returns where a row is kept; the model by itself serves all targets."""
    name = way.replace(",", "").replace(" ", "-")
    return Path(options.out) / (name if way == WAYS[0] else f"{name}-{target:g}")


def drawn(model: Model, prop: Property, target: float, way: str, options: argparse.Namespace) -> CrystalEnsemble:
    """Draws the structures of one row, or reads them from their folder."""
    folder = folder_of(way, target, options)
    if (folder / "ensemble.json").is_file():
        return CrystalEnsemble.read(folder)
    how: dict[str, object] = {"seed": options.seed, "folder": folder}
    if options.steps is not None:
        own = model.sampler if way != WAYS[1] else SamplerConfig(name="sde2m", grid=model.sampler.grid)
        how["sampler"] = dataclasses.replace(own, grid=dataclasses.replace(own.grid, steps=options.steps))
    if way != WAYS[0]:
        used = blind_to_cells(prop) if way == WAYS[3] else prop
        how |= {"guides": [Guide(used, Value(options.tolerance / 2, target))], "corrected": way == WAYS[1]}
        how["block_size"] = options.population
    ensemble: CrystalEnsemble = model.sample(options.formula, options.n, **how)
    ensemble.save(folder, formats=("extxyz",))
    return ensemble


def judged(ensemble: CrystalEnsemble, name: str, file: Path) -> np.ndarray:
    """Returns the judge's gaps, which are kept beside the structures: they take long."""
    if file.is_file():
        return np.array(json.loads(file.read_text()), dtype=np.float64)
    found = judge(ensemble.structures(), name)
    file.write_text(json.dumps([None if value != value else value for value in found.tolist()]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="folder of a model of crystals")
    parser.add_argument("--formula", default="C8", help="what is in the cell")
    parser.add_argument("--guide", default="megnet", help="model of the gap that guides")
    parser.add_argument("--judge", default="band-gap:xtb", help="judge")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.0, 2.0, 3.5, 5.0], help="gaps to ask for, in eV")
    parser.add_argument(
        "--tolerance", type=float, default=0.5, help="a hit is within so many eV; guides have half of it as their width"
    )
    parser.add_argument("-n", type=int, default=200, help="valid structures of each row")
    parser.add_argument("--population", type=int, default=100, help="structures of a population")
    parser.add_argument("--steps", type=int, default=None, help="noise levels; by default the model's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("on-demand"))
    options = parser.parse_args()
    model = load(options.model)
    prop = crystal_properties(CrystalSystem.of_formula(options.formula))["band-gap:megnet"](options.guide)
    print(f"{options.n} structures of {options.formula} a row, guide {prop.name}, judge {options.judge}, seed {options.seed}")
    print("| target (eV) | way | hits | hits, weighted | uplift | valid | unique | ESS |\n|---|---|---|---|---|---|---|---|")
    for target in options.targets:
        rate = None
        for way in WAYS:
            ensemble = drawn(model, prop, target, way, options)
            gaps = judged(ensemble, options.judge, folder_of(way, target, options) / "judge.json")
            hit = np.abs(gaps - target) <= options.tolerance
            rate = float(hit.mean()) if rate is None else rate
            _, passed, total = ensemble.validity_table()[-1]
            unique = len(np.unique(duplicate_groups(ensemble.structures()))) / len(ensemble)
            guidance = ensemble.provenance.get("guidance", {})
            uplift = "-" if rate == 0.0 else f"{hit.mean() / rate:.1f}"
            row = [f"{target:g}", way, f"{100 * hit.mean():.1f} %", f"{100 * (ensemble.weights @ hit):.1f} %", uplift]
            row += [
                f"{100 * passed / total:.1f} %",
                f"{100 * unique:.0f} %",
                f"{guidance['ess']:.0f}" if "ess" in guidance else "-",
            ]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
