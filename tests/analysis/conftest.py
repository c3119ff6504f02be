import mdtraj
import numpy as np
import pytest

from equilibra.systems.molecule.peptide import build_peptide


@pytest.fixture(scope="session")
def alanine():
    """One extended frame of ACE-ALA-NME."""
    topology, positions = build_peptide("ACE-ALA-NME")
    xyz = np.asarray([[v.x, v.y, v.z] for v in positions])  # Modeller keeps nm
    return mdtraj.Trajectory(xyz[None], mdtraj.Topology.from_openmm(topology))


@pytest.fixture(scope="session")
def perturbed(alanine):
    """Makes trajectories of the peptide with turned torsions and small independent noise, width in nm."""

    def make(frames, seed, *, phi=-1.3, psi=2.4, spread=0.4, width=0.002):
        rng = np.random.default_rng(seed)
        top = alanine.topology
        ca, c = top.select("resname ALA and name CA")[0], top.select("resname ALA and name C")[0]
        n = top.select("resname ALA and name N")[0]
        here = {name: mdtraj_angle(alanine, name) for name in ("phi", "psi")}
        xyz = np.repeat(alanine.xyz.astype(np.float64), frames, axis=0)
        after_phi = [a.index for a in top.atoms if a.name != "H" and a.residue.index == 1 and a.index not in (n, ca)]
        after_phi += [a.index for a in top.atoms if a.residue.index == 2]
        after_psi = [top.select("resname ALA and name O")[0], *(a.index for a in top.atoms if a.residue.index == 2)]
        turns = [(n, ca, after_phi, phi - here["phi"]), (ca, c, after_psi, psi - here["psi"])]
        for first, second, moving, turn in turns:
            angle = turn + spread * rng.standard_normal(frames)
            xyz[:, moving] = rotate(xyz[:, moving], xyz[:, first], xyz[:, second], angle)
        return mdtraj.Trajectory(xyz + width * rng.standard_normal(xyz.shape), top)

    return make


def mdtraj_angle(trajectory, name):
    return float(getattr(mdtraj, f"compute_{name}")(trajectory, periodic=False)[1][0, 0])


def rotate(points, start, end, angle):
    """Turns points (frames, k, 3) about the axes from start to end by the angles, Rodrigues' formula."""
    axis = (end - start) / np.linalg.norm(end - start, axis=-1, keepdims=True)
    x, k = points - start[:, None], axis[:, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    turned = x * cos + np.cross(np.broadcast_to(k, x.shape), x) * sin + k * (x * k).sum(-1, keepdims=True) * (1 - cos)
    return turned + start[:, None]
