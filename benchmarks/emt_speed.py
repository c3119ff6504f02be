"""Energies and forces of effective medium theory in torch, batched, against a loop of ASE's calculator: the table of `docs/adsorbates.md`.

    python benchmarks/emt_speed.py
    python benchmarks/emt_speed.py --quick

Everything runs in one process with one thread, and the contenders take turns. Rates are evaluations per second of CPU time, medians over the turns: a machine that does other
things as well changes them little, and the ratios hardly. With a GPU its rows are per second of the clock. Beside each rate stands the largest difference from ASE's energies and forces.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc111, molecule
from ase.calculators.emt import EMT

from equilibra.energies.adapters import AseEnergy
from equilibra.energies.emt import SlabEMT

ONES_OF_ASE = 24
"""Conformations that ASE evaluates in a turn."""


class Task(NamedTuple):
    """A system, and which of its atoms move."""

    atoms: Atoms
    mobile: list[int]


class Contender(NamedTuple):
    """A function that evaluates a batch, and how it is timed."""

    evaluate: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    positions: torch.Tensor
    clock: Callable[[], float]


def tasks(quick: bool) -> dict[str, Task]:
    """Returns the systems by what the table calls them."""
    small, large = fcc111("Pt", (3, 3, 4), vacuum=8.0), fcc111("Pt", (5, 5, 4), vacuum=8.0)
    with_oxygen, with_co, wide = small.copy(), small.copy(), large.copy()
    add_adsorbate(with_oxygen, "O", 1.3, "fcc")
    for slab in (with_co, wide):
        add_adsorbate(slab, molecule("CO"), 1.8, "ontop", mol_index=1)
    found = {"CO on Pt(111) 3x3x4, CO moves": Task(with_co, [36, 37])}
    if not quick:
        found["O on Pt(111) 3x3x4, O moves"] = Task(with_oxygen, [36])
        found["CO on Pt(111) 3x3x4, CO and the top layer move"] = Task(with_co, [*range(27, 38)])
        found["CO on Pt(111) 5x5x4, CO moves"] = Task(wide, [100, 101])
    return found


def gpu_clock() -> float:
    """Returns the time when all that was asked of the GPU is done."""
    torch.cuda.synchronize()
    return time.perf_counter()


def contenders(task: Task, x: torch.Tensor, quick: bool) -> dict[str, Contender]:
    """Returns what takes turns, ASE first."""
    ase = AseEnergy(task.atoms, EMT())
    whole = torch.tensor(task.atoms.positions).expand(ONES_OF_ASE, -1, -1).clone()
    whole[:, task.mobile] = x[:ONES_OF_ASE]

    def by_ase(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energy, force = ase.energy_and_force(positions)
        return energy, force[:, task.mobile]

    made = {"ASE": Contender(by_ase, whole, time.process_time)}
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for compiled in (False,) if quick else (False, True):
            energy = SlabEMT(task.atoms, task.mobile, compile=compiled)
            for dtype in (torch.float64, torch.float32):
                label = f"torch{' compiled' if compiled else ''} {str(dtype).removeprefix('torch.')}{', CUDA' if device == 'cuda' else ''}"
                clock = gpu_clock if device == "cuda" else time.process_time
                made[label] = Contender(energy.energy_and_force, x.to(device, dtype), clock)
    return made


def compare(name: str, task: Task, batch: int, turns: int, quick: bool) -> None:
    """Prints a table of rates for one system."""
    noise = torch.randn(batch, len(task.mobile), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = torch.tensor(task.atoms.positions[task.mobile]) + 0.1 * noise
    racing = contenders(task, x, quick)
    first = {label: entry.evaluate(entry.positions) for label, entry in racing.items()}
    rates: dict[str, list[float]] = {label: [] for label in racing}
    for _ in range(turns):
        for label, entry in racing.items():
            begin = entry.clock()
            entry.evaluate(entry.positions)
            rates[label].append(len(entry.positions) / (entry.clock() - begin))
    base = statistics.median(rates["ASE"])
    print(f"\n{name}; {len(task.atoms)} atoms, batches of {batch}, median of {turns} turns\n")
    print("| contender | evaluations/s | to ASE | energies off by (eV) | forces off by (eV/Å) |\n|---|---|---|---|---|")
    for label, values in rates.items():
        rate = statistics.median(values)
        energy, force = (found[:ONES_OF_ASE].cpu().double() for found in first[label])
        off = [float((found - known).abs().max()) for found, known in zip((energy, force), first["ASE"], strict=True)]
        print(f"| {label} | {rate:,.0f} | {rate / base:,.0f} | {off[0]:.0e} | {off[1]:.0e} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one system, nothing compiled")
    parser.add_argument("--batch", type=int, default=2048, help="conformations evaluated together")
    parser.add_argument("--turns", type=int, default=7, help="turns of each contender")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name, task in tasks(options.quick).items():
        compare(name, task, options.batch, options.turns, options.quick)


if __name__ == "__main__":
    main()
