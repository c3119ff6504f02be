r"""W2 in the first principal components of C-alpha positions: of the reference (MD-PCA) or of both ensembles (joint PCA).

Frames are superposed on one structure. The distance in the plane of the first two components is divided by :math:`\sqrt{N}`, the root of the
number of C-alpha atoms, which makes it comparable to an RMSD in Å.

References:
    | AlphaFold Meets Flow Matching for Generating Protein Ensembles (Jing et al., 2024), https://arxiv.org/abs/2402.04845
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from equilibra.analysis.samples import FloatArray, check_samples
from equilibra.analysis.superposition import superpose
from equilibra.analysis.transport import euclidean_w2
from equilibra.errors import InputError, ShapeError


@dataclass(frozen=True, kw_only=True)
class PrincipalComponents:
    """The directions of largest variance of superposed positions."""

    mean: FloatArray
    """The mean structure, with shape (atoms, 3), in Å."""
    directions: FloatArray
    """Orthonormal directions, with shape (components, atoms, 3)."""
    variances: FloatArray
    """The variance along each, with shape (components), in Å²."""

    def project(self, positions: ArrayLike) -> FloatArray:
        """Returns the components (frames, components), in Å, of superposed positions (frames, atoms, 3)."""
        x = check_samples("positions", positions, ndim=3, last=3)
        if x.shape[1:] != self.mean.shape:
            raise ShapeError("positions", x.shape, f"(frames, {len(self.mean)}, 3)")
        return np.asarray(np.einsum("fai,kai->fk", x - self.mean, self.directions))


def principal_components(positions: ArrayLike, *, components: int = 2) -> PrincipalComponents:
    """Finds the principal components of positions that are already superposed.

    Arguments:
        positions: The frames, with shape (frames, atoms, 3), in Å.
        components: How many.

    Raises:
        InputError: If the frames span fewer directions than asked for, or are not finite.
    """
    x = check_samples("positions", positions, ndim=3, last=3)
    if components < 1 or components > min(len(x) - 1, 3 * x.shape[1]):
        raise InputError(
            f"principal components: got {components} of {len(x)} frames of {x.shape[1]} atoms, "
            f"expected 1 to {min(len(x) - 1, 3 * x.shape[1])}"
        )
    from scipy.linalg import eigh

    mean = x.mean(axis=0)
    centred = (x - mean).reshape(len(x), -1)
    # the smaller of both Gram matrices has the same leading eigenvalues
    by_frames = len(x) < centred.shape[1]
    gram = centred @ centred.T if by_frames else centred.T @ centred
    squares, vectors = eigh(gram, subset_by_index=[len(gram) - components, len(gram) - 1])
    directions = (centred.T @ vectors if by_frames else vectors).T[::-1]
    scale = np.linalg.norm(directions, axis=1, keepdims=True)
    if not (scale > 0).all():
        raise InputError(f"principal components: the frames span fewer than {components} directions; they do not move")
    return PrincipalComponents(
        mean=mean,
        directions=(directions / scale).reshape(components, *mean.shape),
        variances=np.maximum(squares[::-1], 0.0) / (len(x) - 1),
    )


def md_pca_w2(samples: ArrayLike, reference: ArrayLike, native: ArrayLike) -> float:
    """Returns W2 in the first two principal components of the reference, divided by √(number of atoms), in Å.

    Arguments:
        samples: C-alpha positions, with shape (n, residues, 3), in Å; up to about 2000 frames, exact transport.
        reference: The same of the reference, with shape (m, residues, 3).
        native: The structure that both are superposed on, with shape (residues, 3).

    Raises:
        ShapeError: If the atoms differ.
        InputError: If an ensemble has fewer than three frames, or is not finite.
    """
    ours, theirs = superpose(samples, native), superpose(reference, native)
    return _plane_w2(principal_components(theirs), ours, theirs)


def joint_pca_w2(samples: ArrayLike, reference: ArrayLike, native: ArrayLike) -> float:
    """Returns W2 in the first two principal components of both ensembles joined; arguments as for `md_pca_w2`.

    Give equal numbers of frames: the larger ensemble weighs more in the components.
    """
    ours, theirs = superpose(samples, native), superpose(reference, native)
    return _plane_w2(principal_components(np.concatenate([theirs, ours])), ours, theirs)


def pc_similarity(samples: ArrayLike, reference: ArrayLike, native: ArrayLike) -> float:
    """Returns the absolute cosine between the first principal components of both ensembles, from 0 to 1; arguments as for `md_pca_w2`."""
    first, second = (principal_components(superpose(x, native), components=1).directions[0] for x in (samples, reference))
    return float(abs((first * second).sum()))


def _plane_w2(plane: PrincipalComponents, ours: FloatArray, theirs: FloatArray) -> float:
    return euclidean_w2(plane.project(ours), plane.project(theirs)) / float(np.sqrt(len(plane.mean)))
