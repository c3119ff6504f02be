"""Similarity to known structures: TM-score, lDDT, native contacts, coverage of states."""

import mdtraj
import numpy as np
import pytest

from equilibra.analysis.protein.backbone import alpha_carbons
from equilibra.analysis.protein.folding import (
    foldedness,
    folding_free_energy,
    fraction_native_contacts,
    native_contacts,
)
from equilibra.analysis.protein.lddt import lddt
from equilibra.analysis.protein.state_coverage import k_recall, rmsd_to_states, state_coverage
from equilibra.analysis.protein.tm_score import tm_distance, tm_score
from equilibra.analysis.superposition import superpose
from equilibra.errors import InputError, ShapeError


@pytest.fixture(scope="module")
def globule():
    """A compact walk of 60 residues with steps of 3.8 Å."""
    rng = np.random.default_rng(3)
    points = [np.zeros(3)]
    while len(points) < 60:
        step = rng.standard_normal(3) - 0.15 * points[-1]
        new = points[-1] + 3.8 * step / np.linalg.norm(step)
        if min(np.linalg.norm(new - p) for p in points) > 3.5:
            points.append(new)
    return np.asarray(points)


def kabsch_tm(x, y):
    squares = ((superpose(x[None], y)[0] - y) ** 2).sum(axis=-1)
    return (1 / (1 + squares / tm_distance(len(y)) ** 2)).mean()


def test_tm_score_of_the_same_structure_is_one(globule, moved):
    assert tm_score(moved(globule[None], 0), globule)[0] == pytest.approx(1.0)
    assert tm_score(-globule[None], globule)[0] < 0.7  # the mirror image is another structure
    assert tm_distance(100) == pytest.approx(1.24 * 85 ** (1 / 3) - 1.8)
    assert tm_distance(20) == tm_distance(10) == 0.5


