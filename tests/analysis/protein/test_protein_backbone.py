"""What is read of backbones: chains, torsions, secondary structure, geometry, slow coordinates."""

import mdtraj
import numpy as np
import pytest

from equilibra.analysis.protein.backbone import Chain, alpha_carbons, backbone, backbone_torsions, ramachandran_columns
from equilibra.analysis.protein.backbone_geometry import (
    backbone_geometry,
    broken_frames,
    clashing_frames,
    d_residues,
    ramachandran_outliers,
)
from equilibra.analysis.protein.secondary_structure import (
    secondary_structure,
    secondary_structure_difference,
    secondary_structure_shares,
)
from equilibra.analysis.protein.tica_jsd import fit_torsion_tica, js_tic, tica_jsd
from equilibra.analysis.protein.torsion_jsd import backbone_torsion_jsd
from equilibra.analysis.tica_w2 import torsion_features
from equilibra.errors import InputError, ShapeError


def topology(residues, atoms=("N", "CA", "C", "O", "CB"), numbers=None, elements=None):
    top = mdtraj.Topology()
    chain = top.add_chain()
    for index, name in enumerate(residues):
        residue = top.add_residue(name, chain, resSeq=index + 1 if numbers is None else numbers[index])
        for atom in atoms:
            top.add_atom(atom, mdtraj.element.Element.getBySymbol(atom[0]), residue)
    return top


def test_trajectories_are_read_by_name():
    top = topology(["ALA", "HIE", "CYX", "GLY"], numbers=[1, 2, 5, 6])
    top.add_atom("CA", mdtraj.element.calcium, top.add_residue("CA", top.add_chain()))
    xyz = np.arange(top.n_atoms * 3, dtype=float).reshape(1, -1, 3)
    positions, chain = backbone(mdtraj.Trajectory(xyz, top))
    assert chain.residues == ("ALA", "HIS", "CYS", "GLY")
    assert chain.bonded.tolist() == [0, 2]  # a gap between 2 and 5
    np.testing.assert_allclose(positions[0, 1], 10 * xyz[0, 5:8])
    np.testing.assert_allclose(alpha_carbons(mdtraj.Trajectory(xyz, top))[0], positions[:, :, 1])
    with pytest.raises(InputError, match="lacks N and C"):
        backbone(mdtraj.Trajectory(xyz[:, :4], topology(["ALA"] * 4, atoms=("CA",))))
    with pytest.raises(InputError, match="no protein"):
        alpha_carbons(mdtraj.Trajectory(xyz[:, :2], topology(["HOH"] * 2, atoms=("O",))))


def test_torsions_are_those_the_chain_was_built_with(chain_of):
    rng = np.random.default_rng(0)
    phi, psi = rng.uniform(-np.pi, np.pi, (2, 5, 8))
    torsions = backbone_torsions(chain_of(phi, psi, omega=3.0))
    np.testing.assert_allclose(torsions.select(("phi",)).angles, phi[:, 1:], atol=1e-9)
    np.testing.assert_allclose(torsions.select(("psi",)).angles, psi[:, :-1], atol=1e-9)
    np.testing.assert_allclose(torsions.select(("omega",)).angles, 3.0, atol=1e-9)
    assert [name for name, _, _ in ramachandran_columns(torsions)] == [f"ALA{k}" for k in range(2, 8)]
    broken = Chain(residues=("ALA",) * 8, segments=np.asarray([0] * 4 + [1] * 4))
    assert backbone_torsions(chain_of(phi, psi), broken).angles.shape == (5, 18)
    with pytest.raises(ShapeError):
        backbone_torsions(chain_of(phi, psi), Chain.single(7))


def test_helices_are_helices(helix, chain_of):
    assert "".join(secondary_structure(helix)[0])[3:-3] == "H" * 24
    extended = chain_of(np.full((2, 12), np.deg2rad(-120.0)), np.deg2rad(130.0))
    assert set(secondary_structure(extended).ravel()) == {"C"}  # one strand has no partner
    shares = secondary_structure_shares(secondary_structure(np.concatenate([helix, chain_of(np.full((1, 30), -2.1), 2.2)])))
    np.testing.assert_allclose(shares[5], [0.5, 0.0, 0.5])
    helical = secondary_structure_shares(secondary_structure(helix))
    assert secondary_structure_difference(helical, helical) == 0.0
    assert secondary_structure_difference(helical, shares) == pytest.approx(helical[:, 0].mean() / 2)
    with pytest.raises(ShapeError, match="oxygens"):
        secondary_structure(helix, oxygens=np.zeros((1, 29, 3)))


def test_secondary_structure_of_molecular_dynamics(trpcage):
    frames = trpcage[0][::100]
    positions, chain = backbone(frames)
    oxygens = frames.xyz[:, [a.index for a in frames.topology.atoms if a.name == "O"]] * 10
    expected = mdtraj.compute_dssp(frames)
    np.testing.assert_array_equal(secondary_structure(positions, chain, oxygens=oxygens), expected)
    assert (secondary_structure(positions, chain) == expected).mean() > 0.93


