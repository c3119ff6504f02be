"""Free energies of a molecule's ensemble along collective variables, with their error bars, as found on disk or in memory."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from equilibra.analysis.collective_variables import CollectiveVariable, collective_variable, full_name
from equilibra.analysis.state_expressions import StateExpression, parse_state
from equilibra.analysis.state_free_energies import (
    SampleSet,
    StateDifference,
    StatePopulation,
    moving,
    sample_set,
    spans,
    state_free_energies,
)
from equilibra.analysis.torsions import peptide_quadruples
from equilibra.atomic import write_text
from equilibra.errors import InputError
from equilibra.report.absolute import Absolute, absolute_quantities
from equilibra.thermo.estimate import Estimate
from equilibra.thermo.profile import Profile, profile, surface
from equilibra.units import KJ_PER_MOL_EV, thermal_energy

if TYPE_CHECKING:
    from equilibra.systems.molecule.ensemble import MoleculeEnsemble
    from equilibra.systems.molecule.runs import Source
    from equilibra.systems.molecule.system import MoleculeSystem

SCHEMA_VERSION = 1
"""Version of `free-energy.json`."""

_FEWEST_BINS, _MOST_BINS = 24, 72


@dataclass(frozen=True, kw_only=True, eq=False)
class FreeEnergies:
    """Free energies of one molecule along collective variables.

    Attributes:
        name: The molecule.
        variable: The collective variable of the profile, with its value for each conformation.
        second: The second one of the surface, or None.
        states: The states with their populations.
        differences: The free energy of each further state against the first.
        profile: The profile along the variable, in kT.
        surface: The surface over both variables, in kT, or None.
        samples: How the conformations count, with the diagnosis of their weights.
        temperature: Temperature in K, or None where it is not known.
        absolute: log Z, entropy and heat capacity, where energies and absolute weights are there.
        rejected: Conformations of the ensemble that failed the checks and are left out.
        notes: What a reader must know, in words.
        provenance: What made the ensemble.
    """

    name: str
    variable: CollectiveVariable
    second: CollectiveVariable | None
    states: tuple[StatePopulation, ...]
    differences: tuple[StateDifference, ...]
    profile: Profile
    surface: Profile | None
    samples: SampleSet
    temperature: float | None
    absolute: Absolute | None = None
    rejected: int = 0
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Returns everything but the profile's bins, as it is written to `free-energy.json`; a number that is not finite is null."""
        diagnosis = self.samples.diagnosis
        return {
            "schema_version": SCHEMA_VERSION,
            "kind": "free energies of molecule",
            "name": self.name,
            "conformations": self.samples.n,
            "rejected": self.rejected,
            "temperature_k": self.temperature,
            "collective_variable": {"name": self.variable.name, "unit": _unit(self.variable)},
            "second_collective_variable": None
            if self.second is None
            else {"name": self.second.name, "unit": _unit(self.second)},
            "samples": self.samples.kind,
            "effective_samples": round(self.samples.effective, 2),
            "block_frames": self.samples.block,
            "errors": self.samples.sentence,
            "warning": self.samples.warning,
            "weights": None
            if diagnosis is None
            else {
                "effective_samples": diagnosis.ess,
                "n": diagnosis.n,
                "pareto_k": _finite(diagnosis.pareto_k),
                "verdict": diagnosis.verdict,
                "sentence": diagnosis.sentence,
            },
            "states": [
                {"state": s.name, "count": s.count, "effective": round(s.effective, 2), "population": _estimate(s.population)}
                for s in self.states
            ],
            "differences": [
                {
                    "from": d.start,
                    "to": d.end,
                    "kt": _estimate(d.kt),
                    "kj_per_mol": None if d.kj_per_mol is None else _estimate(d.kj_per_mol),
                }
                for d in self.differences
            ],
            "profile": {"bins": len(self.profile.free_energy), "outside": self.profile.outside},
            "absolute": None
            if self.absolute is None
            else {
                "measure": self.absolute.measure,
                "log_z": _estimate(self.absolute.log_z),
                "entropy_k": _estimate(self.absolute.entropy),
                "heat_capacity_k": _estimate(self.absolute.heat_capacity),
                "note": self.absolute.note,
            },
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
        }

    def save(self, folder: str | Path) -> list[Path]:
        """Writes `free-energy.json`, `profile.csv` and, with two variables, `surface.csv` to a folder, each whole or not at all.

        Returns:
            The files written.

        Raises:
            InputError: If the folder cannot be written to.
        """
        folder = Path(folder)
        if folder.exists() and not folder.is_dir():
            raise InputError(f"'{folder}' is a file, expected a folder")
        files = {"profile.csv": _profile_csv(self.profile, [self.variable])}
        if self.surface is not None and self.second is not None:
            files["surface.csv"] = _profile_csv(self.surface, [self.variable, self.second])
        else:
            (folder / "surface.csv").unlink(missing_ok=True)
        files["free-energy.json"] = json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n"
        for name, text in files.items():
            write_text(folder / name, text)
        return [folder / name for name in files]


