"""Weights of a run's blocks: what every kind of weighted samples keeps of them, and what is to be known of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from equilibra.systems.blocks import Block
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.free_energy import log_z
from equilibra.thermo.samples import FloatArray
from equilibra.thermo.weights import diagnose, lineage_log_weights, normalised

LOG_WEIGHT = "log_weight"
"""Name of the number that a block keeps of each sample: its log-weight."""
VALUE = "value_"
"""Before the name of a property, the number that a block, and a file, keeps of each sample: its value."""
ANCESTOR = "ancestor"
"""Name of the number that a block which is one population keeps: which first sample of the block each one descends from."""

_BOOTSTRAP_STREAM = 0x424F4F54


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """Weights of all samples of a run up to the nth that counts.

    Attributes:
        blocks: Blocks with the value `LOG_WEIGHT`.
        n: Number of samples that count.
        seed: Seed of the run, which is that of the bootstrap too.
    """

    blocks: Sequence[Block]
    n: int
    seed: int

    @cached_property
    def last(self) -> int:
        """Number of all samples drawn up to the nth that counts."""
        return int(np.flatnonzero(np.concatenate([block.valid for block in self.blocks]))[self.n - 1]) + 1

    @cached_property
    def counts(self) -> np.ndarray:
        """Which of them count, boolean (last,)."""
        return np.concatenate([block.valid for block in self.blocks])[: self.last]

    def value(self, name: str) -> np.ndarray:
        """Returns a number (last,) of all samples."""
        return np.concatenate([block.values[name] for block in self.blocks])[: self.last]

    @cached_property
    def log_weights(self) -> np.ndarray:
        """Log-weights (last,) of all samples, as drawn."""
        return self.value(LOG_WEIGHT)

    @cached_property
    def kept(self) -> np.ndarray:
        """Log-weights (n,) of the samples that count."""
        return np.asarray(self.log_weights[self.counts])

    @cached_property
    def everything(self) -> np.ndarray:
        """Log-weights (last,) of all samples; those that do not count have none."""
        return np.where(self.counts, self.log_weights, -np.inf)

    @property
    def related(self) -> bool:
        """Whether the samples of a block are one population, whose samples are relatives."""
        return ANCESTOR in self.blocks[0].values

    @cached_property
    def families(self) -> list[np.ndarray]:
        """Indices of the samples of each block."""
        return populations_of(np.repeat(np.arange(len(self.blocks)), [len(block.valid) for block in self.blocks])[: self.last])

    @cached_property
    def drawn_whole(self) -> list[np.ndarray] | None:
        """What a bootstrap draws whole: the populations, if there are several; None for independent samples."""
        return self.families if self.related and len(self.families) > 1 else None

    def generator(self) -> np.random.Generator:
        """Returns the generator of the bootstraps."""
        return np.random.default_rng([self.seed & 0xFFFFFFFFFFFFFFFF, _BOOTSTRAP_STREAM])

    def lineages(self) -> FloatArray:
        """Returns one log-weight for each lineage of the samples that count, where they are relatives, and one for each sample where not."""
        if not self.related:
            return self.kept
        ancestors = np.concatenate(
            [block.values[ANCESTOR] + index * len(block.valid) for index, block in enumerate(self.blocks)]
        )
        return lineage_log_weights(self.kept, ancestors[: self.last][self.counts])

    def record(self, mean: str) -> dict[str, Any]:
        """Returns what is to be known of the weights, as JSON numbers that may be infinite or NaN; see `finite`.

        Arguments:
            mean: What the log of the mean weight is called.

        Returns:
            `n`, `ess`, `ess_fraction`, `pareto_k`, `verdict` and `sentence` of `thermo.weights.diagnose`, where relatives count as one; `drawn`, all samples up
            to the nth that counts; `rejected` of them, which have the weight zero, and the share `rejected_weight` of the weight that they would have;
            the log of the mean weight with its error, which is unknown for a single population.
        """
        diagnosis = diagnose(self.lineages())
        found = log_z(self.everything, self.generator(), blocks=self.drawn_whole)
        single = self.related and len(self.families) == 1
        return {
            "n": self.n,
            "ess": diagnosis.ess,
            "ess_fraction": diagnosis.ess / self.n,
            "pareto_k": diagnosis.pareto_k,
            "verdict": diagnosis.verdict,
            "sentence": diagnosis.sentence,
            "drawn": self.last,
            "rejected": self.last - self.n,
            "rejected_weight": float(normalised(self.log_weights)[~self.counts].sum()),
            mean: found.value,
            f"{mean}_error": math.inf if single else found.error,
        }


def populations_of(block: np.ndarray) -> list[np.ndarray]:
    """Returns the indices of the samples of each block, for the numbers (n,) of their blocks: what a bootstrap of populations draws whole."""
    return [np.flatnonzero(block == number) for number in np.unique(block)]


def finite(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a record in which what is not finite is None."""
    return {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}


def in_words(record: Mapping[str, Any], name: str) -> str:
    """Returns an estimate of a record with its error."""
    error = record[f"{name}_error"]
    return str(Estimate.normal(record[name], math.inf if error is None else error, record["n"]))


def size_in_words(record: Mapping[str, Any]) -> str:
    """Returns the effective sample size of a record in words."""
    return f"{record['ess']:.0f} of {record['n']:,} ({100 * record['ess_fraction']:.1f} %)"


def tail_in_words(record: Mapping[str, Any]) -> str:
    """Returns the Pareto shape of a record in words."""
    return "not fitted" if record["pareto_k"] is None else f"{record['pareto_k']:.2f}"


def effective_in_words(record: Mapping[str, Any]) -> str:
    """Returns the effective sample size and the Pareto shape of a record in words."""
    return f"ESS {size_in_words(record)}, Pareto k {tail_in_words(record)}"


def lost_in_words(record: Mapping[str, Any]) -> str:
    """Returns how many samples have no weight; nothing where all have."""
    return f"; {record['rejected']:,} of {record['drawn']:,} drawn have no weight" if record["rejected"] else ""
