"""Guided samples of a molecule: the posterior and its evidence, the same whatever the batch size and wherever a run was interrupted, honest records, bad input."""

import csv
import json
import math

import numpy as np
import pytest
import torch
from gaussian_molecule import make

import equilibra
from equilibra.errors import EquilibraError, InputError
from equilibra.guidance.guide import Guide, Property
from equilibra.guidance.targets import Value
from equilibra.sampling.choose import SamplerConfig
from equilibra.systems.guided import guide_lines
from equilibra.systems.guides import GuideText
from equilibra.systems.molecule import load_ensemble, molecule_system
from equilibra.systems.molecule.domain import properties
from equilibra.systems.molecule.network import FIELD
from equilibra.systems.molecule.runs import join_runs
from equilibra.thermo.observables import mean
from equilibra.thermo.weights import diagnose, lineage_log_weights

torch.set_num_threads(1)
WIDTH = 0.03
SPREAD = math.sqrt(2.0) * WIDTH  # of the difference of two coordinates

OWN = """
import numpy as np

def stretch(x, system):
    assert x.shape[1:] == (system.atoms, 3)
    return x[:, 0, 0] - x[:, 1, 0]

def outside(x, system):
    x = np.asarray(x)
    return x[:, 0, 0] - x[:, 1, 0]

def undefined(x, system):
    return (x[:, 0, 0] - 100.0).sqrt()

def steep(x, system):
    return (x[:, 0] - x[:, 0]).norm(dim=-1).pow(2).sqrt() + 0.0 * (x[:, 0] - x[:, 0]).pow(2).sum(-1).sqrt()

def table(x, system):
    return x[:, 0]

def broken(x, system):
    return x[:, 99]

NUMBER = 3
"""


@pytest.fixture(scope="module")
def ethane():
    return molecule_system("CC")


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.py"
    path.write_text(OWN)
    return path


def stretch(system):
    return float(system.reference[0, 0] - system.reference[1, 0])


