r"""Periodic images that suffice for any cell, and minimum images in skew cells.

A cell matrix has the lattice vectors :math:`a_i` as rows; :math:`x = f A`. A vector no longer than :math:`r` has fractional
components :math:`|f_i| \le r / h_i`, where :math:`h_i = V / |a_j \times a_k|` is the spacing of the lattice planes. So the images to
visit follow from the cell; a fixed :math:`3 \times 3 \times 3` block, as in the release of Distributional Graphormer, does not suffice.
"""

import math

import torch

from equilibra.errors import InputError, ShapeError
from equilibra.geometry.reduction import reduced_basis
from equilibra.geometry.shapes import require_trailing
from equilibra.types import Bool, Float, Int, Tensor

Periodicity = tuple[bool, bool, bool]
"""Which lattice vectors repeat; (True, True, False) is a slab."""

_BLOCK = 16
"""Images compared at once, a bound on memory."""

_PAIRS = 4_000_000
"""Pairs of an atom and an image compared at once, a bound on memory."""


def plane_spacings(cell: Float[Tensor, "... 3 3"]) -> Float[Tensor, "... 3"]:
    r"""Computes the distances between neighbouring lattice planes, :math:`h_i = V/|a_j \times a_k|`.

    Arguments:
        cell: Cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å.

    Returns:
        Spacings, with shape (..., 3), in Å.

    Raises:
        ShapeError: If the last axes are not (3, 3).
    """
    require_trailing("cell", cell, (3, 3))
    a, b, c = cell.unbind(-2)
    faces = torch.stack((torch.linalg.cross(b, c), torch.linalg.cross(c, a), torch.linalg.cross(a, b)), dim=-2)
    volume = (a * faces[..., 0, :]).sum(-1, keepdim=True).abs()
    return volume / torch.linalg.vector_norm(faces, dim=-1)


def image_counts(
    cell: Float[Tensor, "... 3 3"], cutoff: float, *, wrapped: bool, pbc: Periodicity = (True, True, True)
) -> Int[Tensor, "... 3"]:
    r"""Counts the images needed along each axis to see everything within a cutoff.

    All images within the cutoff have :math:`|n_i| \le \lfloor r_c/h_i + \tfrac12 \rfloor` if fractional differences are minimum images
    (in [-1/2, 1/2]), and :math:`|n_i| \le \lfloor r_c/h_i \rfloor + 1` if positions are wrapped to [0, 1) (differences in (-1, 1)).

    Arguments:
        cell: Cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å.
        cutoff: The cutoff :math:`r_c`, in Å.
        wrapped: Whether positions are wrapped to [0, 1), instead of differences to the minimum image.
        pbc: Which axes are periodic; the others get no images.

    Returns:
        The largest :math:`|n_i|`, with shape (..., 3).

    Raises:
        ShapeError: If the last axes are not (3, 3).
        InputError: If the cutoff or a cell is not finite and positive.
    """
    h = plane_spacings(cell.detach())
    if not (math.isfinite(cutoff) and cutoff > 0):
        raise InputError(f"cutoff: got {cutoff}, expected a positive length in Å")
    if not bool((torch.isfinite(h) & (h > 0)).all()):
        raise InputError(
            "cell: its vectors do not span space, expected three independent lattice vectors; "
            "give a non-periodic axis any vector out of the plane of the others"
        )
    ratio = (cutoff / h) * (1 + 16 * torch.finfo(h.dtype).eps)
    counts = torch.floor(ratio + (1.0 if wrapped else 0.5)).long()
    return counts * torch.tensor(pbc, dtype=torch.long, device=counts.device)


def _box(counts: tuple[int, ...], device: torch.device) -> Int[Tensor, "k axes"]:
    """Lists all integer vectors with |n_i| ≤ counts_i, the shortest first."""
    grid = torch.cartesian_prod(*(torch.arange(-n, n + 1, device=device) for n in counts)).reshape(-1, len(counts))
    return grid[torch.argsort(grid.square().sum(-1), stable=True)]


