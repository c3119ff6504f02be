"""Energies and forces in torch against OpenMM, the cost of a training step by objective, and of a likelihood: the tables of `docs/results.md`.

    python benchmarks/energy_speed.py
    python benchmarks/energy_speed.py --quick

Each contender lives in a process of its own, with the number of threads it is named for; all take turns, so that ratios come from one run on the same
cores. Rates are medians over the turns. Leave the machine alone meanwhile.

1. Evaluations of energy and forces per second: `torch` on batches, eager or compiled; OpenMM's native `GBSAOBCForce` and its interpreted `CustomGBForce`
   (`amber14-all.xml` with `implicit/obc2.xml`, as OpenMM makes it). `getState` sets positions, and asks for energy and forces, from Python;
   `steps` are those of a Verlet integrator, one force each and no energy, which is as fast as OpenMM gets.
2. Optimiser steps of the objectives on networks of one size, fp32 without compiling: 22 atoms, 64 conformations.
3. Log-densities by the probability flow of a random network.
"""

import argparse
import multiprocessing
import statistics
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection

PEPTIDES = {"ACE-ALA-NME": "ACE-ALA-NME", "chignolin": "GLY-TYR-ASP-PRO-GLU-THR-GLY-THR-TRP-GLY"}


def peptide(name: str):
    """Returns topology and positions (atoms, 3) in Å."""
    import torch
    from openmm import unit

    from equilibra.systems.molecule.peptide import build_peptide

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        topology, positions = build_peptide(PEPTIDES[name])
    return topology, torch.tensor(positions.value_in_unit(unit.angstrom), dtype=torch.float64)


def torch_evaluations(name: str, *, dtype: str, compiled: bool, batch: int, device: str) -> Callable[[], int]:
    """Returns a function that evaluates one batch and returns its size."""
    import torch

    from equilibra.energies.molecular_mechanics import molecular_mechanics
    from equilibra.energies.openmm_system import ForceFieldConfig

    topology, positions = peptide(name)
    energy = molecular_mechanics(topology, ForceFieldConfig(name="amber14-obc2"), compile=compiled)
    noise = torch.randn(batch, *positions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = (positions + 0.03 * noise).to(device, getattr(torch, dtype))

    def evaluate() -> int:
        energy.energy_and_force(x)
        if device == "cuda":
            torch.cuda.synchronize()
        return batch

    return evaluate


def openmm_evaluations(name: str, *, native: bool, platform: str, steps: bool) -> Callable[[], int]:
    """Returns a function that makes some evaluations with OpenMM and returns their number."""
    import openmm
    from openmm import app

    from equilibra.energies.openmm_system import FORCE_FIELDS, native_born

    topology, positions = peptide(name)
    field = app.ForceField(*FORCE_FIELDS["amber14-obc2"])
    system = field.createSystem(topology, nonbondedMethod=app.NoCutoff, constraints=None, rigidWater=False)
    if native:
        system = native_born(system)
    chosen = openmm.Platform.getPlatformByName(platform)
    properties = {"Threads": "1"} if platform == "CPU" else {}
    integrator = openmm.VerletIntegrator(0.0001)
    context = openmm.Context(system, integrator, chosen, properties)
    x = positions.numpy() / 10.0
    context.setPositions(x)

    def state() -> int:
        context.setPositions(x)
        found = context.getState(getEnergy=True, getForces=True)
        found.getForces(asNumpy=True)
        return 1

    def verlet() -> int:
        context.getIntegrator().step(20)
        return 20

    return verlet if steps else state


def serve(link: Connection, kind: str, threads: int, name: str, known: dict) -> None:
    """Makes evaluations whenever it is asked to, for as many seconds as it is asked; answers with the rate."""
    import torch

    torch.set_num_threads(threads)
    evaluate = (torch_evaluations if kind == "torch" else openmm_evaluations)(name, **known)
    evaluate()
    evaluate()
    link.send("ready")
    while (seconds := link.recv()) > 0.0:
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            done += evaluate()
        link.send(done / (time.perf_counter() - begin))


class Contender:
    """Processes that evaluate together.

    Arguments:
        kind: `torch` or `openmm`.
        processes: Number of processes.
        threads: Threads of each.
        name: The molecule.
        known: What else the evaluations are made of.
    """

    def __init__(self, kind: str, processes: int, threads: int, name: str, **known) -> None:
        context = multiprocessing.get_context("spawn")
        self.links, self.processes = [], []
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=serve, args=(there, kind, threads, name, known), daemon=True)
            process.start()
            there.close()
            self.links.append(here)
            self.processes.append(process)
            here.recv()

    def rate(self, seconds: float) -> float:
        """Returns evaluations per second of all processes together."""
        for link in self.links:
            link.send(seconds)
        return sum(link.recv() for link in self.links)

    def close(self) -> None:
        """Ends the processes."""
        for link, process in zip(self.links, self.processes, strict=True):
            link.send(0.0)
            process.join()


