"""What the report of a molecule shows, as plain arrays and strings: it can be made from any ensemble, ours or another program's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.report.canvas import finite, frame_weights, per_item
from equilibra.report.guidance import GuidedProperty
from equilibra.report.sections import ValidityRow, check_rows


@dataclass(frozen=True)
class EvaluationRow:
    """One metric against the reference.

    Attributes:
        metric: The name of the metric with its unit.
        value: The metric of the samples.
        floor: The metric of two independent draws of the reference at the same number of samples; None if unknown.
        baseline: The metric of a simple alternative, such as a Gaussian with the moments of the reference; None if unknown.
        n: The number of samples.
    """

    metric: str
    value: float
    floor: float | None = None
    baseline: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class BondTable:
    """Statistics of bond lengths.

    Attributes:
        names: Name of each bond.
        mean: Mean lengths with shape (bonds), in Å.
        std: Standard deviations with shape (bonds), in Å.
        reference_mean: The same of the reference, or None.
        reference_std: The same of the reference, or None.
    """

    names: Sequence[str]
    mean: ArrayLike
    std: ArrayLike
    reference_mean: ArrayLike | None = None
    reference_std: ArrayLike | None = None


@dataclass(frozen=True)
class RepresentativeStructure:
    """One structure that stands for a part of the ensemble.

    Attributes:
        pdb: The structure in PDB format, in Å.
        label: Its name, such as that of its basin.
        population: The share of the ensemble it stands for, from 0 to 1.
        torsions: Its torsions by name, in rad; those drawn as a surface are marked there.
    """

    pdb: str = field(repr=False)
    label: str
    population: float
    torsions: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MoleculeReportData:
    """All that the report of a molecule shows, as plain arrays and strings.

    Attributes:
        name: The name of the molecule.
        temperature: Temperature in K.
        count: Number of samples.
        torsions: Name -> angles of the samples with shape (frames), in rad. Names that differ only in `phi` and `psi` (or φ and ψ)
            make a Ramachandran surface.
        guided: Properties that the samples were guided to.
        provenance: What made the samples: model, weight hash, seed, versions, network calls, samples per second.
        highlights: Further tiles for the top of the page, label -> value.
        validity: The checks of the samples, before any filter.
        weights: Weight of each sample, or None for equal weights.
        log_weights: Logarithm of each weight, to be drawn, or None.
        weight_verdict: Whether the weights can be trusted, in a sentence.
        weight_facts: What else is known of the weights, label -> value.
        reference_torsions: Torsions of the reference, or None.
        reference_label: The name of the reference.
        bonds: Statistics of bond lengths, or None.
        energies: Energies of the samples in eV, or None.
        reference_energies: Energies of the reference in eV, or None.
        evaluation: Metrics against the reference.
        quality: Points of network calls per sample and the first metric's value, or None.
        representatives: Structures to show; the report superposes them.
        superposed_atoms: Indices of the atoms to superpose them by, from 0; None for all but hydrogen.
        limits: What the ensemble is not good for; paragraphs separated by empty lines.

    Raises:
        InputError: If there is no sample, or a number is not finite or out of range.
        ShapeError: If torsions, weights or energies do not have `count` entries.
    """

    name: str
    temperature: float
    count: int
    torsions: Mapping[str, ArrayLike] = field(default_factory=dict, repr=False)
    guided: Sequence[GuidedProperty] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    highlights: Mapping[str, object] = field(default_factory=dict)
    validity: Sequence[ValidityRow] = ()
    weights: ArrayLike | None = field(default=None, repr=False)
    log_weights: ArrayLike | None = field(default=None, repr=False)
    weight_verdict: str = ""
    weight_facts: Mapping[str, object] = field(default_factory=dict)
    reference_torsions: Mapping[str, ArrayLike] | None = field(default=None, repr=False)
    reference_label: str = "reference"
    bonds: BondTable | None = None
    energies: ArrayLike | None = field(default=None, repr=False)
    reference_energies: ArrayLike | None = field(default=None, repr=False)
    evaluation: Sequence[EvaluationRow] = ()
    quality: tuple[ArrayLike, ArrayLike] | None = None
    representatives: Sequence[RepresentativeStructure] = ()
    superposed_atoms: Sequence[int] | None = None
    limits: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError(f"molecule report: got {self.count} samples, expected at least 1")
        if not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise InputError(f"molecule report: got temperature {self.temperature}, expected a positive number in K")
        for name, values in self.torsions.items():
            if finite(name, values).size != self.count:
                raise ShapeError(name, np.shape(values), (self.count,))
        frame_weights(self.weights, self.count)
        if self.log_weights is not None and np.shape(self.log_weights) != (self.count,):
            raise ShapeError("log_weights", np.shape(self.log_weights), (self.count,))
        if self.energies is not None:
            per_item("energies", self.energies, self.count)
        check_rows(self.validity)
