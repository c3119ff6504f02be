import json

import numpy as np
import pytest

from equilibra.data.trajectory import TrajectoryFiles
from equilibra.systems.molecule.system import molecule_system
from equilibra.train.config import TrainConfig

NETWORK = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2}


def write_files(folder, smiles, frames, *, seed=0, spread=0.05):
    """Writes perturbed conformations of a molecule with harmonic forces, and returns their files."""
    from rdkit import Chem

    system = molecule_system(smiles)
    folder.mkdir(parents=True, exist_ok=True)
    writer = Chem.SDWriter(str(folder / "topology.sdf"))
    writer.write(system.mol)
    writer.close()
    noise = np.random.default_rng(seed).normal(scale=spread, size=(frames, system.atoms, 3))
    np.savez(folder / "run.npz", positions=(system.reference + noise).astype(np.float32))
    # harmonic wells at 300 K: F = -kT x / spread^2, in eV/Å
    np.savez(folder / "forces.npz", forces=(-0.025852 * noise / spread**2).astype(np.float32))
    return TrajectoryFiles(topology=folder / "topology.sdf", trajectories=[folder / "run.npz"], forces=[folder / "forces.npz"])


@pytest.fixture(scope="session")
def make_files():
    return write_files


@pytest.fixture(scope="session")
def ethanol(tmp_path_factory):
    """Files of forty conformations of ethanol."""
    return write_files(tmp_path_factory.mktemp("ethanol"), "CCO", 40)


@pytest.fixture(scope="session")
def propanols(tmp_path_factory, ethanol):
    """Files of three molecules of different sizes, two of which share a bucket."""
    folder = tmp_path_factory.mktemp("several")
    return [
        ethanol,
        write_files(folder / "acetone", "CC(C)=O", 20, seed=1),
        write_files(folder / "hexane", "CCCCCC", 20, seed=2),
    ]


@pytest.fixture(scope="session")
def config():
    """Makes a configuration of a tiny training."""

    def make(**changes):
        tiny = {"steps": 8, "batch_size": 6, "warmup": 2, "checkpoint_every": 3, "log_every": 2, "precision": "fp32"}
        return TrainConfig(**{**tiny, "compile": False, "threads": 1, "accelerator": "cpu", **changes})

    return make


@pytest.fixture(scope="session")
def network():
    return dict(NETWORK)


@pytest.fixture(scope="session")
def log_of():
    def read(folder):
        return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]

    return read
