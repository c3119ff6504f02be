"""Ligands and receptors from files: what is read, what is said of it, and what is refused."""

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem
from toy_pocket import SMILES, pocket_pdb, seeded, toy_input, toy_system

from equilibra.errors import InputError
from equilibra.geometry.internal_coordinates import dihedrals, signed_volumes
from equilibra.systems.ligand.inputs import LigandInput, complexes, ligand_systems
from equilibra.systems.ligand.poses import pose_positions, pose_state, random_state
from equilibra.systems.ligand.receptor import read_receptor_file
from equilibra.systems.ligand.sources import read_ligands
from equilibra.systems.ligand.symmetry import automorphisms
from equilibra.systems.ligand.torsions import find_torsions


def embedded(smiles=SMILES, seed=3):
    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(mol, randomSeed=seed)
    return mol


def write_sdf(path, mol):
    with Chem.SDWriter(str(path)) as writer:
        writer.write(mol)
    return path


def test_every_pose_has_the_geometry_and_stereo_centres_of_the_input(tmp_path):
    system = toy_system(tmp_path)
    state = random_state(system, 20, generator=seeded(0))
    x = pose_positions(system, state).numpy()
    bonds = np.array([(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in system.mol.GetBonds()])
    angles = np.array(
        [
            (i, k)
            for a in system.mol.GetAtoms()
            for i in [n.GetIdx() for n in a.GetNeighbors()]
            for k in [n.GetIdx() for n in a.GetNeighbors()]
            if i < k
        ]
    )
    for pairs in (bonds, angles):
        got = np.linalg.norm(x[:, pairs[:, 0]] - x[:, pairs[:, 1]], axis=-1)
        wanted = np.linalg.norm(system.reference[pairs[:, 0]] - system.reference[pairs[:, 1]], axis=-1)
        assert np.abs(got - wanted).max() < 1e-4  # the reference is another rounding of the same geometry
    assert len(system.stereo_signs) == 1
    assert (signed_volumes(x, system.stereo_centres) * system.stereo_signs > 0).all()
    assert np.allclose(x[:, system.torsions.heavy].mean(1), state.fields["shift"][:, 0].numpy() + system.centre, atol=1e-9)
    # torsions are dihedral angles
    measured = dihedrals(x, system.torsions.quads)
    assert np.allclose(np.cos(measured - system.angles(state).numpy()), 1.0, atol=1e-9)


@pytest.mark.parametrize("smiles", [SMILES, "CC#CCCO", "C1CCCCC1CCOc1ccccc1", "c1ccccc1"])
def test_a_pose_is_encoded_exactly_and_fitted_closely(tmp_path, smiles):
    mol = embedded(smiles)
    system = toy_system(tmp_path, mol)
    x = mol.GetConformer().GetPositions() + np.array([1.0, -2.0, 0.5])
    state = pose_state(system, x[None])
    heavy = system.torsions.heavy
    # decoded with the geometry that the State carries
    own = state.fields["reference"][:, : len(heavy)]
    from equilibra.geometry.torsion_tree import placed
    from equilibra.nn.ligand import tree_of

    features = system.features.shared()
    columns = features.node["torsions_items"].any(0).nonzero()[:, 0]
    tree = tree_of(features, len(heavy), columns)
    back = placed(own, state.fields["shift"][:, 0], state.fields["turn"][:, 0], state.fields["torsions"][:, columns, 0], tree)
    assert np.abs(back[0].numpy() - x[heavy]).max() < 1e-5
    fitted = pose_positions(system, pose_state(system, x[None], fitted=True))[0].numpy()
    assert np.sqrt(((fitted - x)[heavy] ** 2).sum(1).mean()) < 0.6


def test_rings_have_several_geometries_in_one_frame(tmp_path):
    system = toy_system(tmp_path, "O[C@H]1CCCC[C@@H]1CCC")
    assert 2 <= len(system.geometries) <= 8
    assert np.abs(system.geometries[:, system.torsions.heavy].mean(1)).max() < 1e-3
    again = toy_system(tmp_path, "O[C@H]1CCCC[C@@H]1CCC")
    assert again == system
    assert again != toy_system(tmp_path, "O[C@H]1CCCC[C@H]1CCC")


def test_which_bonds_turn():
    def bonds(smiles):
        mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
        return len(find_torsions(mol).axes)

    assert bonds("CCCC") == 1  # methyls do not
    assert bonds("CC(=O)NC") == 0  # amides do not
    assert bonds("OCCO") == 1  # hydroxyls do not
    assert bonds("CC#CCCC") == 2
    assert bonds("c1ccccc1-c1ccccc1") == 1
    tree = find_torsions(Chem.AddHs(Chem.MolFromSmiles("c1ccccc1CCC")))
    assert set(tree.root) >= {0, 1, 2, 3, 4, 5}  # the ring carries the turn
    assert not tree.moving[:, list(tree.root)].any()


def test_symmetry_of_a_ligand():
    assert len(automorphisms(Chem.MolFromSmiles("c1ccccc1C(=O)[O-]"))) == 4
    assert (automorphisms(Chem.MolFromSmiles("CCO"))[0] == np.arange(3)).all()


def structure(*rows):
    return "\n".join(rows) + "\nEND\n"


def test_what_is_in_a_receptors_file_is_kept_or_left_out_and_said(tmp_path):
    rows = pocket_pdb().splitlines()[:-1]
    rows[4] = rows[4][:16] + "A" + rows[4][17:56] + "0.40" + rows[4][60:]
    rows.insert(5, rows[4][:16] + "B" + rows[4][17:30] + "   9.000   9.000   9.000" + "  0.60" + rows[4][60:])
    rows[6] = rows[6][:26] + "A" + rows[6][27:]
    rows += [
        "HETATM   30 ZN    ZN A 301       0.000   7.500   7.500  1.00  0.00          ZN  ",
        "HETATM   31  O   HOH A 401       7.500   0.000   7.500  1.00  0.00           O  ",
        "HETATM   32  C1  LIG B 501       0.100   0.000   0.000  1.00  0.00           C  ",
        "HETATM   33  C2  LIG B 501       1.500   0.000   0.000  1.00  0.00           C  ",
    ]
    path = tmp_path / "real.pdb"
    path.write_text(structure(*rows))
    ready = read_receptor_file(path)
    words = " | ".join((*ready.notes, *ready.warnings))
    for part in (
        "chain",
        "1 water, left out",
        "metals kept: 1 Zn",
        "B:LIG501",
        "1 residue with alternate locations",
        "insertion codes: A:ALA2A",
        "no hydrogens",
    ):
        assert part in words
    names = [str(residue) for residue in ready.receptor.atoms.residues]
    assert not any("HOH" in name for name in names)
    taken = ready.receptor.atoms.positions[
        [
            n == "CB" and str(r) == "A:ALA1"
            for n, r in zip(ready.receptor.atoms.names, ready.receptor.atoms.residues, strict=True)
        ]
    ]
    assert taken.tolist() == [[9.0, 9.0, 9.0]]  # the more occupied place
    assert any("HOH" in str(r) for r in read_receptor_file(path, waters=True).receptor.atoms.residues)
    # the ligand of the file, where the new one goes, is no part of the receptor
    there = read_receptor_file(path, in_place_of=np.array([[0.0, 0, 0], [1.4, 0, 0]]))
    assert not any("LIG" in str(r) for r in there.receptor.atoms.residues)
    assert any("left out B:LIG501" in note for note in there.notes)
    by_name = ligand_systems(LigandInput(receptor=path, ligand="CCCO", reference="LIG"))[0]
    assert np.allclose(by_name.box.centre, (0.8, 0, 0))


def test_a_pocket_is_named_in_three_ways(tmp_path):
    reference = embedded()
    path = write_sdf(tmp_path / "known.sdf", reference)
    by_ligand = toy_system(tmp_path, centre=None, size=None, reference=path)
    heavy = by_ligand.torsions.heavy
    x = reference.GetConformer().GetPositions()[heavy]
    assert np.allclose(by_ligand.box.size, np.ptp(x, axis=0) + 8.0, atol=1e-3)
    assert by_ligand.pose is not None  # the same molecule
    by_residues = toy_system(tmp_path, centre=None, size=None, residues=["A:1", "ALA3"])
    assert min(by_residues.box.size) > 5
    assert toy_system(tmp_path, size=(10, 12, 14)).box.size == (10.0, 12.0, 14.0)
    own = ligand_systems((tmp_path / "toy.pdb", path))[0]
    assert np.allclose(own.box.centre, by_ligand.box.centre)
    kept = toy_system(tmp_path, reference, keep_geometry=True)
    assert len(kept.geometries) == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ligand": "c1ccc"}, "nor a valid SMILES"),
        ({"ligand": "CCO.[Na+].CCC"}, "3 fragments"),
        ({"ligand": "CO"}, "at least 3"),
        ({"ligand": "CC(N)CC(O)C"}, "stereochemistry is not specified"),
        ({"ligand": "C" * 40}, r"rotatable bonds, expected at most 32"),
        ({"ligand": "CC*"}, "dummy"),
        ({"centre": (90, 90, 90)}, "outside of the receptor"),
        ({"centre": (0, 0, 20), "size": (10,)}, "only [0-9] heavy atoms|outside of the receptor"),
        ({"centre": None, "size": None}, "neither a pocket is named"),
        ({"centre": None, "size": None, "residues": ["A:99"]}, "no residue 'A:99'"),
        ({"centre": None, "size": None, "residues": ["ten"]}, "expected a residue such as"),
        ({"centre": None, "size": None, "reference": "XYZ"}, "neither a file nor a molecule"),
        ({"size": (1, 2)}, "one or three"),
        ({"keep_geometry": True}, "3-D coordinates"),
        ({"ligand": "missing.sdf"}, "cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(tmp_path, options, message):
    with pytest.raises(InputError, match=message) as raised:
        toy_system(tmp_path, **options)
    assert "\n" not in str(raised.value)


def test_receptors_without_coordinates_are_refused(tmp_path):
    empty = tmp_path / "empty.pdb"
    empty.write_text("REMARK nothing\nEND\n")
    with pytest.raises(InputError, match="no atoms"):
        ligand_systems(LigandInput(receptor=empty, ligand="CCO", centre=(0, 0, 0)))
    with pytest.raises(InputError, match="cannot be read"):
        ligand_systems(LigandInput(receptor=tmp_path / "none.pdb", ligand="CCO", centre=(0, 0, 0)))


def test_hydrogens_are_added_and_said(tmp_path):
    record = read_ligands(SMILES)[0]
    assert any("hydrogens were added" in warning for warning in record.warnings)
    assert any("hydrogens were added" in warning for warning in toy_system(tmp_path).warnings)
    mol2 = tmp_path / "broken.mol2"
    mol2.write_text("@<TRIPOS>MOLECULE\nx\n")
    assert isinstance(read_ligands(mol2)[0], InputError)


def test_a_table_with_a_bad_row_gives_the_others(tmp_path):
    (tmp_path / "toy.pdb").write_text(pocket_pdb())
    table = tmp_path / "pairs.csv"
    table.write_text(
        "receptor,ligand,name,center_x,center_y,center_z,size\n"
        f"toy.pdb,{SMILES},good,0,0,0,12\ntoy.pdb,C1CC,bad,0,0,0,12\ntoy.pdb,CCCO,other,0,0,0,12\n"
    )
    problems = []
    systems = ligand_systems(table, on_error=problems.append)
    assert [system.name for system in systems] == ["good", "other"]
    assert len(problems) == 1
    assert "bad" in str(problems[0])
    table.write_text("protein,ligand\na,b\n")
    with pytest.raises(InputError, match="expected receptor and ligand"):
        complexes(table)
    with pytest.raises(InputError, match="no complexes in that folder"):
        complexes(tmp_path)
    write_sdf(tmp_path / "a_ligands.sdf", embedded())
    (tmp_path / "a_protein.pdb").write_text(pocket_pdb())
    assert len(complexes(tmp_path)) == 1


@pytest.mark.parametrize("smiles", [SMILES, "CCCOC", "C1CCCCC1CCO"])
def test_a_folder_of_poses_is_read_back_as_it_was(tmp_path, smiles):
    from equilibra.systems.ligand.ensemble import LigandEnsemble

    system = toy_system(tmp_path, smiles, size=(60,))
    x = pose_positions(system, random_state(system, 6, generator=seeded(1))).numpy()
    made = LigandEnsemble.from_frames(system, x, energies=np.arange(6.0), provenance={"temperature_k": 300.0})
    made.save(tmp_path / "poses", formats=("sdf", "npz"))
    read = LigandEnsemble.read(tmp_path / "poses")
    assert read.system == system
    assert np.array_equal(read.positions, made.positions)
    assert [cluster.population for cluster in read.clusters] == [cluster.population for cluster in made.clusters]
    assert read.clusters[0].free_energy == 0.0
    assert len(read.rejected) == len(made.rejected)
    # the order of atoms, bonds and charges are those of the input
    assert Chem.MolToSmiles(Chem.RemoveHs(read.system.mol)) == Chem.CanonSmiles(smiles)


def test_toy_input_is_the_same_every_time(tmp_path):
    assert ligand_systems(toy_input(tmp_path))[0].digest == toy_system(tmp_path).digest
    assert torch.equal(toy_system(tmp_path).token_geometries, toy_system(tmp_path).token_geometries)


def test_a_receptor_of_several_rows_is_read_once(tmp_path, monkeypatch):
    from equilibra.systems.ligand import inputs

    read = []
    plain = inputs.ReceptorFile
    monkeypatch.setattr(inputs, "ReceptorFile", lambda path: (read.append(path), plain(path))[1])
    for name in ("one.pdb", "two.pdb"):
        (tmp_path / name).write_text(pocket_pdb())
    rows = ["one.pdb,CCCOC,0,0,0,12", "one.pdb,CCCCOC,0,0,0,12", "two.pdb,CCCOC,0,0,0,12"]
    (tmp_path / "rows.csv").write_text("\n".join(["receptor,ligand,center_x,center_y,center_z,size", *rows]) + "\n")
    assert len(ligand_systems(tmp_path / "rows.csv")) == 3
    assert [path.split("/")[-1] for path in map(str, read)] == ["one.pdb", "two.pdb"]
