"""A wide pocket of few atoms, a small ligand, and a network that is quick: what the tests of ligands share."""

import math

import numpy as np
import torch

from equilibra.energies.docking import Box
from equilibra.systems.ligand.inputs import LigandInput, ligand_systems
from equilibra.systems.ligand.network import (
    cartesian_process,
    ligand_denoiser,
    ligand_network_config,
    ligand_process,
    network_values,
)

SMILES = "C[C@H](N)CCOC"
SIZE = {"dim": 16, "pair_dim": 8, "layers": 2, "heads": 2, "basis": 8, "channels": 4}
_NAMES = ("N", "CA", "C", "O", "CB")


def pocket_pdb(radius=8.0):
    """Twenty heavy atoms of four alanines on a sphere, of which the first is another than its mirror image."""
    golden = math.pi * (3 - 5**0.5)
    lines = []
    for i in range(20):
        z = 1 - 2 * (i + 0.5) / 20
        x = np.array([math.sqrt(1 - z * z) * math.cos(golden * i), math.sqrt(1 - z * z) * math.sin(golden * i), z]) * radius
        name = _NAMES[i % 5]
        lines.append(
            f"ATOM  {i + 1:5d}  {name:<3s} ALA A{i // 5 + 1:4d}    {x[0]:8.3f}{x[1]:8.3f}{x[2]:8.3f}  1.00  0.00           {name[0]}  "
        )
    return "\n".join([*lines, "END", ""])


def toy_input(folder, ligand=SMILES, **options):
    """Writes the receptor, and returns the input of a ligand in a box about its middle."""
    path = folder / "toy.pdb"
    path.write_text(pocket_pdb())
    return LigandInput(receptor=path, ligand=ligand, **({"centre": (0, 0, 0), "size": (12,)} | options))


def toy_system(folder, ligand=SMILES, **options):
    return ligand_systems(toy_input(folder, ligand, **options))[0]


def toy_systems(folder):
    """Three ligands of different sizes and numbers of torsions in one pocket."""
    return tuple(toy_system(folder, smiles) for smiles in (SMILES, "CCCCCCOC", "c1ccccc1"))


def toy_denoiser(seed=0, **size):
    return ligand_denoiser(ligand_process(), ligand_network_config(**{**SIZE, **size}), seed=seed)


def cartesian_toy_denoiser(seed=0, scale=3.0, **size):
    config = ligand_network_config("cartesian", **{**SIZE, **size})
    return ligand_denoiser(cartesian_process(scale), config, seed=seed)


def toy_model(system, seed=0, state="torsional"):
    """An untrained model that knows the system: its samples are Gaussian about the middle of the box, with any turn and torsions; in the Cartesian state each atom is Gaussian."""
    from equilibra.sampling.choose import SamplerConfig
    from equilibra.sampling.grid import GridConfig
    from equilibra.systems.card import Card
    from equilibra.systems.model import Model
    from equilibra.train.ligand import scope_of

    denoiser = (toy_denoiser if state == "torsional" else cartesian_toy_denoiser)(seed).requires_grad_(False).eval()
    return Model(
        name="toy",
        domain="ligand",
        denoiser=denoiser,
        network=network_values(ligand_network_config(state, **SIZE)),
        sampler=SamplerConfig(grid=GridConfig(steps=6, spacing="log", end="flow")),
        scope=scope_of([system]),
        card=Card(summary="Untrained."),
    )


def seeded(seed):
    return torch.Generator().manual_seed(seed)


__all__ = [
    "SIZE",
    "SMILES",
    "Box",
    "cartesian_toy_denoiser",
    "pocket_pdb",
    "seeded",
    "toy_denoiser",
    "toy_input",
    "toy_model",
    "toy_system",
]
