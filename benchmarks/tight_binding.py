"""The tables of docs/tight-binding.md: the carbon model against its published values, and batches against a loop.

    python benchmarks/tight_binding.py
    python benchmarks/tight_binding.py --crystals 32 --turns 1

1. Each phase is relaxed with ASE on a dense grid of k-points; energies are per atom, relative to diamond. Moduli of cubic phases are fits of Murnaghan's
   equation to energies over ± 10 % of the lattice constant, with inner coordinates kept, and (curvature) derivatives of the stress over ± 0.1 %.
2. Energy, forces, stress and gap of random cells of eight atoms in one batch, against a loop of the same code; the two in turn, in seconds of
   one processor (other work on the machine does not count).
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk, graphene
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.spacegroup import crystal
from ase.units import GPa

from equilibra.energies.tight_binding import CarbonTightBinding, KGrid, tight_binding_calculator

F64 = torch.float64
SMEARING = 0.05


@dataclass(frozen=True)
class Phase:
    """A phase to relax.

    Attributes:
        atoms: Near its equilibrium.
        size: Grid of k-points.
        free: Components of the strain that relax: xx, yy, zz, yz, xz, xy.
        length: What its length means, and how many of them the first lattice vector is.
        cubic: Whether a bulk modulus is meaningful.
    """

    atoms: Atoms
    size: tuple[int, int, int]
    free: tuple[int, ...]
    length: tuple[str, float]
    cubic: bool = True


def phases() -> dict[str, Phase]:
    layer = graphene(a=2.455, vacuum=3.0)
    hexagonal = [[2.511, 0, 0], [-2.511 / 2, 2.511 * math.sqrt(3) / 2, 0], [0, 0, 4.109]]
    places = [[1 / 3, 2 / 3, z] for z in (0.0625, 0.4375)] + [[2 / 3, 1 / 3, z] for z in (0.5625, 0.9375)]
    bc8 = crystal("C", [(0.098,) * 3], spacegroup=206, cellpar=[4.38] * 3 + [90] * 3, primitive_cell=True)
    every, axis = (1, 1, 1, 1, 1, 1), (0, 0, 1, 0, 0, 0)
    return {
        "graphite (one layer)": Phase(layer, (36, 36, 1), (1, 1, 0, 0, 0, 1), ("bond", 1 / math.sqrt(3)), False),
        "lonsdaleite": Phase(Atoms("C4", cell=hexagonal, scaled_positions=places), (12, 12, 8), every, ("a", 1.0), False),
        "diamond": Phase(bulk("C", "diamond", a=3.555), (10, 10, 10), every, ("a", math.sqrt(2))),
        "BC8": Phase(bc8, (6, 6, 6), every, ("a", 2 / math.sqrt(3))),
        "chain": Phase(Atoms("C", cell=[6, 6, 1.304]), (1, 1, 120), axis, ("bond", 1.0), False),
        "simple cubic": Phase(bulk("C", "sc", a=1.87), (20, 20, 20), every, ("a", 1.0)),
        "body-centred cubic": Phase(bulk("C", "bcc", a=2.291), (20, 20, 20), every, ("a", 2 / math.sqrt(3))),
        "face-centred cubic": Phase(bulk("C", "fcc", a=2.902), (20, 20, 20), every, ("a", math.sqrt(2))),
    }


PUBLISHED = {
    "graphite (one layer)": "bond 1.42 Å",
    "diamond": "a 3.555 Å, B 456 GPa",
}


def murnaghan(atoms: Atoms, model: CarbonTightBinding) -> float:
    """Returns the bulk modulus in GPa of a fit over ± 10 % of the lattice constant."""
    scale = torch.linspace(0.9, 1.1, 15, dtype=F64)
    frac = torch.tensor(atoms.get_scaled_positions(), dtype=F64).expand(15, -1, -1)
    energies = model.evaluate(frac, scale[:, None, None] * torch.tensor(atoms.cell.array, dtype=F64)).energy
    volumes = atoms.get_volume() * scale.numpy() ** 3
    return EquationOfState(volumes, energies.numpy(), eos="murnaghan").fit(warn=False)[2] / GPa


def curvature(atoms: Atoms, model: CarbonTightBinding) -> float:
    """Returns the bulk modulus in GPa by the pressure at volumes nearby."""
    scale = torch.tensor([0.999, 1.001], dtype=F64)
    frac = torch.tensor(atoms.get_scaled_positions(), dtype=F64).expand(2, -1, -1)
    stress = model.evaluate(frac, scale[:, None, None] * torch.tensor(atoms.cell.array, dtype=F64)).stress
    pressure = -stress.diagonal(dim1=1, dim2=2).mean(1)
    volumes = scale**3
    return float(-(pressure[1] - pressure[0]) / (volumes[1] - volumes[0])) / GPa


def published() -> None:
    """Prints the table of phases."""
    print(
        "| phase | E - E(diamond), eV/atom | length, Å | B, GPa: Murnaghan, curvature | signed gap, eV | published |\n|---|---|---|---|---|---|"
    )
    rows = []
    for name, phase in phases().items():
        atoms, model = phase.atoms, CarbonTightBinding(kgrid=KGrid(size=phase.size), smearing=SMEARING)
        atoms.pbc = True
        atoms.calc = tight_binding_calculator(model)
        BFGS(FrechetCellFilter(atoms, mask=phase.free, hydrostatic_strain=phase.cubic), logfile=None).run(fmax=1e-3, steps=80)
        energy = atoms.get_potential_energy() / len(atoms)
        label, factor = phase.length
        vector = 2 if name == "chain" else 0
        length = factor * float(np.linalg.norm(atoms.cell.array[vector]))
        modulus = f"{murnaghan(atoms, model):.0f}, {curvature(atoms, model):.0f}" if phase.cubic else "-"
        rows.append((name, energy, f"{label} {length:.3f}", modulus, atoms.calc.results["gap"]))
    diamond = next(energy for name, energy, *_ in rows if name == "diamond")
    for name, energy, length, modulus, gap in rows:
        print(f"| {name} | {energy - diamond:+.3f} | {length} | {modulus} | {gap:.2f} | {PUBLISHED.get(name, '')} |")
    atom = 2 * -2.99 + 2 * 3.71 - 2.5909765118191
    print(f"\nDiamond: {atom - diamond:.2f} eV/atom below the isolated atom of the model.", flush=True)


def speed(crystals: int, turns: int, spacing: float, dtype: torch.dtype) -> None:
    """Prints the time of a batch and of a loop."""
    generator = torch.Generator().manual_seed(0)
    ideal = bulk("C", "diamond", a=3.6, cubic=True)
    frac = torch.tensor(ideal.get_scaled_positions(), dtype=F64)
    frac = frac + 0.03 * torch.randn(crystals, 8, 3, dtype=F64, generator=generator)
    cell = torch.tensor(ideal.cell.array, dtype=F64) + 0.15 * torch.randn(crystals, 3, 3, dtype=F64, generator=generator)
    frac, cell = frac.to(dtype), cell.to(dtype)
    model = CarbonTightBinding(kgrid=KGrid(spacing=spacing))
    model.evaluate(frac[:2], cell[:2])
    batch, loop = [], []
    for _ in range(turns):
        begin = time.process_time()
        together = model.evaluate(frac, cell)
        batch.append(time.process_time() - begin)
        begin = time.process_time()
        alone = [model.evaluate(frac[i : i + 1], cell[i : i + 1]) for i in range(crystals)]
        loop.append(time.process_time() - begin)
    worst = float((together.energy - torch.cat([one.energy for one in alone])).abs().max())
    b, one = statistics.median(batch), statistics.median(loop)
    print(
        f"| {spacing:g} | {str(dtype).removeprefix('torch.')} | {b:.2f} | {one:.2f} | {one / b:.2f} | {1000 * b / crystals:.1f} | {worst:.1e} |",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--crystals", type=int, default=256, help="cells of eight atoms")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--no-phases", action="store_true", help="only the speed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.no_phases:
        published()
    print(
        f"\nEnergy, forces, stress and gap of {options.crystals} cells of 8 atoms, one thread, processor time, median of {options.turns} in turn.\n\n"
        "| k-spacing, 1/Å | precision | batch, s | loop, s | ratio | ms a crystal in the batch | largest difference, eV |\n|---|---|---|---|---|---|---|"
    )
    for spacing in (2.0, 1.0, 0.5):
        for dtype in (F64, torch.float32):
            speed(options.crystals, options.turns, spacing, dtype)


if __name__ == "__main__":
    main()
