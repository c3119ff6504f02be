"""The distances between ensembles of a protein, each with its name, unit and exact definition, as functions of two samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from equilibra.analysis.measures import Measure
from equilibra.analysis.protein.backbone import backbone_torsions
from equilibra.analysis.protein.contacts import contact_agreement
from equilibra.analysis.protein.distances import js_pwd, js_rg
from equilibra.analysis.protein.flexibility import pearson, rmsf
from equilibra.analysis.protein.frames import ProteinFrames
from equilibra.analysis.protein.pairwise_rmsd import mean_pairwise_rmsd
from equilibra.analysis.protein.pca_w2 import joint_pca_w2, md_pca_w2, pc_similarity
from equilibra.analysis.protein.rmwd import rmwd
from equilibra.analysis.protein.secondary_structure import (
    CODES,
    secondary_structure,
    secondary_structure_difference,
    secondary_structure_shares,
)
from equilibra.analysis.protein.tica_jsd import fit_torsion_tica, tica_jsd
from equilibra.analysis.protein.torsion_jsd import backbone_torsion_jsd
from equilibra.analysis.samples import FloatArray, IntArray
from equilibra.analysis.tica_w2 import torsion_features

PAIRWISE_FRAMES = 250
"""Pairwise RMSDs are taken of at most so many frames, evenly spaced."""


def coordinate_measures(frames: ProteinFrames) -> list[Measure]:
    """Returns the distances between ensembles of C-alpha positions."""
    ca, native, on = frames.alpha, frames.native, f"C-alpha, superposed on {frames.words}"

    def distance(
        names: Sequence[str],
        units: Sequence[str],
        definitions: Sequence[str],
        compute: Callable[[FloatArray, FloatArray], Sequence[float]],
        cost: Literal["histogram", "transport"] = "histogram",
    ) -> Measure:
        return Measure(
            names=tuple(names),
            units=tuple(units),
            definitions=tuple(definitions),
            feature="positions",
            cost=cost,
            compute=lambda a, b: np.asarray(compute(ca(a), ca(b))),
        )

    def mean_positions(a: FloatArray, b: FloatArray) -> list[float]:
        result = rmwd(a, b, native)
        return [result.value, result.translation, result.variance]

    def components(a: FloatArray, b: FloatArray) -> list[float]:
        return [md_pca_w2(a, b, native), joint_pca_w2(a, b, native), pc_similarity(a, b, native)]

    def contacts(a: FloatArray, b: FloatArray) -> list[float]:
        agreement = contact_agreement(a, b, native)
        return [agreement.weak, agreement.transient]

    words = "root mean square over atoms of W2 between Gaussian fits"
    plane = "W2 in the first two principal components of"
    return [
        distance(["RMSF r"], ["1"], [f"Pearson's r of RMSF, {on}"], lambda a, b: [pearson(rmsf(a, native), rmsf(b, native))]),
        distance(
            ["RMWD", "RMWD translation", "RMWD variance"],
            ["Å"] * 3,
            [f"{words}, {on}", f"{words}, the part of the means, {on}", f"{words}, the part of the covariances, {on}"],
            mean_positions,
        ),
        distance(
            ["MD-PCA W2", "joint-PCA W2", "PC similarity"],
            ["Å", "Å", "1"],
            [
                f"{plane} the reference, divided by the root of the number of residues, {on}",
                f"{plane} both ensembles, divided by the root of the number of residues, {on}",
                f"absolute cosine of the first principal components of both, {on}",
            ],
            components,
            "transport",
        ),
        distance(
            ["weak contacts J", "transient contacts J"],
            ["1", "1"],
            [
                f"Jaccard index of contacts (C-alpha < 8 Å) of {frames.words} formed in < 90 % of frames",
                f"Jaccard index of other contacts formed in > 10 % of frames; native contacts of {frames.words}",
            ],
            contacts,
        ),
        distance(
            ["JS-PwD", "JS-Rg"],
            ["nats^1/2"] * 2,
            [
                "mean over pairs of residues >= 3 apart of the Jensen-Shannon distance of C-alpha distances, 50 bins over the reference's range",
                "mean over residues of the Jensen-Shannon distance of C-alpha distances from the centre, 50 bins",
            ],
            lambda a, b: [js_pwd(a, b), js_rg(a, b)],
        ),
        _pairwise(frames),
    ]


def backbone_measures(frames: ProteinFrames, reference: Sequence[FloatArray], *, lag: int | None) -> list[Measure]:
    """Returns the distances between ensembles of backbone torsions.

    Arguments:
        frames: How positions are read.
        reference: The flat positions of each run of the reference.
        lag: The lag of the TICA in frames; None leaves it out.

    Raises:
        InputError: If the lag does not fit the reference.
    """

    def torsions(a: FloatArray, b: FloatArray) -> FloatArray:
        result = backbone_torsion_jsd(frames.backbone(a), frames.backbone(b), frames.chain)
        return np.asarray([result.phi.mean(), result.psi.mean(), result.joint.mean()])

    words = "mean over residues of the Jensen-Shannon distance (root, nats) of"
    measures = [
        Measure(
            names=("phi JSD", "psi JSD", "(phi, psi) JSD"),
            units=("nats^1/2",) * 3,
            definitions=(f"{words} phi, 100 bins", f"{words} psi, 100 bins", f"{words} (phi, psi), 50 x 50 cells"),
            feature="positions",
            compute=torsions,
        )
    ]
    if lag is None:
        return measures

    def angles(x: FloatArray) -> FloatArray:
        return backbone_torsions(frames.backbone(x), frames.chain).select(("phi", "psi")).angles

    slow = fit_torsion_tica([angles(run) for run in reference], lag=lag)

    def divergences(a: FloatArray, b: FloatArray) -> FloatArray:
        result = tica_jsd(slow.project(torsion_features(angles(a))), slow.project(torsion_features(angles(b))))
        return np.asarray([*result.marginals, result.joint, result.outliers])

    what = f"of the reference (TICA on cos and sin of phi and psi, lag {lag} frames, fitted on all of it)"
    samples = "samples outside the reference's range are counted in the edge bins"
    measures.append(
        Measure(
            names=("TICA JSD, first", "TICA JSD, second", "TICA JSD, both", "TICA outliers"),
            units=("bits",) * 3 + ("1",),
            definitions=(
                f"Jensen-Shannon divergence in the first slow coordinate {what}, 100 bins; {samples}",
                f"Jensen-Shannon divergence in the second slow coordinate {what}, 100 bins; {samples}",
                f"Jensen-Shannon divergence in the plane of both, 50 x 50 cells; {samples}",
                "share of samples outside the range of the N reference frames in either slow coordinate",
            ),
            feature="positions",
            compute=divergences,
        )
    )
    return measures


def structure_measure() -> Measure:
    """Returns the difference of secondary structures, a distance of codes (frames, residues) as from `structure_codes`."""

    def compute(a: IntArray, b: IntArray) -> FloatArray:
        shares = [secondary_structure_shares(np.asarray(CODES)[x]) for x in (a, b)]
        return np.asarray([secondary_structure_difference(*shares)])

    return Measure(
        names=("secondary structure TV",),
        units=("1",),
        definitions=("mean over residues of the total variation of the shares of helix, strand and coil (DSSP)",),
        feature="secondary structure",
        compute=compute,
    )


def structure_codes(x: FloatArray, frames: ProteinFrames) -> IntArray:
    """Returns the secondary structure of flat positions as indices into `CODES`, with shape (frames, residues)."""
    codes = secondary_structure(frames.backbone(x), frames.chain)
    return np.asarray(np.argmax([codes == code for code in CODES], axis=0))


def _pairwise(frames: ProteinFrames) -> Measure:
    def compute(x: FloatArray) -> FloatArray:
        chosen = np.linspace(0, len(x) - 1, min(len(x), PAIRWISE_FRAMES)).astype(np.int64)
        return np.asarray([mean_pairwise_rmsd(frames.alpha(x[chosen]), native=frames.native)])

    return Measure(
        names=("pairwise RMSD",),
        units=("Å",),
        definitions=(f"mean C-alpha RMSD of different frames, superposed on {frames.words}, at most {PAIRWISE_FRAMES} frames",),
        feature="positions",
        kind="observable",
        compute=compute,
    )
