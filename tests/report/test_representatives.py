"""Representative structures: basins, populations, superposition."""

import numpy as np
import pytest

from equilibra.errors import InputError, ShapeError
from equilibra.report.representatives import choose_representatives, superpose_pdb

CENTRES = np.array([[-1.4, -0.3], [-2.4, 2.7], [-1.3, 2.6], [1.0, 0.6]])
SHARES = np.array([0.45, 0.30, 0.23, 0.02])


def basins(n=4000, seed=0):
    rng = np.random.default_rng(seed)
    label = rng.choice(4, n, p=SHARES)
    angles = rng.normal(CENTRES[label], 0.22)
    return {"phi": angles[:, 0], "psi": angles[:, 1]}, label


def turn(a, b):
    return np.abs((a - b + np.pi) % (2 * np.pi) - np.pi)


def line(serial, name, element, xyz):
    return (
        f"ATOM  {serial:>5} {name:<4} ALA A   1    {xyz[0]:8.3f}{xyz[1]:8.3f}{xyz[2]:8.3f}  1.00  0.00          {element:>2}  "
    )


def pdb(positions, elements):
    rows = [line(i + 1, f" {e}{i}", e, x) for i, (e, x) in enumerate(zip(elements, positions, strict=True))]
    return "\n".join([*rows, "CONECT    1    2", "END"]) + "\n"


def coordinates(text):
    rows = [row for row in text.splitlines() if row.startswith("ATOM")]
    return np.array([[float(row[a : a + 8]) for a in (30, 38, 46)] for row in rows])


def test_every_basin_is_found_with_its_population():
    torsions, label = basins()
    chosen = choose_representatives(torsions, 4, generator=np.random.default_rng(0))
    assert chosen.populations.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.all(np.diff(chosen.populations) <= 0.0)
    points = np.stack([torsions["phi"], torsions["psi"]], 1)[chosen.frames]
    assert np.all(turn(points, CENTRES).max(axis=1) < 0.35)  # most populated first, each near its own centre
    z = (chosen.populations - np.bincount(label) / len(label)) / np.sqrt(SHARES * (1 - SHARES) / len(label))
    assert np.all(np.abs(z) < 4.0)
    np.testing.assert_allclose(np.bincount(chosen.assignment) / len(label), chosen.populations)
    assert np.array_equal(chosen.assignment[chosen.frames], np.arange(4))


def test_no_more_peaks_than_there_are():
    rng = np.random.default_rng(1)
    one = {"phi": rng.normal(np.pi, 0.2, 500)}  # across the cut of the circle
    chosen = choose_representatives(one, 6, generator=rng)
    assert len(chosen.frames) == 1
    assert chosen.populations.tolist() == [1.0]


def test_weights_decide_the_populations():
    torsions, label = basins()
    weights = np.where(label == 3, 50.0, 1.0)
    chosen = choose_representatives(torsions, 4, generator=np.random.default_rng(0), weights=weights)
    assert torsions["phi"][chosen.frames[0]] > 0.0
    assert chosen.populations[0] == pytest.approx(weights[label == 3].sum() / weights.sum(), abs=0.01)
    assert chosen.populations.sum() == pytest.approx(1.0, abs=1e-12)


def test_small_shares_are_given_up_and_k_is_a_bound():
    torsions, _ = basins()
    assert len(choose_representatives(torsions, 2, generator=np.random.default_rng(0)).frames) == 2
    chosen = choose_representatives(torsions, 4, generator=np.random.default_rng(0), least=0.05)
    assert len(chosen.frames) == 3
    assert chosen.populations.sum() == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_few_frames_are_enough(n):
    torsions = {"phi": np.linspace(-2.0, 2.0, n), "psi": np.zeros(n)}
    chosen = choose_representatives(torsions, 3, generator=np.random.default_rng(0))
    assert 1 <= len(chosen.frames) <= 3
    assert chosen.populations.sum() == pytest.approx(1.0, abs=1e-12)


def test_same_generator_same_choice():
    torsions, _ = basins(3000)
    a, b = (choose_representatives(torsions, 4, generator=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(a.frames, b.frames)


def test_wrong_input_is_named():
    rng = np.random.default_rng(0)
    with pytest.raises(InputError, match="k = 0"):
        choose_representatives({"phi": [0.0]}, 0, generator=rng)
    with pytest.raises(InputError, match="no torsion"):
        choose_representatives({}, 1, generator=rng)
    with pytest.raises(ShapeError, match="psi"):
        choose_representatives({"phi": [0.0, 1.0], "psi": [0.0]}, 1, generator=rng)


def test_superposition_undoes_a_rotation_and_keeps_the_hand():
    from scipy.spatial.transform import Rotation

    rng = np.random.default_rng(0)
    x = 3.0 * rng.normal(size=(8, 3))
    elements = ["C", "N", "O", "C", "C", "H", "H", "N"]
    moved = Rotation.random(random_state=3).apply(x) + np.array([5.0, -7.0, 20.0])
    a, b, mirror = (coordinates(text) for text in superpose_pdb([pdb(y, elements) for y in (x, moved, -x)]))
    np.testing.assert_allclose(a, b, atol=4e-3)  # the format keeps 0.001 Å
    assert np.sqrt(np.mean((mirror - a) ** 2)) > 0.3
    volumes = [np.linalg.det(y[1:4] - y[0]) for y in (x, a, mirror)]
    assert np.sign(volumes).tolist() == [np.sign(volumes[0]), np.sign(volumes[0]), -np.sign(volumes[0])]
    distance = np.linalg.norm(a[:, None] - a[None], axis=-1)
    np.testing.assert_allclose(distance, np.linalg.norm(x[:, None] - x[None], axis=-1), atol=3e-3)
    heavy = [i for i, e in enumerate(elements) if e != "H"]
    np.testing.assert_allclose(a[heavy].mean(0), 0.0, atol=1e-3)


def test_superposition_by_chosen_atoms_changes_only_coordinates():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, 6, 3))
    y[:3] = x[:3] @ np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]) + 4.0
    texts = [pdb(3 * x, "CNOCCC"), pdb(3 * y, "CNOCCC")]
    first, second = superpose_pdb(texts, [0, 1, 2])
    np.testing.assert_allclose(coordinates(first)[:3], coordinates(second)[:3], atol=4e-3)

    def rest(text):
        return [row[:30] + row[54:] if row.startswith("ATOM") else row for row in text.splitlines()]

    assert rest(second) == rest(texts[1])


def test_superposition_refuses_other_atoms():
    with pytest.raises(InputError, match=r"structures of \[2, 3\] atoms"):
        superpose_pdb([pdb(np.zeros((2, 3)), "CC"), pdb(np.zeros((3, 3)), "CCC")])
    with pytest.raises(InputError, match="expected indices from 0 to 1"):
        superpose_pdb([pdb(np.eye(3)[:2], "CC")], [5])
    assert superpose_pdb([]) == []
