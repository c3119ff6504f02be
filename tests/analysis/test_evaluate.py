import json

import mdtraj
import numpy as np
import pytest

from equilibra.analysis.evaluate import evaluate
from equilibra.errors import ConfigError, InputError

QUICK = {"n": 400, "transport_n": 100, "rmsd_n": 20, "repeats": 4}


@pytest.fixture(scope="module")
def reference(perturbed):
    return [perturbed(500, seed) for seed in (10, 11)]


@pytest.fixture(scope="module")
def good(perturbed, reference):
    return evaluate(perturbed(500, 12), reference, rng=np.random.default_rng(0), **QUICK)


def test_a_perfect_sample_reaches_its_floors(good):
    for row in good.rows:
        observable = np.isfinite(row.reference)
        excess = abs(row.value - row.reference) if observable else row.value
        # two draws share neither frames nor runs: a few spreads of the floor, or errors of the value
        assert abs(excess - row.floor) <= 6 * np.hypot(row.floor_std, row.error) + 0.02 * abs(row.floor) + 1e-9, row
    assert good.split == "runs"
    assert good["stereo-centres right"].value == 1.0
    assert good["cis peptide bonds"].value == 0.0
    assert good["frames with clashes"].value < 0.05


def test_rows_are_complete(good):
    names = [row.metric for row in good.rows]
    assert len(names) == len(set(names))
    for word in ("Ramachandran JSD", "Ramachandran TV", "population phi>0", "torus W2", "TICA W2", "bin recall", "MAT recall"):
        assert any(name.startswith(word) for name in names), word
    assert good["torus W2"].n == 100
    assert good["COV recall"].n == 20
    assert good["heavy bond error"].n == 400
    assert all("baseline" in row.definition and row.unit for row in good.rows)
    assert all(np.isfinite([row.value, row.error, row.floor, row.baseline]).all() for row in good.rows)


def test_the_baseline_breaks_bonds(good):
    assert good["heavy bond std ratio"].baseline > 1.5
    assert good["heavy bond std ratio"].value == pytest.approx(1.0, abs=0.1)


def test_a_wrong_ensemble_is_seen(perturbed, reference):
    wrong = perturbed(500, 13, phi=1.0, width=0.004)
    wrong.xyz[:50] *= -1  # mirror images
    table = evaluate(wrong, reference, rng=np.random.default_rng(0), **QUICK)
    residue = next(row.metric for row in table.rows if row.metric.startswith("population phi>0"))
    assert table[residue].value > 0.7
    assert table[residue].reference < 0.05
    # φ turned by 2.3 rad; the mirror images pull it back a little
    assert table["torus W2"].value > 1.5
    assert table["torus W2"].value > 5 * table["torus W2"].floor
    assert table["heavy bond std ratio"].value == pytest.approx(2.0, rel=0.1)
    fraction = table["stereo-centres right"]
    assert abs(fraction.value - 0.9) < 4 * np.sqrt(0.09 / 400)


def test_an_unseen_state_has_an_error_bar(good):
    row = next(row for row in good.rows if row.metric.startswith("population phi>0"))
    if row.value == 0.0:
        assert row.error == pytest.approx(1 - 0.15865 ** (1 / 400), rel=1e-2)
    else:
        assert row.error > 0


def test_json_and_text(good):
    read = json.loads(good.to_json())
    assert read["schema_version"] == 1
    assert read["reference_frames"] == [500, 500]
    assert len(read["rows"]) == len(good.rows)
    distance = next(row for row in read["rows"] if row["metric"] == "torus W2")
    assert distance["reference"] is None
    assert distance["value"] == good["torus W2"].value
    text = good.to_text()
    assert all(row.metric in text for row in good.rows)
    assert "22 atoms, ACE-ALA-NME" in text.splitlines()[0]
    with pytest.raises(ConfigError, match="did you mean 'torus W2'"):
        good["torus w2"]


def test_the_same_seed_gives_the_same_table(perturbed, reference, good):
    again = evaluate(perturbed(500, 12), reference, rng=np.random.default_rng(0), **QUICK)
    assert again.to_json() == good.to_json()


def test_inputs_are_not_written_to(perturbed, reference):
    ensemble = perturbed(100, 14)
    before = [ensemble.xyz.copy(), reference[0].xyz.copy()]
    evaluate(ensemble, reference, rng=np.random.default_rng(0), lag=None, **QUICK)
    np.testing.assert_array_equal(ensemble.xyz, before[0])
    np.testing.assert_array_equal(reference[0].xyz, before[1])


def test_weights_restore_a_biased_ensemble(perturbed, reference):
    parts = [perturbed(250, 15), perturbed(250, 16, phi=1.0)]
    mixed = mdtraj.join(parts)
    log_weights = np.repeat([0.0, -np.inf], 250)
    rng = np.random.default_rng(0)
    plain = evaluate(mixed, reference, rng=rng, lag=None, **QUICK)
    weighted = evaluate(mixed, reference, rng=rng, lag=None, log_weights=log_weights, **QUICK)
    assert weighted["torus W2"].value < 0.5 * plain["torus W2"].value
    with pytest.raises(InputError, match="log_weights"):
        evaluate(mixed, reference, rng=rng, log_weights=[0.0])


