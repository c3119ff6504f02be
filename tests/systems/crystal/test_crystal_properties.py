import pytest
import torch
from known_crystals import diamond, graphite, rock_salt

from equilibra.errors import InputError
from equilibra.systems.crystal.domain import properties, written
from equilibra.systems.crystal.ensemble import state_of
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.guides import GuideText, ready_guides

CARBON = CrystalSystem.of_formula("C2")


def value(name, structure, system=CARBON):
    spelling = next(key for key in properties(system) if key.partition(":")[0] == name.partition(":")[0])
    made = properties(system)[spelling](name.partition(":")[2])
    state = state_of([structure])
    state = state.map(lambda x: x.clone().requires_grad_())
    values = made.with_gradient(state)
    gradients = torch.autograd.grad(values.sum(), list(state.fields.values()), allow_unused=True)
    return float(values.detach()), gradients


def test_density_and_volume_follow_the_cell():
    found, (by_frac, by_cell) = value("density", diamond())
    assert found == pytest.approx(3.516, abs=2e-3)
    # d ln(density) / d ln(length) = -3
    cell = state_of([diamond()]).fields["cell"]
    assert float((by_cell * cell).sum()) == pytest.approx(-3 * found, rel=1e-6)
    assert by_frac is None
    assert value("volume", diamond())[0] == pytest.approx(3.567**3 / 8)


def test_gaps_of_known_carbon():
    system = CrystalSystem.of_formula("C4")
    gap, gradients = value("band-gap:tight-binding", diamond())
    assert 4.0 < gap < 7.0
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert value("band-gap:megnet", diamond())[0] == pytest.approx(4.6, abs=0.5)
    assert value("band-gap:megnet", graphite(), system)[0] < 0.5
    assert value("energy:tight-binding", diamond())[0] < value("energy:tight-binding", diamond(4.2))[0]


@pytest.mark.parametrize("name", ["band-gap:megnet", "band-gap:cgcnn", "band-gap:tight-binding", "energy:tight-binding"])
def test_crystals_that_cannot_be_evaluated_have_no_value(name):
    state = state_of([diamond(), diamond()])
    cell = state.fields["cell"].clone()
    cell[1] = torch.diag(torch.tensor([3.0, 3.0, 0.01], dtype=torch.float64))
    (ready,) = ready_guides([f"{name}=3+-1"], "crystal", CARBON)
    state = state.replace(cell=cell.requires_grad_())
    values = ready.guide.property.with_gradient(state)
    assert torch.isnan(values).tolist() == [False, True]
    (gradient,) = torch.autograd.grad(values[0], [state.fields["cell"]])
    assert torch.isfinite(gradient).all()
    assert gradient[0].abs().max() > 0.0


def test_properties_that_do_not_fit_are_refused():
    salt = CrystalSystem.of_formula("NaCl")
    assert 4.0 < value("band-gap:megnet", rock_salt(), salt)[0] < 6.0
    for name, words in (("band-gap:tight-binding", "is a model of carbon"), ("band-gap:dft", "expected megnet, cgcnn")):
        with pytest.raises(InputError, match=words):
            value(name, rock_salt(), salt)
    with pytest.raises(InputError, match="which the network does not know"):
        value("band-gap:megnet", rock_salt(), CrystalSystem.of_formula("Rn"))


def test_written_positions_are_those_in_the_cell():
    state = state_of([diamond()])
    x, cell = written(CARBON, state)
    assert torch.allclose(cell, state.fields["cell"] * 2 ** (1 / 3))
    assert torch.allclose(x @ torch.linalg.inv(cell), state.fields["frac"])


def test_own_functions_are_called_with_positions_and_cells(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "import torch\n\n"
        "def volume(x, cells, system):\n    return torch.linalg.det(cells) / system.atoms\n\n"
        "def outside(x, cells, system):\n    return torch.linalg.det(cells).detach().numpy() / x.shape[1]\n\n"
        "def molecules(x, system):\n    return x.sum((1, 2))\n"
    )
    state = state_of([diamond()]).map(lambda x: x.clone().requires_grad_())
    volume, outside, molecules = (
        ready_guides([GuideText(f"{path}:{name}=5+-1", differentiable=steers)], "crystal", CARBON)[0].guide.property
        for name, steers in (("volume", True), ("outside", False), ("molecules", True))
    )
    values = volume.with_gradient(state)
    assert float(values.detach()) == pytest.approx(3.567**3 / 8)
    (gradient,) = torch.autograd.grad(values.sum(), [state.fields["cell"]])
    # d ln(volume) / d ln(length) = 3
    assert float((gradient * state.fields["cell"].detach()).sum()) == pytest.approx(3 * float(values.detach()))
    assert float(outside(state)) == pytest.approx(3.567**3 / 8)
    with pytest.raises(InputError, match="it is called with positions, cells and the system"):
        molecules(state)