class TestPosterior:
    """The stretch of a Gaussian molecule is Gaussian, and so is its posterior for a wish two deviations away, with a tolerance of half a deviation."""

    TOLERANCE = 0.5 * SPREAD

    def wish(self, system):
        return stretch(system) + 2.0 * SPREAD

    def exact(self, system):
        """Mean, deviation and the log of the evidence."""
        precision = 1.0 / SPREAD**2 + 1.0 / self.TOLERANCE**2
        centre = (stretch(system) / SPREAD**2 + self.wish(system) / self.TOLERANCE**2) / precision
        total = SPREAD**2 + self.TOLERANCE**2
        return (
            centre,
            precision**-0.5,
            0.5 * math.log(self.TOLERANCE**2 / total) - 0.5 * (self.wish(system) - stretch(system)) ** 2 / total,
        )

    @pytest.mark.parametrize("kind", ["file", "external", "guide"])
    def test_weighted_populations_have_it(self, ethane, own, kind):
        wish = f"{self.wish(ethane)}+-{self.TOLERANCE}"
        guide = {
            "file": f"{own}:stretch={wish}",
            "external": GuideText(f"{own}:outside={wish}", differentiable=False),
            "guide": Guide(
                Property("stretch", lambda state: state.fields[FIELD][:, 0, 0] - state.fields[FIELD][:, 1, 0], "Å"),
                Value(self.TOLERANCE, self.wish(ethane)),
            ),
        }[kind]
        ensemble = make(ethane, WIDTH, steps=40).sample(ethane, 1600, guides=[guide], block_size=160, seed=3)
        record = ensemble.provenance["guidance"]
        (row,) = record["guides"]
        (values,) = ensemble.values.values()
        x = ensemble.positions.astype(float)
        np.testing.assert_allclose(values, x[:, 0, 0] - x[:, 1, 0], atol=1e-5)
        centre, deviation, evidence = self.exact(ethane)
        assert abs(row["weighted_mean"] - centre) < 4.0 * row["weighted_mean_error"]
        assert row["weighted_mean_error"] < 0.15 * deviation
        assert row["weighted_deviation"] == pytest.approx(deviation, rel=0.12)
        assert abs(record["log_evidence"] - evidence) < 4.0 * record["log_evidence_error"] + 0.03
        assert row["weighted_mean"] == pytest.approx(ensemble.weights @ values)
        assert record["populations"] == len(ensemble.populations()) == 10
        assert record["ess"] > (50 if kind == "external" else 200)
        assert row["gradient"] == (kind != "external")

    def test_a_guess_of_a_linear_property_is_the_posterior_but_has_no_weights(self, ethane, own):
        guide = f"{own}:stretch={self.wish(ethane)}+-{self.TOLERANCE}"
        model = make(ethane, WIDTH, steps=60)
        ensemble = model.sample(ethane, 600, guides=[guide], corrected=False, block_size=200)
        centre, deviation, _ = self.exact(ethane)
        (row,) = ensemble.provenance["guidance"]["guides"]
        assert abs(row["mean"] - centre) < 4.0 * deviation / math.sqrt(600) + 0.05 * deviation
        assert row["deviation"] == pytest.approx(deviation, rel=0.15)
        assert not ensemble.log_weights.any()
        assert ensemble.populations() is None
        assert ensemble.provenance["sampler"]["name"] == "dpm2m"
        assert "weighted_mean" not in row
        lines = guide_lines(ensemble.provenance["guidance"])
        assert lines[0].startswith("Guided to own.py:stretch ")
        assert "a guess" in lines[-1]

    def test_a_power_of_the_likelihood(self, ethane, own):
        # the square of a Gaussian of one width is a Gaussian of a narrower one
        guide = GuideText(f"{own}:stretch={self.wish(ethane)}+-{math.sqrt(2.0) * self.TOLERANCE}", strength=2.0)
        ensemble = make(ethane, WIDTH, steps=40).sample(ethane, 800, guides=[guide], block_size=160)
        (row,) = ensemble.provenance["guidance"]["guides"]
        assert abs(row["weighted_mean"] - self.exact(ethane)[0]) < 4.0 * row["weighted_mean_error"]
        assert ensemble.provenance["guides"][0].split(" [")[0].endswith("to the power of 2")


def test_the_record_is_that_of_the_weights_and_relatives_count_as_one(ethane, own):
    guide = f"{own}:stretch={stretch(ethane) + 4 * SPREAD}+-{0.3 * SPREAD}"
    ensemble = make(ethane, WIDTH).sample(ethane, 200, guides=[guide], block_size=50)
    record = ensemble.provenance["guidance"]
    # without relatives: an upper bound
    alone = diagnose(ensemble.log_weights)
    assert record["ess"] <= alone.ess + 1e-9
    blocks = [ensemble.log_weights[rows] for rows in ensemble.populations()]
    assert record["log_evidence"] == pytest.approx(np.log(np.mean(np.exp(np.concatenate(blocks)))))
    assert lineage_log_weights(ensemble.log_weights, np.arange(200)).shape == (200,)
    json.dumps(dict(ensemble.provenance), allow_nan=False)
    numbers, sentence = guide_lines(record)[-2:]
    assert f"ESS {record['ess']:.0f} of 200" in numbers
    assert "average likelihood of the model's samples" in numbers
    assert sentence == record["sentence"]
    (row,) = record["guides"]
    (values,) = ensemble.values.values()
    found = mean(values, ensemble.log_weights, np.random.default_rng(0), blocks=ensemble.populations())
    assert row["weighted_mean_error"] == pytest.approx(found.error, rel=0.3)
    single = make(ethane, WIDTH).sample(ethane, 40, guides=[guide], block_size=50).provenance["guidance"]
    assert (single["populations"], single["log_evidence_error"]) == (1, None)
    assert "One population gives no error bar; at least 10 are needed" in guide_lines(single)[-2]
    assert "Error bars are those of 4 populations" in numbers


class Killed(Exception):
    pass


