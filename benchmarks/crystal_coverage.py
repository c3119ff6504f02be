"""COV-R and COV-P of crystals (CDVAE's definition, which needs matminer), with the floor and the score of memory, and how they depend on the number of network calls.

    python benchmarks/crystal_coverage.py unique-val.csv --training train-unique.csv --samples carbon/ -n 500
    python benchmarks/crystal_coverage.py unique-val.csv --training train-unique.csv --model crystal-carbon24 --steps 6 12 25 50 -n 300

The first line measures samples that are there, in a folder of `equilibra sample` or a file of structures; the second draws as many cells as are wanted, of sizes in the proportions of the
training, with each number of noise levels from the same noise. The reference is n structures of the file, the baseline n of the training, the floor n others of the reference, or
as many as there are. Fingerprints take long and are kept beside the file with the results. Invalid samples are never left out of COV-P: it divides by all that were drawn.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from equilibra.analysis.crystal.coverage import coverage, structure_fingerprints
from equilibra.analysis.crystal.crystals import mass_densities
from equilibra.analysis.crystal.distributions import wasserstein
from equilibra.cli.crystal_sampling import of_sizes
from equilibra.systems.crystal.judge import judge
from equilibra.systems.crystal.load import load_crystals
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.model import load

ENERGY = "energy:tight-binding"


@dataclass(frozen=True)
class Drawn:
    """Valid structures, and how many were drawn to get them."""

    name: str
    structures: Sequence[Structure]
    drawn: int


def some(name: str, structures: Sequence[Structure], n: int, seed: int, drawn: int | None = None) -> Drawn:
    """Returns at most n of some structures; of `drawn`, all that the structures were the valid ones of, the same share."""
    chosen = np.random.default_rng(seed).permutation(len(structures))[:n]
    whole = len(structures) if drawn is None else drawn
    return Drawn(name, [structures[index] for index in chosen], round(whole * len(chosen) / len(structures)))


def fingerprints(structures: Sequence[Structure], folder: Path) -> np.ndarray:
    """Returns the fingerprints of structures, kept in a folder under a hash of their coordinates."""
    content = hashlib.sha256()
    for item in structures:
        for array in (item.numbers, np.round(item.frac, 6), np.round(item.cell, 6)):
            content.update(np.ascontiguousarray(array, dtype=np.float64).tobytes())
    file = folder / f"{content.hexdigest()[:24]}.npy"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, structure_fingerprints(structures))
    return np.asarray(np.load(file, allow_pickle=False))


def energies(structures: Sequence[Structure]) -> np.ndarray:
    """Returns the energies per atom of those structures that the tight-binding model can evaluate."""
    values = judge(structures, ENERGY)
    return values[np.isfinite(values)]


def row(name: str, samples: Drawn, reference: Drawn, folder: Path) -> str:
    """Returns the row of a set of samples."""
    ours, theirs = (fingerprints(side.structures, folder) for side in (samples, reference))
    known, there = (values[np.isfinite(values).all(1)] for values in (ours, theirs))
    found = coverage(known, there, drawn=samples.drawn)
    density = wasserstein(mass_densities(samples.structures), mass_densities(reference.structures))
    energy = wasserstein(energies(samples.structures), energies(reference.structures))
    shares = [len(samples.structures) / samples.drawn, found.recall, found.precision]
    numbers = [f"{100 * value:.1f} %" for value in shares] + [f"{density:.3f}", f"{energy:.3f}"]
    return "| " + " | ".join([name, f"{len(samples.structures)}", *numbers]) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="file of structures to find, without duplicates")
    parser.add_argument("--training", type=Path, required=True, help="structures of the training")
    parser.add_argument("--samples", type=Path, nargs="*", default=[], help="folders or files of samples")
    parser.add_argument("--model", help="a model to sample with several numbers of noise levels")
    parser.add_argument("--steps", type=int, nargs="*", default=[], help="numbers of noise levels")
    parser.add_argument("--unit", default="C", help="what one unit of the cell holds")
    parser.add_argument("--atoms", default="6..24", help="atoms in the cell")
    parser.add_argument("-n", type=int, default=500, help="structures on each side")
    parser.add_argument("--most", type=int, help="structures of each set of samples; by default as many as on the other side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("coverage"), help="folder of the fingerprints")
    options = parser.parse_args()
    everything = load_crystals(options.reference).structures
    order = np.random.default_rng(options.seed).permutation(len(everything))
    reference = Drawn("reference", [everything[i] for i in order[: options.n]], min(options.n, len(everything)))
    rest = [everything[i] for i in order[options.n : 2 * options.n]]
    print(f"{len(reference.structures)} structures of {options.reference.name}; energies: {ENERGY}; seed {options.seed}")
    print("| samples | N | valid | COV-R | COV-P | W(density), g/cm³ | W(energy), eV per atom |\n|---|---|---|---|---|---|---|")
    if rest:
        print(row("floor: others of the reference", Drawn("floor", rest, len(rest)), reference, options.out), flush=True)
    memory = some("memory", load_crystals(options.training).structures, options.n, options.seed)
    print(row("baseline: structures of the training", memory, reference, options.out), flush=True)
    for path in options.samples:
        found = load_crystals(path)
        samples = some(path.name, found.structures, options.most or options.n, options.seed, found.drawn)
        print(row(path.name, samples, reference, options.out), flush=True)
    if options.model is None:
        return
    model = load(options.model)
    for steps in options.steps:
        sampler = dataclasses.replace(model.sampler, grid=dataclasses.replace(model.sampler.grid, steps=steps))
        structures: list[Structure] = []
        drawn, calls = 0, 0
        for system, wanted in of_sizes(
            model, [CrystalSystem.of_formula(options.unit)], options.atoms, options.most or options.n, options.seed
        ):
            ensemble = model.sample(system, wanted, seed=options.seed, sampler=sampler)
            structures += ensemble.structures()
            drawn += len(ensemble) + len(ensemble.rejected)
            calls = ensemble.provenance["network_calls"]
        print(row(f"{calls} network calls", Drawn("", structures, drawn), reference, options.out), flush=True)


if __name__ == "__main__":
    main()
