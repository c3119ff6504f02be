r"""Dynamics of many walkers of a peptide in one batch, half of them for training and half kept out: the data of the shipped protein model and the yard-stick of its figures.

    python benchmarks/peptide_md.py GLY-TYR-ASP-PRO-GLU-THR-GLY-THR-TRP-GLY --fold cln_kcenters_32clusters_coords.xtc:22 --walkers 64 --time 1000 -o data/chignolin
    python benchmarks/peptide_md.py ACE-ALA-GLU-ALA-ALA-ALA-LYS-ALA-NME --walkers 64 --time 2000 --settle 500 -o data/heptapeptide

Walkers begin in conformers of distance geometry, or with `--fold` all in one structure: a chain that harmonic springs between the C-alpha atoms pulled to the shape of a frame given (then let go).
They are heated to `--hot` for a moment, so that they part, and settle at the temperature before frames are kept. Walkers of the two halves share nothing but the start: what differs between the halves is what dynamics of
this length cannot tell. Langevin dynamics (BAOAB) without constraints, hydrogens of 3 u, which leaves averages over positions alone.

The folder holds `topology.pdb`, `train.dcd`, and `kept-NN.dcd` for each walker that is kept out, for `protein_mini.py ensemble`. A run that is interrupted writes the frames that it has.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Iterator
from pathlib import Path

import mdtraj
import numpy as np
import torch

from equilibra.energies.energy import ReducedEnergy
from equilibra.energies.langevin import LangevinDynamics
from equilibra.energies.openmm_system import ForceFieldConfig, make_openmm_system
from equilibra.energies.walkers import Walkers, evaluate
from equilibra.systems.files import mdtraj_trajectory
from equilibra.systems.molecule.energy import conformers, molecule_energy
from equilibra.systems.molecule.system import MoleculeSystem, molecule_system
from equilibra.units import thermal_energy

HYDROGEN = 3.0
"""Mass of a hydrogen in u; its heavy atom gives what it gets."""
SPRING = 5000.0
"""Spring between C-alpha atoms while a chain is folded, in kJ/mol/nm²."""
NEAR = 1.5
"""C-alpha RMSD in Å at which a chain counts as folded."""
ATTEMPTS = 10
"""How many conformers are pulled to a shape before that is given up."""


def heavy_masses(system: MoleculeSystem, field: str) -> torch.Tensor:
    """Returns masses (N,) in u with heavy hydrogens, the mass of the whole unchanged."""
    from openmm import unit

    mechanics = make_openmm_system(system.topology.to_openmm(), ForceFieldConfig(name=field, hydrogen_mass=HYDROGEN))
    masses = [mechanics.getParticleMass(i).value_in_unit(unit.dalton) for i in range(mechanics.getNumParticles())]
    return torch.tensor(masses, dtype=torch.float32)


def folded(system: MoleculeSystem, starts: np.ndarray, shape: np.ndarray, *, field: str, seed: int) -> np.ndarray:
    """Pulls a chain to the C-alpha distances of a shape (L, 3) in Å and returns it (N, 3), relaxed without springs.

    Distances do not tell a shape from its mirror image, so that one start after the other (K, N, 3) is pulled until one comes to the shape.
    """
    import openmm
    from openmm import unit

    topology = system.topology.to_openmm()
    mechanics = make_openmm_system(topology, ForceFieldConfig(name=field))
    alphas = [atom.index for atom in topology.atoms() if atom.name == "CA"]
    if len(alphas) != len(shape):
        raise SystemExit(f"--fold: got a shape of {len(shape)} C-alpha atoms, expected {len(alphas)}")
    pairs = [(i, j) for i in range(len(alphas)) for j in range(i + 2, len(alphas))]
    springs = openmm.CustomBondForce("0.5 * strength * (r - length)^2")
    springs.addGlobalParameter("strength", SPRING)
    springs.addPerBondParameter("length")
    for i, j in pairs:
        springs.addBond(alphas[i], alphas[j], [float(np.linalg.norm(shape[i] - shape[j])) / 10.0])
    mechanics.addForce(springs)
    wanted = mdtraj.Trajectory(shape[None] / 10.0, None)
    for number, start in enumerate(starts[:ATTEMPTS]):
        integrator = openmm.LangevinMiddleIntegrator(700.0, 5.0, 0.001)
        integrator.setRandomNumberSeed(seed + number + 1)
        simulation = openmm.app.Simulation(topology, mechanics, integrator)
        simulation.context.setPositions(start / 10.0)
        simulation.minimizeEnergy()
        for temperature in np.linspace(700.0, 300.0, 9):
            integrator.setTemperature(float(temperature))
            simulation.step(3000)
        simulation.context.setParameter("strength", 0.0)
        simulation.minimizeEnergy()
        x = simulation.context.getState(getPositions=True).getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        rmsd = 10.0 * float(mdtraj.rmsd(mdtraj.Trajectory(x[None, alphas] / 10.0, None), wanted)[0])
        print(f"folded, attempt {number + 1}: C-alpha RMSD {rmsd:.2f} Å to the shape", flush=True)
        if rmsd < NEAR:
            return np.asarray(x)
    raise SystemExit(f"--fold: no chain came within {NEAR} Å of the shape in {ATTEMPTS} attempts; try another --seed")


def run(args: argparse.Namespace) -> None:
    """Runs all walkers in one batch and writes their frames."""
    torch.set_num_threads(args.threads)
    system = molecule_system(args.peptide)
    energy = molecule_energy(system, args.force_field, compile=True)
    begin = conformers(system, args.walkers, seed=args.seed)
    if args.fold:
        trajectory, frame = args.fold.rsplit(":", 1)
        with mdtraj.open(trajectory) as file:
            shape = 10.0 * file.read()[0][int(frame)].astype(np.float64)
        begin = folded(system, begin, shape, field=args.force_field, seed=args.seed)[None]
    x = torch.from_numpy(np.resize(begin, (args.walkers, *begin.shape[1:]))).float()
    reduced = ReducedEnergy.at(energy, args.temperature)
    per_fs = np.sqrt(thermal_energy(args.temperature)) / 10.180505  # the clock is Å (u/kT)^1/2, and Å (u/eV)^1/2 is 10.18 fs
    engine = LangevinDynamics(step=args.step * per_fs, friction=1e-3 / per_fs, masses=heavy_masses(system, args.force_field))
    generator = torch.Generator().manual_seed(args.seed)

    def stretch(start: Walkers, picoseconds: float, temperature: float, every: float) -> Iterator[Walkers]:
        steps, each = round(1000.0 * picoseconds / args.step), round(1000.0 * every / args.step)
        return engine.trajectory(
            start, reduced, steps=steps, every=each, generator=generator, beta=args.temperature / temperature
        )

    walkers = evaluate(x, reduced)
    for temperature, length in ((args.hot, args.heat), (args.temperature, args.settle)):
        *_, walkers = stretch(walkers, length, temperature, min(10.0, length))
        print(f"{length:g} ps at {temperature:g} K: mean energy {float(walkers.u.mean()):.1f} kT", flush=True)
    frames = []
    with contextlib.suppress(KeyboardInterrupt):
        for number, now in enumerate(stretch(walkers, args.time, args.temperature, args.interval), start=1):
            frames.append(now.x.numpy().astype(np.float32))
            if number % 10 == 0:
                print(
                    f"{number * args.interval:g} of {args.time:g} ps; mean energy {float(now.u.mean()):.1f} kT; {reduced.calls:,} energy calls",
                    flush=True,
                )
    if not frames:
        raise SystemExit("interrupted before the first frame: nothing is written")
    save(args.out, system, np.stack(frames, axis=1))


def save(out: Path, system: MoleculeSystem, frames: np.ndarray) -> None:
    """Writes the frames (walkers, F, N, 3) in Å, the first half of the walkers for training."""
    out.mkdir(parents=True, exist_ok=True)
    topology = mdtraj.Topology.from_openmm(system.topology.to_openmm())
    mdtraj_trajectory(frames[0, :1], topology).save_pdb(str(out / "topology.pdb"))
    trained, kept = np.split(frames, [len(frames) // 2])
    mdtraj_trajectory(np.concatenate(trained), topology).save_dcd(str(out / "train.dcd"))
    for walker, x in enumerate(kept):
        mdtraj_trajectory(x, topology).save_dcd(str(out / f"kept-{walker:02d}.dcd"))
    print(f"{len(frames)} walkers of {frames.shape[1]} frames in '{out}'")


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peptide", help="residues with their ends, such as ACE-ALA-NME")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument(
        "--fold", metavar="FILE:FRAME", help="XTC file of C-alpha atoms, and which of its frames is the shape to begin with"
    )
    parser.add_argument("--force-field", default="amber14-gbn2")
    parser.add_argument("--walkers", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--hot", type=float, default=500.0, help="K")
    parser.add_argument("--heat", type=float, default=20.0, help="ps at the hot temperature")
    parser.add_argument("--settle", type=float, default=100.0, help="ps that are not kept")
    parser.add_argument("--time", type=float, default=1000.0, help="ps of each walker that are kept")
    parser.add_argument("--interval", type=float, default=5.0, help="ps between frames")
    parser.add_argument("--step", type=float, default=2.0, help="fs")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    run(parser.parse_args())


if __name__ == "__main__":
    main()
