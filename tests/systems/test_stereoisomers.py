"""SMILES that leave stereochemistry open: what they may stand for, and what a model takes them for."""

import dataclasses

import pytest

from equilibra.errors import InputError
from equilibra.systems.card import Card
from equilibra.systems.model import Model
from equilibra.systems.molecule.domain import elements, identifier
from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
from equilibra.systems.molecule.stereoisomers import meant, stereoisomers
from equilibra.systems.molecule.system import molecule_system
from equilibra.systems.scope import Scope

OPEN = "CC(=O)NC(C)C(=O)NC"
LEFT, RIGHT = "CC(=O)N[C@@H](C)C(=O)NC", "CC(=O)N[C@H](C)C(=O)NC"


def test_all_stereoisomers_are_found_natural_amino_acids_first():
    assert stereoisomers(OPEN) == [LEFT, RIGHT]
    assert len(stereoisomers("CC=CC(F)Cl")) == 4
    # two centres of a ring, whose mirror images are the same
    assert len(stereoisomers("CC1CCC(C)CC1")) == 2
    # what is given stays
    half = stereoisomers("C[C@H](F)C(Cl)Br")
    assert len(half) == 2
    peptides = stereoisomers("CC(=O)NC(C)C(=O)NC(CO)C(=O)NC")
    assert len(peptides) == 4
    assert identifier(molecule_system(stereoisomers(OPEN)[0])) == identifier(molecule_system("ACE-ALA-NME"))
    for smiles in (*peptides, *half):
        assert len(molecule_system(smiles).stereo_centres) == 2


def test_the_atoms_keep_their_order():
    closed = molecule_system(LEFT)
    assert [a.GetSymbol() for a in closed.mol.GetAtoms()][:10] == list("CCONCCCONC")


@pytest.mark.parametrize("source", ["CCO", LEFT, "ACE-ALA-NME", "molecule.sdf", "no smiles", "", None, 3])
def test_nothing_is_open_in_other_sources(source):
    assert stereoisomers(source) == []
    assert meant(source, {"CCO"}) is source


def test_too_many_are_refused():
    with pytest.raises(InputError, match="may stand for more than 64 stereoisomers; mark each centre"):
        stereoisomers("C" + "C(F)(Cl)" * 0 + "".join("C(F)" for _ in range(8)) + "Br")


def test_a_model_takes_an_open_smiles_for_the_molecule_that_it_knows():
    systems = {name: molecule_system(smiles) for name, smiles in (("left", LEFT), ("right", RIGHT))}
    known = {name: identifier(system) for name, system in systems.items()}
    assert meant(OPEN, {known["left"]}) == LEFT
    assert meant(OPEN, {known["right"], "CCO"}) == RIGHT
    assert meant(OPEN, set(known.values())) == OPEN
    assert meant(OPEN, {"CCO"}) == OPEN
    config = molecule_network_config(dim=16, pair_dim=8, layers=1, heads=2, basis=8, channels=2)
    model = Model(
        name="tiny",
        domain="molecule",
        denoiser=molecule_denoiser(molecule_process(1.0), config, seed=0),
        network=dataclasses.asdict(config),
        sampler=None,
        scope=Scope(systems=(known["right"],), elements=elements([systems["right"]]), temperature=300.0),
        card=Card(summary="For tests."),
    )
    (found,) = model.systems(OPEN)
    assert found == systems["right"]
    with pytest.raises(InputError, match="not specified at centre C2"):
        model.systems("CC(N)C(=O)O")
