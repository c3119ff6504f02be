"""Rounds of collecting and training on a small cluster: exact resumption, counted calls, every objective."""

import json

import pytest
import torch

from equilibra.diffusion.conservative import ConservativeDenoiser
from equilibra.diffusion.denoiser import NetworkDenoiser
from equilibra.diffusion.process import Field, Process
from equilibra.diffusion.schedule import VarianceExploding
from equilibra.diffusion.space import CentredEuclidean
from equilibra.energies.analytic.particles import DoubleWellParticles
from equilibra.energies.energy import ReducedEnergy
from equilibra.errors import CheckpointError, ConfigError, DivergenceError
from equilibra.nn.graphormer import GraphormerConfig
from equilibra.nn.molecule import PositionNetwork, PotentialNetwork
from equilibra.state.features import Features
from equilibra.state.state import State
from equilibra.train.checkpoint import read_checkpoint
from equilibra.train.energy import EnergyTraining, ess_words, log_z_words, unjudged_words
from equilibra.train.energy_config import OBJECTIVES, EnergyConfig
from equilibra.train.energy_objective import make_objective
from equilibra.train.rounds import kept_conformations

ITEMS = 4
ENERGY = {
    "rounds": 2,
    "rungs": 3,
    "hottest": 2.0,
    "columns": 6,
    "leapfrog": 3,
    "moves": 1,
    "burn_in": 20,
    "sweeps": 6,
    "every": 2,
}
PATHS = {"path_levels": 10, "path_samples": 8, "step": 0.1}
FILES = ("round-000.json", "round-001.json")


class Counted(DoubleWellParticles):
    """DW4, which counts on its own how many conformations it is asked for."""

    asked = 0

    def energy_and_force(self, x):
        self.asked += len(x)
        return super().energy_and_force(x)

    def energy(self, x):
        raise AssertionError("an energy without its force is half a call's worth")


