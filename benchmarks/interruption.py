"""Figure 4 of docs/results.md: `kill -9` at random moments of sampling and of training, and what comes out after going on.

    python benchmarks/interruption.py --kills 20

Runs each job once without interruption; then again and again in fresh folders, killed with SIGKILL after a random time and started anew until it
ends. Every file of the result must be identical to the uninterrupted one: samples byte for byte, the model's weights byte for byte, and the
training log line for line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SAMPLE_FILES = ("topology.pdb", "samples.xtc", "samples.csv", "rejected.csv")
TRAIN_FILES = ("model/model.safetensors", "log.jsonl")


def start(command: list[str]) -> subprocess.Popen[bytes]:
    """Starts a command in a process group of its own, so that a kill reaches its children."""
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, start_new_session=True
    )


def finish(command: list[str]) -> float:
    """Runs a command to its end and returns the seconds it took."""
    begin = time.perf_counter()
    process = start(command)
    _, errors = process.communicate()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed with {process.returncode}:\n{errors.decode()}")
    return time.perf_counter() - begin


def interrupted(command: list[str], delay: float) -> bool:
    """Starts a command, kills it after a delay, and tells whether it was still running."""
    process = start(command)
    try:
        process.communicate(timeout=delay)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return True
    return False


def same(reference: Path, other: Path, names: tuple[str, ...]) -> list[str]:
    """Returns the names of the files that differ."""

    def content(folder: Path, name: str) -> bytes | None:
        path = folder / name
        return path.read_bytes() if path.exists() else None

    return [name for name in names if content(reference, name) != content(other, name)]


def trial(name: str, make, names: tuple[str, ...], kills: int, rng: random.Random, scratch: Path) -> dict[str, object]:
    """Kills one kind of job `kills` times and compares the results."""
    reference = scratch / f"{name}-reference"
    seconds = finish(make(reference))
    differences, done, resumed, delays, attempts = [], 0, 0, [], 0
    while done < kills:
        attempts += 1
        folder = scratch / f"{name}-{attempts}"
        delay = rng.uniform(0.05, 0.95) * seconds
        begin = time.perf_counter()
        if not interrupted(make(folder), delay):
            seconds = min(seconds, time.perf_counter() - begin)  # the machine has become faster: draw again
            continue
        delays.append(round(delay, 2))
        found = any(folder.rglob("block-*.npz")) or any(folder.rglob("checkpoint.safetensors"))
        resumed += found
        finish(make(folder))
        different = same(reference, folder, names)
        differences += [f"{folder.name}: {file}" for file in different]
        done += 1
        print(
            f"{name}: kill {done}/{kills} after {delay:.1f} of {seconds:.1f} s, {'went on' if found else 'began anew'}, "
            f"{', '.join(different) + ' differ' if different else 'identical'}",
            flush=True,
        )
    return {
        "job": name,
        "kills": kills,
        "found work to go on with": resumed,
        "files that differ": differences,
        "delays": delays,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--jobs", nargs="*", default=["sampling", "training"])
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    equilibra = str(Path(sys.executable).with_name("equilibra"))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        data = scratch / "data"
        finish([equilibra, "sample", "molecule", "ACE-ALA-NME", "-n", "250", "--seed", "9", "-o", str(data), "--no-report"])

        def sample(out: Path) -> list[str]:
            return [equilibra, "sample", "molecule", "ACE-ALA-NME", "-n", str(arguments.samples), "--seed", "0", "--block-size", "50",
                    "-o", str(out), "--no-report"]  # fmt: skip

        def train(out: Path) -> list[str]:
            return [equilibra, "train", "molecule", "--trajectory", str(data / "samples.xtc"), "--topology", str(data / "topology.pdb"),
                    "--steps", str(arguments.steps), "--batch-size", "32", "--checkpoint-every", "5", "--log-every", "5", "--warmup", "10",
                    "--no-compile", "-o", str(out)]  # fmt: skip

        jobs = {"sampling": (sample, SAMPLE_FILES), "training": (train, TRAIN_FILES)}
        results = [trial(name, *jobs[name], arguments.kills, rng, scratch) for name in arguments.jobs]
    print(json.dumps(results, indent=2))
    sys.exit(any(result["files that differ"] for result in results))


if __name__ == "__main__":
    main()
