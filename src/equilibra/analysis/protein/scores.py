"""Numbers of single frames of a protein, whose means are rows of an evaluation: size, similarity to the native structure, validity, geometry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from equilibra.analysis.measures import Measure
from equilibra.analysis.protein.backbone import backbone_torsions, ramachandran_columns
from equilibra.analysis.protein.backbone_geometry import (
    backbone_geometry,
    broken_frames,
    clashing_frames,
    ramachandran_outliers,
)
from equilibra.analysis.protein.distances import end_to_end, radius_of_gyration
from equilibra.analysis.protein.folding import foldedness, fraction_native_contacts
from equilibra.analysis.protein.frames import ProteinFrames
from equilibra.analysis.protein.lddt import lddt
from equilibra.analysis.protein.tm_score import tm_score
from equilibra.analysis.samples import BoolArray, FloatArray
from equilibra.analysis.superposition import rmsd_matrix
from equilibra.units import KCAL_PER_MOL_EV, thermal_energy


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Numbers of each frame whose means are rows of the table."""

    names: tuple[str, ...]
    """The names of the columns."""
    units: tuple[str, ...]
    """Their units."""
    definitions: tuple[str, ...]
    """What they are."""
    compute: Callable[[FloatArray], FloatArray]
    """Flat positions to numbers, with shape (frames, columns)."""

    def measure(self, *, temperature: float) -> Measure:
        """Returns the observable: means of the columns, and the free energy of folding if foldedness is one of them."""
        folded = self.names.index("folded") if "folded" in self.names else None
        roots = [index for index, name in enumerate(self.names) if name == "bond and angle rms z"]

        def means(scores: FloatArray) -> FloatArray:
            values = scores.mean(axis=0)
            values[roots] = np.sqrt(values[roots])
            if folded is None:
                return values
            with np.errstate(divide="ignore"):
                kcal = thermal_energy(temperature) / KCAL_PER_MOL_EV * (np.log1p(-values[folded]) - np.log(values[folded]))
            return np.append(values, kcal)

        extra = folded is not None
        definition = f"-kT ln(p / (1 - p)) of the share folded p at {temperature:g} K"
        return Measure(
            names=(*self.names, *(("folding free energy",) * extra)),
            units=(*self.units, *(("kcal/mol",) * extra)),
            definitions=(*self.definitions, *((definition,) * extra)),
            feature="scores",
            kind="observable",
            compute=means,
        )


def frame_scores(frames: ProteinFrames, reference: FloatArray) -> Scores:
    """Returns what is measured of single frames: size, similarity to the native structure, validity, geometry.

    Arguments:
        frames: How positions are read.
        reference: Flat positions of the reference, which define the allowed (φ, ψ).
    """
    ca, native, chain = frames.alpha, frames.native, frames.chain
    # the full search changes the third decimal and takes minutes for hundreds of residues
    stride = max(1, len(chain) // 20)
    columns: list[tuple[str, str, str, Callable[[FloatArray], FloatArray | BoolArray]]] = [
        ("radius of gyration", "Å", "mean radius of gyration of C-alpha atoms", lambda x: radius_of_gyration(ca(x))),
        ("end to end", "Å", "mean distance of the first and the last C-alpha", lambda x: end_to_end(ca(x))),
        ("clashing frames", "1", "share of frames with C-alpha atoms nearer than 3 Å", lambda x: clashing_frames(ca(x))),
        (
            "broken frames",
            "1",
            "share of frames with neighbouring C-alpha above 4.5 Å, or a peptide bond above 2 Å",
            lambda x: broken_frames(frames.backbone(x) if frames.whole else x, chain),
        ),
    ]
    if frames.native_given:
        columns += [
            (
                "TM to native",
                "1",
                f"mean TM-score to the native structure, residues as numbered, a fragment every {stride}",
                lambda x: tm_score(ca(x), native, stride=stride),
            ),
            ("RMSD to native", "Å", "mean C-alpha RMSD to the native structure", lambda x: rmsd_matrix(native[None], ca(x))[0]),
            ("lDDT to native", "1", "mean C-alpha lDDT to the native structure, 15 Å", lambda x: lddt(ca(x), native)),
        ]
        i, j = np.triu_indices(len(native), 4)
        if (np.linalg.norm(native[i] - native[j], axis=-1) <= 10.0).any():
            columns += [
                (
                    "native contacts Q",
                    "1",
                    "mean fraction of native contacts",
                    lambda x: fraction_native_contacts(ca(x), native),
                ),
                ("folded", "1", "mean foldedness", lambda x: foldedness(fraction_native_contacts(ca(x), native))),
            ]
    blocks = [] if not frames.whole else [_geometry_columns(frames, reference)]
    return Scores(
        names=(*(c[0] for c in columns), *(name for block in blocks for name in block.names)),
        units=(*(c[1] for c in columns), *(unit for block in blocks for unit in block.units)),
        definitions=(*(c[2] for c in columns), *(words for block in blocks for words in block.definitions)),
        compute=lambda x: np.concatenate(
            [np.stack([c[3](x).astype(np.float64) for c in columns], axis=1), *(block.compute(x) for block in blocks)], axis=1
        ),
    )


def _geometry_columns(frames: ProteinFrames, reference: FloatArray) -> Scores:
    def pairs(x: FloatArray) -> FloatArray:
        torsions = backbone_torsions(frames.backbone(x), frames.chain)
        return np.stack([torsions.angles[:, [i, j]] for _, i, j in ramachandran_columns(torsions)], axis=1)

    target = pairs(reference).reshape(-1, 2)

    def compute(x: FloatArray) -> FloatArray:
        geometry = backbone_geometry(frames.backbone(x), frames.chain)
        outside = ramachandran_outliers(pairs(x).reshape(-1, 2), target).reshape(len(x), -1)
        columns = (geometry.all_z**2, geometry.twisted, geometry.cis, outside)
        return np.stack([np.asarray(column, dtype=np.float64).mean(axis=1) for column in columns], axis=1)

    return Scores(
        names=("bond and angle rms z", "twisted peptide bonds", "cis peptide bonds", "Ramachandran outliers"),
        units=("1",) * 4,
        definitions=(
            "root-mean-square z-score of backbone bonds and angles against crystal structures",
            "share of peptide bonds with 30 < |omega| < 150 degrees",
            "share of peptide bonds with |omega| <= 30 degrees",
            "share of (phi, psi) outside the 10-degree cells that hold 99.8 % of the reference, all residues pooled",
        ),
        compute=compute,
    )