def contenders(name: str, batch: int, quick: bool) -> dict[str, Callable[[], Contender]]:
    """Returns what makes each contender, by its name in the table."""
    import torch

    made: dict[str, Callable[[], Contender]] = {}

    def torch_row(label: str, processes: int, threads: int, **known) -> None:
        made[label] = lambda: Contender("torch", processes, threads, name, batch=batch, **{"device": "cpu", **known})

    def openmm_row(label: str, processes: int, **known) -> None:
        made[label] = lambda: Contender("openmm", processes, 1, name, **known)

    torch_row("torch eager fp32, 1 thread", 1, 1, dtype="float32", compiled=False)
    if not quick:
        torch_row("torch compiled fp32, 1 thread", 1, 1, dtype="float32", compiled=True)
        torch_row("torch compiled fp64, 1 thread", 1, 1, dtype="float64", compiled=True)
        torch_row("torch compiled fp32, 2 threads", 1, 2, dtype="float32", compiled=True)
        torch_row("torch compiled fp32, 2 processes", 2, 1, dtype="float32", compiled=True)
        torch_row("torch compiled fp64, 2 processes", 2, 1, dtype="float64", compiled=True)
    if torch.cuda.is_available():
        for dtype in ("float32", "float64"):
            torch_row(f"torch compiled {dtype}, CUDA", 1, 1, dtype=dtype, compiled=not quick, device="cuda")
    for processes in (1, 2):
        label = f"{processes} process{'es' if processes > 1 else ''}"
        openmm_row(f"OpenMM Reference, native, steps, {label}", processes, native=True, platform="Reference", steps=True)
        openmm_row(f"OpenMM Reference, native, getState, {label}", processes, native=True, platform="Reference", steps=False)
        openmm_row(
            f"OpenMM Reference, CustomGBForce, steps, {label}", processes, native=False, platform="Reference", steps=True
        )
        openmm_row(f"OpenMM CPU, CustomGBForce, steps, {label}", processes, native=False, platform="CPU", steps=True)
    return made


NATIVE = "OpenMM Reference, native, steps, 2 processes"
CUSTOM = "OpenMM Reference, CustomGBForce, steps, 2 processes"
CUSTOM_CPU = "OpenMM CPU, CustomGBForce, steps, 2 processes"


