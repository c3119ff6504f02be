"""The domains by name, and what each offers to a Model."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from equilibra.diffusion.objectives.choose import TrainedDenoiser
from equilibra.diffusion.process import Process
from equilibra.energies.energy import Energy
from equilibra.errors import ConfigError, unknown_key_message
from equilibra.systems.properties import Maker
from equilibra.systems.scope import Scope

DOMAINS: dict[str, str] = {
    "molecule": "equilibra.systems.molecule.domain",
    "protein": "equilibra.systems.protein.domain",
    "crystal": "equilibra.systems.crystal.domain",
    "ligand": "equilibra.systems.ligand.domain",
    "adsorbate": "equilibra.systems.adsorbate.domain",
}
"""Modules of the domains by name; each offers the functions of `Domain`."""


class Domain(Protocol):
    """What a domain's module offers to the Model."""

    def systems(self, source: Any) -> list[Any]:
        """Reads the systems of a user's input."""

    def meant(self, source: Any, scope: Scope) -> Any:
        """Makes an ambiguous input the one system of a scope that it can stand for; leaves any other as it is."""

    def denoiser(self, process: Process, network: Mapping[str, Any], parametrisation: Any) -> TrainedDenoiser:
        """Makes the denoiser from the JSON form of its network."""

    def template(self, system: Any, n: int) -> Any:
        """Makes a State with the shapes of n samples."""

    def check_scope(self, system: Any, scope: Scope, name: str) -> None:
        """Raises `InputError` if the model was not trained for the system."""

    def valid(self, system: Any, state: Any) -> Any:
        """Tells which samples of a State are valid."""

    def energy(self, system: Any, name: str) -> Energy:
        """Makes the potential energy of a system by its name."""

    def positions(self, system: Any, state: Any) -> Tensor:
        """Returns the positions (batch, items, axes) of a State, as an energy takes them."""

    def reference(self, system: Any) -> Tensor:
        """Returns one sensible conformation (1, items, axes)."""

    def properties(self, system: Any) -> Mapping[str, Maker]:
        """Returns what makes the properties that a guide can name, by their spelling; see `systems.properties`."""

    def written(self, system: Any, state: Any) -> Tensor | tuple[Tensor, ...]:
        """Returns the positions (batch, atoms, 3) of the atoms as they are written, in Å, with gradients; of a periodic system also its cells (batch, 3, 3)."""

    def ensemble(self, system: Any, blocks: Any, n: int, provenance: Mapping[str, Any]) -> Any:
        """Makes the ensemble of the first n valid samples."""

    def check_features(self, system: Any, network: Mapping[str, Any], name: str) -> None:
        """Raises `InputError` if the system lacks features that the network of the model `name` needs."""

    def fitting_batch(
        self, system: Any, network: Mapping[str, Any], wanted: int | None, most: int, gradients: bool = False
    ) -> int:
        """Returns how many samples are given to the network at once, with their gradients or without: those wanted, or at most so many that memory allows them.

        Raises `InputError` if memory is too short.
        """

    def interpolate(self, model: Any, a: Any, b: Any, **options: Any) -> Any:
        """Interpolates between two conformations of one system."""


def domain(name: str) -> Any:
    """Returns a domain's module; it is imported here, so that only the domains in use load their libraries."""
    if name not in DOMAINS:
        raise ConfigError(unknown_key_message("domain", name, DOMAINS))
    return importlib.import_module(DOMAINS[name])
