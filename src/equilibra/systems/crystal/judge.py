"""Judges: numbers of structures by models that did not guide them.

=====================  ================================================================================================
`band-gap:xtb`         band gap by GFN1-xTB, in eV (`properties.xtb_gap`); needs tblite
`band-gap:megnet`      band gap by the network of that name, in eV (`properties.band_gap`); also `band-gap:cgcnn`
`band-gap:tight-binding`, `energy:tight-binding`
                       gap, negative where bands overlap, in eV, and energy per atom, in eV; carbon alone
`density`, `volume`    g/cm³, and Å³ per atom
=====================  ================================================================================================
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from equilibra.errors import InputError
from equilibra.systems.crystal.ensemble import CrystalEnsemble, state_of
from equilibra.systems.crystal.properties import evaluator
from equilibra.systems.crystal.structures import Structure
from equilibra.systems.crystal.system import CrystalSystem

AT_ONCE = 64
"""Structures that are judged together."""

Progress = Callable[[int, int], object]
"""Told how many structures are done, and of how many."""


def judge(structures: Sequence[Structure], name: str, *, progress: Progress = lambda done, total: None) -> np.ndarray:
    """Returns a number of each structure (F,), nan where the model cannot evaluate it.

    Arguments:
        structures: The structures, of any compositions.
        name: The judge; see the module.
        progress: Told how many are done.

    Raises:
        InputError: If there is no such judge, or it does not know an element.
        MissingDependencyError: If it needs a package that is not installed.
    """
    found = np.full(len(structures), np.nan)
    groups: dict[str, list[int]] = {}
    for index, structure in enumerate(structures):
        groups.setdefault(structure.formula, []).append(index)
    done = 0
    for members in groups.values():
        compute = evaluator(name, CrystalSystem.of(structures[members[0]].numbers.tolist())).compute
        for start in range(0, len(members), AT_ONCE):
            part = members[start : start + AT_ONCE]
            with torch.no_grad():
                values = compute(state_of([structures[index] for index in part]))
            found[part] = values.double().cpu().numpy()
            done += len(part)
            progress(done, len(structures))
    return found


def judge_all(
    structures: Sequence[Structure], names: Sequence[str], *, progress: Progress = lambda done, total: None
) -> dict[str, np.ndarray]:
    """Returns what `judge` returns for each of some judges, told of progress over all of them."""
    total, found = len(structures) * len(names), {}
    for number, name in enumerate(names):

        def told(done: int, _: int, before: int = number * len(structures)) -> None:
            progress(before + done, total)

        found[name] = judge(structures, name, progress=told)
    return found


def check_judges(names: Sequence[str], guides: Sequence[str], system: CrystalSystem) -> None:
    """Checks judges before anything is drawn.

    Arguments:
        names: The judges.
        guides: Names of the properties that guide.
        system: What is in the cell.

    Raises:
        InputError: If one is unknown, does not know an element, is given twice, or guides as well.
        MissingDependencyError: If one needs a package that is not installed.
    """
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"judge '{name}': is given twice, expected each once")
        if name in guides:
            raise InputError(
                f"judge '{name}': guides these samples as well, and would praise its own mistakes; name another model, such as band-gap:xtb"
            )
        evaluator(name, system)


def judged(
    ensemble: CrystalEnsemble, names: Sequence[str], *, progress: Progress = lambda done, total: None
) -> CrystalEnsemble:
    """Returns an ensemble with the numbers that judges give its structures among its `values`, and the judges in its provenance.

    Arguments:
        ensemble: The ensemble.
        names: The judges.
        progress: Told how many structures are done, over all judges.

    Raises:
        InputError: If a judge is unknown, or guided the ensemble.
    """
    record: Any = ensemble.provenance.get("guidance") or {"guides": []}
    check_judges(names, [row["name"] for row in record["guides"]], ensemble.system)
    values = {**ensemble.values, **judge_all(ensemble.structures(), names, progress=progress)}
    provenance: Mapping[str, Any] = {**ensemble.provenance, "judges": list(names)}
    return dataclasses.replace(ensemble, values=values, provenance=provenance)