def test_a_chain_with_mean_geometry_has_no_z_scores(chain_of):
    rng = np.random.default_rng(1)
    chain = chain_of(rng.uniform(-1.2, -1.0, (6, 10)), rng.uniform(-0.8, -0.6, (6, 10)))
    result = backbone_geometry(chain)
    assert result.rms_z < 1e-6
    assert result.outliers == 0.0
    assert not result.twisted.any()
    assert not result.cis.any()
    assert not result.clashing.any()
    assert not result.broken.any()
    bent = backbone_geometry(chain_of(np.full((1, 4), -1.0), -0.7, omega=np.deg2rad(100.0)))
    assert bent.twisted.all()
    assert backbone_geometry(chain_of(np.full((1, 4), -1.0), -0.7, omega=0.1)).cis.all()
    longer = chain.copy()
    longer[:, 3:] += [3.0, 0.0, 0.0]
    assert broken_frames(longer).all()
    assert not broken_frames(longer, Chain(residues=("ALA",) * 10, segments=np.asarray([0] * 3 + [1] * 7))).any()
    z = backbone_geometry(1.01 * chain).z_scores
    np.testing.assert_allclose(z["N-CA"], 0.01 * 1.459 / 0.020)
    np.testing.assert_allclose(z["C-N-CA"], 0.0, atol=1e-5)
    glycine = backbone_geometry(chain, Chain.single(10, residues=("GLY",) * 10)).z_scores
    np.testing.assert_allclose(glycine["N-CA"], (1.459 - 1.456) / 0.015, atol=1e-6)


def test_clashes_of_alpha_carbons():
    x = np.zeros((2, 3, 3))
    x[:, :, 0] = [0.0, 3.8, 7.6]
    x[1, 2] = [2.0, 2.0, 0.0]
    assert clashing_frames(x).tolist() == [False, True]


def test_mirror_images_are_d_residues(trpcage):
    frames = trpcage[0][::1000]
    positions, chain = backbone(frames)
    beta = np.zeros((len(frames), len(chain), 3))
    for index, residue in enumerate(frames.topology.residues):
        for atom in residue.atoms:
            if atom.name == "CB":
                beta[:, index] = 10 * frames.xyz[:, atom.index]
    np.testing.assert_array_equal(d_residues(positions, beta, chain), 0.0)
    np.testing.assert_array_equal(d_residues(-positions, -beta, chain), 1.0)
    with pytest.raises(InputError, match="glycine"):
        d_residues(positions, beta, Chain.single(20, residues=("GLY",) * 20))


def test_ramachandran_outliers():
    rng = np.random.default_rng(2)
    reference = np.asarray([-1.1, -0.7]) + 0.15 * rng.standard_normal((20_000, 2))
    same = np.asarray([-1.1, -0.7]) + 0.15 * rng.standard_normal((20_000, 2))
    share = ramachandran_outliers(same, reference).mean()
    assert share < 0.004
    assert ramachandran_outliers(-same, reference).all()
    np.testing.assert_array_equal(ramachandran_outliers(same + 2 * np.pi, reference), ramachandran_outliers(same, reference))


def test_torsion_jsd_of_equal_and_of_different_residues(chain_of):
    rng = np.random.default_rng(3)
    n = 3000

    def ensemble(shift):
        phi = -1.2 + 0.3 * rng.standard_normal((n, 4))
        phi[:, 2] += shift
        return chain_of(phi, 2.0 + 0.3 * rng.standard_normal((n, 4)))

    reference = ensemble(0.0)
    same, other = (backbone_torsion_jsd(ensemble(shift), reference) for shift in (0.0, 3.0))
    assert same.residues == ("ALA2", "ALA3")
    assert max(same.phi.max(), same.psi.max()) < 0.1
    assert other.phi[1] > 0.8
    assert other.phi[0] < 0.1
    assert other.joint[1] > 0.8


@pytest.fixture(scope="module")
def hopping():
    """Torsions (frames, 3) of a slow two-state process in the first and noise in the others."""

    def make(frames, seed, chance=0.01):
        rng = np.random.default_rng(seed)
        state = np.cumsum(rng.random(frames) < chance) % 2
        noise = 0.3 * rng.standard_normal((frames, 3))
        return np.stack([np.where(state == 1, 1.0, -1.5), np.zeros(frames), np.zeros(frames)], axis=1) + noise

    return make


def test_tica_jsd_of_itself_is_zero_and_a_lost_state_is_seen(hopping):
    runs = [hopping(4000, seed) for seed in (0, 1)]
    slow = fit_torsion_tica(runs, lag=5)
    target = slow.project(torsion_features(np.concatenate(runs)))
    itself = tica_jsd(target, target)
    assert itself.joint == 0.0
    assert itself.outliers == 0.0
    other = slow.project(torsion_features(hopping(8000, 2)))
    again = tica_jsd(other, target)
    assert again.marginals[0] < 0.06
    assert again.outliers < 0.01
    # half of the reference is missing: the divergence of (1/2, 1/2) and (1, 0) is 0.311 bits
    stuck = slow.project(torsion_features(hopping(8000, 3, chance=0.0)))
    assert tica_jsd(stuck, target).marginals[0] == pytest.approx(0.311, abs=0.08)
    far = np.concatenate([target, [[1e3, 0.0]]])
    assert tica_jsd(far, target).outliers == pytest.approx(1 / len(far))
    assert tica_jsd(far, target).marginals[0] < 1e-3  # one outlier does not change the bins
    assert again.distances[2] == pytest.approx(np.sqrt(again.joint * np.log(2)))


def test_js_tic_of_alpha_carbons(hopping, chain_of):
    def frames(seed, **options):
        angles = hopping(1500, seed, **options)
        return chain_of(np.full((1500, 8), -1.2) + 0.05 * angles[:, 1:2], 0.5 * angles[:, :1] + np.zeros(8))[:, :, 1]

    runs = [frames(0), frames(1)]
    same, stuck = js_tic(frames(2), runs), js_tic(frames(3, chance=0.0), runs)
    assert same.first < 0.2
    assert stuck.first > 0.35
    assert same.joint > same.first
    with pytest.raises(InputError, match="lag"):
        js_tic(runs[0], runs, lag=2000)