@pytest.fixture(scope="module")
def make(config):
    """Makes a tiny training: the training, its denoiser and objective, and the conformations to start from."""

    def build(folder, objective="anneal", *, network=None, train=None, accept=None, energy=None, **changes):
        energy = energy or Counted(ITEMS, 2, name="dw4")
        settings = EnergyConfig(**{**ENERGY, **PATHS, "objective": objective, **changes})
        tiny = config(**(train or {}))
        reduced = ReducedEnergy(energy)
        features = Features(
            node={"element": torch.zeros(ITEMS, dtype=torch.long)},
            pair={"kind": torch.zeros(ITEMS, ITEMS, dtype=torch.long)},
        )
        training = EnergyTraining(features, reduced, settings, tiny, folder, accept=accept)
        process = Process(
            {"pos": Field(space=CentredEuclidean(), schedule=VarianceExploding(sigma_min=0.02, sigma_max=20.0), data_scale=2.0)}
        )
        size = {"dim": 16, "pair_dim": 8, "layers": 1, "heads": 2, "basis": 8, "channels": 2, **(network or {})}
        graphormer = GraphormerConfig(
            node_vocabulary={"element": 1}, pair_vocabulary={"kind": 1}, conditions=int(settings.rungs > 1), **size
        )

        def denoiser(kind):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                if kind == "energy":
                    return ConservativeDenoiser(PotentialNetwork(graphormer, "pos"), process)
                return NetworkDenoiser(PositionNetwork(graphormer, "pos"), process)

        start = 2.0 * torch.randn(10, ITEMS, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return training, *make_objective(settings, tiny, reduced, denoiser), start

    return build


@pytest.fixture(scope="module")
def go(make):
    """Runs such a training from start to end, or to where `stop` says so."""

    def run(folder, objective="anneal", *, stop=lambda state: False, seen=None, **options):
        def progress(state):
            if seen is not None:
                seen.append(state)
            if stop(state):
                raise KeyboardInterrupt

        training, denoiser, loss, start = make(folder, objective, **options)
        training.first_round(start, identity={"kind": "test"}, progress=progress)
        return training, denoiser, training.run(denoiser, objective=loss, progress=progress)

    return run


@pytest.fixture(scope="module")
def whole(go, tmp_path_factory):
    """Uninterrupted runs by objective: folder, training, denoiser, run and what progress told."""
    made = {}

    def get(objective):
        if objective not in made:
            folder, seen = tmp_path_factory.mktemp(objective) / "run", []
            made[objective] = (folder, *go(folder, objective, seen=seen), seen)
        return made[objective]

    return get


def assert_same(run, folder, expected, reference):
    assert run.weights.keys() == expected.weights.keys()
    assert [name for name, value in run.weights.items() if not torch.equal(value, expected.weights[name])] == []
    assert run.rounds == expected.rounds
    assert run.calls == expected.calls
    for one, other in zip(run.buffer.rung(2), expected.buffer.rung(2), strict=True):
        assert torch.equal(one, other)
    assert [(folder / name).read_text() for name in FILES] == [(reference / name).read_text() for name in FILES]
    assert (folder / "training" / "log.jsonl").read_text() == (reference / "training" / "log.jsonl").read_text()


STOPS = {
    "before the second round": lambda state: state.doing == "collecting" and state.round == 1,
    "in the middle of training": lambda state: state.doing == "training" and state.step == 6,
    "before the model is judged": lambda state: state.doing == "judging" and state.round == 1,
    "after the model was judged": lambda state: state.doing == "judged" and state.round == 0,
}


@pytest.mark.parametrize("when", STOPS)
@pytest.mark.parametrize("objective", ["anneal", "idem"])
def test_an_interrupted_run_goes_on_as_if_never_stopped(go, whole, tmp_path, objective, when):
    reference, _, _, expected, _ = whole(objective)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run", objective, stop=STOPS[when])
    _, _, run = go(tmp_path / "run", objective)
    assert_same(run, tmp_path / "run", expected, reference)


def test_a_run_that_stopped_after_every_step_of_the_way_is_the_same(go, whole, tmp_path):
    reference, _, _, expected, told = whole("scalar-fp")
    events = [(state.round, state.doing, state.step) for state in told]
    passed = -1
    for number, event in enumerate(events[1:], start=1):
        if event[1] != "training":

            def here(state, event=event):
                return (state.round, state.doing, state.step) == event

            with pytest.raises(KeyboardInterrupt):
                go(tmp_path / "run", "scalar-fp", stop=here)
            passed = number
    assert passed > 3
    _, _, run = go(tmp_path / "run", "scalar-fp")
    assert_same(run, tmp_path / "run", expected, reference)


@pytest.mark.parametrize("what", ["run_sweeps", "write_checkpoint"])
def test_a_failure_while_collecting_leaves_nothing_half_done(go, whole, tmp_path, monkeypatch, what):
    from equilibra.train import energy, rounds

    reference, _, _, expected, _ = whole("anneal")
    module = energy if what == "run_sweeps" else rounds
    original, count = getattr(module, what), [0]

    def fail(*arguments, **options):
        count[0] += 1
        # the second: of round 1, or the proposals after round 0
        if count[0] == 2:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(module, what, fail)
    with pytest.raises(KeyboardInterrupt):
        go(tmp_path / "run")
    monkeypatch.undo()
    _, _, run = go(tmp_path / "run")
    assert_same(run, tmp_path / "run", expected, reference)


def test_a_finished_run_is_not_run_again(go, whole):
    folder, _, _, expected, _ = whole("anneal")
    energy = Counted(ITEMS, 2, name="dw4")
    _, _, run = go(folder, energy=energy)
    assert energy.asked == 0
    assert_same(run, folder, expected, folder)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_and_counts_its_calls(whole, objective):
    folder, training, _, run, told = whole(objective)
    lines = [json.loads(line) for line in (folder / "training" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(torch.isfinite(torch.tensor(list(line.values()))).all() for line in lines)
    assert all(torch.isfinite(value).all() for value in run.weights.values())
    # the energy's own count is the run's
    assert run.calls == training.reduced.energy.asked == training.reduced.calls
    calls = [state.calls for state in told]
    assert calls == sorted(calls)
    assert calls[-1] == run.calls
    assert [entry["round"] for entry in run.rounds] == [0, 1]
    for entry in run.rounds:
        assert 0.0 <= entry["ess"] <= 1.0
        assert entry["elbo"] is None or entry["elbo"] < entry["eubo"] + 1.0
        assert entry["frames_per_rung"] == 18
        assert ("accepted" in entry) == (objective == "anneal")
    on_policy = objective in ("idem", "adjoint")
    assert run.buffer.frames == (18 if on_policy else 36)
    assert run.rounds[0]["move_acceptance"][0] > 0.3
    assert bool(run.rounds[1]["move_acceptance"]) != on_policy


def test_progress_tells_of_each_round(whole):
    _, _, _, run, told = whole("anneal")
    doing = [state.doing for state in told]
    assert [d for n, d in enumerate(doing) if n == 0 or d != doing[n - 1]] == [
        "collecting",
        "training",
        "judging",
        "judged",
    ] * 2
    assert told[0].ess is None
    last = told[-1]
    assert (last.round, last.step, last.steps) == (1, 8, 8)
    assert last.ess == run.rounds[-1]["ess"]
    assert last.accepted == run.rounds[-1]["accepted"]
    assert last.eubo == run.rounds[-1]["eubo"]


def test_a_bracket_in_words():
    assert log_z_words(1.0, 2.126) == "between 1.00 and 2.13"
    assert log_z_words(None, 2.0) == "at most 2.00"
    assert log_z_words(1.0, None) == "at least 1.00"
    assert log_z_words(None, None) == "unknown"


def test_idem_targets_are_those_of_each_temperature(make, tmp_path):
    _, _, loss, _ = make(tmp_path / "run", "idem")
    # a square of bonds near their minimum: no force is clipped
    x = 3.0 * torch.tensor([[[0.0, 0.0], [1.0, 0.0], [0.1, 1.1], [1.2, 0.9]]]).repeat(4, 1, 1)
    x = x - x.mean(1, keepdim=True)
    sigma = torch.full((4,), 1e-4)
    cold, hot = (
        loss.idem_target(x, sigma, beta, generator=torch.Generator().manual_seed(2))[0]
        for beta in (None, torch.full((4,), 0.5))
    )
    # at small noise the target is sigma^2 times the force, which is half as large at twice the temperature
    torch.testing.assert_close(hot, 0.5 * cold, rtol=0.02, atol=1e-9)
    assert loss.betas == (1.0, pytest.approx(2**-0.5), 0.5)


@pytest.mark.slow
def test_scalar_fp_learns_one_log_z_for_each_temperature(go, tmp_path):
    """Compared with d log Z/d beta = -<u>: the hotter, the smaller log Z of an energy whose mean is negative."""
    network = {"dim": 16, "pair_dim": 16, "layers": 1}
    train = {"steps": 100, "batch_size": 32, "learning_rate": 5e-3, "warmup": 10, "log_every": 20, "checkpoint_every": 1000}
    _, _, run = go(tmp_path / "run", "scalar-fp", network=network, train=train, sweeps=20, columns=16, burn_in=60)
    lines = [json.loads(line) for line in (tmp_path / "run" / "training" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < 0.85 * lines[0]["loss"]
    tensors, _ = read_checkpoint(tmp_path / "run" / "training" / "checkpoint.safetensors")
    log_z = tensors["module.objective.log_z_start"] + 10.0 * tensors["module.objective.log_z_shift"]
    assert log_z.shape == (3,)
    assert bool(torch.isfinite(log_z).all())
    means = torch.stack([run.buffer.rung(k)[1].mean() for k in range(3)])
    betas = run.buffer.betas
    for low in range(2):
        expected = (betas[low] - betas[low + 1]) * -0.5 * (means[low] + means[low + 1])
        # a hundred steps of a tiny network: the sign and the size
        assert 0.4 * expected < log_z[low] - log_z[low + 1] < 2.5 * expected


def test_conformations_that_do_not_belong_are_replaced(go, make, tmp_path):
    def accept(x):
        return x[:, 0, 0] > 0

    training, _, run = go(tmp_path / "run", accept=accept)
    for rung in range(3):
        x, u, force = run.buffer.rung(rung)
        assert bool(accept(x).all())
        again, again_force = training.reduced.energy.energy_and_force(x.double())
        torch.testing.assert_close(again, u, atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(again_force.float(), force, atol=1e-3, rtol=1e-4)
    assert all(0 < entry["refused"] < 54 for entry in run.rounds)
    training, _, _, start = make(tmp_path / "none", accept=lambda x: x[:, 0, 0] > 1e9)
    with pytest.raises(ConfigError, match="no conformation of a rung belongs to the system"):
        training.first_round(start, identity={}, progress=lambda state: None)


def test_one_temperature_is_a_ladder_of_one_rung(go, tmp_path):
    _, denoiser, run = go(tmp_path / "run", rungs=1)
    assert run.buffer.rungs == 1
    assert denoiser.network.trunk.conditions is None
    assert run.rounds[0]["swap_acceptance"] == []


def test_the_bound_denoiser_knows_its_temperature(whole):
    _, training, denoiser, _, _ = whole("anneal")
    state = State({"pos": torch.randn(2, ITEMS, 2, generator=torch.Generator().manual_seed(0))})
    t = torch.full((2,), 0.3)
    with torch.no_grad():
        cold, hot = (training.bind(denoiser, beta)(state, t).displacements["pos"] for beta in (1.0, 0.5))
    assert not torch.allclose(cold, hot)


def test_a_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(go, whole, tmp_path):
    train = {"learning_rate": 1e6, "steps": 400, "checkpoint_every": 1}
    with pytest.raises(
        DivergenceError, match=r"diverged (at|before) step \d+.*checkpoint.*is kept; use a smaller --learning-rate"
    ):
        go(tmp_path / "run", train=train)
    tensors, header = read_checkpoint(tmp_path / "run" / "training" / "checkpoint.safetensors")
    assert header["step"] >= 1
    assert all(torch.isfinite(value).all() for value in tensors.values())


def test_a_model_that_cannot_be_judged_is_kept_and_said_to_be_so(go, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise DivergenceError("a weight is not a number")

    monkeypatch.setattr("equilibra.train.energy.Proposer.judge", fail)
    training, _, run = go(tmp_path / "run")
    assert all(torch.isfinite(value).all() for value in run.weights.values())
    assert [entry["unjudged"] for entry in run.rounds] == ["a weight is not a number"] * training.config.rounds
    assert "accepted" not in run.rounds[-1]
    assert ess_words(run.rounds[-1]) == "unknown"
    assert unjudged_words(run.rounds[-1:]) == " The model could not be judged at every temperature: a weight is not a number."
    assert unjudged_words([{"ess": 0.5}]) == ""
    # walkers that got no proposals are those that were collected
    for number in range(training.config.rounds):
        collected, proposed = training.files.read(number)[1], training.files.read_proposed(number)
        assert torch.equal(collected.walkers.x, proposed.walkers.x)


def test_starting_points_are_made_where_they_are_needed(make, tmp_path):
    asked = []
    for _ in range(2):
        training, _, _, start = make(tmp_path / "run")
        training.first_round(
            lambda start=start: (asked.append(len(start)), start)[1], identity={"kind": "test"}, progress=lambda state: None
        )
    assert asked == [10]
    other, _, _, start = make(tmp_path / "other")
    other.first_round(start, identity={"kind": "test"}, progress=lambda state: None)
    assert torch.equal(training.buffer.rung(0)[0], other.buffer.rung(0)[0])


def test_the_conformations_of_a_run_are_read_again(whole, tmp_path):
    folder, training, _, run, _ = whole("anneal")
    again = kept_conformations(folder, training.features, focus=training.config.focus)
    assert torch.equal(again.betas, run.buffer.betas)
    for rung in range(again.rungs):
        for one, other in zip(again.rung(rung), run.buffer.rung(rung), strict=True):
            assert torch.equal(one, other)
    with pytest.raises(CheckpointError, match=r"holds no run: there is no run\.json"):
        kept_conformations(tmp_path, training.features, focus=0.5)
    (tmp_path / "run.json").write_text('{"kind": "simulation"}')
    with pytest.raises(CheckpointError, match="is no training from an energy"):
        kept_conformations(tmp_path, training.features, focus=0.5)
    (tmp_path / "run.json").write_text(json.dumps({"energy": {"rungs": 2}}))
    with pytest.raises(CheckpointError, match="has no conformations yet"):
        kept_conformations(tmp_path, training.features, focus=0.5)


def test_another_run_in_the_folder_and_wrong_numbers_are_refused(go, make, whole, tmp_path):
    folder = whole("anneal")[0]
    with pytest.raises(CheckpointError, match=r"another run: its energy\.sweeps is 6, this run's is 8"):
        go(folder, sweeps=8)
    with pytest.raises(CheckpointError, match=r"another run: its train\.seed is 0, this run's is 1"):
        go(folder, train={"seed": 1})
    with pytest.raises(ConfigError, match="steps: got 1, expected at least one for each of the 2 rounds"):
        make(tmp_path / "run", train={"steps": 1})
    with pytest.raises(ConfigError, match="devices: got 2"):
        make(tmp_path / "run", train={"devices": 2})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": "magic"}, "objective: got 'magic'"),
        ({"rounds": 0}, "rounds: got 0"),
        ({"hottest": 1.0}, "hottest: got 1.0"),
        ({"every": 7}, "every: got 7, expected at most the 6 sweeps"),
        ({"step": 0.0}, "step: got 0.0"),
        ({"path_samples": 1}, "path_samples: got 1"),
        ({"burn_in": -1}, "burn_in: got -1"),
        ({"focus": 1.5}, "focus: got 1.5"),
    ],
)
def test_configurations_are_checked(change, words):
    with pytest.raises(ConfigError, match=words):
        EnergyConfig(**{**ENERGY, **change})
