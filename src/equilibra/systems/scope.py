"""The scope of a model: what it was trained on, and hence what it may be asked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from equilibra.configuration import read_fields


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a model was trained on.

    Attributes:
        systems: Canonical identifiers of the systems (isomeric SMILES of molecules).
        elements: Atomic numbers seen.
        temperature: Temperature of the data in K; None where it has none.
        transferable: Whether the model is meant for systems beyond those of its training.
    """

    systems: tuple[str, ...] = ()
    elements: tuple[int, ...] = ()
    temperature: float | None = None
    transferable: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads a scope; an unknown key is an error that names the nearest known one."""
        return read_fields(cls, values)
