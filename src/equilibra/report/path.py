"""The report of a path between two conformations of any domain: chooses the domain's page, and writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from equilibra.report.from_ensemble import module_of

if TYPE_CHECKING:
    from equilibra.systems.paths import EnsemblePath

PATHS: Mapping[str, str] = {
    "molecule": "equilibra.report.molecule_path",
    "protein": "equilibra.report.protein_path",
}
"""Modules by the kind of an ensemble; each has `path_page`, which returns the page of a path."""


def write_path_report(path: EnsemblePath, file: str | Path, *, model: str | Path | None = None) -> Path:
    """Writes the report of a path: one self-contained HTML page.

    Arguments:
        path: The path.
        file: The file to write; its folder must exist.
        model: Name or folder of the model, whose reference is the background of a molecule's path where there is one; by default as the path says.

    Returns:
        The file written.
    """
    written: Path = module_of(path.ensemble.kind, PATHS).path_page(path, model=model).write(file)
    return written
