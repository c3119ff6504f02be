"""From minutes to sweeps and steps."""

import dataclasses
import json

import pytest

from equilibra.errors import CheckpointError, InputError
from equilibra.train.budget import Cost, plan, planned
from equilibra.train.config import TrainConfig
from equilibra.train.energy_config import EnergyConfig

CONFIG = EnergyConfig(objective="tsm", rounds=5, burn_in=10, every=2, path_levels=20)
TRAIN = TrainConfig(warmup=500, ema=0.999)
COST = Cost(sweep=0.5, step=0.1, call=0.02, overhead=9.0)


def fixed(cost=COST, config=CONFIG):
    """Seconds that do not depend on the budget."""
    return cost.overhead + config.rounds * 3 * config.path_levels * cost.call + config.burn_in * cost.sweep


def test_the_time_is_shared_out_and_used_up():
    config, train = plan(COST, 10.0, CONFIG, TRAIN)
    assert fixed() == pytest.approx(20.0)
    # a tenth is reserve, and 520 s are left
    assert config.sweeps == 52  # a quarter of the time, in five rounds, to a multiple of `every`
    assert train.steps == 3900  # the rest
    assert fixed() + config.rounds * config.sweeps * COST.sweep + train.steps * COST.step == pytest.approx(540.0, abs=2.0)
    assert (train.warmup, train.ema) == (390, pytest.approx(1.0 - 20.0 / 3900))
    assert (config.rounds, config.rungs, train.batch_size) == (CONFIG.rounds, CONFIG.rungs, TRAIN.batch_size)


def test_proposals_on_every_rung_are_paid_for():
    proposing = EnergyConfig(rounds=5, burn_in=10, every=2, path_levels=20)
    assert (CONFIG.paths, proposing.paths) == (200, 200 + 5 * 32)
    _, train = plan(COST, 10.0, proposing, TRAIN)
    _, alone = plan(COST, 10.0, CONFIG, TRAIN)
    # judging takes 6 s of calls without proposals, and 1.8 times that with them
    assert alone.steps - train.steps == pytest.approx(0.75 * 0.8 * 6.0 / COST.step, abs=2)


def test_a_long_budget_keeps_warm_up_and_averaging():
    _, train = plan(COST, 1000.0, CONFIG, TRAIN)
    assert (train.warmup, train.ema) == (500, 0.999)


def test_judging_takes_no_more_than_its_share():
    dear = Cost(sweep=0.5, step=0.1, call=1.0, overhead=9.0)
    fine = dataclasses.replace(CONFIG, path_levels=100)
    for minutes, levels in ((1000.0, 100), (100.0, 60), (60.0, 36), (30.0, 25)):
        config, train = plan(dear, minutes, fine, TRAIN)
        assert config.path_levels == levels
        used = dear.overhead + 15 * levels * 1.0 + 10 * 0.5 + 5 * config.sweeps * 0.5 + train.steps * 0.1
        assert used == pytest.approx(0.9 * 60.0 * minutes, abs=6.0)


def test_dear_sweeps_leave_less_for_training():
    dear = Cost(sweep=10.0, step=0.1, call=0.02, overhead=9.0)
    config, train = plan(dear, 5.0, CONFIG, TRAIN)
    assert config.sweeps == CONFIG.every
    assert train.steps == pytest.approx((270.0 - fixed(dear) - 100.0) / 0.1, abs=1)
    assert fixed(dear) + 5 * 2 * 10.0 + train.steps * 0.1 <= 300.0


@pytest.mark.parametrize(
    "cost", [COST, Cost(sweep=10.0, step=0.1, call=0.02, overhead=9.0), Cost(sweep=0.1, step=30.0, call=1.0, overhead=60.0)]
)
def test_too_little_time_is_refused_with_the_time_it_takes(cost):
    with pytest.raises(
        InputError, match=r"minutes: got 0\.1, which leaves 0 steps .*expected at least [\d.]+ minutes"
    ) as refusal:
        plan(cost, 0.1, CONFIG, TRAIN)
    needed = float(str(refusal.value).rsplit("at least ", 1)[1].split()[0])
    _, train = plan(cost, needed, CONFIG, TRAIN)
    assert train.steps >= 100
    with pytest.raises(InputError, match="expected at least"):
        plan(cost, 0.8 * needed, CONFIG, TRAIN)


def never():
    raise AssertionError("the plan is there: nothing is to be measured")


def test_a_plan_is_made_once_and_kept_with_the_run(tmp_path):
    folder = tmp_path / "run"
    config, train, record = planned(folder, 10.0, CONFIG, TRAIN, lambda: COST)
    assert record["plan"]["minutes"] == 10.0
    assert record["plan"]["steps"] == train.steps
    assert not folder.exists()  # the run writes it, when it claims the folder
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"kind": "test", **record}))
    again = planned(folder, 10.0, CONFIG, TRAIN, never)
    assert again == (config, train, record)
    with pytest.raises(CheckpointError, match="holds a run of 10 minutes, got one of 11 minutes"):
        planned(folder, 11.0, CONFIG, TRAIN, never)
    with pytest.raises(CheckpointError, match="holds a run of 10 minutes, got one without a time budget"):
        planned(folder, None, CONFIG, TRAIN, never)


def test_without_minutes_the_configurations_are_the_plan(tmp_path):
    assert planned(tmp_path / "run", None, CONFIG, TRAIN, never) == (CONFIG, TRAIN, {})
    (tmp_path / "run.json").write_text('{"kind": "test"}')
    assert planned(tmp_path, None, CONFIG, TRAIN, never) == (CONFIG, TRAIN, {})
    with pytest.raises(CheckpointError, match="holds a run without a time budget, got one of 3 minutes"):
        planned(tmp_path, 3.0, CONFIG, TRAIN, never)


def test_damaged_and_foreign_folders_are_refused_before_measuring(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="holds no run"):
        planned(tmp_path, 10.0, CONFIG, TRAIN, never)
    with pytest.raises(InputError, match="is a file, expected a folder"):
        planned(tmp_path / "thesis.txt", 10.0, CONFIG, TRAIN, never)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    for text in ("{", "[]", '{"plan": {"minutes": 10.0}}', '{"plan": 3}'):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"run.json' is damaged"):
            planned(tmp_path, 10.0, CONFIG, TRAIN, never)
