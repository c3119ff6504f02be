"""The report of an ensemble of any domain: chooses the domain's page, and writes it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equilibra.errors import ConfigError, InputError, unknown_key_message

if TYPE_CHECKING:
    from equilibra.analysis.table import EvaluationTable
    from equilibra.systems.ensemble import Ensemble

REPORTS: Mapping[str, str] = {
    "molecule": "equilibra.report.from_molecule",
    "protein": "equilibra.report.from_protein",
    "crystal": "equilibra.report.from_crystal",
    "ligand": "equilibra.report.from_ligand",
    "adsorbate": "equilibra.report.from_adsorbate",
}
"""Modules by the kind of an ensemble; each has `report_page`, which gathers what the page of an ensemble shows and returns the page."""


def write_report(
    ensemble: Ensemble,
    path: str | Path,
    *,
    reference: Any | None = None,
    model: str | Path | None = None,
    temperature: float | None = None,
    evaluation: EvaluationTable | None = None,
    label: str | None = None,
    seed: int = 0,
    native: Any | None = None,
    relaxation: str | Path | None = None,
) -> Path:
    """Writes the report of an ensemble: one self-contained HTML page.

    Arguments:
        ensemble: What to show.
        path: The file to write, or a folder for `report.html` in it.
        reference: What to compare with: an ensemble or several runs, a folder or file of frames. For molecules also the compact reference of a
            model; by default the one in the model's folder, if there is one of this molecule.
        model: The model that made the ensemble, by name or folder; by default the one that its provenance names.
        temperature: Temperature in K; by default that of the provenance. A molecule's page needs it.
        evaluation: Metrics to show, from `evaluate`.
        label: What to call the reference.
        seed: Seed of the choice of frames that a molecule's representative structures are found among, in large ensembles.
        native: For proteins: the native structure, a file or an ensemble of which the first frame counts.
        relaxation: For proteins: `relaxation.csv` of the all-atom structures; by default the one in the page's folder, if it has a row for each
            conformation.

    Returns:
        The path of the page.

    Raises:
        InputError: If there is no conformation, the reference is another system, a molecule's temperature is unknown, an option is another
            domain's, or the file cannot be written.
    """
    path = Path(path)
    if path.is_dir() or not path.suffix:
        path = path / "report.html"
    if len(ensemble) == 0:
        raise InputError(f"{ensemble.system.name}: there is no conformation to report")
    own: dict[str, Any] = {"native": native, "relaxation": relaxation}
    if ensemble.kind == "protein":
        own["folder"] = path.parent
    else:
        given = next((name for name, value in own.items() if value is not None), None)
        if given is not None:
            raise InputError(
                f"report: '{given}' is for proteins, but {ensemble.system.name} is a {ensemble.kind}; leave it out"
            )
        own = {}
    page = module_of(ensemble.kind, REPORTS).report_page(
        ensemble,
        reference=reference,
        model=model,
        temperature=temperature,
        evaluation=evaluation,
        label=label,
        seed=seed,
        **own,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write '{path}': {error.strerror or error}; choose a folder that you may write to") from error
    written: Path = page.write(path)
    return written


def module_of(kind: str, modules: Mapping[str, str]) -> Any:
    """Returns the module that a kind of ensemble has.

    Raises:
        ConfigError: If there is none.
    """
    if kind not in modules:
        raise ConfigError(unknown_key_message("kind of ensemble", kind, modules))
    return importlib.import_module(modules[kind])
