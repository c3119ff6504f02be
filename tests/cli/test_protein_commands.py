"""`sample`, `train`, `fine-tune`, `interpolate`, `evaluate` and `report` of proteins: what they write, and what they say of bad input."""

import csv
import json

import numpy as np
import pytest
from protein_model import SEQUENCE, bind, ensemble_of, frames_of, system

from equilibra.systems.model import Model, load
from equilibra.systems.protein.data.read import ProteinFiles, backbones_of
from equilibra.systems.protein.files import write_frames
from equilibra.systems.protein.load import load_ensemble

TINY = ["--steps", "2", "--batch-size", "4", "--no-compile", "--precision", "fp32", "--accelerator", "cpu", "--log-every", "1"]
SIZES = ("dim=16", "pair_dim=8", "layers=1", "heads=2", "basis=8", "channels=2", "points=2", "pair_value=4")
NETWORK = [word for size in SIZES for word in ("--network", size)]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A topology, a trajectory, two structures, and files of another protein."""
    folder = tmp_path_factory.mktemp("files")
    protein, other = system(), system("MKVLAAGHTR")
    x = frames_of(protein, 30, width=0.05)
    for name, frames in (("top.pdb", x[:1]), ("md.xtc", x), ("a.pdb", x[:1]), ("b.pdb", frames_of(protein, 1, seed=5))):
        write_frames(folder / name, frames, protein)
    y = frames_of(other, 5)
    write_frames(folder / "other.pdb", y[:1], other)
    write_frames(folder / "other.xtc", y, other)
    np.save(folder / "short.npy", np.zeros((7, 5), dtype=np.float32))
    np.save(folder / "single.npy", np.random.default_rng(0).normal(size=(len(SEQUENCE), 5)).astype(np.float32))
    (folder / "empty.fasta").write_text("")
    (folder / "two.fasta").write_text(f">good one\n{SEQUENCE}\n>bad\nGYDPE?TG\n>none\n")
    return folder


@pytest.fixture(scope="module")
def model(run_once, files, tmp_path_factory):
    """The folder of a model that was trained for two steps."""
    out = tmp_path_factory.mktemp("models") / "run"
    arguments = ["--data", f"{files / 'md.xtc'}:{files / 'top.pdb'}@2", "--data", files / "a.pdb", "--name", "tiny"]
    done = run_once("train", "protein", *arguments, "--temperature", 300, "-o", out, *TINY, *NETWORK)
    assert done.exit_code == 0, done.output
    return out / "model"


@pytest.fixture(scope="module")
def run_once():
    from typer.testing import CliRunner

    from equilibra.cli.main import app

    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def exact(monkeypatch):
    """Makes every model the exact one of the extended chain, whose samples are valid."""
    monkeypatch.setattr(Model, "bind", bind)


def sample(run, model, out, *rest, n=4):
    return run("sample", "protein", *rest, "-n", n, "--model", model, "--block-size", 4, "--steps", 4, "--no-report", "-o", out)


def test_training_reads_its_data_and_goes_on(run, model, files, tmp_path):
    trained = load(model)
    assert (trained.domain, trained.name, trained.scope.systems) == ("protein", "tiny", (SEQUENCE,))
    assert trained.scope.temperature == 300.0
    assert "31 conformations of 1 protein(s) at 300 K" in run("models", model).stdout
    tuned = run("fine-tune", model, "--data", f"{files / 'md.xtc'}:{files / 'top.pdb'}", "-o", tmp_path / "tuned", *TINY)
    assert tuned.exit_code == 0, tuned.output
    assert load(tmp_path / "tuned").name == "tiny-tuned"
    pair = ["--trajectory", files / "md.xtc", "--topology", files / "top.pdb"]
    again = run("fine-tune", model, *pair, "-o", tmp_path / "tuned", *TINY)
    assert again.exit_code == 0, again.output
    assert "going on with" in again.stdout
    assert "sample it: equilibra sample protein SEQUENCE" in again.stdout


def test_an_energy_joins_the_data(run, files, tmp_path):
    peptide = system("AAA")
    write_frames(tmp_path / "peptide.pdb", frames_of(peptide, 1), peptide)
    forces = ["--energy", "amber14-obc2", "--snapshots", 2, "--average", 2, "--temperature", 310, "--objective", "pidp"]
    arguments = ["--data", tmp_path / "peptide.pdb", "--plain-data", f"{files / 'a.pdb'}@2", *forces, "-o", tmp_path / "run"]
    done = run("train", "protein", *arguments, *TINY, *NETWORK)
    assert done.exit_code == 0, done.output
    made = load(tmp_path / "run")
    assert (
        "2 conformations of 2 protein(s) at 310 K, and 2 snapshots with mean forces of amber14-obc2 at 310 K ("
        in made.card.summary
    )
    assert made.card.summary in done.stdout
    assert made.scope.temperature == 310.0
    again = run("train", "protein", *arguments, *TINY, *NETWORK)
    assert again.exit_code == 0, again.output
    assert "going on with" in again.stdout
    tuned = ["--data", tmp_path / "peptide.pdb", "--energy", "amber14-obc2", "--snapshots", 1, "--average", 1]
    done = run("fine-tune", tmp_path / "run", *tuned, "-o", tmp_path / "tuned", *TINY)
    assert done.exit_code == 0, done.output
    assert "1 snapshots with instantaneous forces of amber14-obc2 at 300 K" in load(tmp_path / "tuned").card.summary


def test_the_folders_of_the_other_commands_are_data(files, tmp_path):
    from equilibra.cli.protein_training import entry_of

    ensemble_of(system(), 6).save(tmp_path / "samples")
    entry = entry_of(f"{tmp_path / 'samples'}@0.5", stride=2)
    assert entry.weight == 0.5
    assert [(found.system, len(found)) for found in backbones_of(entry.data)] == [(system(), 3)]
    md = tmp_path / "md"
    md.mkdir()
    (md / "topology.pdb").write_bytes((files / "top.pdb").read_bytes())
    (md / "run@2.xtc").write_bytes((files / "md.xtc").read_bytes())
    (md / "simulation.json").write_text(json.dumps({"trajectories": ["run@2.xtc"], "frames": [30]}))
    assert [(found.system, len(found)) for found in backbones_of(entry_of(str(md)).data)] == [(system(), 30)]
    # the name of a file that is there is no weight
    (tmp_path / "a@2").mkdir()
    assert entry_of(str(tmp_path / "a@2")).weight == 1.0


def test_a_simulation_is_data_as_it_is(run, monkeypatch, tmp_path):
    from equilibra.energies.replica_exchange import ReplicaExchange
    from equilibra.systems.molecule.simulate import simulate

    start = ReplicaExchange.start
    monkeypatch.setattr(ReplicaExchange, "start", lambda self, x: start(self, x, equilibration=0.02))
    options = {"frame_interval_ps": 0.01, "block_frames": 3, "platform": "Reference", "runs": 2}
    made = simulate("ACE-ALA-ALA-ALA-NME", tmp_path / "md", time_ns=3e-5, **options)
    (found,) = backbones_of(ProteinFiles(path=tmp_path / "md"))
    assert (found.system.name, found.system.sequence) == ("ACE-ALA-ALA-ALA-NME", "AAA")
    # all atoms of both runs, in the order of the topology
    names = [(atom.residue.index, atom.name) for atom in made.system.topology.atoms]
    atoms = [names.index((residue, name)) for residue in (1, 2, 3) for name in ("N", "CA", "C")]
    positions = np.concatenate([np.load(tmp_path / "md" / f"run-{k}" / "block-00000.npz")["positions"] for k in (0, 1)])
    np.testing.assert_allclose(found.coordinates, positions[:, atoms].reshape(6, 3, 3, 3), atol=1e-4)
    done = run("train", "protein", "--data", tmp_path / "md", "-o", tmp_path / "run", *TINY, *NETWORK)
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "run" / "model").scope.systems == ("AAA",)
    assert "6 conformations of 1 protein(s)" in run("models", tmp_path / "run" / "model").stdout


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "got no data of proteins; name some with --data"),
        (["--data", "none.pdb"], "no such file or folder"),
        (["--data", "other.xtc:top.pdb"], "so that their residues do not match"),
        (["--data", "md.xtc"], "trajectories need a topology too"),
        (["--data", "a.pdb@-1"], "got the weight -1"),
        (["--data", "a.pdb", "--features", "short.npy"], "expected (10, width) for the 10 residues"),
        (["--data", "a.pdb", "--features", "none.npy"], "no such file of features"),
        (["--data", "a.pdb", "--crop", -1], "--crop: got -1"),
        (["--data", "a.pdb", "--network", "width=3"], "unknown size 'width'"),
        (["--data", "a.pdb", "--energy", "mmff94"], "unknown force field 'mmff94'"),
        (["--data", "a.pdb", "--energy", "amber14-obc2", "--objective", "anneal"], "are trained by pidp"),
        (["--data", "a.pdb", "--energy", "amber14-obc2", "--snapshots", 0], "--snapshots: got 0"),
        (["--data", "a.pdb", "--energy", "amber14-obc2", "--average", 0], "--average: got 0"),
        (["--plain-data", "a.pdb", "--energy", "amber14-obc2"], "all sets are plain"),
        (["--data", "a.pdb", "--snapshots", 3], "--snapshots has a meaning for proteins with --energy only"),
        (["--data", "a.pdb", "--plain-data", "b.pdb"], "--plain-data has a meaning for proteins with --energy only"),
        (["--data", "a.pdb", "--objective", "pidp"], "--objective has a meaning for proteins with --energy only"),
        (["--data", "a.pdb", "--minutes", 3], "--minutes has no meaning for proteins"),
        (["--data", "a.pdb", "--temperature", 0], "--temperature: got 0"),
        (["--trajectory", "md.xtc"], "needs its --topology"),
        (["--data", "a.pdb", "--forces", "single.npy"], "--forces: has no meaning for proteins"),
    ],
)
def test_wrong_data_is_refused_before_anything_is_written(refuses, files, tmp_path, options, words):
    assert words in refuses("train", "protein", *named(files, options), "-o", tmp_path / "run", *TINY, *NETWORK)
    assert not (tmp_path / "run").exists()


def named(folder, options):
    """Options whose files are in a folder."""
    return [
        ":".join(str(folder / part) for part in option.split(":"))
        if isinstance(option, str) and option.partition("@")[0].endswith((".pdb", ".xtc", ".npy", ".fasta"))
        else option
        for option in options
    ]


def test_options_of_the_other_domain_are_refused(refuses, files, model, model_folder, tmp_path):
    out = ["-o", tmp_path / "out"]
    assert "--data has a meaning for proteins only" in refuses("train", "molecule", "--data", files / "a.pdb", *out)
    for option in (["--data", files / "a.pdb"], ["--energy", "amber14-obc2"], ["--snapshots", 3]):
        assert f"{option[0]} has a meaning for proteins only" in refuses("fine-tune", model_folder, *option, *out)
    assert "give both" in refuses("fine-tune", model_folder, *out)
    assert "got no data of proteins" in refuses("fine-tune", model, *out)
    for option in (["--features", "none"], ["--chains", "A"], ["--all-atom"], ["--side-chains", "rigid"]):
        assert f"{option[0]}: has no meaning for molecules" in refuses("sample", "molecule", "ACE-ALA-NME", *option, *out)
    assert not (tmp_path / "out").exists()


def test_samples_are_written_and_added_to(run, model, exact, tmp_path):
    done = sample(run, model, tmp_path / "out", SEQUENCE, "--format", "xtc", "--format", "npz")
    assert done.exit_code == 0, done.output
    assert f"{SEQUENCE}: 4 conformations" in done.stdout
    names = {"topology.pdb", "samples.xtc", "samples.npz", "samples.csv", "ensemble.json", "run.json", "blocks"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert len(load_ensemble(tmp_path / "out")) == 4
    assert "already holds 4 conformations" in sample(run, model, tmp_path / "out", SEQUENCE, "--format", "npz").stdout
    more = sample(run, model, tmp_path / "out", SEQUENCE, n=6)
    assert "going on with" in more.stdout
    assert len(load_ensemble(tmp_path / "out")) == 6


def test_all_atoms_are_added_and_what_moved_is_said(run, model, exact, tmp_path):
    done = sample(run, model, tmp_path / "out", SEQUENCE, "--all-atom", "--side-chains", "rigid", n=1)
    assert done.exit_code == 0, done.output
    assert "All atoms (rigid): " in done.stdout
    assert "C-alpha atoms moved by" in done.stdout
    with (tmp_path / "out" / "relaxation.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 1
    again = sample(run, model, tmp_path / "out", SEQUENCE, "--all-atom", "--side-chains", "rigid", n=1)
    assert "nothing was changed" in again.stdout


def test_several_records_go_to_folders_of_their_own_and_a_bad_one_sinks_none(run, model, exact, files, tmp_path):
    done = sample(run, model, tmp_path / "out", SEQUENCE, files / "two.fasta", "MKVLAAGHTR")
    assert done.exit_code == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [SEQUENCE, "good"]
    for words in ("record 2", "record 3", "has no sequence", "was trained on GYDPETGTWG only"):
        assert words in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["GYDPBTGTWG"], "write D or N"),
        (["GYDPE1TGTWG"], "GYDPE1TGTWG"),
        (["empty.fasta"], "holds no record"),
        (["nowhere.fasta"], "no such file"),
        ([SEQUENCE, "--features", "short.npy"], "expected (10, width) for the 10 residues"),
        ([SEQUENCE, "--features", "single.npy"], "got features of residues of the width 5"),
        ([SEQUENCE, "--features", "esm"], "esm"),
        (["top.pdb", "--chains", "Z"], "expected some of its protein chains"),
        (["top.pdb", "--chains", "A,"], "--chains: got 'A,'"),
        ([SEQUENCE, "--format", "sdf"], "unknown format 'sdf'"),
        ([SEQUENCE, "--energy", "amber99sbildn-obc"], "--energy: has no meaning for proteins"),
        ([SEQUENCE, "--levels", 20], "--levels: has an effect with --energy only"),
        ([SEQUENCE, "--side-chains", "rigid"], "--side-chains: has an effect with --all-atom only"),
        ([SEQUENCE, "--all-atom", "--side-chains", "scwrl"], "unknown side-chain engine 'scwrl'"),
        (["GYDPETGTWX", "--all-atom", "--outside-scope"], "has no all-atom form"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(refuses, model, files, tmp_path, options, words):
    sentence = refuses("sample", "protein", *named(files, options), "--model", model, "-o", tmp_path / "out")
    assert words in sentence
    assert len(sentence) < 1000
    assert not (tmp_path / "out").exists()


def test_a_chain_too_long_for_memory_is_refused_with_what_it_needs(refuses, run, model, monkeypatch, tmp_path):
    from equilibra.systems.protein import memory, sources

    arguments = ["sample", "protein", "A" * 300, "--outside-scope", "--model", model, "-o", tmp_path / "out"]
    monkeypatch.setattr(memory, "free_memory", lambda: 2**24)
    sentence = refuses(*arguments)
    assert "a chain of 300 residues needs about" in sentence
    assert "take a shorter chain" in sentence
    # features of a provider may still not fit
    monkeypatch.setattr(memory, "free_memory", lambda: 2**34)
    monkeypatch.setattr(sources, "condition", _no_memory)
    sentence = refuses(*arguments)
    assert "memory is too short for the features" in sentence
    assert "(300 letters)" in sentence
    assert not (tmp_path / "out").exists()


def _no_memory(system, provider):
    raise MemoryError("Unable to allocate 298 GiB")


def test_the_model_must_be_of_proteins_and_named_as_long_as_none_is_shipped(refuses, model_folder, monkeypatch, tmp_path):
    from equilibra.systems import model as models

    arguments = ["sample", "protein", SEQUENCE, "-o", tmp_path / "out"]
    assert "is of the domain 'molecule', not 'protein'" in refuses(*arguments, "--model", model_folder)
    monkeypatch.setattr(models, "shipped", lambda: ["molecule-ala2"])
    assert "no model of proteins comes with this installation" in refuses(*arguments)
    assert not (tmp_path / "out").exists()


def test_a_path_of_a_protein_has_its_own_columns(run, model, exact, files, tmp_path):
    arguments = ["--steps", 3, "--network-steps", 3, "--chains", "A", "--no-report", "--model", model]
    done = run("interpolate", files / "a.pdb", files / "b.pdb", *arguments, "-o", tmp_path / "path")
    assert done.exit_code == 0, done.output
    with (tmp_path / "path" / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert "C-alpha RMSD to A (Å)" in rows[0]
    assert "log-density (nats)" not in rows[0]


def test_pages_are_those_of_proteins(run, refuses, model, exact, files, folders, tmp_path):
    done = run(
        "sample", "protein", SEQUENCE, "-n", 4, "--model", model, "--block-size", 4, "--steps", 4, "-o", tmp_path / "out"
    )
    assert done.exit_code == 0, done.output
    assert SEQUENCE in (tmp_path / "out" / "report.html").read_text()
    arguments = ["--reference", folders / "md", "--native", files / "a.pdb", "--no-evaluate", "-o", tmp_path / "page.html"]
    done = run("report", folders / "samples", *arguments)
    assert done.exit_code == 0, done.output
    assert "native" in (tmp_path / "page.html").read_text()
    ends = [files / "a.pdb", files / "b.pdb", "--steps", 3, "--network-steps", 3, "--model", model]
    done = run("interpolate", *ends, "-o", tmp_path / "path")
    assert done.exit_code == 0, done.output
    assert "report.html" in done.stdout
    assert "hypothesis" in (tmp_path / "path" / "report.html").read_text()
    assert (tmp_path / "path" / "path.gif").read_bytes().startswith(b"GIF89a")


def test_log_densities_come_along_the_path(run, model, files, tmp_path):
    arguments = ["--steps", 2, "--network-steps", 2, "--log-density", "--probes", 2, "--no-report", "--model", model]
    done = run("interpolate", files / "a.pdb", files / "b.pdb", *arguments, "-o", tmp_path / "path")
    assert done.exit_code == 0, done.output
    assert "log-density: " in done.stdout
    with (tmp_path / "path" / "path.csv").open() as file:
        assert all(np.isfinite(float(row["log-density (nats)"])) for row in csv.DictReader(file))


def test_energies_come_along_the_path(run, refuses, model, files, tmp_path):
    ends = [
        "interpolate",
        files / "a.pdb",
        files / "b.pdb",
        "--steps",
        2,
        "--network-steps",
        2,
        "--model",
        model,
        "--no-report",
    ]
    assert "unknown force field 'amber14'; did you mean" in refuses(*ends, "--energy", "amber14", "-o", tmp_path / "path")
    assert not (tmp_path / "path").exists()
    done = run(*ends, "--energy", "amber14-obc2", "-o", tmp_path / "path")
    assert done.exit_code == 0, done.output
    assert "potential energies of amber14-obc2, backbone held: " in done.stdout
    files = {file.name for file in (tmp_path / "path").iterdir()}
    assert files == {"path.pdb", "path.xtc", "path.csv", "all-atom.pdb", "all-atom.xtc", "relaxation.csv", "all-atom-blocks"}
    with (tmp_path / "path" / "path.csv").open() as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "path" / "relaxation.csv").open() as file:
        reported = list(csv.DictReader(file))
    for row, expected in zip(rows, reported, strict=True):
        assert float(row["energy relaxed (kcal/mol)"]) == pytest.approx(23.060548 * float(expected["energy_after"]), rel=1e-4)
        assert float(row["energy as built (kcal/mol)"]) >= float(row["energy relaxed (kcal/mol)"])
        assert (row["clashes relaxed"], row["relaxation"]) == (expected["clashes_after"], expected["status"])


def test_a_path_between_two_proteins_is_refused(refuses, model, model_folder, files, tmp_path):
    out = ["-o", tmp_path / "path"]
    assert "other" in refuses("interpolate", files / "a.pdb", files / "other.pdb", "--model", model, *out)
    assert "--chains: has no meaning for molecules" in refuses(
        "interpolate", files / "a.pdb", files / "b.pdb", "--chains", "A", "--model", model_folder, *out
    )
    assert not (tmp_path / "path").exists()


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Samples and two ensembles of the protein."""
    folder = tmp_path_factory.mktemp("ensembles")
    ensemble_of(system(), 40, seed=1, width=0.05, model="tiny", temperature_k=300.0).save(folder / "samples")
    ensemble_of(system(), 60, seed=2, width=0.05).save(folder / "md")
    ensemble_of(system("MKVLAAGHTR"), 10).save(folder / "other")
    return folder


