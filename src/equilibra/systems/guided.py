r"""Samples guided towards a property: a model's distribution times the likelihood of a wish, with weights; or, uncorrected, a guess of it without.

A block is one population of `guidance.twisted`. Its weighted samples have the distribution

.. math:: p(x \mid c) \propto p(x) \, \prod_g p(c_g \mid h_g(x))^{\lambda_g}

of the model's reverse diffusion p and the guides g, restricted to samples that pass the checks: any other has the weight zero. The mean weight estimates the average
likelihood of the model's own samples, which for a value or a range is about the share of them that fulfil the wish.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from equilibra.atomic import write_text
from equilibra.diffusion.denoiser import Denoiser
from equilibra.diffusion.process import Process
from equilibra.errors import InputError
from equilibra.guidance.guide import Guide
from equilibra.guidance.guided_denoiser import GuidedDenoiser
from equilibra.guidance.twist import log_likelihood
from equilibra.guidance.twisted import draw_guided
from equilibra.sampling.choose import SamplerConfig, SamplerName
from equilibra.sampling.grid import Level, noise_grid
from equilibra.sampling.sampler import draw
from equilibra.state import State
from equilibra.systems.block_weights import (
    ANCESTOR,
    LOG_WEIGHT,
    VALUE,
    BlockWeights,
    effective_in_words,
    finite,
    in_words,
    lost_in_words,
)
from equilibra.systems.blocks import BLOCK_SIZE, Batch, Block
from equilibra.systems.guides import OPEN_WIDTH, ReadyGuide, deviations
from equilibra.systems.own_samples import Counted, own_calls, own_samples
from equilibra.thermo.observables import mean

POPULATION = 100
"""Samples of a guided block with weights by default."""
FEW_POPULATIONS = 10
"""Fewer populations give no error bar that can be relied on."""
MEASURED_ON = 200
"""Samples of the model that open tolerances are measured on."""
REVERSE_DIFFUSION: SamplerName = "sde2m"
"""The sampler whose distribution guided populations have."""
GUESS = (
    "These samples are a guess of the wanted distribution: without the correction they have no weights, and follow no known distribution. They show what can be "
    "reached, not how often it occurs."
)


def guided_sampler(own: SamplerConfig, wanted: SamplerConfig | None, *, corrected: bool) -> SamplerConfig:
    """Returns the sampler of guided samples: of corrected ones the reverse diffusion, by default on the grid of the model's own sampler.

    Raises:
        InputError: If another one is wanted of corrected samples.
    """
    if not corrected:
        return own if wanted is None else wanted
    if wanted is None:
        return SamplerConfig(name=REVERSE_DIFFUSION, grid=own.grid)
    if wanted.name != REVERSE_DIFFUSION:
        raise InputError(
            f"sampler: got '{wanted.name}', but guided samples with weights follow the reverse diffusion of '{REVERSE_DIFFUSION}'; leave the sampler out, or "
            "the correction"
        )
    return wanted


def block_size_of(wanted: int | None, *, corrected: bool) -> int:
    """Returns the number of samples of a block: the wanted one, by default `POPULATION` of corrected guided samples and `BLOCK_SIZE` of any others."""
    if wanted is not None:
        return wanted
    return POPULATION if corrected else BLOCK_SIZE


def check_guided(ready: Sequence[ReadyGuide], *, corrected: bool, block_size: int) -> None:
    """Checks that guides can do what they are to do.

    Raises:
        InputError: If a population would be a single sample, or a guide without a gradient is to steer without weights.
    """
    if corrected and block_size < 2:
        raise InputError(
            f"block_size: got {block_size}, but a guided block is one population; expected at least 2, better some hundred"
        )
    blind = next((item.text for item in ready if not item.guide.property.differentiable), None)
    if not corrected and blind is not None:
        raise InputError(
            f"guide '{blind}': a property without a gradient steers by weights alone, which uncorrected samples have not"
        )


@dataclass(eq=False)
class GuidedDrawing:
    """Drawing of guided samples, one population for each batch; open tolerances are measured, or read from `file`, at the first drawing.

    Arguments:
        ready: The guides.
        sampler: Sampler of the guided samples, from `guided_sampler`.
        process: Forward process.
        own: The model's own sampler, for the samples that open tolerances are measured on.
        valid: Tells which samples of a State pass the checks.
        seed: Seed of the run.
        corrected: Whether to draw populations with weights; without, a guess without weights.
        at_once: Samples whose gradients are held in memory at once.
        file: Where to keep the tolerances; None keeps them in memory.
    """

    ready: Sequence[ReadyGuide]
    sampler: SamplerConfig
    process: Process
    own: SamplerConfig
    valid: Callable[[State], np.ndarray]
    seed: int
    corrected: bool
    at_once: int
    file: Path | None = None
    _guides: tuple[Guide, ...] | None = field(default=None, init=False)

    @property
    def levels(self) -> Sequence[Level]:
        """Noise levels."""
        return noise_grid(self.process, self.sampler.grid)

    @property
    def network_calls(self) -> int:
        """Denoiser calls per sample, each with its gradient."""
        return self.sampler.make().calls(self.levels)

    def guides(self, denoiser: Denoiser, like: State, report: Callable[[float, str], None]) -> tuple[Guide, ...]:
        """Returns the guides with all tolerances; open ones from `MEASURED_ON` samples of the model, the same for the same seed.

        Arguments:
            denoiser: Source of scores for the system.
            like: Gives shapes and fixed fields of one system.
            report: Called with zero and how far that is, in words.
        """
        if self._guides is None:
            found = _read_deviations(self.file, self.ready)
            if found is None:
                found = self._measure(denoiser, like[torch.zeros(MEASURED_ON, dtype=torch.int64)], report)
            open_ones = iter(found)
            self._guides = tuple(item.closed(next(open_ones)) if item.open else item.guide for item in self.ready)
        return self._guides

    def _measure(self, denoiser: Denoiser, like: State, report: Callable[[float, str], None]) -> list[float]:
        total = own_calls(denoiser.process, self.own)
        counted = Counted(denoiser, lambda calls: report(0.0, f"measuring the tolerance, {100 * calls / total:.0f} %"))
        found = deviations(self.ready, own_samples(counted, like, self.own, self.valid, self.seed))
        if self.file is not None:
            open_ones = [item.text for item in self.ready if item.open]
            content = {"measured_on": MEASURED_ON, "deviations": dict(zip(open_ones, found, strict=True))}
            write_text(self.file, json.dumps(content) + "\n")
        return found

    def __call__(self, denoiser: Denoiser, like: State, *, generator: Generator, report: Callable[[float, str], None]) -> Batch:
        """Draws one sample for each batch element; see `blocks.Drawing`."""
        guides = self.guides(denoiser, like, report)
        names = [VALUE + guide.property.name for guide in guides]
        levels = self.levels
        steps = len(levels) - 1

        def told(step: int, state: State) -> None:
            report(step / steps, "")

        if not self.corrected:
            steered = GuidedDenoiser(denoiser, guides, at_once=self.at_once)
            state = draw(self.sampler.make(), steered, like, levels, generator=generator, progress=told)
            _, found = log_likelihood(guides, state)
            return Batch(state, {name: value.cpu().numpy() for name, value in zip(names, found, strict=True)})
        made = draw_guided(denoiser, like, levels, guides, generator=generator, at_once=self.at_once, progress=told)
        values = {LOG_WEIGHT: made.log_weights, ANCESTOR: made.ancestors, **dict(zip(names, made.values, strict=True))}
        return Batch(made.state, {name: value.cpu().numpy() for name, value in values.items()})

    def check(self, batch: Batch) -> np.ndarray:
        """Tells which samples (batch,) count: those that pass the checks and, if corrected, have a weight."""
        good = self.valid(batch.state)
        return np.asarray(good & np.isfinite(batch.values[LOG_WEIGHT]) if self.corrected else good)

    def record(self, blocks: Sequence[Block], n: int, denoiser: Denoiser, like: State) -> dict[str, Any]:
        """Returns what is to be known of the first n samples that count, as JSON: see `guide_record`; the other arguments are those of `guides`."""
        open_ones = [item.open for item in self.ready]
        return guide_record(blocks, n, self.seed, self.guides(denoiser, like, lambda share, words: None), open_ones)


def _read_deviations(file: Path | None, ready: Sequence[ReadyGuide]) -> list[float] | None:
    """Reads the standard deviations of open guides; a damaged file counts as missing, since it can be made again."""
    wanted = [item.text for item in ready if item.open]
    if not wanted:
        return []
    if file is None or not file.exists():
        return None
    try:
        known = json.loads(file.read_text(encoding="utf-8"))["deviations"]
        found = [float(known[text]) for text in wanted]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if all(0.0 < value < math.inf for value in found) else None


def guide_record(
    blocks: Sequence[Block], n: int, seed: int, guides: Sequence[Guide], measured: Sequence[bool]
) -> dict[str, Any]:
    """Returns what is to be known of the first n guided samples that count, as JSON.

    Arguments:
        blocks: Blocks with the value `VALUE` of each guide's property, and of corrected samples their weights.
        n: Number of samples that count.
        seed: Seed of the run, which is that of the bootstraps too.
        guides: The guides.
        measured: Whether the tolerance of each was measured.

    Returns:
        `corrected`; of corrected samples all that `BlockWeights.record` has, with `log_evidence`, the log of the average likelihood of the model's samples, and
        its error; of others `n`, `drawn`, `rejected` and `sentence`; and `guides`, for each the `name` of the property, its `unit`, the `target` in words, the
        `strength`, the `tolerance` and where it is from, a `doubt` about the wish, its `bounds`, the number of samples whose value is `unknown`, since the property
        could not evaluate them, the `mean` and the `deviation` of the other values as drawn and the `share` of all within the bounds, and the same weighted (`weighted_...`) with an error of the mean. What is not finite is None.
    """
    weights = BlockWeights(blocks, n, seed)
    corrected = LOG_WEIGHT in blocks[0].values
    if corrected:
        record = {"corrected": True, "populations": len(weights.families), **weights.record("log_evidence")}
    else:
        lost = weights.last - n
        record = {"corrected": False, "n": n, "drawn": weights.last, "rejected": lost, "sentence": GUESS}
    rows = [_guide_row(weights, guide, was, corrected) for guide, was in zip(guides, measured, strict=True)]
    return finite({**record, "guides": rows})


def _guide_row(weights: BlockWeights, guide: Guide, measured: bool, corrected: bool) -> dict[str, Any]:
    values = weights.value(VALUE + guide.property.name)
    counted = values[weights.counts].astype(np.float64)
    known = np.isfinite(counted)
    kept = counted[known]
    bounds = guide.target.bounds
    tolerance = f"{OPEN_WIDTH:g} of the standard deviation in {MEASURED_ON} samples of the model" if measured else "given"
    row: dict[str, Any] = {
        "name": guide.property.name,
        "unit": guide.property.unit,
        "target": guide.target.describe(guide.property.unit),
        "strength": guide.strength,
        "gradient": guide.property.differentiable,
        "tolerance": guide.target.width,
        "tolerance_from": tolerance,
        "doubt": guide.doubts(),
        "bounds": None if bounds is None else [end if math.isfinite(end) else None for end in bounds],
        "unknown": int((~known).sum()),
    }
    # what could not be evaluated is a miss; of corrected samples it has no weight, and does not count
    inside = None if bounds is None else (counted >= bounds[0]) & (counted <= bounds[1])
    equal = np.ones(len(counted))
    for prefix, share in (
        (("", equal), ("weighted_", np.exp(weights.kept - weights.kept.max()))) if corrected else (("", equal),)
    ):
        centre = float(np.average(kept, weights=share[known])) if known.any() else math.nan
        row[f"{prefix}mean"] = centre
        row[f"{prefix}deviation"] = (
            float(np.sqrt(np.average((kept - centre) ** 2, weights=share[known]))) if known.any() else math.nan
        )
        row[f"{prefix}share"] = None if inside is None else float(np.average(inside, weights=share))
    if corrected:
        numbers = np.where(np.isfinite(values), values, 0.0)
        found = mean(numbers, weights.everything, weights.generator(), blocks=weights.drawn_whole)
        row["weighted_mean_error"] = found.error if weights.drawn_whole is not None else math.inf
    return finite(row)


def guide_lines(record: Mapping[str, Any]) -> list[str]:
    """Returns a record of guided samples in sentences: one for each guide, the numbers of the weights, and the verdict."""
    lines = [_guide_line(row, record["corrected"], record["n"]) for row in record["guides"]]
    if not record["corrected"]:
        return [*lines, record["sentence"]]
    evidence = math.exp(record["log_evidence"])
    likelihood = f"average likelihood of the model's samples {evidence:.2g} (ln {in_words(record, 'log_evidence')})"
    numbers = f"{effective_in_words(record)}, {likelihood}{lost_in_words(record)}."
    count = record["populations"]
    if count < FEW_POPULATIONS:
        least = f"at least {FEW_POPULATIONS} are needed for one that can be relied on"
        numbers += (
            f" One population gives no error bar; {least}."
            if count == 1
            else f" Error bars are those of {count} populations; {least}."
        )
    return [*lines, numbers, record["sentence"]]


def _guide_line(row: Mapping[str, Any], corrected: bool, n: int) -> str:
    power = "" if row["strength"] == 1.0 else f", to the power of {row['strength']:g}"
    soft = f"tolerance {row['tolerance']:.3g}, {row['tolerance_from']}" if row["tolerance_from"] != "given" else ""
    words = f"Guided to {row['name']} {row['target']}{power}{f' ({soft})' if soft else ''}: "
    if row["mean"] is None:
        return f"{words}none of {n:,} samples could be evaluated."
    plain = f"{row['mean']:.3g} ± {row['deviation']:.2g} {row['unit']}".strip()
    if not corrected:
        inside = "" if row["share"] is None else f", {100 * row['share']:.0f} % within"
        lost = f"; {row['unknown']:,} of {n:,} samples could not be evaluated, and count as misses" if row["unknown"] else ""
        return f"{words}mean and deviation {plain}{inside}{lost}."
    average = in_words({**row, "n": n}, "weighted_mean")
    inside = "" if row["weighted_share"] is None else f", {100 * row['weighted_share']:.0f} % of the weight within"
    return f"{words}weighted mean {average} {row['unit']}{inside}; as drawn, mean and deviation {plain}."
