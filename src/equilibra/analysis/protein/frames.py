"""How the metrics of a protein read the flat positions of frames."""

from __future__ import annotations

from dataclasses import dataclass

from equilibra.analysis.protein.backbone import Chain
from equilibra.analysis.samples import FloatArray


@dataclass(frozen=True, kw_only=True)
class ProteinFrames:
    """How the flat positions (frames, atoms, 3) that metrics receive are read."""

    chain: Chain
    """The chain."""
    whole: bool
    """Whether the atoms are N, CA, C of each residue; else they are C-alpha atoms."""
    native: FloatArray
    """C-alpha positions of the structure for superposition and contacts, with shape (residues, 3), in Å."""
    native_given: bool
    """Whether it is the native structure; else it is the central frame of the reference."""

    def alpha(self, x: FloatArray) -> FloatArray:
        """Returns the C-alpha positions, with shape (frames, residues, 3)."""
        return x[:, 1::3] if self.whole else x

    def backbone(self, x: FloatArray) -> FloatArray:
        """Returns the backbones, with shape (frames, residues, 3, 3)."""
        return x.reshape(len(x), -1, 3, 3)

    @property
    def words(self) -> str:
        """What frames are superposed on."""
        return "the native structure" if self.native_given else "the reference's frame nearest its mean"
