"""The evaluation of a protein's ensemble: every metric beside its noise floor and a Gaussian baseline.

Nothing is filtered. The floor compares different runs of the reference, or the contiguous halves of a single one: random halves of a trajectory
share every slow motion and hide most of the noise. The baseline is a Gaussian with the mean and covariance of the reference's superposed atoms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.baseline import cartesian_gaussian
from equilibra.analysis.floor import largest_draw, split_kind
from equilibra.analysis.measures import Measure
from equilibra.analysis.protein.backbone import Chain, alpha_carbons, backbone
from equilibra.analysis.protein.frames import ProteinFrames
from equilibra.analysis.protein.measures import backbone_measures, coordinate_measures, structure_codes, structure_measure
from equilibra.analysis.protein.scores import frame_scores
from equilibra.analysis.rows import EnsembleDraw, measure_rows
from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.analysis.superposition import superpose
from equilibra.analysis.table import EvaluationRow, EvaluationTable
from equilibra.errors import ConfigError, InputError, ShapeError

WORDS = "Gaussian of the reference's superposed coordinates"


def evaluate_proteins(
    ensemble: Any,
    reference: Sequence[Any],
    *,
    rng: np.random.Generator,
    native: Any | None = None,
    n: int = 1000,
    transport_n: int = 1000,
    score_n: int = 500,
    lag: int | None = 10,
    repeats: int = 10,
    block: int = 1,
    log_weights: ArrayLike | None = None,
    temperature: float = 295.0,
) -> EvaluationTable:
    """Measures an ensemble of a protein against a reference.

    Trajectories are read by atom names; those with whole backbones are also compared by torsions, secondary structure and geometry.

    Arguments:
        ensemble: An mdtraj `Trajectory`, or an array in Å: C-alpha positions (frames, residues, 3) or N, CA, C (frames, residues, 3, 3).
        reference: Independent runs of the reference, each in order of time, as the ensemble; one run is split into contiguous halves.
        rng: The only source of randomness.
        native: The native structure, as the ensemble with one frame or without the first axis. It serves for superposition and adds TM-score,
            RMSD, lDDT and native contacts; without it the reference's frame nearest its mean structure serves for superposition.
        n: The largest number of samples on each side.
        transport_n: The same for principal components, compared by exact optimal transport.
        score_n: The same for what is measured frame by frame (TM-score, geometry, secondary structure): evenly spaced frames.
        lag: The lag of the TICA in frames of the reference; None leaves it out, e.g. for a reference that is no time series.
        repeats: The number of resamples of the ensemble for each error and of pairs of draws for each floor, at least two.
        block: The length in frames of the ensemble's blocks for the errors; 1 for independent samples.
        log_weights: The log-weights of the ensemble, with shape (frames); its frames are then drawn by weight, with replacement.
        temperature: The temperature in K of the folding free energy.

    Raises:
        InputError: If ensemble and reference are different proteins, have no frames, hold NaN or infinity, or the reference is too short.
        ShapeError: If an array has another shape.
        ConfigError: If a number is out of range.
    """
    numbers = {"n": n, "transport_n": transport_n, "score_n": score_n, "repeats - 1": repeats - 1, "block": block}
    for name, number in numbers.items():
        if number < 1:
            raise ConfigError(f"evaluate proteins: got {name} = {number}, expected at least 1")
    ours, runs, structure, chain, whole = _read(ensemble, reference, native)
    lengths = [len(run) for run in runs]
    if min(largest_draw(lengths), len(ours)) < 3:
        raise InputError(
            f"evaluate proteins: the ensemble has {len(ours)} frames and the reference runs of {lengths}; "
            "at least 3 frames of the ensemble and on each side of a split of the reference are needed"
        )
    theirs = np.concatenate(runs)
    alpha = theirs[:, 1::3] if whole else theirs
    frames = ProteinFrames(
        chain=chain,
        whole=whole,
        native=_central(alpha) if structure is None else structure,
        native_given=structure is not None,
    )
    thin = _Thinned(ours, runs, score_n, block)
    scores = frame_scores(frames, theirs)
    measures = coordinate_measures(frames)
    if whole:
        measures += backbone_measures(frames, runs, lag=lag)
    draw = EnsembleDraw(len(ours), block, log_weights, rng)
    rows: list[EvaluationRow] = []
    for measure in measures:
        size = min(transport_n if measure.cost == "transport" else n, len(ours), largest_draw(lengths))
        rows += measure_rows(
            measure,
            ours,
            theirs,
            lengths,
            draw,
            size,
            repeats=repeats,
            block=block,
            baseline=cartesian_gaussian,
            baseline_words=WORDS,
            rng=rng,
        )
    weights = None if log_weights is None else np.asarray(log_weights)[thin.kept]
    rows += thin.rows(scores.measure(temperature=temperature), scores.compute, weights, repeats, rng)
    if whole:
        rows += thin.rows(structure_measure(), lambda x: structure_codes(x, frames), weights, repeats, rng)
    pieces = len(np.unique(chain.segments))
    return EvaluationTable(
        rows=tuple(rows),
        molecule=f"{len(chain)} residues in {pieces} {'chain' if pieces == 1 else 'pieces'}, {'N, CA, C' if whole else 'C-alpha'}",
        ensemble_frames=len(ours),
        reference_frames=tuple(lengths),
        split=split_kind(len(runs)),
    )


class _Thinned:
    """Evenly spaced frames of both ensembles, for what is computed once for each frame."""

    def __init__(self, ours: FloatArray, runs: list[FloatArray], most: int, block: int) -> None:
        stride = -(-len(ours) // most)
        self.kept = np.arange(0, len(ours), stride)
        self.ours = ours[self.kept]
        self.block = min(-(-block // stride), len(self.kept))
        # both sides of a split of the reference should hold as many frames as the ensemble
        step = max(1, sum(map(len, runs)) // (2 * most))
        thinned = [run[::step] for run in runs]
        self.lengths = [len(run) for run in thinned]
        self.theirs = np.concatenate(thinned)

    def rows(
        self, measure: Measure, compute: Any, log_weights: FloatArray | None, repeats: int, rng: np.random.Generator
    ) -> list[EvaluationRow]:
        """Rows of a measure of numbers of single frames."""

        def gaussian(moments: FloatArray, size: int, rng: np.random.Generator) -> FloatArray:
            return np.asarray(compute(cartesian_gaussian(self.theirs, size, rng)))

        return measure_rows(
            measure,
            compute(self.ours),
            compute(self.theirs),
            self.lengths,
            EnsembleDraw(len(self.ours), self.block, log_weights, rng),
            min(len(self.ours), largest_draw(self.lengths)),
            repeats=repeats,
            block=self.block,
            baseline=gaussian,
            baseline_words=WORDS,
            rng=rng,
        )


def _read(
    ensemble: Any, reference: Sequence[Any], native: Any | None
) -> tuple[FloatArray, list[FloatArray], FloatArray | None, Chain, bool]:
    """Flat positions of the ensemble and of each run, the native C-alpha atoms, the chain, and whether backbones are whole."""
    if len(reference) == 0:
        raise InputError("evaluate proteins: got no reference; give at least one run to compare with")
    named = [("ensemble", ensemble), *((f"reference run {index}", run) for index, run in enumerate(reference))]
    whole = all(_is_whole(source) for _, source in named)
    read = [_positions(name, source, whole) for name, source in named]
    chain = read[0][1]
    for (name, _), (x, other) in zip(named, read, strict=True):
        if len(other) != len(chain):
            raise InputError(
                f"{name} has {len(other)} residues and the ensemble {len(chain)}; select the same residues of both"
            )
        chain = _same_protein(name, chain, other)
        check_samples(name, x)
    structure = None
    if native is not None:
        single = native if hasattr(native, "topology") else np.asarray(native, dtype=np.float64)
        if not hasattr(native, "topology") and (single.ndim == 2 or single.shape == (len(chain), 3, 3)):
            single = single[None]
        x, other = _positions("native", single, _is_whole(single))
        _same_protein("native", chain, other)
        structure = (x[:, 1::3] if _is_whole(single) else x)[0]
        if structure.shape != (len(chain), 3):
            raise ShapeError("native", structure.shape, f"({len(chain)}, 3)")
    return read[0][0], [x for x, _ in read[1:]], structure, chain, whole


def _is_whole(source: Any) -> bool:
    if not hasattr(source, "topology"):
        return np.ndim(source) == 4
    return all(
        {"N", "C"} <= {atom.name for atom in residue.atoms}
        for residue in source.topology.residues
        if any(atom.name == "CA" for atom in residue.atoms)
    )


def _positions(name: str, source: Any, whole: bool) -> tuple[FloatArray, Chain]:
    if hasattr(source, "topology"):
        if source.n_frames == 0:
            raise InputError(f"{name} has no frames")
        x, chain = backbone(source) if whole else alpha_carbons(source)
        return x.reshape(len(x), -1, 3), chain
    x = check_samples(name, source, last=3)
    if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[2] != 3):
        raise ShapeError(name, x.shape, "(frames, residues, 3) or (frames, residues, 3, 3)")
    if x.ndim == 4 and not whole:
        x = x[:, :, 1]
    return x.reshape(len(x), -1, 3), Chain.single(x.shape[1], residues=("UNK",) * x.shape[1])


def _same_protein(name: str, first: Chain, second: Chain) -> Chain:
    """The chain of both; arrays have no names and take those of the other."""
    if len(first) != len(second):
        raise InputError(f"{name} has {len(second)} residues and the ensemble {len(first)}; select the same residues of both")
    for index, (a, b) in enumerate(zip(first.residues, second.residues, strict=True)):
        if a != b and "UNK" not in (a, b):
            raise InputError(f"{name} and the ensemble differ at residue {index + 1}: {b} and {a}; they are different proteins")
    return second if "UNK" in first.residues else first


def _central(alpha: FloatArray) -> FloatArray:
    """The frame nearest the mean structure."""
    moved = superpose(alpha, alpha[0])
    moved = superpose(moved, moved.mean(axis=0))
    return np.asarray(moved[((moved - moved.mean(axis=0)) ** 2).sum(axis=(1, 2)).argmin()])
