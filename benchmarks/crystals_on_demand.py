"""Crystals with the band gap that was asked for: how often independent judges find it, with and without what the guidance is made of.

    python benchmarks/crystals_on_demand.py crystal-carbon24 --formula C8 -n 200 -o on-demand/
    python benchmarks/crystals_on_demand.py crystal-carbon24 --formula C8 -n 200 --label band-gap:megnet --strength 2 -o on-demand/

For each target the model is sampled by itself, guided with weights (sequential Monte Carlo), guided without them, and guided without the gradient of the cell; with --label, it is asked for
its label instead of being guided. A structure is a hit if the judge's gap is within the tolerance of the target; one that the judge cannot evaluate is a miss. A gap of zero
is asked for as one of at most zero, since signed gaps of metals are negative, and judges that report those as zero. Finished runs in the folder are not done again. Weighted shares count each structure by its
weight. With --relax structures are judged after a relaxation. Structures are unique and novel as `equilibra evaluate` has it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from equilibra.analysis.crystal.duplicates import originality
from equilibra.guidance.guide import Guide, Property
from equilibra.guidance.targets import Range, Target, Value
from equilibra.nn.crystal import CELL
from equilibra.sampling.choose import SamplerConfig
from equilibra.state import State
from equilibra.systems.crystal.data.read import read_structures
from equilibra.systems.crystal.ensemble import CrystalEnsemble
from equilibra.systems.crystal.files import write_table
from equilibra.systems.crystal.judge import judge
from equilibra.systems.crystal.load import load_crystals
from equilibra.systems.crystal.properties import crystal_properties
from equilibra.systems.crystal.relax import relax
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.model import Model, load

ALONE, WEIGHTS, GUESS, BLIND, LABEL = "by itself", "weights", "no weights", "no weights, no gradient of the cell", "label"
GUIDED = (ALONE, WEIGHTS, GUESS, BLIND)


def blind_to_cells(prop: Property) -> Property:
    """Returns a property whose gradient leaves the clean cell alone."""

    def compute(state: State) -> object:
        return prop.compute(state.replace(**{CELL: state.fields[CELL].detach()}))

    return dataclasses.replace(prop, compute=compute, content="no gradient of the cell")


def wish(target: float, tolerance: float) -> Target:
    """Returns the wish for a gap, half as wide as the tolerance of a hit."""
    return Value(tolerance / 2, target) if target > 0.0 else Range(tolerance / 2, -np.inf, target)


def folder_of(way: str, target: float, options: argparse.Namespace) -> Path:
    """Returns where a row is kept; the model by itself serves all targets."""
    if way == ALONE:
        return Path(options.out) / "by-itself"
    by = f"{options.label}-{options.strength:g}" if way == LABEL else options.guide
    return Path(options.out) / f"{way}-{by}-{target:g}".replace(",", "").replace(" ", "-").replace(":", "-")


def drawn(model: Model, prop: Property, target: float, way: str, options: argparse.Namespace) -> CrystalEnsemble:
    """Draws the structures of one row, or reads them from their folder."""
    folder = folder_of(way, target, options)
    if (folder / "ensemble.json").is_file():
        return CrystalEnsemble.read(folder)
    how: dict[str, object] = {"seed": options.seed, "folder": folder}
    if options.steps is not None:
        own = model.sampler if way != WEIGHTS else SamplerConfig(name="sde2m", grid=model.sampler.grid)
        how["sampler"] = dataclasses.replace(own, grid=dataclasses.replace(own.grid, steps=options.steps))
    if way == LABEL:
        how |= {"labels": {options.label: target}, "label_strength": options.strength}
    elif way != ALONE:
        used = blind_to_cells(prop) if way == BLIND else prop
        how |= {"guides": [Guide(used, wish(target, options.tolerance))], "corrected": way == WEIGHTS}
        how["block_size"] = options.population
    ensemble: CrystalEnsemble = model.sample(options.formula, options.n, **how)
    ensemble.save(folder, formats=("extxyz",))
    return ensemble


def relaxed(ensemble: CrystalEnsemble, name: str | None, folder: Path) -> list[Structure]:
    """Returns the structures as they were drawn, or relaxed by a calculator, which are kept beside them."""
    if name is None:
        return ensemble.structures()
    file = folder / f"relaxed-{name}.csv"
    if not file.is_file():
        write_table(file, relax(ensemble.structures(), name).structures)
    return read_structures(file)


def judged(structures: Sequence[Structure], name: str, folder: Path, relaxer: str | None) -> np.ndarray:
    """Returns the judge's gaps, metals as zero, which are kept beside the structures: they take long."""
    file = folder / f"judge-{name.replace(':', '-')}{'' if relaxer is None else f'-{relaxer}'}.json"
    if file.is_file():
        found = np.array(json.loads(file.read_text()), dtype=np.float64)
    else:
        found = judge(structures, name)
        file.write_text(json.dumps([None if value != value else value for value in found.tolist()]))
    return np.maximum(found, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="name or folder of a model of crystals")
    parser.add_argument("--formula", default="C8", help="what is in the cell")
    parser.add_argument("--guide", default="tight-binding", help="model of the gap that guides")
    parser.add_argument("--label", help="ask for this label of the model instead of guiding it")
    parser.add_argument("--strength", type=float, default=1.0, help="of classifier-free guidance, with --label")
    parser.add_argument("--judge", nargs="+", default=["band-gap:xtb"], help="judges")
    parser.add_argument("--ways", nargs="+", choices=GUIDED, default=GUIDED, help="ways to guide")
    parser.add_argument("--targets", type=float, nargs="+", default=[0.0, 2.0, 3.5, 5.0], help="gaps to ask for, in eV")
    parser.add_argument(
        "--tolerance", type=float, default=0.5, help="a hit is within so many eV; guides have half of it as their width"
    )
    parser.add_argument("-n", type=int, default=200, help="valid structures of each row")
    parser.add_argument("--population", type=int, default=100, help="structures of a population")
    parser.add_argument(
        "--relax", metavar="CALCULATOR", help="relax atoms and cells before they are judged, such as tight-binding"
    )
    parser.add_argument("--steps", type=int, default=None, help="noise levels; by default the model's")
    parser.add_argument("--training", type=Path, help="structures of the training, to tell which are novel")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("on-demand"))
    options = parser.parse_args()
    model = load(options.model)
    prop = crystal_properties(CrystalSystem.of_formula(options.formula))["band-gap:megnet"](options.guide)
    known = None if options.training is None else load_crystals(options.training).structures
    by = f"label {options.label}, strength {options.strength:g}" if options.label else f"guide {prop.name}"
    how = "as drawn" if options.relax is None else f"relaxed by {options.relax}"
    print(f"{options.n} structures of {options.formula} a row, {by}, {how}, seed {options.seed}")
    heads = [f"{head} by {name}" for name in options.judge for head in ("hits", "weighted", "uplift")]
    heads = ["target (eV)", "way", *heads, "valid", "unique", "novel", "ESS"]
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for target in options.targets:
        rates: dict[str, float] = {}
        for way in (ALONE, LABEL) if options.label else options.ways:
            ensemble, folder = drawn(model, prop, target, way, options), folder_of(way, target, options)
            structures = relaxed(ensemble, options.relax, folder)
            row = [f"{target:g}", way]
            for name in options.judge:
                hit = np.abs(judged(structures, name, folder, options.relax) - target) <= options.tolerance
                rate = rates.setdefault(name, float(hit.mean()))
                uplift = "-" if rate == 0.0 else f"{hit.mean() / rate:.1f}"
                row += [f"{100 * hit.mean():.0f} %", f"{100 * (ensemble.weights @ hit):.0f} %", uplift]
            _, passed, total = ensemble.validity_table()[-1]
            found = originality(structures, known)
            guidance = ensemble.provenance.get("guidance", {})
            row += [f"{100 * passed / total:.1f} %", f"{100 * found.unique:.0f} %"]
            row += ["-" if known is None else f"{100 * found.novel:.0f} %"]
            row += [f"{guidance['ess']:.0f}" if "ess" in guidance else "-"]
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