def test_an_interrupted_run_and_any_batch_size_give_the_same_samples(ethane, tmp_path):
    def draw(**options):
        guides = ["distance:1,2=1.6", "radius-of-gyration=min"]
        return make(ethane).sample(ethane, 40, guides=guides, block_size=10, seed=1, **options)

    def stop(progress):
        if progress.drawn == 20 and progress.fraction > 0.5:
            raise Killed

    folder = tmp_path / "run"
    with pytest.raises(Killed):
        draw(folder=folder, progress=stop)
    assert len(list((folder / "blocks").glob("block-*.npz"))) == 2
    tolerances = (folder / "blocks" / "guides.json").read_bytes()
    notes = []
    whole = draw(progress=lambda progress: notes.append(progress.note))
    assert any(note.startswith("measuring the tolerance") for note in notes)
    for run in (draw(folder=folder, batch_size=3), draw(folder=folder), draw(batch_size=7)):
        for name in ("positions", "log_weights", "blocks"):
            np.testing.assert_array_equal(getattr(run, name), getattr(whole, name))
        for name, values in whole.values.items():
            np.testing.assert_array_equal(run.values[name], values)
        assert run.provenance["guidance"] == whole.provenance["guidance"]
    # what can be made again is made again
    (folder / "blocks" / "guides.json").write_text("{}")
    (folder / "blocks" / "block-00001.npz").unlink()
    np.testing.assert_array_equal(draw(folder=folder).log_weights, whole.log_weights)
    assert (folder / "blocks" / "guides.json").read_bytes() == tolerances
    row = whole.provenance["guidance"]["guides"][0]
    assert row["tolerance_from"] == "0.1 of the standard deviation in 200 samples of the model"
    # a bond of the Gaussian molecule is about as wide as the difference of two coordinates
    assert row["tolerance"] == pytest.approx(0.1 * math.sqrt(2.0) * 0.02, rel=0.25)


def test_files_keep_the_values_and_runs_can_be_joined(ethane, tmp_path):
    model = make(ethane)
    runs = []
    for seed in (0, 1):
        ensemble = model.sample(
            ethane, 20, guides=["distance:1,2=1.6+-0.02", "distance:1,3=..1.1+-0.05"], block_size=10, seed=seed
        )
        ensemble.save(tmp_path / str(seed), formats=("npz", "sdf", "extxyz"))
        again = load_ensemble(tmp_path / str(seed))
        assert set(again.values) == {"distance:1,2", "distance:1,3"}
        for name, values in ensemble.values.items():
            np.testing.assert_array_equal(again.values[name], values)
            x = again.positions.astype(float)
            j = int(name[-1]) - 1
            np.testing.assert_allclose(values, np.linalg.norm(x[:, 0] - x[:, j], axis=1), atol=1e-5)
        assert again.provenance["guidance"] == ensemble.provenance["guidance"]
        for suffix in ("npz", "sdf", "extxyz"):
            frames = load_ensemble(tmp_path / str(seed) / f"samples.{suffix}", tmp_path / str(seed) / "topology.pdb")
            np.testing.assert_allclose(frames.values["distance:1,3"], ensemble.values["distance:1,3"], rtol=1e-6)
        runs.append(again)
    with (tmp_path / "0" / "samples.csv").open(newline="") as file:
        assert next(csv.reader(file)) == ["index", "block", "valid", "log_weight", "value_distance:1,2", "value_distance:1,3"]
    both = join_runs(runs)
    assert len(both.populations()) == 4
    np.testing.assert_array_equal(both.values["distance:1,2"], np.concatenate([run.values["distance:1,2"] for run in runs]))


