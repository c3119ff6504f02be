import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from equilibra.data.conformations import ConformationData
from equilibra.errors import CheckpointError, DivergenceError
from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
from equilibra.train.checkpoint import read_checkpoint, write_checkpoint
from equilibra.train.molecule import read_molecule
from equilibra.train.run import train_denoiser

IDENTITY = {"kind": "test"}


class Stop(Exception):
    """Any failure in the middle of a run."""


@pytest.fixture(scope="module")
def data(ethanol):
    return ConformationData([read_molecule(ethanol, temperature=300.0)])


@pytest.fixture(scope="module")
def train(data, network):
    """Trains a fresh tiny network in a folder."""

    def run(folder, config, data=data, **options):
        denoiser = molecule_denoiser(molecule_process(data.scale()), molecule_network_config(**network), seed=config.seed)
        return train_denoiser(denoiser, data, config, folder, identity=IDENTITY, **options)

    return run


def assert_same_run(folder, reference):
    """Weights, averages, optimiser, mixture, and the log, bit for bit."""
    (got, header), (expected, other) = (read_checkpoint(f / "checkpoint.safetensors") for f in (folder, reference))
    assert header == other
    assert got.keys() == expected.keys()
    for kind in ("module.denoiser", "module.average", "module.objective.mixture.numerator", "optimiser"):
        assert any(name.startswith(kind) for name in got)
    assert [name for name in got if not torch.equal(got[name], expected[name])] == []
    assert (folder / "log.jsonl").read_text() == (reference / "log.jsonl").read_text()