def test_an_evaluation_is_that_of_proteins(run, folders, files, monkeypatch, tmp_path):
    from equilibra.analysis.protein import evaluate as analysis

    compute, given = analysis.evaluate_proteins, []
    monkeypatch.setattr(
        analysis, "evaluate_proteins", lambda *args, **options: given.append(options) or compute(*args, **options)
    )
    arguments = ["-n", 20, "--lag", 0, "--native", files / "a.pdb", "--json", tmp_path / "metrics.json"]
    done = run("evaluate", folders / "samples", folders / "md", *arguments)
    assert done.exit_code == 0, done.output
    rows = {row["metric"]: row for row in json.loads((tmp_path / "metrics.json").read_text())["rows"]}
    assert {"RMSF r", "RMWD", "MD-PCA W2", "JS-Rg"} <= set(rows)
    assert any("TM" in name for name in rows)
    assert (given[0]["temperature"], given[0]["block"], given[0]["native"].shape) == (300.0, 1, (1, len(SEQUENCE), 3, 3))
    pair = f"{files / 'md.xtc'}:{files / 'top.pdb'}"
    again = run("evaluate", pair, folders / "md", "-n", 10, "--lag", 0)
    assert again.exit_code == 0, again.output
    assert "RMSF r" in again.stdout
    # a trajectory has blocks of correlated frames
    assert 1 <= given[1]["block"] <= 3


