"""Figure 5 of proteins in docs/results.md: seconds for a sample with a network of the size of the released one, against the release's schedule.

    python benchmarks/protein_speed.py --threads 2 --plot docs/assets/protein-speed.png

Both sides have the same random weights (81.9 million), and run in turn on the same cores.

*Ours*: the default sampler of the converted model, a batch of samples that shares the embedded pairs of the protein, embedded within the measured time.
One whole batch is drawn from the prior to the end.

*The release's schedule*: 500 calls, one after the other, of one sample. The call is written out plainly from the description of the network, fp32: pairs are embedded and
projected in every call, arrays of all pairs are whole. A few calls are timed, and 500 times their median is given.

*Batch alone*: our network at batch 1 with the pairs embedded in every call, 500 times: what remains if only the network is written otherwise.

Each length is a process of its own; the peak is that of its resident memory, weights included.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from equilibra.geometry import so3
from equilibra.memory import keep_freed_memory
from equilibra.sampling.grid import noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import Features, State
from equilibra.state.randomness import generator_for
from equilibra.systems.protein.dig_release.checkpoint import SAMPLER
from equilibra.systems.protein.dig_release.denoiser import DigReleaseDenoiser, released_process
from equilibra.systems.protein.dig_release.network import (
    DigReleaseConfig,
    DigReleaseNetwork,
    FrameAttention,
    separation_buckets,
    step_embedding,
)

RELEASED_CALLS = 500


def plain_attention(attention: FrameAttention, h: Tensor, pairs: Tensor, trans: Tensor, rot: Tensor) -> Tensor:
    """The attention as its formula reads, for one sample: (L, dim) in, (L, dim) out."""
    config, length = attention.config, len(h)
    heads, width = config.heads, config.dim // config.heads
    q, k, v = (f(h).reshape(length, heads, width) for f in (attention.query, attention.key, attention.value))
    layers = (attention.query_points, attention.key_points, attention.value_points)
    points = [torch.einsum("lab,lhpb->lhpa", rot, f(h).reshape(length, heads, -1, 3)) + trans[:, None, None] for f in layers]
    weight = functional.softplus(attention.point_weight) / math.sqrt(13.5 * config.points)
    distance = torch.linalg.vector_norm(points[0][:, None] - points[1][None], dim=-1).sum(-1)
    logits = torch.einsum("ihd,jhd->ijh", q, k) / math.sqrt(3.0 * width) - 0.5 * weight * distance
    a = torch.softmax(logits + attention.pair_bias(pairs) / math.sqrt(3.0), dim=1)
    seen = torch.einsum("ijh,jhpa->ihpa", a, points[2]) - trans[:, None, None]
    local = torch.einsum("lba,lhpb->lhpa", rot, seen)
    values = torch.einsum("ijh,jhd->ihd", a, v)
    of_pairs = torch.einsum("ijh,ijhd->ihd", a, attention.pair_value(pairs).reshape(length, length, heads, width))
    parts = (values, local, of_pairs, torch.linalg.vector_norm(local, dim=-1))
    return attention.out(torch.cat([part.reshape(length, -1) for part in parts], dim=1))


def plain_call(
    network: DigReleaseNetwork, single: Tensor, pair: Tensor, trans: Tensor, rot: Tensor, step: float
) -> tuple[Tensor, Tensor]:
    """One call of the network as its description reads, for one sample."""
    pairs = network.embed_pair(pair) + network.separation(separation_buckets(len(single), network.config.buckets))
    h = network.embed_single(single) + step_embedding(torch.tensor([step]), network.config.dim)
    for layer in network.layers:
        h = h + plain_attention(layer.attention, layer.attention_norm(h), pairs, trans, rot)
        h = h + layer.feed_forward(h)
    return torch.einsum("lab,lb->la", rot, network.trans_head(h)), network.rot_head(h)


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def measure(length: int, arguments: argparse.Namespace) -> dict[str, float]:
    """Returns seconds per sample and peaks of memory for one length."""
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    config = DigReleaseConfig(layers=arguments.layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigReleaseNetwork(config).requires_grad_(False).eval()
    g = generator_for(0, length)
    single, pair = torch.randn(length, 384, generator=g), torch.randn(length, length, 128, generator=g)
    denoiser = DigReleaseDenoiser(network, released_process())
    levels = noise_grid(denoiser.process, SAMPLER.grid)
    found = {"length": length, "batch": arguments.batch, "network_calls": SAMPLER.make().calls(levels)}

    if arguments.compile:
        denoiser.compile_network()
    like = State({"trans": torch.zeros(arguments.batch, length, 3), "rot": torch.eye(3).repeat(arguments.batch, length, 1, 1)})

    def batch(steps: int | None = None) -> float:
        features = Features(node={"extra": single}, pair={"extra": pair}).shared()
        start = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.bf16):
            draw(SAMPLER.make(), denoiser.bind(features), like, levels[:steps], generator=generator_for(0, 0))
        return (time.perf_counter() - start) / arguments.batch

    batch(3)  # compiles, and fills the memory that is kept
    found["ours"] = batch()
    found["peak_ours"] = peak_gib()

    trans, rot = 20.0 * torch.randn(length, 3, generator=g), so3.uniform((length,), generator=g)
    calls: dict[str, list[float]] = {"plain": [], "ours_at_batch_1": []}
    with torch.no_grad():
        outputs = plain_call(network, single, pair, trans, rot, 250.0)
        context = network.context(single[None], pair[None])
        ours = network(context, trans[None], rot[None], torch.tensor([250.0]))
        for a, b in zip(outputs, ours, strict=True):
            gap = float((a - b[0]).abs().max() / a.abs().max())
            if not gap < 1e-3:
                raise SystemExit(f"the plain call and the network differ by {gap:.2g}: one of them is wrong")
        for _ in range(arguments.timed_calls):
            start = time.perf_counter()
            plain_call(network, single, pair, trans, rot, 250.0)
            calls["plain"].append(time.perf_counter() - start)
            start = time.perf_counter()
            network(network.context(single[None], pair[None]), trans[None], rot[None], torch.tensor([250.0]))
            calls["ours_at_batch_1"].append(time.perf_counter() - start)
    found |= {name: RELEASED_CALLS * statistics.median(times) for name, times in calls.items()}
    found["peak_plain"] = peak_gib()
    return found


def plot(rows: list[dict[str, float]], path: Path) -> None:
    from matplotlib.figure import Figure

    lengths = [row["length"] for row in rows]
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for key, label in (("plain", "500 calls at batch 1"), ("ours", "ours")):
        left.loglog(lengths, [row[key] for row in rows], "o-", label=label)
    left.set(xlabel="residues", ylabel="seconds for a sample", title="time")
    for key, label in (("peak_plain", "with whole arrays of pairs"), ("peak_ours", "ours, whole batch")):
        right.plot(lengths, [row[key] for row in rows], "o-", label=label)
    right.axhline(8.0, color="0.6", lw=0.8, ls="--")
    right.set(xlabel="residues", ylabel="peak memory, GiB", title="memory", ylim=(0, None))
    for axis in (left, right):
        axis.legend(frameon=False)
    left.set_xticks(lengths, [f"{n:.0f}" for n in lengths])
    left.minorticks_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200, 300])
    parser.add_argument("--batch", type=int, default=8, help="samples drawn at once by ours")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timed-calls", type=int, default=3, help="calls of the release's schedule that are timed")
    parser.add_argument("--bf16", action="store_true", help="ours in bf16")
    parser.add_argument("--compile", action="store_true", help="ours compiled, one layer for all")
    parser.add_argument("--layers", type=int, default=12, help="fewer for a trial")
    parser.add_argument("--plot", type=Path, help="PNG file to write")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(measure(arguments.one, arguments)))
        return
    rows = []
    for length in arguments.lengths:
        command = [sys.executable, __file__, *sys.argv[1:], "--one", str(length)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
    precision = f"{'bf16' if arguments.bf16 else 'fp32'}{', compiled' if arguments.compile else ''}"
    print(
        f"{arguments.threads} threads; ours: {precision}, batch {arguments.batch}, {rows[0]['network_calls']:.0f} network calls; the others: fp32, 500 calls\n"
    )
    print(
        "| residues | ours, s/sample | 500 plain calls, s/sample | ratio | 500 calls of our network at batch 1, s/sample | ratio | peak of ours, GiB | peak with the plain calls, GiB |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['length']:.0f} | {r['ours']:.2f} | {r['plain']:.0f} | {r['plain'] / r['ours']:.0f} | {r['ours_at_batch_1']:.0f} "
            f"| {r['ours_at_batch_1'] / r['ours']:.0f} | {r['peak_ours']:.2f} | {r['peak_plain']:.2f} |"
        )
    if arguments.plot is not None:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