def free_energy(
    source: Source,
    *,
    cv: str,
    states: Sequence[str] = (),
    second_cv: str | None = None,
    temperature: float | None = None,
    block: int | None = None,
    allow_untrusted: bool = False,
    topology: str | Path | None = None,
    bins: int | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> FreeEnergies:
    """Computes the free energy of a molecule along a collective variable, and between states.

    Arguments:
        source: An ensemble, a folder of samples or of a simulation, a file of frames (`FILE:TOPOLOGY`), or several ensembles of one molecule.
        cv: The collective variable: a torsion's name (`phi`, `psi ALA2`, `chi1`), `distance:i,j`, `angle:i,j,k`, `dihedral:i,j,k,l` with
            atoms counted from 1, or `rg`, the mass-weighted radius of gyration.
        states: States such as `phi<0`, `0<phi<2`, `phi>-120deg and psi<1`; they must exclude each other.
        second_cv: A second variable, for a surface.
        temperature: Temperature in K, where the files do not say it. It is the unit of kJ/mol, and changes nothing else.
        block: Frames of a block for the error bars; by default estimated for a trajectory, and 1 for samples of a model.
        allow_untrusted: Show numbers of weights that cannot be trusted.
        topology: PDB or SDF file of a trajectory without atoms.
        bins: Bins of the profile; by default four times the cube root of the effective number of samples, 24 to 72.
        resamples: Resamples of the bootstraps.
        seed: Seed of the bootstraps.

    Raises:
        InputError: If a variable is unknown, states overlap or cannot be read, the weights cannot be trusted, or a number is out of range.
    """
    from equilibra.systems.molecule.runs import join_runs, load_runs

    if bins is not None and bins < 2:
        raise InputError(f"bins: got {bins}, expected at least 2")
    runs = load_runs(source, topology)
    ensemble = join_runs(runs)
    torsions = variable_torsions(ensemble.system)
    texts = [states] if isinstance(states, str) else list(states)
    expressions = [parse_state(text, torsions) for text in texts]
    if len({expression.text for expression in expressions}) < len(expressions):
        raise InputError(f"states: the same state is given twice ({', '.join(expression.text for expression in expressions)})")
    names = [full_name(name, torsions) for name in (cv, *([] if second_cv is None else [second_cv]))]
    if len(set(names)) < len(names):
        raise InputError(f"the second collective variable is the first, {names[0]}; give another one")
    masses = [atom.GetMass() for atom in ensemble.system.mol.GetAtoms()]
    variables = {
        name: collective_variable(name, ensemble.positions, torsions, masses)
        for name in dict.fromkeys([*names, *(name for expression in expressions for name in expression.variables)])
    }
    masks = {expression.text: expression.inside(variables) for expression in expressions}
    kelvin = _temperature(ensemble, temperature)
    samples = sample_set(
        len(ensemble),
        log_weights=ensemble.log_weights,
        lengths=None if "model" in ensemble.provenance else [len(run) for run in runs],
        series={
            **{name: moving(value) for name, value in variables.items()},
            **{f"'{text}'": np.asarray(mask, dtype=np.float64) for text, mask in masks.items()},
        },
        block=block,
        families=ensemble.populations(),
        allow_untrusted=allow_untrusted,
    )
    rng = np.random.default_rng(seed)
    kt = None if kelvin is None else thermal_energy(kelvin) / KJ_PER_MOL_EV
    found, differences = state_free_energies(
        masks, samples, rng, kt_kj_per_mol=kt, resamples=resamples, allow_untrusted=allow_untrusted
    )
    first = variables[names[0]]
    count = bins or int(np.clip(round(4.0 * samples.effective ** (1.0 / 3.0)), _FEWEST_BINS, _MOST_BINS))
    along = profile(
        first.values, samples.log_weights, rng, bins=count, period=first.period, resamples=resamples, blocks=samples.blocks
    )
    second = variables[names[1]] if len(names) > 1 else None
    over = None
    if second is not None:
        side = max(12, round(0.7 * count))
        over = surface(
            first.values,
            second.values,
            samples.log_weights,
            rng,
            bins=(side, side),
            period=(first.period, second.period),
            resamples=min(resamples, 200),
            blocks=samples.blocks,
        )
    return FreeEnergies(
        name=ensemble.system.name,
        variable=first,
        second=second,
        states=tuple(replace(s, spans=_spans(e, first)) for s, e in zip(found, expressions, strict=True)),
        differences=differences,
        profile=along,
        surface=over,
        samples=samples,
        temperature=kelvin,
        absolute=absolute_quantities(ensemble, kelvin, samples, rng, resamples=resamples),
        rejected=len(ensemble.rejected),
        notes=_notes(ensemble, samples, kelvin),
        provenance={key: value for key, value in ensemble.provenance.items() if key != "timing"},
    )


def variable_torsions(system: MoleculeSystem) -> dict[str, tuple[int, int, int, int]]:
    """Returns the torsions that can be named as collective variables, with their atoms counted from 0: those of the ensemble, and omega and chi of peptides."""
    from equilibra.systems.molecule.torsions import torsion_quadruples

    found = torsion_quadruples(system)
    names, rows = peptide_quadruples(system.topology) if system.topology.n_residues > 1 else ([], np.zeros((0, 4)))
    for name, row in zip(names, rows, strict=True):
        a, b, c, d = (int(atom) for atom in row)
        found.setdefault(name, (a, b, c, d))
    return found


def _temperature(ensemble: MoleculeEnsemble, given: float | None) -> float | None:
    known = ensemble.provenance.get("temperature_k")
    if given is not None and not (given > 0.0 and math.isfinite(given)):
        raise InputError(f"temperature: got {given}, expected a positive number in K")
    if given is not None and known is not None and abs(float(known) - given) > 0.01:
        raise InputError(
            f"temperature: got {given:g} K, but the ensemble is one of {float(known):g} K; free energies at another temperature need an ensemble "
            "of that temperature"
        )
    return given if known is None else float(known)


def _notes(ensemble: MoleculeEnsemble, samples: SampleSet, kelvin: float | None) -> tuple[str, ...]:
    notes = []
    guidance = ensemble.provenance.get("guidance")
    if guidance is not None:
        wishes = "; ".join(f"{row['name']} {row['target']}" for row in guidance["guides"])
        what = "the model's distribution times the likelihood of that" if guidance["corrected"] else "a guess, without weights"
        notes.append(
            f"The conformations were guided to {wishes}: populations and free energies are those of {what}, not of equilibrium."
        )
    elif "model" in ensemble.provenance and samples.log_weights is None:
        notes.append(
            "The conformations are samples of a model and carry no weights: populations and free energies are those of the model. Error bars say how "
            "well its samples determine them, not how far the model is from the energy it learnt."
        )
    if kelvin is None:
        notes.append("The temperature is not known, so energies are in kT only; give it with --temperature.")
    if samples.diagnosis is not None and not samples.diagnosis.trusted:
        notes.append(
            "The weights are not to be trusted. The numbers are shown because that was asked for; do not build on them."
        )
    return tuple(notes)


def _spans(expression: StateExpression, variable: CollectiveVariable) -> tuple[tuple[float, float], ...]:
    """Returns where a state lies along a variable; nothing for a state that asks for other variables, too."""
    if expression.variables != (variable.name,):
        return ()
    low, high = (
        (-0.5 * variable.period, 0.5 * variable.period) if variable.period else (variable.values.min(), variable.values.max())
    )
    grid = np.linspace(low, high, 1441)
    return spans(expression.inside({variable.name: replace(variable, values=grid)}), grid)


def _profile_csv(found: Profile, variables: Sequence[CollectiveVariable]) -> str:
    """Returns one row for each bin, in the order of the first variable; empty bins have no free energy."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    heads = [f"{variable.name} {part} ({_unit(variable)})" for variable in variables for part in ("from", "to")]
    rows.writerow([*heads, "free_energy_kt", "error_kt", "low_kt", "high_kt", "count"])
    for place in np.ndindex(*found.free_energy.shape):
        bounds = [f"{edges[i + side]:.6f}" for edges, i in zip(found.edges, place, strict=True) for side in (0, 1)]
        values = (array[place] for array in (found.free_energy, found.error, found.low, found.high))
        rows.writerow([*bounds, *("" if math.isnan(value) else f"{value:.6g}" for value in values), int(found.counts[place])])
    return text.getvalue()


def _unit(variable: CollectiveVariable) -> str:
    return "angstrom" if variable.unit == "Å" else variable.unit


def _estimate(estimate: Estimate) -> dict[str, Any]:
    numbers = {name: _finite(getattr(estimate, name)) for name in ("value", "error", "low", "high")}
    return {**numbers, "n": estimate.n, "note": estimate.note}


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