def energies(name: str, batch: int, turns: int, seconds: float, quick: bool) -> None:
    """Prints evaluations per second of all contenders, in turns."""
    import torch

    running = {label: make() for label, make in contenders(name, batch, quick).items()}
    try:
        for contender in running.values():
            contender.rate(seconds)
        rates: dict[str, list[float]] = {label: [] for label in running}
        for _ in range(turns):
            for label, contender in running.items():
                rates[label].append(contender.rate(seconds))
    finally:
        for contender in running.values():
            contender.close()
    found = {label: statistics.median(values) for label, values in rates.items()}
    print(
        f"\n{name}, amber14-obc2 without a cut-off; torch in batches of {batch}; {turns} turns of {seconds:g} s each, in turn; spread is half the range over the "
        f"turns. Ratios are to rows with two processes of OpenMM.\n"
    )
    print(
        "| contender | evaluations/s | spread | to native (Reference) | to CustomGBForce (Reference) | to CustomGBForce (CPU) |\n|---|---|---|---|---|---|"
    )
    for label, value in found.items():
        spread = 0.5 * (max(rates[label]) - min(rates[label])) / value
        print(
            f"| {label} | {value:,.0f} | ± {100 * spread:.0f} % | {value / found[NATIVE]:.2f} | {value / found[CUSTOM]:.2f} | "
            f"{value / found[CUSTOM_CPU]:.2f} |"
        )
    if torch.cuda.is_available():
        print(f"\nGPU: {torch.cuda.get_device_name()}")
    best = max((label for label in found if "torch" in label and "CUDA" not in label), key=lambda label: found[label])
    print(
        f"\nFastest torch row on the CPU: {best}: {found[best] / found[NATIVE]:.2f} x native on two processes (goal: at least 1); "
        f"{found[best] / found[CUSTOM]:.1f} x CustomGBForce on the Reference platform and {found[best] / found[CUSTOM_CPU]:.1f} x on the CPU platform (goal: at least 8).",
        flush=True,
    )


def training_batch(batch: int):
    """Returns the features of the molecule and a batch of perturbed copies with random forces and energies."""
    import numpy as np
    import torch

    from equilibra.diffusion.objectives.batch import TrainingBatch
    from equilibra.state.randomness import generator_for
    from equilibra.state.state import State
    from equilibra.systems.molecule.system import molecule_system

    system = molecule_system("ACE-ALA-NME")
    generator = generator_for(0, 1)
    reference = torch.from_numpy(np.array(system.reference)).float()
    x = reference + 0.05 * torch.randn(batch, *reference.shape, generator=generator)
    features = system.features.shared()
    return TrainingBatch(
        State({"pos": x - x.mean(1, keepdim=True)}),
        features,
        forces={"pos": 10.0 * torch.randn(x.shape, generator=generator)},
        classes=features.node["element"],
        energies=torch.randn(batch, generator=generator),
    )


def steps(batch: int, turns: int) -> None:
    """Prints the time of one optimiser step by objective."""
    import torch

    from equilibra.diffusion.objectives.choose import choose_objective
    from equilibra.diffusion.objectives.fokker_planck import FokkerPlanckConfig
    from equilibra.diffusion.objectives.noise_levels import NoiseLevels
    from equilibra.state.randomness import generator_for
    from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process

    data = training_batch(batch)

    def step_of(name: str, config=None) -> Callable[[], None]:
        kind = "energy" if name == "scalar-fp" else "edm"
        denoiser = molecule_denoiser(molecule_process(1.7), molecule_network_config(), parametrisation=kind, seed=0)
        ingredients = {"forces": True} if name in ("pidp", "scalar-fp") else {}
        objective = choose_objective(name, denoiser, NoiseLevels(), config=config, **ingredients)
        parameters = [*denoiser.parameters(), *objective.parameters()]
        optimiser = torch.optim.AdamW(parameters, lr=1e-4)
        generator = generator_for(0, 2)

        def step() -> None:
            optimiser.zero_grad(set_to_none=True)
            objective(denoiser, data, generator=generator)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimiser.step()

        return step

    functions = {name: step_of(name) for name in ("dsm", "tsm", "pidp", "scalar-fp")}
    functions["scalar-fp, all but the score on a tenth of the batch"] = step_of("scalar-fp", FokkerPlanckConfig(fraction=0.1))
    for function in functions.values():
        function()
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(turns):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - begin)
    found = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"\nOptimiser steps, 22 atoms, batch {batch}, fp32, not compiled, {torch.get_num_threads()} thread(s), median of {turns} in turn. Goal: pidp and scalar-fp "
        "at most 4 x dsm.\n\n| objective | relative time |\n|---|---|"
    )
    for name, value in found.items():
        print(f"| {name} | {value / found['dsm']:.2f} |")
    print(f"\nA dsm step took {1000 * found['dsm']:.0f} ms.", flush=True)


