"""What the report of a protein shows, as plain arrays and strings: it can be made from any ensemble, ours or another program's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from equilibra.errors import InputError, ShapeError
from equilibra.report.backbone_profile import BackboneProfile
from equilibra.report.guidance import GuidedProperty
from equilibra.report.sections import ValidityRow, check_rows

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable


@dataclass(frozen=True, kw_only=True)
class Projection:
    """Conformations in the plane of two collective coordinates.

    Attributes:
        title: What the coordinates are.
        axes: Names of both axes with units.
        samples: Coordinates of the samples with shape (frames, 2).
        reference: The same of the reference with its own frames, or None.
    """

    title: str
    axes: tuple[str, str]
    samples: ArrayLike = field(repr=False)
    reference: ArrayLike | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class ProteinStructure:
    """One conformation that stands for a part of the ensemble.

    Attributes:
        pdb: The conformation in PDB format, in Å, laid over the others.
        frame: Its index among the samples, from 0; None for a structure that is none of them.
        label: Its name.
        population: The share of the ensemble it stands for, from 0 to 1, or None.
        values: Numbers of it, label -> value.
    """

    pdb: str = field(repr=False)
    frame: int | None
    label: str
    population: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Rejections:
    """Conformations that failed one check.

    Attributes:
        check: Name of the check.
        count: How many failed it.
        example: What was wrong with one of them, in words.
    """

    check: str
    count: int
    example: str


@dataclass(frozen=True, kw_only=True)
class RelaxationSummary:
    """What building side chains and relaxing did.

    Attributes:
        facts: Label -> value, in the order of reading.
        moved: C-alpha RMSD of each relaxed conformation, in Å.
        clashes: Clashing pairs of heavy atoms of each, before and after, with shape (frames, 2).
        reasons: What was wrong, each with the number of conformations.
    """

    facts: Mapping[str, object]
    moved: ArrayLike = field(repr=False)
    clashes: ArrayLike = field(repr=False)
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ProteinReportData:
    """All that the report of a protein shows, as plain arrays and strings.

    Attributes:
        name: The name of the protein.
        residues: The name of each residue, such as `K42`.
        chain_starts: Index of the first residue of each chain, from 0.
        samples: The samples in numbers.
        reference: The reference in numbers, or None.
        reference_label: The name of the reference.
        temperature: Temperature in K, or None.
        superposed_on: What conformations are superposed on, in words.
        highlights: Tiles for the top of the page, label -> value.
        validity: The checks of the samples, before any filter.
        rejections: Why samples were rejected.
        log_weights: Logarithm of each weight, to be drawn, or None for equal weights.
        weight_verdict: Whether the weights can be trusted, in a sentence.
        weight_facts: What else is known of the weights, label -> value.
        projections: Planes of collective coordinates.
        structures: Structures to show.
        evaluation: Metrics against the reference, or None.
        relaxation: What the relaxation of all-atom structures did, or None.
        guided: Properties that the samples were guided to.
        provenance: What made the samples.
        limits: What the ensemble is not good for; paragraphs separated by empty lines.

    Raises:
        InputError: If there is no sample or a number is out of range.
        ShapeError: If arrays do not fit each other.
    """

    name: str
    residues: Sequence[str]
    samples: BackboneProfile
    chain_starts: Sequence[int] = (0,)
    reference: BackboneProfile | None = None
    reference_label: str = "reference"
    temperature: float | None = None
    superposed_on: str = ""
    highlights: Mapping[str, object] = field(default_factory=dict)
    validity: Sequence[ValidityRow] = ()
    rejections: Sequence[Rejections] = ()
    log_weights: ArrayLike | None = field(default=None, repr=False)
    weight_verdict: str = ""
    weight_facts: Mapping[str, object] = field(default_factory=dict)
    projections: Sequence[Projection] = ()
    structures: Sequence[ProteinStructure] = ()
    evaluation: EvaluationTable | None = None
    relaxation: RelaxationSummary | None = None
    guided: Sequence[GuidedProperty] = ()
    provenance: Mapping[str, object] = field(default_factory=dict)
    limits: str = ""

    def __post_init__(self) -> None:
        if not len(self.samples.weights):
            raise InputError(f"{self.name}: there is no conformation to report")
        if self.temperature is not None and not (np.isfinite(self.temperature) and self.temperature > 0.0):
            raise InputError(f"protein report: got temperature {self.temperature}, expected a positive number in K")
        for name, profile in (("samples", self.samples), ("reference", self.reference)):
            if profile is not None and len(profile.rmsf) != len(self.residues):
                raise ShapeError(f"{name}: RMSF", profile.rmsf.shape, (len(self.residues),))
        for projection in self.projections:
            if np.shape(projection.samples) != (len(self.samples.weights), 2):
                raise ShapeError(projection.title, np.shape(projection.samples), (len(self.samples.weights), 2))
        check_rows(self.validity)
