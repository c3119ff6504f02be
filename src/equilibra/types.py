"""Shapes in annotations: the jaxtyping names used in the package and the one glossary of axes.

Axes:
    batch: systems or samples treated together.
    items: elements of a field: atoms, residues, torsions.
    tokens: elements that the network attends over, padded to a common length.
    atoms: atoms of one system.
    d: spatial dimension of a Euclidean field.
    frames: conformations of one system, in a file or an ensemble.
"""

from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Bool", "Float", "Int", "Tensor"]
