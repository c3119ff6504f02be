"""The scope of a model: what it was trained on, and hence what it may be asked."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from equilibra.errors import CheckpointError, unknown_key_message


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
        known = {f.name for f in fields(cls)}
        for key in values:
            if key not in known:
                raise CheckpointError(unknown_key_message("key of the scope", key, known))
        converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**converted)