def test_an_evaluation_refuses_what_cannot_be_compared(refuses, folders, files, tmp_path):
    from equilibra.systems.molecule import MoleculeEnsemble, molecule_system

    small = molecule_system("CCO")
    MoleculeEnsemble(system=small, positions=np.repeat(small.reference[None], 9, axis=0)).save(tmp_path / "ethanol")
    assert "different proteins" in refuses("evaluate", folders / "samples", folders / "other")
    assert "expected two of one kind" in refuses("evaluate", folders / "samples", tmp_path / "ethanol")
    assert "unknown domain 'proteins'; did you mean 'protein'?" in refuses(
        "evaluate", folders / "samples", folders / "md", "--domain", "proteins"
    )
    missing = refuses("evaluate", folders / "samples", folders / "md", "--native", files / "none.pdb")
    assert "no such file or folder" in missing
    assert "none.pdb" in missing
    wrong = refuses("evaluate", folders / "samples", folders / "md", "--native", files / "other.pdb")
    assert "other.pdb" in wrong


def test_commands_for_molecules_refuse_a_folder_of_a_protein(refuses, folders):
    assert "this command is for molecules" in refuses("density", folders / "samples")
    assert "this command is for molecules" in refuses("free-energy", folders / "samples", "--cv", "rg")
    assert {path.name for path in (folders / "samples").iterdir() if path.is_dir()} == set()


