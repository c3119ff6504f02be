"""Paths of a protein between two structures, such as an open and a closed state, through the latent space of a model; see `systems.paths`."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from equilibra.density.flow import FlowConfig
from equilibra.density.flow import log_density as flow_log_density
from equilibra.density.trace import Trace
from equilibra.errors import InputError
from equilibra.geometry.backbone import frames_from_backbone
from equilibra.geometry.superposition import centre, kabsch, rmsd
from equilibra.nn.frames import ROT, TRANS
from equilibra.state import State
from equilibra.state.randomness import generator_for
from equilibra.systems.model import Model, domain, load
from equilibra.systems.paths import NETWORK_STEPS, EnsemblePath, check_options, path_between
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import written_atoms
from equilibra.systems.protein.path_energies import PathEnergies, check_energy, path_energies
from equilibra.systems.protein.providers import Provider, condition
from equilibra.systems.protein.sources import Structure, common_structures, structure

DENSITY_TOLERANCE = 1.0
"""Integration error of a log-density along a path, in nats: barriers of interest have many more."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ProteinPath(EnsemblePath):
    """A path between two structures of a protein; see `EnsemblePath`.

    Attributes:
        rmsd: C-alpha RMSD (steps, 2) of each conformation to A and to B, in Å.
        energies: Potential energies of the conformations with all their atoms, relaxed; None where they were not asked for.
    """

    ensemble: ProteinEnsemble
    rmsd: np.ndarray
    energies: PathEnergies | None = None

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Numbers or words (steps,) along the path by name, as they are written to `path.csv`."""
        found = {
            "C-alpha RMSD to A (Å)": self.rmsd[:, 0],
            "C-alpha RMSD to B (Å)": self.rmsd[:, 1],
            "radius of gyration (Å)": self.ensemble.radius_of_gyration,
        }
        if self.ensemble.log_density is not None:
            found["log-density (nats)"] = self.ensemble.log_density
        return found if self.energies is None else {**found, **self.energies.columns}


def interpolate(
    model: Model | str | Path,
    a: Any,
    b: Any,
    *,
    steps: int = 50,
    network_steps: int = NETWORK_STEPS,
    batch_size: int | None = None,
    chains: Collection[str] | None = None,
    provider: Provider | None = None,
    log_density: bool = False,
    probes: int = 4,
    seed: int = 0,
    energy: str | None = None,
    folder: str | Path | None = None,
    outside_scope: bool = False,
    progress: Callable[[str], None] = lambda words: None,
) -> ProteinPath:
    """Interpolates between two structures of one protein on the residues that both have; B is first laid over A by its C-alpha atoms.

    Arguments:
        model: A model, or what `load` takes.
        a: The first structure: a PDB or mmCIF file, or an mdtraj `Trajectory`, of which the first frame counts.
        b: The last structure.
        steps: Conformations on the path, A and B included.
        network_steps: Steps of the flow in each direction.
        batch_size: Conformations given to the network at once; by default as many as memory has room for.
        chains: Names of the chains to take of each; by default all, but of chains with one sequence, which are copies, only the first.
        provider: Source of extra features.
        log_density: Compute the log-density of each conformation at the smallest noise, by Hutchinson's estimate for all but the smallest proteins.
        probes: Probes of that estimate.
        seed: Seed of the probes.
        energy: A force field, such as `amber14-obc2`: all atoms are built on each conformation and relaxed with the backbone held; see `PathEnergies`.
        folder: Where the all-atom structures go with an energy, and the finished blocks of an interrupted run; by default only the numbers are kept.
        outside_scope: Allow a protein that the model was not trained for.
        progress: Called with what is being done, in words.

    Raises:
        InputError: If a number is out of range, a file cannot be read, the two are not of one protein, the model was not trained for it or needs features
            that are missing, memory is too short, or the force field is unknown or cannot describe the protein.
        CheckpointError: If the folder holds the all-atom structures of another run.
        MissingDependencyError: If an energy needs a package that is not installed.
    """
    check_options(steps=steps, network_steps=network_steps, probes=probes, batch_size=1 if batch_size is None else batch_size)
    first, last = common_structures([a, b], chains=_one_copy(a, b) if chains is None else chains)
    system = first.system
    model = model if isinstance(model, Model) else load(model)
    if model.domain != "protein":
        raise InputError(
            f"model '{model.name}' is of the domain '{model.domain}', not 'protein'; `equilibra models` lists what there is"
        )
    if not outside_scope:
        domain(model.domain).check_scope(system, model.scope, model.name)
    state = ends_of(first, last)
    at_once = domain(model.domain).fitting_batch(system, model.network, batch_size, steps)
    # asked last: features of pairs may be larger than all that the network needs
    system = condition(system, provider)
    relaxing = None if energy is None else check_energy(system, energy)
    progress("encoding both structures and decoding the path")
    path, provenance = path_between(
        model,
        system,
        state.to(dtype=torch.float32),
        names=(_name(a), _name(b)),
        steps=steps,
        network_steps=network_steps,
        batch_size=at_once,
    )
    states = model.process.clean(path.states)
    density = None
    if log_density:
        progress("computing log-densities")
        density = _log_density(model, system, states, probes=probes, seed=seed, batch_size=at_once)
        provenance |= {"log_density": {"probes": probes, "seed": seed, "tolerance": DENSITY_TOLERANCE}}
    trans, rot = (states.fields[name].numpy() for name in (TRANS, ROT))
    alphas = torch.from_numpy(trans).double()
    distances = torch.stack([rmsd(alphas, end.expand_as(alphas)) for end in state.fields[TRANS]], dim=1)
    if relaxing is not None:
        provenance |= {"energy": asdict(relaxing)}
    ensemble = ProteinEnsemble(
        system=system, positions=written_atoms(trans, rot, system), log_density=density, provenance=provenance
    )
    energies = None
    if relaxing is not None:
        shown = "placing and relaxing side chains"
        progress(shown)
        energies = path_energies(
            ensemble, relaxing, folder=folder, progress=lambda done, total: progress(f"{shown}: {done} of {total}")
        )
    return ProteinPath(
        ensemble=ensemble,
        round_trip=(float(path.round_trip[0]), float(path.round_trip[1])),
        rmsd=distances.numpy(),
        energies=energies,
    )


def ends_of(first: Structure, last: Structure) -> State:
    """Returns the frames of two structures of L residues as a batch of two, float64, the second laid over the first by its C-alpha atoms."""
    frames = [_frames(item) for item in (first, last)]
    (trans_a, rot_a), (trans_b, rot_b) = frames
    turn = kabsch(trans_b, trans_a)
    return State({TRANS: torch.stack([trans_a, trans_b @ turn.mT]), ROT: torch.stack([rot_a, turn @ rot_b])})


def _frames(item: Structure) -> tuple[Tensor, Tensor]:
    trans, rot = frames_from_backbone(*(torch.from_numpy(np.array(x, dtype=np.float64)) for x in (item.n, item.ca, item.c)))
    return centre(trans), rot


def _one_copy(a: Any, b: Any) -> Collection[str] | None:
    """Returns the name of the first chain where either structure holds several of one sequence and both have that name; None to take all chains."""
    systems = [structure(source).system for source in (a, b)]
    if not any(len(system.chains) > 1 and len(set(system.chains)) == 1 for system in systems):
        return None
    first = systems[0].chain_ids[0]
    return [first] if all(first in system.chain_ids for system in systems) else None


def _name(source: Any) -> str:
    return Path(source).stem if isinstance(source, str | Path) else "trajectory"


def _log_density(model: Model, system: Any, states: State, *, probes: int, seed: int, batch_size: int) -> np.ndarray:
    # a derivative takes some three times the memory of a call
    rows = max(1, domain(model.domain).fitting_batch(system, model.network, None, 3 * Trace.rows) // 3)
    found = flow_log_density(
        model.bind(system),
        states,
        generator=generator_for(seed, 0),
        config=FlowConfig(batch_size=batch_size, tolerance=DENSITY_TOLERANCE),
        trace=Trace(probes=probes, rows=rows),
    )
    return found.log_density.numpy()
