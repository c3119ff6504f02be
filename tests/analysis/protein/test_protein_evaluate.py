import mdtraj
import numpy as np
import pytest

from equilibra.analysis.protein.backbone import backbone
from equilibra.analysis.protein.distances import js_pwd
from equilibra.analysis.protein.evaluate import evaluate_proteins
from equilibra.analysis.protein.flexibility import pearson, rmsf
from equilibra.analysis.protein.pca_w2 import md_pca_w2
from equilibra.analysis.protein.rmwd import rmwd
from equilibra.errors import ConfigError, InputError

QUICK = {"n": 200, "transport_n": 100, "score_n": 60, "repeats": 3, "lag": 2}


@pytest.fixture(scope="module")
def peptide(chain_of):
    """Backbones (frames, 12, 3, 3) of a helix with wobbling torsions."""

    def make(frames, seed, phi=-1.1, spread=0.15):
        rng = np.random.default_rng(seed)
        angles = spread * rng.standard_normal((2, frames, 12))
        return chain_of(phi + angles[0], -0.7 + angles[1])

    return make


@pytest.fixture(scope="module")
def good(peptide):
    runs = [peptide(300, seed) for seed in (1, 2)]
    return evaluate_proteins(peptide(300, 3), runs, native=peptide(1, 0, spread=0.0), rng=np.random.default_rng(0), **QUICK)


def test_a_perfect_sample_reaches_its_floors(good):
    for row in good.rows:
        excess = abs(row.value - row.reference) if np.isfinite(row.reference) else row.value
        assert abs(excess - row.floor) <= 6 * np.hypot(row.floor_std, row.error) + 0.1 * abs(row.floor) + 1e-9, row
    assert good.split == "runs"
    assert good["broken frames"].value == 0.0
    assert good["bond and angle rms z"].value < 1e-6
    assert good["RMSF r"].value > 0.9
    assert good["secondary structure TV"].value < 0.1


def test_rows_are_complete(good):
    names = [row.metric for row in good.rows]
    assert len(names) == len(set(names))
    wanted = ("RMSF r", "RMWD", "MD-PCA W2", "joint-PCA W2", "pairwise RMSD", "weak contacts J", "TM to native", "JS-PwD")
    assert {*wanted, "TICA JSD, both", "(phi, psi) JSD", "folding free energy", "Ramachandran outliers"} <= set(names)
    assert all(np.isfinite([row.value, row.error, row.floor]).all() for row in good.rows)
    assert all("baseline" in row.definition and row.unit for row in good.rows)
    assert good["RMWD"].n == 200
    assert good["MD-PCA W2"].n == 100
    assert good["TM to native"].n == 60
    assert "12 residues in 1 chain" in good.to_text()


def test_the_baseline_breaks_bonds_but_has_the_moments(good):
    assert good["bond and angle rms z"].baseline > 1.5
    assert good["RMSF r"].baseline > 0.9


def test_a_wrong_ensemble_is_seen(peptide):
    runs = [peptide(300, seed) for seed in (1, 2)]
    wrong = peptide(300, 4, phi=-2.3)
    table = evaluate_proteins(wrong, runs, native=peptide(1, 0, spread=0.0), rng=np.random.default_rng(0), **QUICK)
    for name in ("RMWD", "MD-PCA W2", "JS-PwD", "phi JSD", "TICA JSD, first"):
        assert table[name].value > 3 * table[name].floor, name
    assert table["TM to native"].value < table["TM to native"].reference - 0.2
    assert table["Ramachandran outliers"].value > 0.9
    assert table["psi JSD"].value < 2 * table["psi JSD"].floor


