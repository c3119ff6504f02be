"""Figure 3 of docs/results.md: ratios of speed, all measured in one run on the same cores.

    python benchmarks/speed.py --threads 2

1. One training step, eager fp32, eager bf16, compiled fp32, compiled bf16: median of several steps, the four in turn.
2. Statistically independent conformations per second: the sampler against OpenMM's fastest configuration on the same cores. MD frames are
   counted as independent every 2 tau, with tau the slowest relaxation time of phi/psi (TICA) of plain dynamics at 300 K.
3. Sampling and training cost and peak memory against the number of atoms (22-200) and the batch size; written as a plot.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import time
from pathlib import Path

import numpy as np
import torch

import equilibra
from equilibra.data.conformations import ConformationData, Conformations
from equilibra.diffusion.objectives.noise_levels import NoiseLevels
from equilibra.diffusion.objectives.score_matching import ScoreMatching
from equilibra.memory import keep_freed_memory
from equilibra.state.randomness import generator_for
from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.molecule.system import molecule_system


def training_step(data: ConformationData, *, compiled: bool, bf16: bool, batch: int):
    """Returns a function that makes one whole optimiser step."""
    denoiser = molecule_denoiser(molecule_process(1.7), molecule_network_config(), seed=0)
    if compiled:
        denoiser.network.compile(dynamic=False)
    objective = ScoreMatching(denoiser.process, NoiseLevels(), forces=data.has_forces)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=1e-4)
    counter = iter(range(10**9))

    def step() -> None:
        k = next(counter)
        sample = data.batch(batch, generator=generator_for(0, k))
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = objective(denoiser, sample, generator=generator_for(1, k))["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()

    return step


def median_times(functions: dict, repeats: int) -> dict[str, float]:
    """Returns the median time of each function; they run in turn, so that drift of the machine hits all alike."""
    for function in functions.values():
        function()
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def synthetic(source: str, frames: int = 512) -> ConformationData:
    """Returns perturbed copies of a molecule's reference: enough to time a step."""
    system = molecule_system(source)
    generator = generator_for(0, 1)
    x = torch.from_numpy(np.array(system.reference)).float()[None] + 0.05 * torch.randn(
        frames, system.atoms, 3, generator=generator
    )
    x = x - x.mean(1, keepdim=True)
    return ConformationData([Conformations(system, x, 10.0 * torch.randn(x.shape, generator=generator))])


def openmm_rate(seconds: float, hydrogen_mass: float, time_step: float) -> float:
    """Returns ns of dynamics per second of wall time of one process."""
    import openmm
    from openmm import unit

    from equilibra.energies.openmm_system import ForceFieldConfig, make_openmm_system
    from equilibra.systems.molecule.peptide import build_peptide

    topology, positions = build_peptide("ACE-ALA-NME")
    system = make_openmm_system(topology, ForceFieldConfig(constraints="h-bonds", hydrogen_mass=hydrogen_mass))
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 1 / unit.picosecond, time_step * unit.femtosecond)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(positions)
    openmm.LocalEnergyMinimizer.minimize(context)
    integrator.step(2000)
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        integrator.step(2000)
        steps += 2000
    return steps * time_step * 1e-6 / (time.perf_counter() - start)


def _openmm_worker(arguments: tuple[float, float, float]) -> float:
    return openmm_rate(*arguments)


def independent_md(processes: int, seconds: float, relaxation_ps: float) -> tuple[float, float]:
    """Returns ns per second of all processes together, and independent conformations per second."""
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        rate = sum(pool.map(_openmm_worker, [(seconds, 4.0, 4.0)] * processes))
    return rate, rate * 1000.0 / (2.0 * relaxation_ps)


def relaxation(trajectories: list[Path], topology: Path, interval_ps: float) -> float:
    """Returns the slowest relaxation time of phi/psi in ps by TICA on plain dynamics, at a lag of 10 ps."""
    import mdtraj

    from equilibra.analysis.tica_w2 import fit_tica, torsion_features

    runs = []
    for path in trajectories:
        frames = mdtraj.load(str(path), top=str(topology))
        runs.append(torsion_features(np.concatenate([mdtraj.compute_phi(frames)[1], mdtraj.compute_psi(frames)[1]], axis=1)))
    lag = max(1, round(10.0 / interval_ps))
    return float(fit_tica(runs, lag=lag).relaxation_times[0]) * interval_ps


