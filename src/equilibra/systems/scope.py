"""The scope of a model: what it was trained on, and hence what it may be asked."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch

from equilibra.configuration import read_fields
from equilibra.errors import ConfigError, InputError
from equilibra.systems.labels import Label, conditions, wanted_values


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a model was trained on.

    Attributes:
        systems: Canonical identifiers of the systems (isomeric SMILES of molecules).
        elements: Atomic numbers seen.
        temperature: Temperature of the data in K; None where it has none. Of a model of several temperatures, the one that it is meant for.
        temperatures: Lowest and highest temperature of such a model; None for a model of one temperature.
        transferable: Whether the model is meant for systems beyond those of its training.
        atoms: For crystals, how many structures of each number of atoms were seen: pairs (atoms, structures).
        labels: Labels that samples can be asked for.

    Raises:
        ConfigError: If there are both several temperatures and labels.
    """

    systems: tuple[str, ...] = ()
    elements: tuple[int, ...] = ()
    temperature: float | None = None
    temperatures: tuple[float, float] | None = None
    transferable: bool = False
    atoms: tuple[tuple[int, int], ...] = ()
    labels: tuple[Label, ...] = ()

    def __post_init__(self) -> None:
        # JSON has lists
        object.__setattr__(self, "atoms", tuple((int(atoms), int(structures)) for atoms, structures in self.atoms))
        labels = tuple(label if isinstance(label, Label) else read_fields(Label, label) for label in self.labels)
        object.__setattr__(self, "labels", labels)
        if labels and self.temperatures is not None:
            raise ConfigError("scope: got labels and a range of temperatures, expected one of them")

    def told(self, wanted: Mapping[str, float] | None, name: str) -> torch.Tensor:
        """Returns what a network is told of labels, with shape (1, conditions): of those that are left open, that they are not known.

        Arguments:
            wanted: Values by the names of labels, or None.
            name: Name of the model.

        Raises:
            InputError: If a label is unknown, or a value is not a finite number.
        """
        return conditions(self.labels, wanted_values(self.labels, wanted, name))

    def conditions(self, temperature: float | None, name: str) -> tuple[float, ...]:
        """Returns what a network is told of the temperature, ln(T/T_0) with the temperature T_0 that the model is meant for; nothing if it knows one only.

        Arguments:
            temperature: Wanted temperature in K; None for the one that the model is meant for.
            name: Name of the model.

        Raises:
            InputError: If the model was not trained for the temperature.
        """
        if self.temperatures is None or self.temperature is None:
            if temperature is not None and temperature != self.temperature:
                known = "none" if self.temperature is None else f"{self.temperature:g} K"
                raise InputError(
                    f"temperature: got {temperature:g} K, but the model '{name}' knows one temperature, {known}; train one for a range "
                    "of temperatures with `equilibra train --energy`"
                )
            return ()
        low, high = self.temperatures
        wanted = self.temperature if temperature is None else temperature
        if not low * (1.0 - 1e-6) <= wanted <= high * (1.0 + 1e-6):
            raise InputError(
                f"temperature: got {wanted:g} K, but the model '{name}' was trained from {low:g} to {high:g} K; give one of that range"
            )
        return (math.log(wanted / self.temperature),)

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads a scope; an unknown key is an error that names the nearest known one."""
        return read_fields(cls, values)
