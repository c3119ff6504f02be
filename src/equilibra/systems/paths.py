r"""Paths of a system between two conformations, through the latent space of a model, for any domain.

Both conformations are encoded by the probability flow, joined in latent space, and decoded; see `sampling.interpolation`. A path is a hypothesis
about a transition, not its mechanism. References: Zheng et al. (2023), eq. (A25).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.sampling.grid import noise_grid
from equilibra.sampling.interpolation import LatentPath, latent_path
from equilibra.state import State
from equilibra.systems.blocks import BatchedDenoiser
from equilibra.systems.ensemble import Ensemble
from equilibra.systems.model import Model, domain, load, versions

NETWORK_STEPS = 50
"""Steps of the flow by default: each direction takes two network calls per step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class EnsemblePath:
    """A path between two conformations.

    Attributes:
        ensemble: The conformations on the path, in order from A to B, valid or not; `validity` tells. They have no weights: a path is no
            sample of the equilibrium.
        round_trip: Root-mean-square distance per degree of freedom between A, B and what their encodings decode to, in Å (and rad).
    """

    ensemble: Ensemble
    round_trip: tuple[float, float]

    def __len__(self) -> int:
        return len(self.ensemble)

    @property
    def columns(self) -> Mapping[str, np.ndarray]:
        """Numbers or words (steps,) along the path by name, as they are written to `path.csv`: torsions in degrees."""
        return {f"{name} (degrees)": np.degrees(values) for name, values in self.ensemble.torsions().items()}

    def save(self, folder: str | Path) -> Path:
        """Writes `path.pdb`, `path.xtc` and `path.csv` (what changes along the path, checks) to a folder, and returns it.

        Raises:
            InputError: If the folder is not writable.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        for suffix in ("pdb", "xtc"):
            self.ensemble.write(folder / f"path.{suffix}", self.ensemble.positions, self.ensemble.system)
        write_text(folder / "path.csv", self._csv())
        return folder

    def _csv(self) -> str:
        columns, validity = self.columns, self.ensemble.validity
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["index", "fraction", "valid", *columns, "reasons"])
        for i in range(len(self)):
            numbers = [f"{values[i]:.3f}" if values.dtype.kind == "f" else values[i] for values in columns.values()]
            fraction = f"{i / max(len(self) - 1, 1):.6f}"
            rows.writerow([i, fraction, int(validity.valid[i]), *numbers, "; ".join(validity.reasons(i))])
        return text.getvalue()


def interpolate(model: Model | str | Path, a: Any, b: Any, **options: Any) -> Any:
    """Interpolates between two conformations of one system of the model's domain.

    Arguments:
        model: A model, or what `load` takes.
        a: The first conformation, as the domain reads it.
        b: The last conformation.
        options: Those of the domain's own function: `systems.molecule.interpolate`, `systems.protein.interpolate`.

    Returns:
        The domain's path.
    """
    model = model if isinstance(model, Model) else load(model)
    return domain(model.domain).interpolate(model, a, b, **options)


def check_options(**values: int) -> None:
    """Checks the numbers of a path: `steps` is at least 2, any other at least 1.

    Raises:
        InputError: If one is smaller.
    """
    for name, value in values.items():
        least = 2 if name == "steps" else 1
        if value < least:
            raise InputError(f"{name}: got {value}, expected at least {least}")


def path_between(
    model: Model, system: Any, ends: State, *, names: tuple[str, str], steps: int, network_steps: int, batch_size: int
) -> tuple[LatentPath, dict[str, Any]]:
    """Finds the path between two States of one system.

    Arguments:
        model: The model.
        system: The system.
        ends: A and B as a batch of two, B laid over A.
        names: What to call them.
        steps: States on the path, A and B included.
        network_steps: Steps of the flow in each direction.
        batch_size: States given to the network at once.

    Returns:
        The path, and where it comes from.
    """
    bound = BatchedDenoiser(model.bind(system), batch_size)
    levels = noise_grid(model.process, replace(model.sampler.grid, steps=network_steps))
    with torch.no_grad():
        path = latent_path(lambda size: bound, ends, levels, steps=steps)
    provenance = {
        "kind": f"path of {model.domain}",
        "model": model.name,
        "weights": model.sha256,
        "system": system.digest,
        "ends": list(names),
        "network_steps": network_steps,
        "round_trip_angstrom": [round(value, 6) for value in path.round_trip.tolist()],
        "temperature_k": model.scope.temperature,
        "versions": versions(),
    }
    return path, provenance
