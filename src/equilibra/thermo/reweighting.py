"""Log-weights together with the verdict on them, and the refusal to build on weights that cannot be trusted."""

from __future__ import annotations

from dataclasses import dataclass

from numpy.typing import ArrayLike

from equilibra.errors import InputError
from equilibra.thermo.samples import FloatArray, check_log_weights
from equilibra.thermo.weights import Diagnosis, diagnose


@dataclass(frozen=True, eq=False)
class Reweighted:
    """A set of log-weights and its diagnosis, which every number made from them should be shown with."""

    log_weights: FloatArray
    """Log-weights with shape (n)."""
    diagnosis: Diagnosis
    """The verdict on them."""

    def require_trust(self, what: str, *, allow: bool = False) -> None:
        """Refuses weights that cannot be trusted; as `refuse_if_untrusted`."""
        refuse_if_untrusted(self.diagnosis, what, allow=allow)


def reweighted(log_weights: ArrayLike) -> Reweighted:
    """Returns log-weights, checked, with their diagnosis.

    Arguments:
        log_weights: Log-weights with shape (n).

    Raises:
        ShapeError: If there is more than one axis.
        InputError: As for `check_log_weights`.
    """
    array = check_log_weights(log_weights)
    return Reweighted(array, diagnose(array))


def refuse_if_untrusted(diagnosis: Diagnosis, what: str, *, allow: bool = False) -> None:
    """Raises an error in words if the weights are not to be trusted.

    Arguments:
        diagnosis: The verdict on the weights.
        what: What was asked for, e.g. "free-energy difference".
        allow: Whether to go on all the same; the number is then the caller's to defend.

    Raises:
        InputError: If the verdict is "not to be trusted" and `allow` is not set.
    """
    if diagnosis.trusted or allow:
        return
    raise InputError(
        f"{what}: refused, because the answer would rest on a few samples. {diagnosis.sentence} Draw more samples, train the model further, "
        "or anneal its samples to the target; allow it explicitly to see the number all the same"
    )
