"""Checks of trailing axes, with errors that name the argument."""

from equilibra.errors import ShapeError
from equilibra.types import Tensor


def require_trailing(name: str, tensor: Tensor, trailing: tuple[int, ...]) -> None:
    """Checks that the last axes of a tensor have the given lengths.

    Arguments:
        name: The name of the argument, for the message.
        tensor: The tensor to check.
        trailing: The expected lengths of the last axes; leading axes are free.

    Raises:
        ShapeError: If the last axes differ.
    """
    if tuple(tensor.shape[-len(trailing) :]) != trailing:
        raise ShapeError(name, tuple(tensor.shape), f"(..., {', '.join(map(str, trailing))})")
