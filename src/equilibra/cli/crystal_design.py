"""What `sample` adds for crystals that were asked for a property: independent judges, relaxation, uniqueness and novelty, in one table."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equilibra.cli.checks import present
from equilibra.cli.console import bar, complain
from equilibra.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from equilibra.systems.crystal.ensemble import CrystalEnsemble
    from equilibra.systems.crystal.relax import Relaxation
    from equilibra.systems.crystal.structures import Structure

TABLE = "design.csv"
RELAXED = "relaxed.extxyz"

_PANEL = "Crystals"
_SHOWN = 3  # failed relaxations that are told one by one

Judge = Annotated[
    list[str] | None,
    typer.Option(
        "--judge",
        metavar="NAME",
        help="Judge the structures by a model that did not guide them: band-gap:xtb (GFN1-xTB), band-gap:megnet, band-gap:cgcnn, band-gap:tight-binding, "
        "energy:tight-binding; repeat it for several. Target, values, uniqueness and novelty of each go to design.csv.",
        rich_help_panel=_PANEL,
    ),
]
Relax = Annotated[
    str | None,
    typer.Option(
        "--relax",
        metavar="CALCULATOR",
        help="Relax atoms and cells through ASE: tight-binding (carbon), chgnet, sevennet, xtb, gpaw, or a function of your own that returns an ASE "
        "calculator, my.py:function. Writes relaxed.extxyz, and energies before and after to design.csv. Of adsorbates one structure of each site, by any of "
        "their energies: relaxed.extxyz, relaxed.traj, relaxed.csv. Of ligands every pose as it is drawn, before the checks, by vina or vina-mmff94.",
        rich_help_panel=_PANEL,
    ),
]
Training = Annotated[
    Path | None,
    typer.Option(
        "--training",
        metavar="FILE",
        help="With --judge or --relax: structures of the training, to tell which samples are new.",
        rich_help_panel=_PANEL,
    ),
]


@dataclass(frozen=True)
class Design:
    """What is added to the samples of a system: `judges`, the calculator that `relax` names, or None, and the structures of the `training`, or None."""

    judges: tuple[str, ...]
    relax: str | None
    training: Path | None

    @property
    def files(self) -> list[str]:
        """Names of the files that are written."""
        return [TABLE, *([RELAXED] if self.relax else [])]

    @property
    def record(self) -> dict[str, Any]:
        """What a finished folder tells of this, in the provenance of its ensemble."""
        training = None if self.training is None else str(self.training)
        return {"judges": list(self.judges), "relaxed_by": self.relax, "training": training}

    def check(self, system: Any, guides: list[str]) -> None:
        """Checks, before anything is drawn, that all of it can be done.

        Arguments:
            system: What is in the cell.
            guides: Names of the properties that guide.

        Raises:
            InputError: If it cannot.
        """
        from equilibra.systems.crystal.calculators import calculator
        from equilibra.systems.crystal.judge import check_judges

        check_judges(self.judges, guides, system)
        if self.relax is not None:
            calculator(self.relax)
            if self.relax == "tight-binding" and set(system.numbers) != {6}:
                raise InputError(
                    f"--relax: tight-binding is a model of carbon, but the crystal is {system.formula}; name another calculator"
                )

    def add(self, ctx: typer.Context, ensemble: CrystalEnsemble, folder: Path) -> tuple[CrystalEnsemble, list[str]]:
        """Judges and relaxes the samples, writes the table, and returns the ensemble with what was found and the summary in sentences."""
        from equilibra.systems.crystal.judge import judged

        if self.judges:
            with bar(ctx, f"{ensemble.system.name}: judging", len(ensemble) * len(self.judges)) as shown:
                ensemble = judged(ensemble, self.judges, progress=shown.count)
        ensemble = dataclasses.replace(ensemble, provenance={**ensemble.provenance, **self.record})
        columns: dict[str, Any] = {"formula": [ensemble.system.formula] * len(ensemble), **_asked(ensemble)}
        structures = ensemble.structures()
        columns["valid"] = [True] * len(ensemble)
        lines = _judgements(ensemble) + self._original(ctx, structures, columns)
        if self.relax is not None:
            lines += self._relaxed(ctx, structures, columns, folder)
        _write(folder / TABLE, columns)
        return ensemble, lines

    def _original(self, ctx: typer.Context, structures: list[Structure], columns: dict[str, Any]) -> list[str]:
        """Adds which structures are the first of their kind, and which are not in the training; returns the shares in a sentence."""
        import numpy as np

        from equilibra.analysis.crystal.duplicates import duplicate_groups, known_elsewhere
        from equilibra.errors import MissingDependencyError
        from equilibra.systems.crystal.data.read import read_structures

        try:
            group = duplicate_groups(structures)
            columns["group"] = group.tolist()
            columns["unique"] = (group == np.arange(len(group))).tolist()
            words = [f"{sum(columns['unique']):,} of {len(group):,} structures are unique"]
            if self.training is not None:
                known = known_elsewhere(structures, read_structures(self.training, lambda error: None))
                columns["novel"] = (~known).tolist()
                words.append(f"{int((~known).sum()):,} are not in '{self.training.name}'")
        except MissingDependencyError as error:
            return [f"Uniqueness and novelty are not known: {error}."]
        return [f"{' and '.join(words)}."]

    def _relaxed(self, ctx: typer.Context, structures: list[Structure], columns: dict[str, Any], folder: Path) -> list[str]:
        """Relaxes the structures, judges what became of them, and writes them; returns what was found in sentences."""
        import numpy as np

        from equilibra.systems.crystal.files import write_table
        from equilibra.systems.crystal.judge import judge_all
        from equilibra.systems.crystal.relax import diamond_energy, relax

        assert self.relax is not None
        with bar(ctx, f"relaxing by {self.relax}", len(structures)) as shown:
            found = relax(structures, self.relax, progress=shown.count)
        for problem in list(found.problems.values())[:_SHOWN]:
            complain(f"not relaxed: {problem}")
        if len(found.problems) > _SHOWN:
            complain(f"not relaxed: {len(found.problems) - _SHOWN} more")
        relaxed, lines, judgements = found.structures, [], {}
        if self.judges:
            with bar(ctx, "judging what is relaxed", len(relaxed) * len(self.judges)) as shown:
                judgements = judge_all(relaxed, self.judges, progress=shown.count)
        for name, every in judgements.items():
            # what could not be relaxed has no value of a relaxed structure
            values = np.where(np.isfinite(found.after), every, np.nan)
            relaxed = [
                dataclasses.replace(item, values={**item.values, name: float(value)})
                for item, value in zip(relaxed, values, strict=True)
            ]
            columns[f"relaxed:{name}"] = values
            known = values[np.isfinite(values)]
            if len(known):
                lines.append(f"Relaxed, judged by {name}: mean and deviation {known.mean():.3g} ± {known.std():.2g}.")
        write_table(folder / RELAXED, relaxed)
        columns |= {"energy_before_ev": found.before, "energy_after_ev": found.after, "relaxation_steps": found.steps}
        columns["relaxed"] = found.converged.tolist()
        if all(set(structure.numbers.tolist()) == {6} for structure in structures):
            lowest = diamond_energy(self.relax)
            columns |= {"above_diamond_before_ev": found.before - lowest, "above_diamond_after_ev": found.after - lowest}
        return [_energies(found, columns.get("above_diamond_after_ev"), self.relax), *lines]


def design_of(
    judges: list[str] | None, relax: str | None, training: Path | None, labels: dict[str, float] | None = None
) -> Design | None:
    """Returns what is to be added to samples that are asked for some labels, or None.

    Raises:
        InputError: If options do not go together, or a file is missing.
    """
    if training is not None:
        present(training)
    if not judges and relax is None:
        if training is not None:
            raise InputError("--training: has an effect with --judge or --relax only; `equilibra evaluate` has one, too")
        return None
    for name in judges or ():
        if name in (labels or {}):
            raise InputError(
                f"--judge: '{name}' is what the model learned its label from, and would praise its mistakes; name another, such as band-gap:xtb"
            )
    return Design(tuple(judges or ()), relax, training)


def _asked(ensemble: CrystalEnsemble) -> dict[str, Any]:
    """Returns what was asked for, and all values that are known, column by column."""
    record: Any = ensemble.provenance.get("guidance") or {"guides": []}
    labels: Any = ensemble.provenance.get("labels") or {}
    targets = {f"target:{row['name']}": [row["target"]] * len(ensemble) for row in record["guides"]}
    targets |= {f"label:{name}": [value] * len(ensemble) for name, value in labels.items()}
    return {**targets, **ensemble.values, "log_weight": ensemble.log_weights}


def _judgements(ensemble: CrystalEnsemble) -> list[str]:
    """Returns for each judge its mean, and for a judge of a guided quantity the share that it finds within what was asked for."""
    import numpy as np

    from equilibra.report.guidance import judges_of, within

    record: Any = ensemble.provenance.get("guidance") or {"guides": []}
    lines = []
    for name in judges_of(ensemble):
        values = ensemble.values[name]
        known = np.isfinite(values)
        lost = f"; {int((~known).sum()):,} could not be judged" if not known.all() else ""
        mean = f"{values[known].mean():.3g} ± {values[known].std():.2g}" if known.any() else "nothing"
        asked = [
            f", {100 * within(values, row['bounds']).mean():.0f} % within {row['target']}, asked of {row['name']}"
            for row in record["guides"]
            if row["bounds"] is not None and row["name"].partition(":")[0] == name.partition(":")[0]
        ]
        labels: Any = ensemble.provenance.get("labels") or {}
        asked += [
            f", {np.abs(values[known] - wanted).mean():.2g} from the label's {wanted:g} on average"
            for label, wanted in labels.items()
            if known.any() and label.partition(":")[0].replace("_", "-") == name.partition(":")[0]
        ]
        lines.append(f"Judged by {name}: mean and deviation {mean}{''.join(asked)}{lost}.")
    return lines


def _energies(found: Relaxation, above: np.ndarray | None, name: str) -> str:
    import numpy as np

    done = np.isfinite(found.after)
    if not done.any():
        return f"None of {len(found.after):,} structures could be relaxed by {name}."
    words = f"{int(found.converged.sum()):,} of {len(found.after):,} structures relaxed by {name}"
    gained = float(np.median((found.before - found.after)[done]))
    words += f", by {gained:.3g} eV per atom (median)"
    if above is not None:
        words += f", to {float(np.median(above[done])):.3g} eV per atom above diamond (median; lowest {float(above[done].min()):.3g})"
    return words + "."


def _write(path: Path, columns: dict[str, Any]) -> None:
    from equilibra.atomic import write_text

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["sample", *columns])
    lists = [values if isinstance(values, list) else values.tolist() for values in columns.values()]
    rows.writerows([index, *row] for index, row in enumerate(zip(*lists, strict=True)))
    write_text(path, text.getvalue())