def test_sources_say_or_show_what_they_are(folders, files, tmp_path):
    from equilibra.report.source_domain import domain_of
    from equilibra.systems.molecule import molecule_system
    from equilibra.systems.molecule.files import write_frames as write_molecule

    peptide = molecule_system("ACE-ALA-GLY-SER-NME")
    write_molecule(tmp_path / "peptide.pdb", peptide.reference[None], peptide)
    assert domain_of(folders / "samples") == "protein"
    assert domain_of(str(tmp_path / "nowhere"), folders / "md") == "protein"
    assert domain_of(f"{files / 'md.xtc'}:{files / 'top.pdb'}") == "protein"
    assert domain_of(tmp_path / "peptide.pdb") == "molecule"
    assert domain_of(ensemble_of(system(), 2)) == "protein"
    assert domain_of(tmp_path / "nowhere.cif") == "protein"
    assert domain_of(str(tmp_path / "nowhere")) == "molecule"


def test_the_lists_are_those_of_the_package():
    from equilibra.cli import domains, protein_training
    from equilibra.cli.sample import ENGINES as NAMED
    from equilibra.nn.frames import FrameNetworkConfig
    from equilibra.systems.domain import DOMAINS
    from equilibra.systems.protein.all_atom import ENGINES
    from equilibra.systems.protein.ensemble import ProteinEnsemble
    from equilibra.train import protein

    assert set(domains.DEFAULT_MODELS) == set(domains.FORMATS) == set(domains.PLURAL) == set(DOMAINS)
    assert set(domains.FORMATS["protein"]) == set(ProteinEnsemble.formats)
    assert set(NAMED) == set(ENGINES)
    assert (protein_training.CROP, protein_training.BUDGET) == (protein.CROP, protein.BUDGET)
    assert set(protein_training.SIZES) <= set(FrameNetworkConfig.__dataclass_fields__)


