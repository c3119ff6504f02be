"""The table of docs/crystals.md: gaps of known crystals by both networks, and what a batch costs.

    python benchmarks/band_gaps.py

Crystals have lattice constants near those of PBE.
"""

from __future__ import annotations

import time

import torch
from ase import Atoms
from ase.build import bulk
from ase.spacegroup import crystal

from equilibra.properties.band_gap import BandGap, band_gap

PEROVSKITE = [[0.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5]]

CRYSTALS: dict[str, Atoms] = {
    "C, diamond": bulk("C", "diamond", 3.573),
    "C, graphite": crystal(
        "CC", [(0, 0, 0.25), (1 / 3, 2 / 3, 0.25)], spacegroup=194, cellpar=[2.468, 2.468, 6.7, 90, 90, 120]
    ),
    "Si": bulk("Si", "diamond", 5.468),
    "Ge": bulk("Ge", "diamond", 5.763),
    "SiC, 3C": bulk("SiC", "zincblende", 4.38),
    "BN, zincblende": bulk("BN", "zincblende", 3.626),
    "GaP": bulk("GaP", "zincblende", 5.53),
    "GaAs": bulk("GaAs", "zincblende", 5.75),
    "AlN": bulk("AlN", "wurtzite", 3.129, c=5.017, u=0.382),
    "GaN": bulk("GaN", "wurtzite", 3.245, c=5.287, u=0.377),
    "ZnO": bulk("ZnO", "wurtzite", 3.289, c=5.307, u=0.379),
    "MgO": bulk("MgO", "rocksalt", 4.258),
    "LiF": bulk("LiF", "rocksalt", 4.084),
    "NaCl": bulk("NaCl", "rocksalt", 5.692),
    "KCl": bulk("KCl", "rocksalt", 6.38),
    "CsCl": Atoms("CsCl", scaled_positions=PEROVSKITE[:2], cell=[4.1437] * 3, pbc=True),
    "CaF2": bulk("CaF2", "fluorite", 5.51),
    "SiO2, quartz": crystal(
        "SiO", [(0.4697, 0, 1 / 3), (0.4133, 0.2672, 0.2145)], spacegroup=152, cellpar=[5.02, 5.02, 5.51, 90, 90, 120]
    ),
    "TiO2, rutile": crystal("TiO", [(0, 0, 0), (0.305, 0.305, 0)], spacegroup=136, cellpar=[4.65, 4.65, 2.97, 90, 90, 90]),
    "SrTiO3": Atoms("SrTiO3", scaled_positions=PEROVSKITE, cell=[3.945] * 3, pbc=True),
    "Al": bulk("Al", "fcc", 4.04),
    "Cu": bulk("Cu", "fcc", 3.62),
}
"""Crystals by name."""


def tensors(crystals: list[Atoms], dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Returns atomic numbers, fractional coordinates, cells and the mask of crystals, padded to the largest."""
    atoms = max(len(one) for one in crystals)
    numbers, mask = torch.zeros(len(crystals), atoms, dtype=torch.long), torch.zeros(len(crystals), atoms, dtype=torch.bool)
    frac, cell = torch.zeros(len(crystals), atoms, 3, dtype=dtype), torch.zeros(len(crystals), 3, 3, dtype=dtype)
    for row, one in enumerate(crystals):
        numbers[row, : len(one)] = torch.from_numpy(one.numbers)
        frac[row, : len(one)] = torch.from_numpy(one.get_scaled_positions())
        cell[row] = torch.from_numpy(one.cell.array)
        mask[row, : len(one)] = True
    return numbers, frac, cell, mask


def seconds(gap: BandGap, batch: int = 64, repeats: int = 3) -> float:
    """Returns the time of one batch of cells of eight carbon atoms, gaps and their derivatives, in single precision."""
    generator = torch.Generator().manual_seed(0)
    numbers, frac, cell, mask = tensors([bulk("C", "diamond", 3.573, cubic=True)] * batch, torch.float32)
    frac = (frac + 0.02 * torch.randn(frac.shape, generator=generator)).requires_grad_()
    cell.requires_grad_()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.autograd.grad(gap(numbers, frac, cell, mask).sum(), (frac, cell))
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    gaps = [band_gap("megnet"), band_gap("cgcnn")]
    batch = tensors(list(CRYSTALS.values()))
    values = [gap(*batch).numpy() for gap in gaps]
    print("| crystal | megnet | cgcnn |\n|---|---|---|")
    for row, name in enumerate(CRYSTALS):
        print(f"| {name} | " + " | ".join(f"{value[row]:.2f}" for value in values) + " |")
    for gap in gaps:
        print(
            f"{gap.card.name}: 64 cells of 8 carbon atoms, gaps and derivatives, {torch.get_num_threads()} thread(s): {seconds(gap):.2f} s"
        )


if __name__ == "__main__":
    main()
