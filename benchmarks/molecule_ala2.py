"""Figure 2 of docs/results.md: `molecule-ala2` against independent reference runs.

    python benchmarks/molecule_ala2.py --reference md/ -n 10000

`md/` is a folder of `equilibra simulate` with at least two independent runs whose frames were not used in training. Prints Markdown tables:
every metric beside its floor (two independent runs of the reference at the same N) and a baseline, and quality against network calls.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch

import equilibra
from equilibra.analysis.evaluate import evaluate
from equilibra.analysis.geometry_statistics import compare_bonds
from equilibra.analysis.ramachandran import population, ramachandran_jsd
from equilibra.analysis.stereo import check_stereocentres
from equilibra.analysis.torus_w2 import torus_w2
from equilibra.geometry.internal_coordinates import dihedrals
from equilibra.memory import keep_freed_memory
from equilibra.report.free_energy_surface import ramachandran_surface
from equilibra.report.plots import quality_curve
from equilibra.sampling.choose import SamplerConfig
from equilibra.sampling.grid import GridConfig, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state.randomness import generator_for
from equilibra.systems.molecule.files import mdtraj_trajectory, read_frames
from equilibra.systems.molecule.torsions import torsion_quadruples


def draw_unfiltered(model, denoiser, system, sampler: SamplerConfig, n: int, seed: int, block: int = 125) -> np.ndarray:
    """Draws n samples without any filter, in blocks, as (n, atoms, 3) in Å."""
    from equilibra.systems.molecule.domain import template

    levels = noise_grid(model.process, sampler.grid)
    parts = []
    for index in range(-(-n // block)):
        generator = generator_for(seed, index)
        state = draw(sampler.make(), denoiser, template(system, block), levels, generator=generator)
        parts.append(state.fields["pos"].numpy())
    return np.concatenate(parts)[:n]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--model", default="molecule-ala2")
    parser.add_argument("--molecule", default="ACE-ALA-NME")
    parser.add_argument("-n", type=int, default=10_000)
    parser.add_argument("--curve-n", type=int, default=2000)
    parser.add_argument("--calls", type=int, nargs="*", default=[10, 15, 20, 25, 29, 40])
    parser.add_argument("--seed", type=int, default=20261)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="compile the network first")
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--save", type=Path, default=None, help="keep the samples as .npz")
    parser.add_argument("--picture", type=Path, default=None, help="draw model and reference side by side, as PNG")
    parser.add_argument("--curve", type=Path, default=None, help="draw quality against network calls, as PNG")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    model = equilibra.load(arguments.model)
    system = model.systems(arguments.molecule)[0]
    files = sorted(arguments.reference.glob("trajectory-*.*"))
    runs = [read_frames(path, system.topology)[0] for path in files]
    quadruples = np.array(list(torsion_quadruples(system).values()))
    reference_angles = [dihedrals(run.astype(np.float64), quadruples) for run in runs]
    print(f"reference: {len(runs)} runs of {[len(run) for run in runs]} frames; model {model.name} ({model.sha256[:12]})\n")

    keep_freed_memory()
    denoiser = model.bind(system, compile=arguments.compile, precision=arguments.precision)
    start = time.perf_counter()
    positions = draw_unfiltered(model, denoiser, system, model.sampler, arguments.n, arguments.seed)
    seconds = time.perf_counter() - start
    calls = model.sampler.make().calls(noise_grid(model.process, model.sampler.grid))
    print(
        f"{arguments.n} samples without any filter, {calls} network calls, {arguments.n / seconds:.0f} samples/s, seed {arguments.seed}\n"
    )
    if arguments.save:
        np.savez(arguments.save, positions=positions)
    rng = np.random.default_rng(0)
    table = evaluate(
        mdtraj_trajectory(positions, system.topology),
        [mdtraj_trajectory(run, system.topology) for run in runs],
        rng=rng,
        n=arguments.n,
        lag=None,
        centres=system.stereo_centres,
        signs=system.stereo_signs,
    )
    print(table.to_text(), "\n")
    angles = dihedrals(positions.astype(np.float64), quadruples)
    names = list(torsion_quadruples(system))
    pairs = [(f"phi{n[3:]}", f"psi{n[3:]}") for n in names if n.startswith("phi")]
    phi, psi = (names.index(name) for name in pairs[0])
    for label, run in (
        ("model", [angles]),
        *((f"reference run {k}", [a]) for k, a in enumerate(reference_angles)),
        ("all reference runs", reference_angles),
    ):
        share = population([a[:, [phi, psi]] for a in run], "phi>0", correlated=label != "model")
        print(f"population of 0 < phi < 2 rad, {label}: {share}")
    if arguments.picture:
        joined = np.concatenate(reference_angles)
        arguments.picture.write_bytes(
            ramachandran_surface(
                angles[:, phi],
                angles[:, psi],
                temperature=300.0,
                reference=(joined[:, phi], joined[:, psi]),
                reference_label="molecular dynamics",
            )
        )
    print(
        "\n| network calls | Ramachandran JSD (bits) | torus W2 | stereo right | bond error (Å) | bond std ratio |\n|---|---|---|---|---|---|"
    )
    bonds = np.array([[b.GetBeginAtomIdx(), b.GetEndAtomIdx()] for b in system.mol.GetBonds()])
    numbers = np.array([a.GetAtomicNum() for a in system.mol.GetAtoms()])
    pool = np.concatenate(runs)
    pool_angles = np.concatenate(reference_angles)[:, [phi, psi]]
    m = arguments.curve_n
    first, second = (a[rng.choice(len(a), m, replace=False)][:, [phi, psi]] for a in reference_angles[:2])
    values = []
    for steps in arguments.calls:
        config = SamplerConfig(name=model.sampler.name, grid=GridConfig(**{**vars(model.sampler.grid), "steps": steps - 1}))
        x = draw_unfiltered(model, denoiser, system, config, m, arguments.seed + 1)
        a = dihedrals(x.astype(np.float64), quadruples)[:, [phi, psi]]
        against = pool_angles[rng.choice(len(pool_angles), m, replace=False)]
        geometry = compare_bonds(x, pool[rng.choice(len(pool), m, replace=False)], bonds, numbers)
        stereo = check_stereocentres(x, system.stereo_centres, system.stereo_signs)
        values.append(ramachandran_jsd(a, against))
        print(
            f"| {steps} | {values[-1]:.4f} | {torus_w2(a, against, rng=rng, n=m):.3f} | {stereo.fraction:.4f} "
            f"| {geometry.heavy_mean_error:.4f} | {geometry.heavy_std_ratio:.3f} |"
        )
    lowest = ramachandran_jsd(first, second)
    print(f"| floor (N = {m}) | {lowest:.4f} | {torus_w2(first, second, rng=rng, n=m):.3f} | 1 | | 1 |")
    if arguments.curve:
        arguments.curve.write_bytes(quality_curve(arguments.calls, values, lowest))


if __name__ == "__main__":
    main()