def test_properties_by_name(ethane):
    model = make(ethane)
    state = torch.randn(5, ethane.atoms, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    makers = properties(ethane)
    from equilibra.analysis.collective_variables import radius_of_gyration
    from equilibra.state import State

    masses = [atom.GetMass() for atom in ethane.mol.GetAtoms()]
    found = makers["radius-of-gyration"]("")(State({FIELD: state}))
    np.testing.assert_allclose(found, radius_of_gyration(state.numpy(), masses), rtol=1e-12)
    assert makers["distance:I,J"](" 2 , 5 ").name == "distance:2,5"
    assert model.domain == "molecule"


@pytest.mark.parametrize(
    ("guides", "options", "words"),
    [
        (["radius-of-gyratoin=2"], {}, "unknown property 'radius-of-gyratoin'; did you mean 'radius-of-gyration'"),
        (["distence:1,2=2"], {}, "did you mean 'distance:I,J'"),
        (["no_such_module:function=2"], {}, "there is no Python module 'no_such_module'"),
        (["distance:1,2=three"], {}, "guide 'distance:1,2=three': target: got 'three', expected a value"),
        (["distance:1,2"], {}, "expected NAME=WISH"),
        (["distance:1,9=2"], {}, "there is no atom '9'; the atoms of CC are 1 to 8"),
        (["distance:1=2"], {}, "expected two numbers"),
        (["distance:1,1=2"], {}, "expected two different numbers"),
        (["distance=2"], {}, "write distance:I,J"),
        (["radius-of-gyration:3=2"], {}, "write radius-of-gyration alone"),
        (["distance:1,2=2+-0"], {}, "width 0"),
        (["distance:1,2=3..2"], {}, "range 3..2"),
        ([], {}, "got none, expected at least one"),
        ("distance:1,2=2", {}, "expected a list of guides"),
        ([3], {}, "got int, expected a text"),
        (["distance:1,2=..2", "distance:1,2=1.."], {}, "is given twice"),
        ([GuideText("distance:1,2=2", strength=0.0)], {}, "strength 0.0"),
        (["distance:1,2=2"], {"energy": "mmff94"}, "guides: cannot be combined with an energy"),
        (["distance:1,2=2"], {"smc": 3}, "anneals samples to an energy"),
        (["distance:1,2=2"], {"block_size": 1}, "a guided block is one population"),
        (["distance:1,2=2"], {"sampler": SamplerConfig(name="heun")}, "follow the reverse diffusion of 'sde2m'"),
        ([GuideText("distance:1,2=2", differentiable=False)], {"corrected": False}, "steers by weights alone"),
        (None, {"corrected": False}, "has an effect on guided samples only"),
    ],
)
def test_wrong_guides_are_refused_before_any_work(ethane, tmp_path, guides, options, words):
    model = make(ethane)
    model.denoiser.centre = None  # a call would fail
    with pytest.raises(InputError, match=words.replace("(", r"\(")):
        model.sample(ethane, 5, guides=guides, folder=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("function", "external", "error", "words"),
    [
        ("undefined", False, EquilibraError, "'own.py:undefined': 10 of 10 values are not a number"),
        ("outside", False, InputError, "expected a tensor|the function failed: RuntimeError"),
        ("steep", False, EquilibraError, "'own.py:steep': its gradient is not finite"),
        ("table", False, InputError, r"got \(10, 3\), expected a tensor with one value for each of 10"),
        ("broken", True, InputError, "the function failed: IndexError"),
        ("strecth", False, InputError, "no function 'strecth' in '.*own.py'; did you mean 'stretch'"),
        ("NUMBER", False, InputError, "no function 'NUMBER'"),
    ],
)
def test_wrong_functions_are_told_apart(ethane, own, function, external, error, words):
    guide = GuideText(f"{own}:{function}=1.0+-0.5", differentiable=not external)
    with pytest.raises(error, match=words):
        make(ethane).sample(ethane, 5, guides=[guide], block_size=10)


def test_a_file_that_is_missing_or_no_python_and_a_property_that_never_changes(ethane, own, tmp_path):
    def sample(text):
        make(ethane).sample(ethane, 5, guides=[text], block_size=10)

    with pytest.raises(InputError, match="no such file"):
        sample(f"{tmp_path / 'missing.py'}:stretch=1")
    own.write_text("def stretch(:\n")
    with pytest.raises(InputError, match="failed when it was read: SyntaxError"):
        sample(f"{own}:stretch=1")
    own.write_text("def same(x, system):\n    return 0.0 * x[:, 0, 0] + 3.0\n")
    with pytest.raises(InputError, match=r"standard deviation 0 in .* from which no tolerance follows"):
        sample(f"{own}:same=1")


def test_another_guide_is_another_run(ethane, own, tmp_path):
    def draw(*guides, **options):
        return make(ethane).sample(ethane, 4, block_size=4, folder=tmp_path / "run", guides=guides or None, **options)

    text = f"{own}:stretch=1.0+-0.5"
    draw(text)
    draw(text)
    for guides, options, key in (
        ([f"{own}:stretch=1.0+-0.6"], {}, "guides"),
        ([GuideText(text, strength=2.0)], {}, "guides"),
        ([GuideText(text, differentiable=False)], {}, "guides"),
        ([text], {"corrected": False}, "corrected"),
        ([], {}, "corrected"),
    ):
        with pytest.raises(InputError, match=f"its {key} is"):
            draw(*guides, **options)
    own.write_text(OWN + "\n# another content\n")
    with pytest.raises(InputError, match="its guides is"):
        draw(text)


def test_free_energies_of_guided_samples_count_populations_and_say_what_they_are(ethane):
    model = make(ethane, 0.03)
    ensemble = model.sample(ethane, 300, guides=["distance:1,2=1.55+-0.03"], block_size=25)
    found = equilibra.free_energy(ensemble, cv="distance:1,2", states=["distance:1,2<1.53", "distance:1,2>1.53"], resamples=50)
    assert "resampled populations together with their weights" in found.samples.sentence
    assert found.absolute is None
    assert "guided to distance:1,2 1.55 ± 0.03 Å" in found.notes[0]
    assert "not of equilibrium" in found.notes[0]
    inside = float(ensemble.weights @ (ensemble.values["distance:1,2"] < 1.53))
    assert found.states[0].population.value == pytest.approx(inside, abs=1e-9)


@pytest.mark.slow
def test_the_shipped_model_guided_is_the_shipped_model_reweighted():
    """A distance between the two ends of alanine dipeptide: guided and weighted it has the averages of unguided samples times the likelihood."""
    model = equilibra.load("molecule-ala2")
    wish = Value(0.3, 3.0)
    reverse = SamplerConfig(name="sde2m", grid=model.sampler.grid)
    plain = model.sample("ACE-ALA-NME", 500, sampler=reverse, seed=7)
    ensemble = model.sample("ACE-ALA-NME", 240, guides=["distance:2,18=3.0+-0.3"], block_size=30, seed=1)

    def observables(x):
        x = x.astype(float)
        o_to_h, size = np.linalg.norm(x[:, 1] - x[:, 17], axis=1), np.linalg.norm(x[:, 2] - x[:, 18], axis=1)
        return {"guided distance": o_to_h, "distance of the ends": size}

    rng = np.random.default_rng(0)
    reference = observables(plain.positions)
    log_w = wish.log_likelihood(torch.from_numpy(reference["guided distance"]), torch.zeros(500, dtype=torch.float64)).numpy()
    for name, values in observables(ensemble.positions).items():
        exact = mean(reference[name], log_w, rng)
        found = mean(values, ensemble.log_weights, rng, blocks=ensemble.populations())
        assert abs(found.value - exact.value) < 4.0 * math.hypot(found.error, exact.error), (name, found, exact)
    record = ensemble.provenance["guidance"]
    likelihood = np.exp(log_w)
    error = likelihood.std() / math.sqrt(500) / likelihood.mean()
    assert abs(record["log_evidence"] - math.log(likelihood.mean())) < 4.0 * math.hypot(error, record["log_evidence_error"])
    # steering pays: far more of the samples are as they should be than of the unguided ones
    assert record["guides"][0]["share"] > 3.0 * np.mean(np.abs(reference["guided distance"] - 3.0) < 0.3)