def test_trajectories_and_arrays_of_alpha_carbons(peptide):
    runs = [peptide(120, seed)[:, :, 1] for seed in (1, 2)]
    ours = peptide(120, 3)
    top = mdtraj.Topology()
    chain = top.add_chain()
    for index in range(12):
        residue = top.add_residue("ALA", chain, resSeq=index + 1)
        for name, element in (("N", "N"), ("CA", "C"), ("C", "C")):
            top.add_atom(name, mdtraj.element.Element.getBySymbol(element), residue)
    trajectory = mdtraj.Trajectory(ours.reshape(120, 36, 3) / 10, top)
    np.testing.assert_allclose(backbone(trajectory)[0], ours, atol=1e-4)
    table = evaluate_proteins(trajectory, runs, rng=np.random.default_rng(0), **QUICK)
    names = {row.metric for row in table.rows}
    assert "RMWD" in names
    assert not {"phi JSD", "TM to native", "bond and angle rms z"} & names
    array = evaluate_proteins(ours[:, :, 1], runs, rng=np.random.default_rng(0), **QUICK)
    assert array["JS-PwD"].value == pytest.approx(table["JS-PwD"].value, abs=1e-2)
    assert "nearest its mean" in table["RMWD"].definition


def test_weights_and_blocks(peptide):
    runs = [peptide(120, seed) for seed in (1, 2)]
    mixed = np.concatenate([peptide(120, 3), peptide(120, 4, phi=-2.3)])
    weights = np.where(np.arange(240) < 120, 0.0, -50.0)
    options = {**QUICK, "lag": None, "native": runs[0][0]}
    weighted = evaluate_proteins(mixed, runs, rng=np.random.default_rng(0), log_weights=weights, block=20, **options)
    plain = evaluate_proteins(mixed, runs, rng=np.random.default_rng(0), block=20, **options)
    assert weighted["phi JSD"].value < 0.7 * plain["phi JSD"].value
    assert plain["radius of gyration"].error > 3 * weighted["radius of gyration"].error
    assert "TICA outliers" not in {row.metric for row in plain.rows}


def test_bad_input_is_refused(peptide):
    x = peptide(40, 1)
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="11 residues and the ensemble 12"):
        evaluate_proteins(x, [x[:, :11]], rng=rng)
    with pytest.raises(InputError, match="no reference"):
        evaluate_proteins(x, [], rng=rng)
    with pytest.raises(InputError, match="at least 3 frames"):
        evaluate_proteins(x, [x[:4]], rng=rng)
    with pytest.raises(ConfigError, match="repeats"):
        evaluate_proteins(x, [x], rng=rng, repeats=1)
    with pytest.raises(InputError, match="native"):
        evaluate_proteins(x, [x], rng=rng, native=x[0, :7, 1])
    broken = x.copy()
    broken[3, 0, 0, 0] = np.nan
    with pytest.raises(InputError, match="NaN"):
        evaluate_proteins(broken, [x], rng=rng)


def test_different_proteins_are_refused(trpcage):
    frames = trpcage[0]
    other = frames[:20].atom_slice(frames.topology.select("resid 1 to 19"))
    with pytest.raises(InputError, match="residues"):
        evaluate_proteins(frames[:20], [other], rng=np.random.default_rng(0))
    shifted = frames[:20].atom_slice(frames.topology.select("resid 0 to 18"))
    with pytest.raises(InputError, match="differ at residue 1"):
        evaluate_proteins(other, [shifted], rng=np.random.default_rng(0))


def test_floors_of_molecular_dynamics(trpcage):
    """Heavy atoms of Trp-cage: random draws give the noise of sampling alone, contiguous halves several times as much."""
    frames, native = trpcage
    heavy, ca = (frames.topology.select(words) for words in ("element != H", "name CA"))
    x, start = frames.xyz[:, heavy] * 10.0, native.xyz[0, heavy] * 10.0
    rng = np.random.default_rng(0)
    order = rng.permutation(len(x))
    first, second = order[:250], order[250:500]
    # values of 250 against 250 random frames of the same trajectory
    assert pearson(rmsf(x[first], start), rmsf(x[second], start)) == pytest.approx(0.996, abs=0.004)
    assert rmwd(x[first], x[second], start).value == pytest.approx(0.160, abs=0.04)
    assert md_pca_w2(x[first], x[second], start) == pytest.approx(0.153, abs=0.05)
    alpha = frames.xyz[:, ca] * 10.0
    assert js_pwd(alpha[first], alpha[second]) == pytest.approx(0.221, abs=0.01)
    halves = np.arange(2000), np.arange(2000, 4000)
    assert rmwd(x[halves[0]], x[halves[1]], start).value > 5 * rmwd(x[order[:2000]], x[order[2000:]], start).value
