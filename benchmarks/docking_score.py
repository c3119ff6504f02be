"""The Vina scoring function in torch against the program AutoDock Vina: agreement on real poses, and poses scored per second.

    python benchmarks/docking_score.py --data shared/ligand/fep
    python benchmarks/docking_score.py --data shared/ligand/fep --every 1 --quick

`--data` is a folder of folders with `NAME_protein.pdb` and `NAME_ligands.sdf`, as in schrodinger/public_binding_free_energy_benchmark (MIT). Needs equilibra's
extra `docking`.

1. Agreement of the parts of the score, pose by pose, with the program's final scores, which sum over atoms. Poses are scored as they are in the files, clashes
   included. Vina rounds squared distances to tables with steps of 1/32 Å², and gives three digits.
2. What the maps of Vina's search, with their spacing of 0.375 Å, differ from these sums.
3. Poses of one ligand per second: contenders take turns in one process on one core; medians over the turns. Vina's wheel takes a pose as PDBQT text and scores
   it; the texts are made beforehand. `score()` alone, again and again on the same pose, is what the wheel's C++ code does without Python's part in it.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rdkit import Chem, RDLogger
from scipy.stats import spearmanr

from equilibra.energies.docking import Box, DockingEnergy, VinaProgram, docking_ligand, ligand_positions, read_receptor
from equilibra.errors import InputError

PARTS = ("total", "inter", "intra")


def complexes(folder: Path, every: int, poses: int):
    """Yields name, receptor and some of the ligands of each complex."""
    for path in sorted(folder.glob("*/*_protein.pdb"))[::every]:
        name = path.name.removesuffix("_protein.pdb")
        mols = [
            mol for mol in Chem.SDMolSupplier(str(path.with_name(f"{name}_ligands.sdf")), removeHs=False) if mol is not None
        ]
        yield name, read_receptor(path), mols[:: max(1, len(mols) // poses)][:poses]


def agreement(folder: Path, every: int, poses: int, grids: int) -> None:
    """Prints the tables of agreement."""
    ours, theirs, small, grid, summed = [], [], [], [], []
    for number, (name, receptor, mols) in enumerate(complexes(folder, every, poses)):
        box = Box.around(torch.cat([ligand_positions(mol)[0] for mol in mols]))
        try:
            program = VinaProgram(receptor, box)
        except InputError as error:
            print(f"{name}: left out, {error}")
            continue
        interpolated = VinaProgram(receptor, box, grid=True) if number < grids else None
        for mol in mols:
            program.load(mol)
            theirs.append(torch.cat(program.score()))
            ours.append(torch.cat(DockingEnergy(receptor, docking_ligand(mol), box).score(ligand_positions(mol))))
            small.append(any(len(ring) < 5 for ring in mol.GetRingInfo().AtomRings()))
            if interpolated is not None:
                interpolated.load(mol)
                grid.append(float(interpolated.score().inter))
                summed.append(float(theirs[-1][1]))
    ours, theirs, small = torch.stack(ours).numpy(), torch.stack(theirs).numpy(), np.array(small)
    bound = theirs[:, 0] < 0
    print(f"\nAgreement with the program, kcal/mol: {len(ours)} poses, {bound.sum()} of them with a score below zero\n")
    print("| part | poses | n | rms | max | within 0.05 |\n|---|---|---|---|---|---|")
    rows = [(part, "all", np.ones_like(bound)) for part in PARTS] + [(part, "score below zero", bound) for part in PARTS]
    rows += [("intra", "no ring of three or four atoms", ~small)]
    for part, which, mask in rows:
        error = (ours - theirs)[mask, PARTS.index(part)]
        within = (np.abs(error) <= 0.05).mean()
        print(
            f"| {part} | {which} | {len(error)} | {np.sqrt((error**2).mean()):.4f} | {np.abs(error).max():.4f} | {within:.1%} |"
        )
    print(f"\nRank correlation of the totals: {spearmanr(ours[:, 0], theirs[:, 0]).statistic:.6f}")
    error = np.array(grid) - np.array(summed)
    if len(error):
        low = error[np.array(summed) < 0]
        print(
            f"Maps of Vina against its sums, inter: {len(low)} poses below zero, rms {np.sqrt((low**2).mean()):.3f}, max {np.abs(low).max():.3f} kcal/mol; "
            f"all {len(error)}: max {np.abs(error).max():.3f}"
        )


def rates(contenders: dict[str, Callable[[], int]], turns: int, seconds: float) -> dict[str, float]:
    """Returns the median number of poses per second of each contender; they take turns."""
    seen: dict[str, list[float]] = {name: [] for name in contenders}
    for run in contenders.values():
        run()
    for _ in range(turns):
        for name, run in contenders.items():
            begin, done = time.process_time(), 0
            while time.process_time() - begin < seconds:
                done += run()
            seen[name].append(done / (time.process_time() - begin))
    return {name: statistics.median(each) for name, each in seen.items()}


def speed(folder: Path, poses: int, turns: int, seconds: float) -> None:
    """Prints the table of speed, on the first complex of the folder `jacs_set`, or the first there is."""
    paths = sorted(folder.glob("jacs_set/*_protein.pdb")) or sorted(folder.glob("*/*_protein.pdb"))
    receptor = read_receptor(paths[0])
    mol = Chem.SDMolSupplier(str(paths[0]).replace("_protein.pdb", "_ligands.sdf"), removeHs=False)[0]
    ligand, x = docking_ligand(mol), ligand_positions(mol)
    box = Box.around(x)
    x = x + 0.3 * torch.randn(poses, 1, 3, generator=torch.Generator().manual_seed(0), dtype=x.dtype)
    eager, compiled = (DockingEnergy(receptor, ligand, box, compile=each) for each in (False, True))
    program = VinaProgram(receptor, box)
    texts = []
    for pose in x[:32]:
        mol.GetConformer().SetPositions(pose.numpy())
        texts.append(program.pdbqt(mol))

    def vina() -> int:
        for text in texts:
            program.load_pdbqt(text)
            program.score()
        return len(texts)

    def vina_again() -> int:
        for _ in range(100):
            program.score()
        return 100

    def torch_run(run: Callable[[torch.Tensor], object], dtype: torch.dtype) -> Callable[[], int]:
        batch = x.to(dtype)

        def once() -> int:
            run(batch)
            return len(batch)

        return once

    contenders = {
        "Vina: a pose as text, and its score": vina,
        "Vina: score() of one pose again": vina_again,
        "torch: scores, float64": torch_run(eager.score, torch.float64),
        "torch: scores, float32": torch_run(eager.score, torch.float32),
        "torch: energies and forces, float64": torch_run(eager.energy_and_force, torch.float64),
        "torch: energies and forces, float32": torch_run(eager.energy_and_force, torch.float32),
        "torch, compiled: energies and forces, float64": torch_run(compiled.energy_and_force, torch.float64),
        "torch, compiled: energies and forces, float32": torch_run(compiled.energy_and_force, torch.float32),
    }
    found = rates(contenders, turns, seconds)
    wheel, loop = found["Vina: a pose as text, and its score"], found["Vina: score() of one pose again"]
    print(
        f"\nPoses per second on one core: {paths[0].name.removesuffix('_protein.pdb')}, {len(ligand.types)} heavy atoms, batches of {poses}\n"
    )
    print("| contender | poses/s | to the wheel | to its loop |\n|---|---|---|---|")
    for name, rate in found.items():
        print(f"| {name} | {rate:,.0f} | {rate / wheel:,.0f} | {rate / loop:.4f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of complexes")
    parser.add_argument("--every", type=int, default=2, help="of the receptors, every so many")
    parser.add_argument("--poses", type=int, default=4, help="ligands of each receptor")
    parser.add_argument("--grids", type=int, default=6, help="receptors whose maps are computed")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--parts", default="agreement,speed")
    parser.add_argument("--quick", action="store_true", help="few complexes and short turns: numbers to see that it runs")
    options = parser.parse_args()
    if not any(options.data.glob("*/*_protein.pdb")):
        sys.exit(f"no complexes in '{options.data}': expected folders with NAME_protein.pdb and NAME_ligands.sdf")
    RDLogger.DisableLog("rdApp.*")
    torch.set_num_threads(1)
    begin = time.perf_counter()
    if "agreement" in options.parts:
        agreement(options.data, 20 if options.quick else options.every, options.poses, 1 if options.quick else options.grids)
    if "speed" in options.parts:
        speed(options.data, options.batch, 3 if options.quick else 7, 0.5 if options.quick else 3.0)
    print(f"\n{time.perf_counter() - begin:.0f} s, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