def test_tm_score_of_a_hinge_finds_the_larger_half(globule, moved):
    turn = np.asarray([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    bent = globule.copy()
    bent[45:] = (bent[45:] - bent[45]) @ turn.T + bent[45] + [40.0, 0.0, 0.0]
    score = tm_score(bent[None], globule)[0]
    assert 0.75 <= score < 0.80  # 45 of 60 residues fit exactly
    assert score > kabsch_tm(bent, globule) + 0.1
    assert tm_score(moved(bent[None], 1), globule)[0] == pytest.approx(score, abs=1e-9)
    assert tm_score(bent[None], globule, stride=5)[0] <= score + 1e-12


def test_tm_score_is_the_best_over_superpositions(globule):
    from scipy.optimize import minimize
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(4)
    other = globule + 2.5 * np.cumsum(rng.standard_normal(globule.shape), axis=0) / np.sqrt(10)
    d0 = tm_distance(60)

    def loss(v):
        squares = ((Rotation.from_rotvec(v[:3]).apply(other) + v[3:] - globule) ** 2).sum(axis=-1)
        return -(1 / (1 + squares / d0**2)).mean()

    best = 0.0
    for size in (15, 20, 30, 60):
        for start in range(0, 61 - size, 15):
            part = slice(start, start + size)
            centre, target = other[part].mean(axis=0), globule[part].mean(axis=0)
            turn, _ = Rotation.align_vectors(globule[part] - target, other[part] - centre)
            guess = np.concatenate([turn.as_rotvec(), target - turn.apply(centre)])
            best = max(best, -minimize(loss, guess, method="BFGS").fun)
    score = tm_score(other[None], globule)[0]
    assert score > kabsch_tm(other, globule)
    # fits of residue sets, not of the score itself: a little below the continuous optimum
    assert best - 0.01 < score <= best + 1e-6


def test_tm_score_of_some_residues_and_of_another_length(globule):
    cut = np.arange(30)
    assert tm_score(globule[None], globule, residues=cut)[0] == pytest.approx(1.0)
    assert tm_score(globule[None], globule, residues=cut, length=60)[0] == pytest.approx(0.5)
    with pytest.raises(ShapeError):
        tm_score(globule[None, :10], globule)
    with pytest.raises(InputError, match="at least 3 residues"):
        tm_score(globule[None], globule, residues=[0, 1])


def test_tm_score_of_adenylate_kinase(shared_data):
    """Between the open and the closed crystal structure; USalign, which may shift residues against each other, gives 0.690."""
    folder = shared_data / "multiconf" / "multiconf_benchmark_0.1" / "domainmotion" / "reference" / "P69441"
    closed, open_ = (alpha_carbons(mdtraj.load(str(folder / name)))[0] for name in ("1AKE_A.pdb", "4AKE_A.pdb"))
    assert tm_score(closed, open_[0], stride=5)[0] == pytest.approx(0.684, abs=0.001)
    assert rmsd_to_states(closed, open_)[0, 0] == pytest.approx(7.13, abs=0.01)


def test_lddt_by_hand():
    native = np.zeros((3, 3))
    native[:, 0] = [0.0, 4.0, 30.0]
    # only one pair is within 15 Å; its distance changes by 0.3, 0.7, 1.5, 3 and 5 Å
    frames = np.stack([native] * 5)
    frames[:, 1, 0] += [0.3, 0.7, 1.5, 3.0, 5.0]
    np.testing.assert_allclose(lddt(frames, native), [1.0, 0.75, 0.5, 0.25, 0.0])
    with pytest.raises(InputError, match="within"):
        lddt(frames, native, inclusion=1.0)


def test_lddt_needs_no_superposition(globule, moved):
    noisy = globule + np.random.default_rng(5).standard_normal((20, *globule.shape))
    np.testing.assert_allclose(lddt(moved(noisy, 6), globule), lddt(noisy, globule), atol=1e-9)
    np.testing.assert_allclose(lddt(globule[None], globule), 1.0)


def test_fraction_of_native_contacts(globule, moved):
    pairs, distances = native_contacts(globule)
    assert (pairs[:, 1] - pairs[:, 0] > 3).all()
    assert distances.max() <= 10.0
    exact = (1 / (1 + np.exp(-5 * 0.2 * distances))).mean()
    np.testing.assert_allclose(fraction_native_contacts(moved(globule[None], 7), globule), exact)
    assert fraction_native_contacts(3 * globule[None], globule)[0] < 0.01
    with pytest.raises(InputError, match="folded structure"):
        native_contacts(100 * globule)


def test_folding_free_energy():
    q = np.asarray([0.9] * 75 + [0.1] * 25)
    result = folding_free_energy(q, temperature=295.0)
    p = foldedness(q).mean()
    assert result.population == pytest.approx(p)
    assert result.kcal == pytest.approx(-0.0019872036 * 295 * np.log(p / (1 - p)), rel=1e-6)
    low, high = result.interval_kcal
    assert low < result.kcal < high
    assert result.ev == pytest.approx(result.kcal * 0.0433641, rel=1e-5)
    wider = folding_free_energy(q, n_effective=10).interval_kcal
    assert wider[0] < low < high < wider[1]
    with pytest.raises(InputError, match="temperature"):
        folding_free_energy(q, temperature=0)


def test_coverage_and_recall_of_states(globule, moved):
    rng = np.random.default_rng(8)
    other = globule[::-1].copy()
    samples = moved(globule + 0.3 * rng.standard_normal((200, *globule.shape)), 9)
    distances = rmsd_to_states(samples, np.stack([globule, other]))
    assert distances.shape == (200, 2)
    assert distances[:, 0].mean() == pytest.approx(0.3 * np.sqrt(3), rel=0.05)
    result = state_coverage(distances, rng)
    assert result.at(0.0) == 0.0
    assert result.at(2.0) == 0.5  # one of two states
    assert (np.diff(result.coverage) >= 0).all()
    assert len(result.thresholds) == 100
    assert state_coverage(distances, rng, thresholds=[100.0]).coverage[0] == 1.0
    np.testing.assert_allclose(k_recall(distances, 3), np.sort(distances, axis=0)[:3].mean(axis=0))
    assert rmsd_to_states(samples, globule[None], residues=np.arange(10)).mean() < distances[:, 0].mean()
    with pytest.raises(InputError, match="k-recall"):
        k_recall(distances, 201)