def image_shifts(
    cell: Float[Tensor, "... 3 3"], cutoff: float, pbc: Periodicity = (True, True, True), *, wrapped: bool
) -> Int[Tensor, "k 3"]:
    """Lists lattice translations that suffice to see everything within a cutoff, in every given cell.

    Arguments:
        cell: Cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å.
        cutoff: The cutoff, in Å.
        pbc: Which axes are periodic.
        wrapped: Whether positions are wrapped to [0, 1), instead of differences to the minimum image.

    Returns:
        Integer translations, with shape (k, 3), the zero translation first; in Å they are ``shifts @ cell``.

    Raises:
        ShapeError: If the last axes are not (3, 3).
        InputError: If the cutoff or a cell is not finite and positive.
    """
    counts = image_counts(cell, cutoff, wrapped=wrapped, pbc=pbc).reshape(-1, 3).amax(0)
    return _box(tuple(counts.tolist()), cell.device)


def neighbours(
    frac: Float[Tensor, "batch atoms 3"],
    cell: Float[Tensor, "batch 3 3"],
    cutoff: float,
    mask: Bool[Tensor, "batch atoms"] | None = None,
) -> tuple[Int[Tensor, "edges 3"], Int[Tensor, "edges 3"]]:
    r"""Lists all pairs of an atom i and an image of an atom j, :math:`|(f_j + n - f_i) A| < r_c`, in cells of any shape.

    An atom is a neighbour of its own images, never of itself. Every pair is there twice, from i to j and from j to i.

    Arguments:
        frac: Fractional coordinates, wrapped or not, with shape (batch, atoms, 3).
        cell: Cell matrices, rows are lattice vectors, with shape (batch, 3, 3), in Å.
        cutoff: The cutoff :math:`r_c`, in Å.
        mask: Real atoms, with shape (batch, atoms); all by default.

    Returns:
        For each pair the crystal, i and j, with shape (edges, 3), and the integers n, with shape (edges, 3).

    Raises:
        ShapeError: If trailing axes are not (3) and (3, 3).
        InputError: If the cutoff or a cell is not finite and positive.
    """
    require_trailing("frac", frac, (3,))
    with torch.no_grad():
        counts = image_counts(cell, cutoff, wrapped=False)
        box = _box(tuple(counts.amax(0).tolist()), cell.device)
        difference = frac[:, None, :, :] - frac[:, :, None, :]
        nearest = -torch.round(difference)
        base = (difference + nearest) @ cell[:, None]
        there = torch.ones_like(base[..., 0], dtype=torch.bool)
        if mask is not None:
            there = mask[:, :, None] & mask[:, None, :]
        farthest = torch.linalg.vector_norm(base, dim=-1).masked_fill(~there, 0.0).amax((1, 2))
        translations = box.to(cell.dtype) @ cell
        visited = (box[None].abs() <= counts[:, None, :]).all(-1)
        visited &= torch.linalg.vector_norm(translations, dim=-1) < cutoff + farthest[:, None]
        pairs, shifts = [], []
        for part in visited.nonzero().split(max(1, _PAIRS // max(1, frac.shape[1] ** 2))):
            which, image = part.unbind(1)
            r = torch.linalg.vector_norm(base[which] + translations[which, image][:, None, None], dim=-1)
            near = (r < cutoff) & there[which]
            # the nearest image of an atom to itself is itself
            own = box[image].eq(0).all(-1)[:, None, None] & torch.eye(frac.shape[1], dtype=torch.bool, device=frac.device)
            row, i, j = (near & ~own).nonzero().unbind(1)
            pairs.append(torch.stack([which[row], i, j], dim=1))
            shifts.append(box[image[row]] + nearest[which[row], i, j].long())
    return torch.cat(pairs), torch.cat(shifts)


def minimum_image(frac_diff: Float[Tensor, "... 3"], *, pbc: Periodicity = (True, True, True)) -> Float[Tensor, "... 3"]:
    """Wraps fractional differences to [-1/2, 1/2) along periodic axes.

    The result is the shortest image in orthogonal cells only; for the shortest vector in any cell use `minimum_image_vector`.

    Arguments:
        frac_diff: Fractional differences, with shape (..., 3).
        pbc: Which axes are periodic.

    Returns:
        Wrapped differences, with shape (..., 3).

    Raises:
        ShapeError: If the last axis is not 3.
    """
    require_trailing("frac_diff", frac_diff, (3,))
    periodic = torch.tensor(pbc, device=frac_diff.device)
    return torch.where(periodic, frac_diff - torch.floor(frac_diff.detach() + 0.5), frac_diff)


def minimum_image_vector(
    x: Float[Tensor, "... 3"],
    y: Float[Tensor, "... 3"],
    cell: Float[Tensor, "... 3 3"],
    *,
    pbc: Periodicity = (True, True, True),
) -> Float[Tensor, "... 3"]:
    r"""Finds the shortest vector from `x` to any periodic image of `y`, in cells of any shape.

    The shortest vector, in the span of the periodic lattice vectors, is no longer than :math:`\rho = \tfrac12 \sqrt{\sum_i |a_i|^2}`. All images
    within :math:`\rho` are searched, in a reduced basis of the lattice so that they are few; rounding of fractional components alone is
    wrong in skew cells.

    Arguments:
        x: Start positions, with shape (..., 3), in Å.
        y: End positions, with shape (..., 3), in Å; broadcast against `x`.
        cell: Cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å; the leading axes broadcast against those of the
            positions, so a cell per system has to be given as ``cell[:, None]`` for positions (systems, atoms, 3).
        pbc: Which axes are periodic. The vectors of the others are not used and may be zero.

    Returns:
        Shortest vectors, with shape (..., 3), in Å; differentiable in positions and cell.

    Raises:
        ShapeError: If trailing axes are not (3), (3) and (3, 3).
        InputError: If the periodic lattice vectors are not independent.
    """
    require_trailing("x", x, (3,))
    require_trailing("y", y, (3,))
    require_trailing("cell", cell, (3, 3))
    d = y - x
    axes = [i for i in range(3) if pbc[i]]
    if not axes:
        return d
    a = cell[..., axes, :]
    try:
        torch.broadcast_shapes(d.shape[:-1], a.shape[:-2])
    except RuntimeError:
        raise ShapeError("cell", tuple(cell.shape), f"leading axes that broadcast against {tuple(d.shape[:-1])}") from None
    with torch.no_grad():
        shift = _shortest_shift(d, a)
    return d + (shift[..., None, :] @ a).squeeze(-2)


def _shortest_shift(d: Float[Tensor, "... 3"], a: Float[Tensor, "... axes 3"]) -> Float[Tensor, "... axes"]:
    """Returns the integers n that minimise |d + n a|."""
    if not bool(torch.isfinite(a).all()) or not bool((torch.linalg.matrix_rank(a) == a.shape[-2]).all()):
        raise InputError("cell: its periodic vectors are not independent, expected vectors that span a line, plane or space")
    u = reduced_basis(a)
    a = u @ a
    gram = a @ a.transpose(-1, -2)
    inverse = torch.linalg.inv(gram)
    heights = inverse.diagonal(dim1=-2, dim2=-1).rsqrt()
    first = -torch.round((inverse @ a @ d[..., None]).squeeze(-1))
    base = d + (first[..., None, :] @ a).squeeze(-2)
    bound = gram.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True).sqrt() / 2
    counts = torch.floor(bound / heights * (1 + 16 * torch.finfo(d.dtype).eps) + 0.5).long()
    shifts = _box(tuple(counts.reshape(-1, a.shape[-2]).amax(0).tolist()), d.device).to(d.dtype)
    best, chosen = torch.full_like(base[..., 0], math.inf), torch.zeros_like(first)
    for block in shifts.split(_BLOCK):
        squared = (base[..., None, :] + block @ a).square().sum(-1)
        value, index = squared.min(-1)
        better = value < best
        best = torch.where(better, value, best)
        chosen = torch.where(better[..., None], block[index], chosen)
    return ((first + chosen)[..., None, :] @ u).squeeze(-2)


def minimum_image_distance(
    x: Float[Tensor, "... 3"],
    y: Float[Tensor, "... 3"],
    cell: Float[Tensor, "... 3 3"],
    *,
    pbc: Periodicity = (True, True, True),
) -> Float[Tensor, "..."]:
    """Computes the distance from `x` to the nearest periodic image of `y`, in cells of any shape.

    Arguments:
        x: Start positions, with shape (..., 3), in Å.
        y: End positions, with shape (..., 3), in Å; broadcast against `x`.
        cell: Cell matrices, rows are lattice vectors, with shape (..., 3, 3), in Å; see `minimum_image_vector`.
        pbc: Which axes are periodic.

    Returns:
        Distances, with shape (...), in Å. At zero distance the gradient is zero.

    Raises:
        ShapeError: If trailing axes are not (3), (3) and (3, 3).
        InputError: If the periodic lattice vectors are not independent.
    """
    return torch.linalg.vector_norm(minimum_image_vector(x, y, cell, pbc=pbc), dim=-1)