@pytest.fixture(scope="module")
def whole(train, config, tmp_path_factory):
    """The folder of an uninterrupted run, by precision."""
    folders = {}

    def get(precision):
        if precision not in folders:
            folders[precision] = tmp_path_factory.mktemp(f"whole-{precision}") / "run"
            train(folders[precision], config(precision=precision))
        return folders[precision]

    return get


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_interrupted_run_goes_on_as_if_never_stopped(train, config, whole, tmp_path, precision, log_of):
    def fail(step, values):
        if step == 4:
            raise Stop

    folder = tmp_path / "run"
    with pytest.raises(Stop):
        train(folder, config(precision=precision), progress=fail)
    assert read_checkpoint(folder / "checkpoint.safetensors")[1]["step"] == 3
    weights = train(folder, config(precision=precision))
    assert_same_run(folder, whole(precision))
    assert [line["step"] for line in log_of(folder)] == [2, 4, 6, 8]
    # what is returned are the averaged weights of the checkpoint; a finished run is not trained again
    again = train(folder, config(precision=precision), progress=fail)
    final, _ = read_checkpoint(folder / "checkpoint.safetensors")
    for index, (name, value) in enumerate(weights.items()):
        assert torch.equal(value, again[name])
        assert torch.equal(value, final[f"module.average.average_{index}"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_run_after_its_step_with_a_checkpoint(train, config, whole, tmp_path, number):
    def interrupt(step, values):
        if step == 4:
            os.kill(os.getpid(), number)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    folder = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4 of 8"):
        train(folder, config(), progress=interrupt)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert read_checkpoint(folder / "checkpoint.safetensors")[1]["step"] == 4
    train(folder, config())
    assert_same_run(folder, whole("fp32"))


def test_an_interrupt_from_inside_a_step_is_not_a_finished_training(train, config, tmp_path):
    def interrupt(step, values):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", config(), progress=interrupt)
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


SCRIPT = """
import sys, time
from pathlib import Path
import torch
from equilibra.data.conformations import ConformationData
from equilibra.data.trajectory import TrajectoryFiles
from equilibra.systems.molecule.network import molecule_denoiser, molecule_network_config, molecule_process
from equilibra.train.config import TrainConfig
from equilibra.train.molecule import read_molecule
from equilibra.train.run import train_denoiser

if __name__ == "__main__":
    files = TrajectoryFiles({files})
    data = ConformationData([read_molecule(files, temperature=300.0)])
    denoiser = molecule_denoiser(molecule_process(data.scale()), molecule_network_config(**{network}), seed=0)
    train_denoiser(denoiser, data, TrainConfig({config}), Path({folder!r}), identity={identity}, progress={progress})
    print("finished")
"""


def script(path, files, network, config, folder, progress="lambda step, values: None"):
    def keywords(item):
        return ", ".join(f"{k}={v!r}" for k, v in dataclasses.asdict(item).items())

    paths = dataclasses.replace(
        files, topology=str(files.topology), trajectories=[*map(str, files.trajectories)], forces=[*map(str, files.forces)]
    )
    values = {"files": keywords(paths), "network": network, "config": keywords(config), "folder": str(folder)}
    path.write_text(SCRIPT.format(**values, identity=IDENTITY, progress=progress))
    return path


def test_a_killed_process_can_be_resumed(train, config, whole, ethanol, network, tmp_path):
    """Killed by the system at an arbitrary moment after the first checkpoint, with its standard input closed and nothing printed."""
    folder = tmp_path / "run"
    # the pause only widens the window in which the signal may arrive
    path = script(tmp_path / "train.py", ethanol, network, config(), folder, "lambda step, values: time.sleep(0.5)")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        ["/bin/sh", "-c", 'exec "$0" "$1" <&-', sys.executable, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 240
    while process.poll() is None and not (folder / "checkpoint.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3 * float(torch.rand(())))
    process.kill()
    output, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL, output
    assert output == ""
    assert read_checkpoint(folder / "checkpoint.safetensors")[1]["step"] in (3, 6, 8)
    train(folder, config())
    assert_same_run(folder, whole("fp32"))


def test_half_written_log_lines_are_dropped(train, config, whole, tmp_path):
    folder = tmp_path / "run"

    def fail(step, values):
        if step == 6:
            raise Stop

    with pytest.raises(Stop):
        train(folder, config(), progress=fail)
    with (folder / "log.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    train(folder, config())
    assert_same_run(folder, whole("fp32"))


def test_the_folder_of_another_run_is_refused(train, config, data, network, whole, tmp_path):
    with pytest.raises(CheckpointError, match=r"another run.*train.*steps"):
        train(whole("fp32"), config(steps=9))
    with pytest.raises(CheckpointError, match="another run"):
        train(whole("fp32"), config(seed=1))
    denoiser = molecule_denoiser(molecule_process(data.scale()), molecule_network_config(**network), seed=0)
    with pytest.raises(CheckpointError, match="another run"):
        train_denoiser(denoiser, data, config(), whole("fp32"), identity={"kind": "other"})
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(CheckpointError, match="holds no run"):
        train(tmp_path, config())
    assert (tmp_path / "mine.txt").read_text() == "precious"


def test_how_often_to_write_may_change_on_resume(train, config, whole, tmp_path):
    def fail(step, values):
        if step == 4:
            raise Stop

    with pytest.raises(Stop):
        train(tmp_path / "run", config(), progress=fail)
    train(tmp_path / "run", config(checkpoint_every=100))
    assert_same_run(tmp_path / "run", whole("fp32"))


def test_a_header_that_was_read_may_be_written_with_other_tensors(tmp_path):
    write_checkpoint(tmp_path / "one", {"a": torch.zeros(3)}, {"step": 7})
    _, header = read_checkpoint(tmp_path / "one")
    write_checkpoint(tmp_path / "other", {"a": torch.ones(3)}, header)
    tensors, again = read_checkpoint(tmp_path / "other")
    assert torch.equal(tensors["a"], torch.ones(3))
    assert again["step"] == 7
    assert again["sha256"] != header["sha256"]


def test_damaged_and_foreign_checkpoints_are_refused(train, config, whole, tmp_path):
    folder = tmp_path / "run"
    train(folder, config(steps=2))
    path = folder / "checkpoint.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="corrupted"):
        train(folder, config(steps=2))
    write_checkpoint(path, {"module.unknown": torch.zeros(3)}, {"step": 1, "recent": []})
    with pytest.raises(CheckpointError, match="does not fit this network"):
        train(folder, config(steps=2))


def test_the_log_tells_the_loss_and_the_learning_rate(config, whole, log_of):
    lines = log_of(whole("fp32"))
    keys = {"step", "loss", "loss_small_noise", "loss_middle_noise", "loss_large_noise", "learning_rate"}
    assert all(set(line) == keys for line in lines)
    assert all(0.0 < line["loss"] < 100.0 for line in lines)
    assert lines[0]["learning_rate"] == pytest.approx(config().learning_rate)


def test_tensorboard_gets_the_same_values(whole, log_of):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(whole("fp32") / "tensorboard")).Reload()
    got = {event.step: event.value for event in events.Scalars("loss")}
    assert got == pytest.approx({line["step"]: line["loss"] for line in log_of(whole("fp32"))})


def test_training_is_silent_and_leaves_the_settings_alone(train, config, tmp_path, capfd, monkeypatch):
    seen = []
    monkeypatch.setattr(sys, "stdin", None)
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    train(
        tmp_path / "run", config(steps=2, threads=2), progress=lambda step, values: seen.append((step, torch.get_num_threads()))
    )
    assert seen == [(2, 2)]
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before
    assert capfd.readouterr() == ("", "")


def test_training_does_not_touch_the_global_random_state(train, config, tmp_path):
    before = torch.random.get_rng_state()
    train(tmp_path / "run", config(steps=2))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_training_works_outside_the_main_thread(train, config, tmp_path):
    results = []
    thread = threading.Thread(target=lambda: results.append(train(tmp_path / "run", config(steps=2))))
    thread.start()
    thread.join()
    assert len(results) == 1


def poison(monkeypatch, data, when, what):
    """Makes the batch of one step bad."""
    original = ConformationData.batch
    count = {"step": -1}

    def batch(self, size, *, generator):
        count["step"] += 1
        made = original(self, size, generator=generator)
        return what(made) if count["step"] == when else made

    monkeypatch.setattr(ConformationData, "batch", batch)


def test_a_loss_that_is_not_finite_stops_the_training(train, config, data, tmp_path, monkeypatch):
    def nan(batch):
        return dataclasses.replace(batch, state=batch.state.map(lambda x: x * float("nan")))

    poison(monkeypatch, data, 4, nan)
    with pytest.raises(DivergenceError, match=r"diverged at step 4.*loss is nan"):
        train(tmp_path / "run", config())
    tensors, header = read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")
    assert header["step"] == 3
    assert all(torch.isfinite(value).all() for value in tensors.values())


def test_weights_that_are_not_finite_never_reach_a_checkpoint(train, config, tmp_path, monkeypatch):
    from equilibra.train.average import WeightAverage

    original = WeightAverage.update

    def update(self, module, step):
        original(self, module, step)
        if step == 5:
            with torch.no_grad():
                next(module.parameters()).fill_(float("nan"))

    monkeypatch.setattr(WeightAverage, "update", update)
    with pytest.raises(DivergenceError, match="weights that are not finite"):
        train(tmp_path / "run", config())
    assert read_checkpoint(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == 3


DISTRIBUTED = (
    "lambda step, values: (torch.isfinite(torch.tensor(values['loss'])).item() or sys.exit('loss'), "
    "step == 4 and __import__('shutil').copytree({folder!r}, {copy!r}))"
)


@pytest.mark.slow
def test_two_processes_keep_the_same_weights_and_resume(config, ethanol, network, tmp_path):
    folder, copy = tmp_path / "run", tmp_path / "copy"
    both = config(devices=2, strategy="ddp")
    save = "\n    import os, safetensors.torch\n    safetensors.torch.save_file({{k: v.contiguous() for k, v in denoiser.state_dict().items()}}"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for run in (folder, copy):
        progress = DISTRIBUTED.format(folder=str(folder), copy=str(copy)) if run == folder else "lambda step, values: None"
        path = script(tmp_path / "train.py", ethanol, network, both, run, progress)
        ending = f"{save}, {str(run)!r} + '-' + os.environ.get('LOCAL_RANK', '0'))\n".replace("{{", "{").replace("}}", "}")
        path.write_text(path.read_text() + ending)
        done = subprocess.run(
            [sys.executable, str(path)], env=environment, capture_output=True, text=True, timeout=500, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stderr
    from safetensors.torch import load_file

    weights = [load_file(Path(f"{run}-{rank}")) for run in (folder, copy) for rank in (0, 1)]
    assert all(torch.equal(w[name], weights[0][name]) for w in weights[1:] for name in weights[0])
    assert_same_run(copy, folder)
