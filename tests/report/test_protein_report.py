"""The reports of proteins: ensembles and paths, from frames to a page."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from equilibra.analysis.superposition import superpose
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import InputError, ShapeError
from equilibra.report.backbone_profile import backbone_profile
from equilibra.report.from_ensemble import REPORTS, module_of, write_report
from equilibra.report.from_protein import report_data
from equilibra.report.path import PATHS, write_path_report
from equilibra.report.path_picture import seen_from_the_side, write_path_gif
from equilibra.report.path_plot import PathSeries, path_plot
from equilibra.report.protein_plots import residue_ticks
from equilibra.report.relaxation import read_relaxation
from equilibra.report.rmsd_representatives import medoid, rmsd_representatives
from equilibra.report.structure_view import Movie
from equilibra.systems.files import write_trajectory
from equilibra.systems.molecule import MoleculeEnsemble, molecule_system
from equilibra.systems.protein.all_atom_ensemble import COLUMNS
from equilibra.systems.protein.ensemble import ProteinEnsemble
from equilibra.systems.protein.frames import extended_frames, written_atoms
from equilibra.systems.protein.interpolate import ProteinPath
from equilibra.systems.protein.path_energies import PathEnergies
from equilibra.systems.protein.sources import protein_system
from equilibra.units import KCAL_PER_MOL_EV

SECTIONS = (
    "Structures",
    "Weights",
    "Flexibility",
    "Contacts",
    "Size",
    "Likeness to the native structure",
    "Where it goes",
    "Backbone torsions",
    "Secondary structure",
    "Validity",
    "All atoms",
    "Evaluation",
    "Provenance",
)


@pytest.fixture(scope="module")
def system():
    return protein_system("GYDPETGTWGAK")


def positions(system, frames, seed=0, width=0.05):
    trans, rot = (x[0].numpy() for x in extended_frames(system))
    noise = width * np.random.default_rng(seed).normal(size=(frames, *trans.shape))
    return written_atoms(trans + noise, np.repeat(rot[None], frames, axis=0), system)


def make(system, frames=40, seed=0, *, broken=2, provenance=None, **options):
    x = positions(system, frames, seed)
    for frame in range(broken):
        x[frame, 20:] += 30.0
    known = {"model": "none", "temperature_k": 290.0, "network_calls": 31, "timing": {"samples_per_second": 2.5}}
    return ProteinEnsemble.from_frames(system, x, provenance=known if provenance is None else provenance, **options)


def table():
    row = EvaluationRow(
        metric="RMWD",
        value=0.42,
        error=0.02,
        floor=0.3,
        floor_std=0.1,
        baseline=0.9,
        n=40,
        unit="Å",
        definition="distance <of> means",
    )
    return EvaluationTable(rows=(row,), molecule="12 residues", ensemble_frames=40, reference_frames=(40,), split="halves")


def relaxation(path, frames):
    rows = [["frame", *COLUMNS]]
    for i in range(frames):
        status = "failed" if i == 0 else "relaxed"
        rows.append(
            [str(i), status, "rigid", "5", "-3", "0.1", "0.2", "0.5", "4", "1", "0", "0", "0", "no <hope>" if i == 0 else ""]
        )
    path.write_text("\n".join(",".join(row) for row in rows) + "\n")
    return path


class Reader(HTMLParser):
    """Collects headings, alternative texts and the addresses of a page, and checks that its tags are closed in order."""

    def __init__(self):
        super().__init__()
        self.stack, self.headings, self.alts, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.addresses += [values[name] for name in ("src", "href") if name in values]
        if tag == "img":
            self.alts.append(values["alt"])
        if tag not in ("meta", "link", "img", "input"):
            self.stack.append(tag)

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        if self.stack and self.stack[-1] == "h2":
            self.headings.append(data)


def read(text):
    reader = Reader()
    reader.feed(text)
    assert reader.stack == []
    assert all(address.startswith(("#", "data:")) for address in reader.addresses)
    assert "://" not in text
    return reader


def test_a_full_page_has_every_section_and_nothing_from_outside(system, tmp_path):
    ensemble = make(system, log_weights=np.random.default_rng(1).normal(size=40))
    native = tmp_path / "native.pdb"
    write_trajectory(native, positions(system, 1, 5), system.topology)
    relaxation(tmp_path / "relaxation.csv", len(ensemble))
    runs = [make(system, 30, seed, broken=0, provenance={"run": seed}) for seed in (2, 3)]
    path = write_report(ensemble, tmp_path, reference=runs, native=native, evaluation=table(), label="MD <&> co", seed=1)
    assert path == tmp_path / "report.html"
    text = path.read_text(encoding="utf-8")
    reader = read(text)
    assert tuple(reader.headings) == SECTIONS
    assert all(reader.alts)
    assert len(reader.alts) == 10
    assert path.stat().st_size < 5_000_000
    for expected in (
        "compared with MD &lt;&amp;&gt; co",
        "38 conformations of 12 residues at 290 K",
        "no &lt;hope&gt;",
        "distance &lt;of&gt; means",
        "RMWD (Å)",
        "37 of 38",
        "95.0 %",
        "native structure",
        "slowest coordinates of the reference",
        "<dd>31</dd>",
    ):
        assert expected in text, expected
    assert "<hope>" not in text
    payload = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])
    assert payload["drawing"] == "cartoon"
    assert payload["models"][0].count("ATOM") == 4 * system.length


def test_a_page_needs_nothing_but_frames(system, tmp_path):
    one = ProteinEnsemble(system=system, positions=positions(system, 1))
    reader = read(write_report(one, tmp_path / "deep" / "page.html").read_text(encoding="utf-8"))
    assert reader.headings == [
        "Structures",
        "Flexibility",
        "Contacts",
        "Size",
        "Backbone torsions",
        "Secondary structure",
        "Validity",
    ]


def test_chains_and_names(tmp_path):
    pair = protein_system("GYDPETGTWG:AGSGA")
    trans, rot = (x.numpy() for x in extended_frames(pair))
    noise = 0.05 * np.random.default_rng(0).normal(size=(10, pair.length, 3))
    ensemble = ProteinEnsemble(system=pair, positions=written_atoms(trans[0] + noise, np.repeat(rot, 10, axis=0), pair))
    data = report_data(ensemble)
    assert data.residues[0] == "A:G1"
    assert data.residues[10] == "B:A1"
    assert list(data.chain_starts) == [0, 10]
    np.testing.assert_allclose(data.samples.ends, np.linalg.norm(ensemble.ca[:, 9] - ensemble.ca[:, 0], axis=-1), rtol=1e-5)
    assert data.structures[0].pdb.count("TER") == 1
    assert " A   1 " in data.structures[0].pdb
    assert " B   1 " in data.structures[0].pdb


def test_weights_count(system):
    log_weights = np.linspace(-3.0, 3.0, 40)
    ensemble = make(system, broken=0, log_weights=log_weights)
    data = report_data(ensemble)
    ca, w = ensemble.ca.astype(float), ensemble.weights
    moved = superpose(ca, ca[medoid(ca, w)])
    mean = np.average(moved, axis=0, weights=w)
    expected = np.sqrt(np.average(((moved - mean) ** 2).sum(-1), axis=0, weights=w))
    np.testing.assert_allclose(data.samples.rmsf, expected, rtol=1e-10)
    assert data.samples.mean(data.samples.gyration) == pytest.approx(np.average(ensemble.radius_of_gyration, weights=w))
    assert data.highlights["radius of gyration (Å)"].startswith(f"{np.average(ensemble.radius_of_gyration, weights=w):.1f}")
    distances = np.linalg.norm(ca[:, 0] - ca[:, 2], axis=-1)
    assert data.samples.contacts[0, 2] == pytest.approx(np.average(distances < 8.0, weights=w))
    assert sum(item.population for item in data.structures) == pytest.approx(1.0)
    assert data.samples.torsion_weights.sum() == pytest.approx(len(data.samples.phi) / 40)
    np.testing.assert_allclose(data.samples.structure.sum(axis=1), 1.0)
    # all weight on one conformation leaves no fluctuation
    single = make(system, broken=0, log_weights=np.where(np.arange(40) == 7, 0.0, -1e3))
    assert backbone_profile([single], ca[0]).rmsf.max() < 1e-6


def test_reasons_are_counted(system):
    data = report_data(make(system, broken=3))
    assert {row.check: row.passed for row in data.validity}["all"] == 37
    chain = next(item for item in data.rejections if item.check == "chain")
    assert chain.count == 3
    assert "distance of the C-alpha atoms" in chain.example


def test_representatives_find_two_states_and_their_weights():
    rng = np.random.default_rng(0)
    shapes = rng.normal(scale=4.0, size=(2, 10, 3))
    state = np.arange(60) % 3 == 0
    x = shapes[state.astype(int)] + 0.1 * rng.normal(size=(60, 10, 3))
    found = rmsd_representatives(x, 2)
    np.testing.assert_allclose(found.populations, [2 / 3, 1 / 3])
    np.testing.assert_array_equal(found.assignment == 1, state)
    weighted = rmsd_representatives(x, 2, np.where(state, 8.0, 1.0))
    np.testing.assert_allclose(weighted.populations, [0.8, 0.2])
    assert state[medoid(x, np.where(state, 8.0, 1.0))]
    assert not state[medoid(x)]
    assert len(rmsd_representatives(x[:1], 5).frames) == 1
    with pytest.raises(InputError, match="got k = 0"):
        rmsd_representatives(x, 0)


def test_kinds_have_their_pages(system, tmp_path):
    for modules, name in ((REPORTS, "report_page"), (PATHS, "path_page")):
        for kind in modules:
            assert callable(getattr(module_of(kind, modules), name))
    ethanol = molecule_system("CCO")
    molecule = MoleculeEnsemble(system=ethanol, positions=ethanol.reference[None])
    with pytest.raises(InputError, match="'native' is for proteins"):
        write_report(molecule, tmp_path, temperature=300.0, native=tmp_path)
    with pytest.raises(InputError, match="are different proteins"):
        write_report(make(system), tmp_path, reference=make(protein_system("GYDPETGTWGAG")))
    with pytest.raises(InputError, match="no conformation to report"):
        write_report(ProteinEnsemble(system=system, positions=np.zeros((0, system.atoms, 3))), tmp_path)


def test_tables_of_a_relaxation(tmp_path):
    path = relaxation(tmp_path / "relaxation.csv", 5)
    summary = read_relaxation(path, None, 5)
    assert summary.facts["relaxed"] == "4 of 5"
    assert summary.facts["could not be relaxed"] == "1 of 5"
    assert summary.reasons == {"no <hope>": 1}
    assert summary.moved.shape == (4,)
    assert read_relaxation(None, tmp_path, 4) is None
    assert read_relaxation(None, tmp_path / "none", 4) is None
    with pytest.raises(InputError, match="is of 5 conformations, but the ensemble has 4"):
        read_relaxation(path, None, 4)
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="lacks the columns"):
        read_relaxation(path, None, 1)


def make_path(system, steps=8):
    x = positions(system, 2, width=0.1)
    share = np.linspace(0.0, 1.0, steps)[:, None, None]
    frames = (x[0] * (1 - share) + x[1] * share).astype(np.float32)
    ensemble = ProteinEnsemble(
        system=system,
        positions=frames,
        log_density=-np.array([1, 2, 8, 9, 5, 4, 3, 2.0]),
        provenance={"model": "none", "ends": ["open <1>", "closed"]},
    )
    ca = ensemble.ca.astype(float)
    rmsd = np.stack([np.sqrt(((superpose(ca, end) - end) ** 2).sum(-1).mean(-1)) for end in (ca[0], ca[-1])], axis=1)
    return ProteinPath(ensemble=ensemble, round_trip=(0.01, 0.02), rmsd=rmsd)


def test_a_path_is_a_movie(system, tmp_path):
    path = make_path(system)
    text = write_path_report(path, tmp_path / "path.html").read_text(encoding="utf-8")
    reader = read(text)
    assert reader.headings == [
        "Movie",
        "Along the path",
        "Conformations, superposed",
        "Steps",
        "What this is not good for",
        "Provenance",
    ]
    for expected in ("from open &lt;1&gt; to closed", "7 of 7", "0.0200 Å", "RMSD to closed (Å)", "7.0 nats below"):
        assert expected in text, expected
    movie = json.loads(re.search(r'<script type="application/json">(.*?)</script>', text)[1])["movie"]
    x = movie["unit"] * np.frombuffer(base64.b64decode(movie["frames"]), "<i2").reshape(8, 4 * system.length, 3)
    ca = path.ensemble.ca.astype(float)
    expected = superpose(ca, ca[0])
    np.testing.assert_allclose(
        np.linalg.norm(x[:, 1::4] - x[:1, 1::4], axis=-1), np.linalg.norm(expected - expected[:1], axis=-1), atol=0.03
    )
    assert len(movie["labels"]) == 8


def test_energies_of_a_path_are_shown_and_said_to_be_no_free_energies(system, tmp_path):
    energies = PathEnergies(
        force_field="amber14-obc2",
        built=np.full(8, 1e4),
        relaxed=np.array([-3.0, -2.0, np.nan, -1.0, -2.5, -2.0, -2.0, -4.0]) * KCAL_PER_MOL_EV,
        ca_moved=np.full(8, 0.05),
        clashes=np.stack([np.arange(8), np.zeros(8, dtype=int)], axis=1),
        status=np.array(["relaxed", "relaxed", "failed", *["relaxed"] * 4, "suspect"]),
    )
    path = dataclasses.replace(make_path(system), energies=energies)
    assert energies.summary().endswith("6 relaxed, 1 suspect, 1 failed; above the lowest, 1 kcal/mol at A, 0 at B, 3 at most")
    assert list(path.columns)[-6:] == list(energies.columns)
    text = write_path_report(path, tmp_path / "path.html").read_text(encoding="utf-8")
    for expected in (
        "potential energies with implicit solvent",
        "no free energies",
        "energy relaxed (kcal/mol)",
        "suspect",
        "−2.50",
    ):
        assert expected in text, expected
    vacuum = dataclasses.replace(path, energies=dataclasses.replace(energies, force_field="amber14-vacuum"))
    assert "implicit solvent" not in write_path_report(vacuum, tmp_path / "path.html").read_text(encoding="utf-8")


def test_a_picture_goes_there_and_back(system, tmp_path):
    from PIL import Image

    path = make_path(system)
    x = path.ensemble.positions.copy()
    x[3] = np.nan
    path = dataclasses.replace(path, ensemble=ProteinEnsemble(system=system, positions=x))
    with Image.open(write_path_gif(path, tmp_path / "path.gif")) as picture:
        assert (picture.n_frames, picture.size) == (2 * 7 - 2, (520, 440))
        first = np.asarray(picture.convert("RGB"))
        picture.seek(6)
        last = np.asarray(picture.convert("RGB"))
        picture.seek(7)
        assert not np.array_equal(np.asarray(picture.convert("RGB")), last)
    assert not np.array_equal(first, last)
    # the tube is violet at its beginning
    assert (np.abs(first.astype(int) - [72, 36, 117]).max(axis=-1) < 40).sum() > 20
    nothing = dataclasses.replace(path, ensemble=ProteinEnsemble(system=system, positions=np.full_like(x, np.nan)))
    with pytest.raises(InputError, match="no conformation has finite coordinates"):
        write_path_gif(nothing, tmp_path / "none.gif")
    assert not (tmp_path / "none.gif").exists()


def test_a_picture_is_turned_and_not_mirrored():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20, 3)) * [1.0, 3.0, 8.0]
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    turn *= np.linalg.det(turn)
    seen = seen_from_the_side(np.stack([x, x @ turn.T + 4.0]))
    np.testing.assert_allclose(seen[1], seen[0], atol=1e-9)
    spread = seen[0].var(axis=0)
    assert spread[0] > spread[1] > spread[2]
    volume = [np.linalg.det(y[1:4] - y[0]) for y in (x, seen[0])]
    assert volume[1] == pytest.approx(volume[0], rel=1e-9)


def test_broken_steps_are_left_out_of_the_movie(system, tmp_path):
    path = make_path(system)
    x = path.ensemble.positions.copy()
    x[3] = np.nan
    broken = ProteinPath(ensemble=ProteinEnsemble(system=system, positions=x), round_trip=(0.0, 0.0), rmsd=path.rmsd)
    text = write_path_report(broken, tmp_path / "path.html").read_text(encoding="utf-8")
    assert "7 of 8 conformations are shown" in text
    assert "the conformation that fails a check" in text
    assert "are not finite numbers" in text


def test_wrong_plots_say_what_is_wrong():
    with pytest.raises(InputError, match="nothing to draw"):
        path_plot([])
    with pytest.raises(ShapeError):
        path_plot([PathSeries("x", {"a": np.zeros(3), "b": np.zeros(4)})])
    with pytest.raises(ShapeError):
        Movie("ATOM  ", np.zeros((2, 3, 3)), ["a", "b"], "")
    with pytest.raises(InputError, match="not finite"):
        Movie("ATOM  ", np.full((1, 1, 3), np.nan), ["a"], "")


@pytest.mark.parametrize("length", [3, 20, 30, 31, 214, 1000])
def test_labels_of_residues_do_not_crowd(length):
    for most in (12, 30):
        ticks = residue_ticks(["A"] * length, most)
        assert 1 <= len(ticks) <= most
        assert len(ticks) >= min(length, most // 3)