def test_features_may_be_missing_if_training_allows_it(run, refuses, files, tmp_path):
    folder = tmp_path / "features"
    folder.mkdir()
    np.save(folder / "a_single.npy", np.load(files / "single.npy"))
    options = ["--data", files / "a.pdb", "--data", files / "other.pdb", "--features", folder]
    assert "holds no features of 'other'" in refuses("train", "protein", *options, "-o", tmp_path / "run", *TINY, *NETWORK)
    assert "has a meaning for proteins only" in refuses("train", "molecule", "--feature-dropout", 0.5, "-o", tmp_path / "run")
    assert "feature_dropout: got 2.0" in refuses(
        "train", "protein", *options, "--feature-dropout", 2, "-o", tmp_path / "run", *TINY, *NETWORK
    )
    assert not (tmp_path / "run").exists()
    done = run("train", "protein", *options, "--allow-missing-features", "-o", tmp_path / "run", *TINY, *NETWORK)
    assert done.exit_code == 0, done.output
    assert load(tmp_path / "run").network["optional_features"] is True
    tuned = run("fine-tune", tmp_path / "run", "--data", files / "b.pdb", "-o", tmp_path / "tuned", *TINY)
    assert tuned.exit_code == 0, tuned.output


def test_a_chain_too_long_is_refused_before_its_features_are_read(refuses, model, tmp_path, monkeypatch):
    from equilibra.systems.protein import memory

    monkeypatch.setattr(memory, "free_memory", lambda: 2**28)
    (tmp_path / "features").mkdir()
    said = sample(refuses, model, tmp_path / "out", "A" * 20_000, "--outside-scope", "--features", tmp_path / "features")
    assert "a chain of 20000 residues needs about" in said
    assert "holds no features" not in said
    assert not (tmp_path / "out").exists()
