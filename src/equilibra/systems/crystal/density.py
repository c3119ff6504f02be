r"""Log-densities of crystal structures under a model.

A structure is taken in its Niggli cell, upright, so that every description of a crystal gets the same value. The density is that of the model at the smallest
noise of its process, with respect to :math:`d^{3n}f\, d^6\ell` of fractional coordinates f (all n atoms: the law does not depend on the origin, and translations
have the volume one) and of the cell :math:`\ell = L/n^{1/3}` in Å, an orthonormal basis of symmetric matrices. A density of positions in Å and of A follows with
the Jacobians in `geometry.lattice`; it is a density of data, and a free energy only for a model of an equilibrium ensemble.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from equilibra.density.flow import FlowConfig
from equilibra.density.flow import log_density as flow_log_density
from equilibra.density.trace import Trace
from equilibra.errors import InputError
from equilibra.state.randomness import generator_for
from equilibra.systems.crystal.ensemble import CrystalEnsemble, state_of
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem
from equilibra.systems.domain import domain

_PROBE_STREAM = 0x43444E53


@dataclass(frozen=True, kw_only=True, eq=False)
class CrystalDensity:
    """Log-densities of F structures.

    Attributes:
        log_density: Log-densities (F,), in nats.
        integration_error: Expected error (F,) of the integration; see `density.flow.FlowDensity`.
        trace_error: Standard error (F,) of Hutchinson's estimate; 0 for the exact trace.
        atoms: Atoms in the cell (F,): log-densities of cells of different sizes are not comparable as they are.
        network_calls: Denoiser calls, over all structures.
    """

    log_density: np.ndarray
    integration_error: np.ndarray
    trace_error: np.ndarray
    atoms: np.ndarray
    network_calls: int


def crystal_log_density(
    model: Any,
    structures: Sequence[Structure] | CrystalEnsemble,
    *,
    config: FlowConfig | None = None,
    trace: Trace | None = None,
    seed: int = 0,
    outside_scope: bool = False,
    progress: Callable[[float], None] = lambda share: None,
) -> CrystalDensity:
    """Computes the log-densities of structures under a model.

    Arguments:
        model: A model of crystals.
        structures: The structures, of any compositions.
        config: Integration; see `FlowConfig`.
        trace: Divergences; exact up to 100 degrees of freedom by default.
        seed: Seed of Hutchinson's probes.
        outside_scope: Allow compositions that the model was not trained for.
        progress: Called with the share of the work that is done.

    Raises:
        InputError: If the model is not one of crystals, there is no structure, or one is outside the model's scope.
        DivergenceError: If a log-density is not finite.
    """
    if model.domain != "crystal":
        raise InputError(f"crystal density: '{model.name}' is a model of the domain '{model.domain}', expected 'crystal'")
    listed = structures.structures() if isinstance(structures, CrystalEnsemble) else list(structures)
    if not listed:
        raise InputError("crystal density: got no structure, expected at least one")
    groups: dict[str, list[int]] = {}
    for index, structure in enumerate(listed):
        groups.setdefault(structure.formula, []).append(index)
    dtype = next(model.denoiser.parameters()).dtype
    result = {name: np.zeros(len(listed)) for name in ("log_density", "integration_error", "trace_error")}
    calls = done = 0
    for members in groups.values():
        system = CrystalSystem.of(listed[members[0]].numbers.tolist())
        if not outside_scope:
            domain("crystal").check_scope(system, model.scope, model.name)
        share, before = len(members) / len(listed), done / len(listed)

        def shown(fraction: float, share: float = share, before: float = before) -> None:
            progress(before + share * fraction)

        found = flow_log_density(
            model.bind(system),
            state_of([listed[index] for index in members]).to(dtype=dtype),
            generator=generator_for(seed, _PROBE_STREAM, done),
            config=config,
            trace=trace,
            progress=shown,
        )
        for name, values in result.items():
            values[members] = getattr(found, name).double().numpy()
        calls += found.network_calls * len(members)
        done += len(members)
    return CrystalDensity(atoms=np.array([len(structure) for structure in listed]), network_calls=calls, **result)
