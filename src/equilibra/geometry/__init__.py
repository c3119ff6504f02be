r"""Pure tensor mathematics of the spaces that molecular degrees of freedom live on.

Modules, each named after its object:
    so3: rotations; hat, exponential, logarithm, geodesics, Haar samples.
    igso3: the heat kernel on SO(3); density, score, samples, as functions of the heat time.
    torus: flat torus; wrapping and the wrapped normal law.
    lattice: cells as symmetric matrices; polar form, invariant Gaussian noise, Jacobian.
    reduction: the shortest lattice vectors that span a lattice.
    periodic: periodic images that suffice for any cell, minimum images in skew cells.
    superposition: optimal rigid superposition and RMSD.
    size: radius of gyration and distances.
    chirality: signed volumes of stereocentres.
    backbone: frames of residues and the atoms of a protein's backbone.

All functions are batched over leading axes, take the device and the dtype of their arguments, never write to them, and
draw randomness from a `torch.Generator` only. Lengths are in Å, angles in radians. Noise widths: everywhere outside
`igso3` the number :math:`\sigma^2` is the small-noise variance per axis, so that the heat time on SO(3) is
:math:`\tau = \sigma^2 / 2`; `igso3` itself speaks of :math:`\tau` only.
"""