def chain(frames, seed, symbols=("F", "C", "C", "Cl"), links=((0, 1), (1, 2), (2, 3))):
    """A chain of four atoms with a uniform torsion: a molecule without φ and ψ."""
    rng = np.random.default_rng(seed)
    topology = mdtraj.Topology()
    residue = topology.add_residue("LIG", topology.add_chain())
    atoms = [topology.add_atom(s, mdtraj.element.get_by_symbol(s), residue) for s in symbols]
    for first, second in links:
        topology.add_bond(atoms[first], atoms[second])
    angle = rng.uniform(-np.pi, np.pi, frames)
    xyz = np.zeros((frames, 4, 3))
    xyz[:, 0] = [0.13, -0.05, 0]
    xyz[:, 2] = [0, 0.15, 0]
    xyz[:, 3] = np.stack([0.17 * np.cos(angle), np.full(frames, 0.2), 0.17 * np.sin(angle)], axis=1)
    return mdtraj.Trajectory(xyz + 0.001 * rng.standard_normal(xyz.shape), topology)


def test_molecules_without_backbone_use_rotatable_bonds():
    run = chain(400, 0)
    table = evaluate(chain(200, 1), [run], rng=np.random.default_rng(0), **QUICK)
    assert table.split == "halves"
    assert table["torus W2"].value < 0.5
    assert not any(row.metric.startswith("Ramachandran") for row in table.rows)
    assert "rotatable torsions" in table["torus W2"].definition
    # both halves hold 200 frames
    assert table["heavy bond error"].n == 200


def test_bonds_can_be_given():
    ensemble, run = chain(100, 0), chain(100, 1)
    bare = ensemble.topology.copy()
    bare._bonds = []
    ensemble.topology = bare
    run.topology = bare.copy()
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="no bonds are known"):
        evaluate(ensemble, [run], rng=rng, **QUICK)
    table = evaluate(ensemble, [run], rng=rng, bonds=[[0, 1], [1, 2], [2, 3]], **QUICK)
    assert table["heavy bond error"].value < 0.005


def test_rigid_molecules_have_no_torsional_rows():
    rng = np.random.default_rng(0)
    topology = mdtraj.Topology()
    residue = topology.add_residue("HOH", topology.add_chain())
    atoms = [topology.add_atom(s, mdtraj.element.get_by_symbol(s), residue) for s in ("O", "H", "H")]
    topology.add_bond(atoms[0], atoms[1])
    topology.add_bond(atoms[0], atoms[2])
    xyz = np.asarray([[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0]]) + 0.001 * rng.standard_normal((50, 3, 3))
    water = mdtraj.Trajectory(xyz, topology)
    table = evaluate(water, [water], rng=rng, **QUICK)
    assert [row.metric for row in table.rows] == ["frames with clashes"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e, r: (e[:0], r), r"ensemble \(22 atoms, ACE-ALA-NME\) has no frames.*reference"),
        (lambda e, r: (e, []), "no reference"),
        (lambda e, r: (e, [r[0][:0]]), "reference run 0 .* has no frames.*ensemble"),
        (lambda e, r: (e, [r[0].atom_slice(range(10))]), r"ensemble \(22 atoms.*reference run 0 \(10 atoms.*different numbers"),
        (lambda e, r: (e, [chain(20, 0)]), r"ensemble \(22 atoms.*reference run 0 \(4 atoms, LIG\)"),
        (lambda e, r: (e[:1], r), "ensemble has 1 frames"),
        (lambda e, r: (broken(e), r), "ensemble: 1 of 30 frames hold NaN or infinity, the first is frame 3.*reference"),
        (lambda e, r: (e, [r[0], broken(r[1])]), "reference run 1: 1 of 500 frames.*ensemble"),
    ],
)
def test_bad_input(perturbed, reference, change, words):
    ensemble, runs = change(perturbed(30, 20), reference)
    with pytest.raises(InputError, match=words):
        evaluate(ensemble, runs, rng=np.random.default_rng(0), **QUICK)


def test_other_atoms_and_other_bonds_are_refused():
    ensemble, rng = chain(30, 0), np.random.default_rng(0)
    with pytest.raises(InputError, match=r"ensemble .* and reference run 0 .* differ at atom 0: LIG0-F and LIG0-Cl"):
        evaluate(ensemble, [chain(30, 1, symbols=("Cl", "C", "C", "F"))], rng=rng)
    with pytest.raises(InputError, match="different bonds: LIG0-C and LIG0-Cl are bonded only in reference run 0"):
        evaluate(ensemble, [chain(30, 1, links=((0, 1), (1, 2), (1, 3)))], rng=rng)


def broken(trajectory):
    copy = trajectory[:]
    copy.xyz[3, 0, 0] = np.nan
    return copy


def test_bad_settings(perturbed, reference):
    ensemble, rng = perturbed(30, 21), np.random.default_rng(0)
    with pytest.raises(ConfigError, match="n = 0"):
        evaluate(ensemble, reference, rng=rng, n=0)
    with pytest.raises(InputError, match="lag of 600"):
        evaluate(ensemble, reference, rng=rng, lag=600)
    with pytest.raises(ConfigError, match="unknown state 'helix'"):
        evaluate(ensemble, reference, rng=rng, states=("helix",))
    with pytest.raises(InputError, match="signs without centres"):
        evaluate(ensemble, reference, rng=rng, signs=[1])