CHAINS = ("ACE-ALA-NME", "ACE-ALA-ALA-ALA-NME", "ACE-ALA-ALA-ALA-ALA-ALA-ALA-ALA-ALA-NME")


def likelihoods(conformations: int, flow_steps: int, chains: tuple[str, ...]) -> None:
    """Prints the time of log-densities of a random network against the number of atoms."""
    import numpy as np
    import torch

    from equilibra.density.flow import FlowConfig, log_density
    from equilibra.density.trace import Trace
    from equilibra.state.randomness import generator_for
    from equilibra.state.state import State
    from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
    from equilibra.systems.molecule.system import molecule_system

    settings = {
        "rk4, exact": ("rk4", Trace(kind="exact")),
        "rk4, 16 probes": ("rk4", Trace(kind="hutchinson", probes=16)),
        "rk4, 4 probes": ("rk4", Trace(kind="hutchinson", probes=4)),
        "heun, 4 probes": ("heun", Trace(kind="hutchinson", probes=4)),
    }
    print(
        f"\nLog-densities in batches of {conformations} conformations, {torch.get_num_threads()} thread(s), fp32, not compiled: minutes for 1,000 conformations with 50 steps, "
        f"without the check by halving; measured with {flow_steps} steps, and proportional to the nodes of the grid.\n"
    )
    print(f"| atoms | degrees of freedom | {' | '.join(settings)} |\n|---|---|{'---|' * len(settings)}")
    for source in chains:
        system = molecule_system(source)
        denoiser = molecule_denoiser(molecule_process(1.7), molecule_network_config(), seed=0)
        denoiser.requires_grad_(False).eval()
        bound = denoiser.bind(system.features.shared())
        x = torch.from_numpy(np.array(system.reference)).float()
        x = x + 0.03 * torch.randn(conformations, *x.shape, generator=generator_for(0, 1))
        state = State({"pos": x - x.mean(1, keepdim=True)})
        cells = []
        for solver, trace in settings.values():
            config = FlowConfig(steps=flow_steps, solver=solver, check="nodes")
            begin = time.perf_counter()
            log_density(bound, state, config=config, trace=trace, generator=generator_for(0, 2))
            nodes = 101 / (2 * flow_steps + 1) if solver == "rk4" else 51 / (flow_steps + 1)
            cells.append(f"{(time.perf_counter() - begin) * nodes / conformations * 1000 / 60:.1f}")
        print(f"| {system.atoms} | {3 * system.atoms - 3} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Prints all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--molecules", nargs="+", choices=PEPTIDES, default=list(PEPTIDES))
    parser.add_argument("--batch", type=int, default=1024, help="conformations that torch gets at once")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of a turn")
    parser.add_argument("--conformations", type=int, default=16, help="conformations whose likelihood is timed")
    parser.add_argument("--threads", type=int, default=1, help="of training steps and likelihoods")
    parser.add_argument("--only", nargs="+", choices=("energies", "steps", "likelihoods"))
    parser.add_argument("--quick", action="store_true", help="without compiling, and short; its ratios mean nothing")
    options = parser.parse_args()
    if options.quick:
        options.molecules, options.batch, options.turns, options.seconds, options.conformations = ["ACE-ALA-NME"], 64, 2, 0.1, 2
    import torch

    from equilibra.memory import keep_freed_memory

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    begin = time.perf_counter()
    parts = options.only or ("energies", "steps", "likelihoods")
    if "energies" in parts:
        for name in options.molecules:
            energies(name, options.batch, options.turns, options.seconds, options.quick)
    if "steps" in parts:
        steps(64, 2 if options.quick else 9)
    if "likelihoods" in parts:
        chains = CHAINS[:1] if options.quick else CHAINS
        likelihoods(options.conformations, 2 if options.quick else 4, chains)
    print(f"\n{time.perf_counter() - begin:.0f} s, torch {torch.__version__}.")


if __name__ == "__main__":
    main()