def sampling_rate(model, source: str, n: int, *, compiled: bool, bf16: bool) -> float:
    """Returns samples per second, without the first block, in which a compiled network is built."""
    system = molecule_system(source)
    from equilibra.sampling.grid import noise_grid
    from equilibra.sampling.sampler import draw
    from equilibra.systems.molecule.domain import template

    denoiser = model.bind(system, compile=compiled, precision="bf16" if bf16 else "fp32")
    levels = noise_grid(model.process, model.sampler.grid)
    draw(model.sampler.make(), denoiser, template(system, 125), levels, generator=generator_for(0, 0))
    start = time.perf_counter()
    for block in range(1, 1 + n // 125):
        draw(model.sampler.make(), denoiser, template(system, 125), levels, generator=generator_for(0, block))
    return (n // 125) * 125 / (time.perf_counter() - start)


def cost_curves(sizes: list[str], batches: list[int], path: Path) -> None:
    """Prints and plots the time of a training step and of a network call against the number of atoms and the batch size."""
    from matplotlib.figure import Figure

    rows = []
    for source in sizes:
        data = synthetic(source, 64)
        atoms = data.entries[0].system.features.tokens
        denoiser = molecule_denoiser(molecule_process(1.7), molecule_network_config(), seed=0).eval()
        for batch in batches:
            sample = data.batch(batch, generator=generator_for(0, 0))
            t = torch.full((batch,), 0.5)

            def call(sample=sample, t=t, denoiser=denoiser) -> None:
                with torch.no_grad():
                    denoiser(sample.state, t, sample.features)

            step = training_step(data, compiled=False, bf16=True, batch=batch)
            times = median_times({"call": call, "step": step}, 3)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            rows.append((atoms, batch, 1000 * times["call"] / batch, 1000 * times["step"] / batch, peak))
    print(
        "\n| atoms | batch | network call, ms per conformation | training step (eager bf16), ms per conformation | peak memory so far, GiB |"
    )
    print("|---|---|---|---|---|")
    for atoms, batch, call_ms, step_ms, peak in rows:
        print(f"| {atoms} | {batch} | {call_ms:.2f} | {step_ms:.2f} | {peak:.2f} |")
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots(1, 2)
    for batch in batches:
        chosen = [row for row in rows if row[1] == batch]
        axes[0].loglog([row[0] for row in chosen], [row[2] for row in chosen], "o-", label=f"batch {batch}")
        axes[1].loglog([row[0] for row in chosen], [row[3] for row in chosen], "o-", label=f"batch {batch}")
    for axis, title in zip(axes, ("one network call", "one training step"), strict=True):
        atoms = sorted({row[0] for row in rows})
        axis.set_xticks(atoms, [str(n) for n in atoms])
        axis.minorticks_off()
        axis.set(xlabel="atoms", ylabel="ms per conformation", title=title)
        axis.legend(frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--model", default="molecule-ala2")
    parser.add_argument("--dynamics", type=Path, nargs="+", required=True, help="trajectories of plain dynamics at 300 K")
    parser.add_argument("--topology", type=Path, required=True, help="their topology")
    parser.add_argument("--interval-ps", type=float, default=1.0, help="time between their frames")
    parser.add_argument("--plot", type=Path, default=Path("docs/assets/cost.png"))
    parser.add_argument("--sizes", nargs="*", default=[f"ACE-{'ALA-' * k}NME" for k in (1, 3, 8, 18)])
    parser.add_argument("--batches", type=int, nargs="*", default=[16, 64])
    parser.add_argument("--parts", nargs="*", default=["step", "sampling", "cost"])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()

    if "step" in arguments.parts:
        data = synthetic("ACE-ALA-NME")
        variants = {
            f"{'compiled' if compiled else 'eager'} {'bf16' if bf16 else 'fp32'}": training_step(
                data, compiled=compiled, bf16=bf16, batch=arguments.batch
            )
            for compiled in (False, True)
            for bf16 in (False, True)
        }
        times = median_times(variants, arguments.repeats)
        print(
            f"training step, 22 atoms, batch {arguments.batch}, {arguments.threads} threads, median of {arguments.repeats}:\n"
        )
        print("| variant | relative time | speed-up over eager fp32 |\n|---|---|---|")
        for name, value in times.items():
            print(f"| {name} | {value / times['eager fp32']:.3f} | {times['eager fp32'] / value:.2f} |")
    if "sampling" in arguments.parts:
        tau = relaxation(arguments.dynamics, arguments.topology, arguments.interval_ps)
        nanoseconds, md = independent_md(arguments.threads, 15.0, tau)
        model = equilibra.load(arguments.model)
        print(
            f"\nslowest relaxation time of phi/psi: {tau:.0f} ps; OpenMM {nanoseconds * 86400:.0f} ns/day on {arguments.threads} cores,"
        )
        print(f"{md:.3f} independent conformations/s\n\n| sampler | conformations/s | ratio to OpenMM |\n|---|---|---|")
        for name, compiled, bf16 in (
            ("eager fp32", False, False),
            ("compiled fp32", True, False),
            ("compiled bf16", True, True),
        ):
            rate = sampling_rate(model, "ACE-ALA-NME", 1000, compiled=compiled, bf16=bf16)
            print(f"| {name} | {rate:.0f} | {rate / md:.0f} |")
    if "cost" in arguments.parts:
        cost_curves(arguments.sizes, arguments.batches, arguments.plot)


if __name__ == "__main__":
    main()
